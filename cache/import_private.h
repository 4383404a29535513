/* SPDX-License-Identifier: ISC */
/* What the files of import share. */
#ifndef CACHE_IMPORT_PRIVATE_H
#define CACHE_IMPORT_PRIVATE_H

#include <sys/types.h>

#include "cache/blob.h"
#include "cache/bundle_sign.h"
#include "cache/digest_map.h"
#include "cache/import.h"
#include "cache/tar_read.h"

/* An archive's own texts. */
#define IMPORT_TEXT_MAX (32u * 1024 * 1024)
#define IMPORT_CONTENTS_MAX (256u * 1024)
/* Files of archives that name them as they like. */
#define IMPORT_FILES_MAX (64u * 1024)

/* Where the bytes of a content are. */
enum import_place {
    PLACE_NOWHERE, /* verified, not kept */
    PLACE_SPOOL,   /* in the unnamed file of an import that only verifies */
    PLACE_PARTIAL, /* in partial/, verified */
    PLACE_BLOBS,   /* in blobs/ */
};

/* There may be many; their digests are those of `numbers`. */
struct import_content {
    uint64_t size_bytes;
    off_t spool_offset;
    uint8_t head[4]; /* how it begins */
    enum import_place place : 8;
    bool was_held;  /* in the index before */
    bool is_needed; /* by an image */
};

/* A file, or a symbolic link to one, under the name that the archive gives it. */
struct import_file;

struct import {
    struct import_settings settings;
    struct db_reader *reader; /* NULL without a store */
    int lock_fd;
    int spool_fd;
    off_t spool_bytes;

    struct import_content *contents; /* as many as there are numbers */
    size_t contents_room;
    struct digest_map *numbers;
    uint64_t carried_bytes, added_count, added_bytes;

    struct import_file *files; /* of archives of others */
    char *index, *singles, *signature;
    size_t index_len, singles_len, signature_len;
    bool has_layout;

    bool is_bundle;
    bool has_begun_late;         /* with another part than the first */
    struct bundle_record record; /* of the bundle; `part` is the last that was read */
    size_t next_item;            /* of the record */
    uint64_t next_offset;
    struct import_writer *open; /* a blob that goes on in the next part */

    struct import_image *images;
    size_t image_count;
    struct import_missing *missing;
    size_t missing_count;

    const char *label; /* of the archive that is read */
    bool is_refused;   /* nothing of it is worth keeping */
    bool name_misfits; /* see import_result */
    bool is_published;
    char why[IMPORT_WHY_MAX];
};

/* Leave a sentence; returns `err`. */
int __attribute__((format(printf, 3, 4)))
import_fail(struct import *i, int err, const char *format, ...);

/* What an archive says, fit for a sentence: cut, and without what a terminal would take for
 * an order; returns `out`. */
#define IMPORT_QUOTE_MAX 200
char *import_quote(const char *text, char out[IMPORT_QUOTE_MAX]);

/* --- import_store.c: contents --- */

/* A content that arrives. */
struct import_writer;

/* Begin one; `d` is NULL when its digest is not known yet. */
MUST_CHECK int import_begin(struct import *i, const struct digest *d, uint64_t size_bytes,
                            struct import_writer **w);
MUST_CHECK int import_add(struct import *i, struct import_writer *w, const void *data, size_t len);
/* All of it came: it is verified and noted; its number. ERR_MISMATCH. `*w` becomes NULL
 * whatever the result. */
MUST_CHECK int import_end(struct import *i, struct import_writer **w, size_t *number);
/* NULL is legal. */
void import_drop(struct import *i, struct import_writer **w);
/* A content of our own making. */
MUST_CHECK int import_put(struct import *i, const void *data, size_t len, size_t *number);

/* The content that the archive carries, or NULL. */
struct import_content *import_find(const struct import *i, const struct digest *d);
/* Whether it is in the cache, by its record and its file. 0 or ERR_NOT_FOUND. */
MUST_CHECK int import_held(const struct import *i, const struct digest *d, struct blob_record *r);
/* Read a small content whole, carried or held; owned by the caller. */
MUST_CHECK int import_load(struct import *i, const struct digest *d, size_t max_bytes, char **data,
                           size_t *len);

/* Move what is needed into blobs/, durably. */
MUST_CHECK int import_publish(struct import *i);
/* Remove the files in partial/, unless they are worth keeping. */
void import_sweep(struct import *i);
/* Take the lock of imports, and remove what one that was killed left half done. */
MUST_CHECK int import_lock(struct import *i);

/* --- import_names.c: which images there are --- */

MUST_CHECK int import_name_images(struct import *i);

/* --- import_files.c: files of archives that name them as they like --- */

MUST_CHECK int import_add_file(struct import *i, const char *name, size_t number);
MUST_CHECK int import_add_link(struct import *i, const char *name, const char *target);
/* The number of its content; false when there is no such file. */
bool import_find_file(const struct import *i, const char *name, size_t *number);
void import_free_files(struct import *i);

/* --- import_singles.c: images of manifest.json, whose manifests are made here --- */

MUST_CHECK int import_make_images(struct import *i);
/* Add an image under the name that the archive gives it, or under that of the settings. */
MUST_CHECK int import_add_image(struct import *i, const char *name,
                                const struct import_image *image);

/* --- import_diffs.c --- */

/* What a layer's media type says of how it begins: ".gzip", ".zstd" or "". */
const char *import_compression(const struct import_content *c);
/* Note what the config of a manifest that was recorded says of its layers. */
MUST_CHECK int import_note_diffs(struct import *i, struct db_txn *txn, const struct manifest *m);

/* Whether all that the images name is there; notes what is needed (import_check.c). */
MUST_CHECK int import_check(struct import *i);

/* Publish what is needed, then record it (import_commit.c). */
MUST_CHECK int import_commit(struct import *i);

#endif
