/* SPDX-License-Identifier: ISC */
/*
 * The cache directory: a valid OCI image layout (image-spec 1.1, image-layout.md)
 * with cachalot's index and partial files beside it.
 *
 *   <cache>/oci-layout, index.json
 *   <cache>/blobs/sha256/<hex>  blobs/sha512/<hex>   immutable, published whole
 *   <cache>/partial/<alg>-<hex>                      fetches in progress
 *   <cache>/partial/upload-<id>                      upload sessions
 *   <cache>/partial/import-<alg>-<hex>               verified, of an import under way
 *   <cache>/db/                                      the index
 *   <cache>/db.damaged-<time>/                       one that was, set aside (recover.h)
 *   <cache>/quarantine/                              files that went bad (quarantine.h)
 *   <cache>/lock                                     held by the daemon
 *
 * Nothing that a peer sent becomes part of a path but the hex of a parsed digest.
 */
#ifndef CACHE_STORE_H
#define CACHE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"

struct room;
struct store;

enum store_mode {
    STORE_OWN,  /* the daemon: creates what is missing, holds the lock */
    STORE_READ, /* a command: reads beside a running daemon */
    STORE_ADD,  /* a command: writes, too, beside a running daemon or without one */
};

/* Open the directory. In STORE_OWN mode it is created (0700) when missing,
 * refused when it is a symbolic link, owned by another user (ERR_DENIED), not
 * writable, locked by another daemon (ERR_BUSY) or holds foreign files and no
 * oci-layout (ERR_INVALID); it is closed to others (0700). In the other modes it must be a cache
 * already. What a superuser writes in STORE_ADD mode belongs to the owner of its folder,
 * so that the daemon can read it. On failure `why` has a sentence for a person: what,
 * why, what to do. */
MUST_CHECK int store_open(struct store **s, const char *path, enum store_mode mode,
                          size_t map_bytes, char *why, size_t why_size);
/* The two halves of it, for recover.h, in STORE_OWN mode; between them there is no index. */
MUST_CHECK int store_open_files(struct store **s, const char *path, enum store_mode mode, char *why,
                                size_t why_size);
MUST_CHECK int store_open_index(struct store *s, size_t map_bytes, char *why, size_t why_size);
/* Of a STORE_OWN store without an index, that its index is walked or made anew while nobody
 * writes to it: from now on who opens in STORE_ADD mode waits. False when somebody has it open
 * in that mode (or the file system has no locks). It goes on until the second, or the end. */
MUST_CHECK bool store_keep_writers_out(const struct store *s);
void store_let_writers_in(const struct store *s);
/* Begin a new index beside the one that is there, and make it the store's; then put it into
 * the place of the old one, which is kept under the name ROOM_ASIDE_PREFIX and the time,
 * as are the last STORE_ASIDE_MAX of them: its name in `aside`, or "". Until then a start
 * finds what was there before. */
#define STORE_ASIDE_MAX 2
#define STORE_ASIDE_SIZE 64
MUST_CHECK int store_begin_index(struct store *s, size_t map_bytes, char *why, size_t why_size);
MUST_CHECK int store_adopt_index(struct store *s, size_t map_bytes, int64_t now_s,
                                 char aside[STORE_ASIDE_SIZE], char *why, size_t why_size);
/* Remove those that were set aside, as room is wanted. False when that was nothing. */
bool store_drop_asides(const struct store *s);
/* NULL is legal. */
void store_close(struct store **s);

/* Whether a daemon, or a command that keeps daemons away, has the directory at this moment. */
bool store_is_in_use(const struct store *s);

struct db *store_db(struct store *s);
/* What room there is, and who takes it; without limits at first. */
struct room *store_room(const struct store *s);
const char *store_path(const struct store *s);
/* Those of the directory, as of chmod: before it was opened, and since. */
void store_permissions(const struct store *s, unsigned *found, unsigned *now);

/* Directory descriptors that live as long as the store. */
int store_root_fd(const struct store *s);
int store_blobs_fd(const struct store *s, enum digest_alg alg);
int store_partial_fd(const struct store *s);

/* In store_partial_fd an upload session's file is this and the id of the session. */
#define STORE_UPLOAD_PREFIX "upload-"
/* What an import wrote; older than a while, nobody will come back for it. */
#define STORE_IMPORT_PREFIX "import-"

/* Whether an import is under way: it gives files their names in blobs/ before their records. */
bool store_is_importing(const struct store *s);

/* The name of a digest's file in store_blobs_fd ("<hex>") and in store_partial_fd
 * ("<alg>-<hex>"); both return `out`. */
char *store_blob_name(const struct digest *d, char out[DIGEST_TEXT_MAX]);
char *store_partial_name(const struct digest *d, char out[DIGEST_TEXT_MAX]);
/* The digest whose file has that name; false when it is no such name. */
bool store_blob_digest(enum digest_alg alg, const char *name, struct digest *d);
bool store_partial_digest(const char *name, struct digest *d);

#endif
