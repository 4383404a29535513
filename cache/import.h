/* SPDX-License-Identifier: ISC */
/*
 * Taking images from archives: cachalot's bundles, and what skopeo, docker, podman and ctr
 * write. An archive is read once, as a stream, and nothing of it is extracted: each content
 * becomes a file in partial/ that is hashed as it is written, and nothing can be seen of
 * any before all were verified and everything that the images name is there.
 *
 *   import_new -> import_archive (each part of a bundle, in order) -> import_finish -> free
 *
 * What was verified and then not published, because a part is missing or the machine went
 * down, stays in partial/ for the next try; of an archive that is refused nothing stays.
 * Runs beside the daemon, one import at a time.
 */
#ifndef CACHE_IMPORT_H
#define CACHE_IMPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/bundle_record.h"
#include "cache/check.h"
#include "cache/digest.h"
#include "cache/manifest.h"
#include "cache/reference.h"
#include "cache/store.h"

#define IMPORT_WHY_MAX 768

struct import_settings {
    struct store *store; /* opened with STORE_ADD; NULL: only verify, against nothing held */
    bool verify_only;    /* write nothing; parts of a bundle may be missing */
    const char *name;    /* for the one image of an archive that names none, or as another */
    const void *key;     /* public, PEM: the bundle must be signed with it; NULL: need not */
    size_t key_len;
    int64_t now_s;
    /* Called before so many bytes are written: make room for them. ERR_NO_SPACE when there is
     * none. NULL is legal. */
    int (*need_room)(void *arg, uint64_t bytes);
    /* Called as bytes of the archive are read; NULL is legal. */
    void (*advanced)(void *arg, uint64_t bytes);
    void *arg;
};

/* There may be many: what is long and mostly empty is kept short. */
struct import_image {
    char *name; /* of its reference, as reference_key has it: see import_reference */
    char *media_type;
    struct digest digest;
    uint64_t size_bytes;
    bool is_sparse;
    bool is_attached; /* it came along with another one, as its signature does */
};

void import_reference(const struct import_image *image, struct reference *r);

/* What an image needs and neither the archive nor the cache has. */
struct import_missing {
    size_t image;
    struct digest digest;
    uint64_t size_bytes;
};

struct import_result {
    const struct import_image *images;
    size_t image_count;
    const struct import_missing *missing;
    size_t missing_count;
    uint64_t carried_count, carried_bytes; /* blobs in the archive */
    uint64_t added_count, added_bytes;     /* those that were not held */
    bool is_bundle;                        /* of cachalot */
    bool name_misfits;                     /* settings.name is wrong, or wanting; nothing else */
    bool is_signed;
    unsigned parts;
};

struct import;

/* ERR_BUSY when another import is under way. `why` has a sentence on failure. */
MUST_CHECK int import_new(struct import **i, const struct import_settings *settings,
                          char why[IMPORT_WHY_MAX]);
/* Read an archive from the descriptor, which stays the caller's. ERR_INVALID: it is
 * refused; ERR_MISMATCH: what is in it is not what it says; ERR_NOT_FOUND: it is not the
 * part that comes next; others are of the disk. import_why has a sentence. */
MUST_CHECK int import_archive(struct import *i, int fd, const char *label);
/* Check that all is there, and publish it. ERR_NOT_FOUND when something is missing: then
 * the result lists it. */
MUST_CHECK int import_finish(struct import *i);
/* After any failure, and at the end. NULL is legal; leaves NULL. */
void import_free(struct import **i);

const char *import_why(const struct import *i);
/* Valid as long as the import. */
void import_result(const struct import *i, struct import_result *r);

/* What a part of a bundle begins with: what all of its parts share, and which it is. */
struct import_head {
    struct bundle_record record;
    char *index, *signature; /* NULL: it has none */
    size_t index_len, signature_len;
};

/* Read the first entries of an archive. ERR_NOT_FOUND when it is no bundle of cachalot,
 * ERR_INVALID or ERR_IO as import_archive, with a sentence; then there is nothing to clear. */
MUST_CHECK int import_peek(int fd, struct import_head *h, char why[IMPORT_WHY_MAX]);
void import_head_clear(struct import_head *h);

#endif
