/* SPDX-License-Identifier: ISC */
/*
 * Audits: whether the blobs and the index say the same, both ways, and whether the bytes
 * are those of their digests. An audit changes nothing; audit_repair does.
 */
#ifndef CACHE_AUDIT_H
#define CACHE_AUDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"
#include "cache/store.h"
#include "cache/verify.h"

/* Row: symbol, its word, whether it is damage, what it means, what repairing it does. */
/* clang-format off */
#define AUDIT_TABLE(ROW)                                                                           \
    ROW(AUDIT_FILE_MISSING, "missing-file", true,                                                  \
        "The index has a record of the blob, but its file is gone.",                               \
        "forgets the record, so that the next pull fetches the blob again")                        \
    ROW(AUDIT_FILE_SIZE, "wrong-size", true,                                                       \
        "The file of the blob is longer or shorter than it was.",                                  \
        "forgets the record, so that the next pull fetches the blob again, and moves the file to quarantine/") \
    ROW(AUDIT_FILE_BAD, "wrong-digest", true,                                                      \
        "The bytes of the blob's file are not those of its digest.",                               \
        "forgets the record, so that the next pull fetches the blob again, and moves the file to quarantine/") \
    ROW(AUDIT_FILE_UNREADABLE, "unreadable", true,                                                 \
        "The file of the blob cannot be read; look at the log of the system.",                     \
        "forgets the record and moves the file to quarantine/; leaves one that cannot be opened")  \
    ROW(AUDIT_FILE_UNRECORDED, "unrecorded-file", true,                                            \
        "The index has no record of the file: it takes room that is not counted.",                 \
        "records the blob if its bytes are those of its name, else moves the file to quarantine/") \
    ROW(AUDIT_FILE_FOREIGN, "foreign-file", true,                                                  \
        "What is not named by a digest, or is no file, does not belong into blobs/.",              \
        "moves it to quarantine/")                                                                 \
    ROW(AUDIT_RECORD_DAMAGED, "damaged-record", true,                                              \
        "A record of the index cannot be read; it counts as not there.",                           \
        "removes the record")                                                                      \
    ROW(AUDIT_MANIFEST_DIFFERS, "wrong-manifest-record", true,                                     \
        "What the index says of a manifest is not what the manifest says.",                        \
        "reads the manifest again")                                                                \
    ROW(AUDIT_PARENT_MISSING, "missing-parent", true,                                              \
        "The index does not know that a manifest names a content.",                                \
        "reads the manifest again")                                                                \
    ROW(AUDIT_TAG_LOOSE, "loose-tag", true,                                                        \
        "A tag of a local repository leads to a manifest that is not held.",                       \
        "removes the tag")                                                                         \
    ROW(AUDIT_IMAGE_INCOMPLETE, "incomplete-image", true,                                          \
        "An image of a local repository lacks content that no upstream is known to have.",         \
        "cannot help: push the image again, or remove it")                                         \
    ROW(AUDIT_LOST, "lost", true,                                                                  \
        "A blob went bad, and nothing that it came from has it any more.",                         \
        "forgets it if no image needs it; else pull or push one with it again, or remove those that need it")          \
    ROW(AUDIT_LEFT_OVER, "left-over", true,                                                        \
        "A temporary file, download or upload that nobody will go on with.",                       \
        "removes it")                                                                              \
    ROW(AUDIT_PIN_LOOSE, "loose-pin", false,                                                       \
        "What is pinned is not held; the pin keeps it from its next pull on.",                     \
        "leaves it")
/* clang-format on */

enum audit_kind {
#define AUDIT_ENUM(symbol, word, is_damage, meaning, fix) symbol,
    AUDIT_TABLE(AUDIT_ENUM)
#undef AUDIT_ENUM
        AUDIT_KIND_COUNT
};

struct audit_row {
    const char *word;
    bool is_damage; /* else only worth knowing */
    const char *meaning;
    const char *fix;
};
const struct audit_row *audit_row(enum audit_kind kind);

struct finding {
    enum audit_kind kind;
    struct digest digest;    /* alg 0: it is about none */
    char *name;              /* of a file, a reference or a table; NULL: none */
    uint64_t size_bytes;     /* as recorded, or of the file without a record */
    uint64_t found_bytes;    /* of a file of the wrong size */
    struct file_id file;     /* number 0: it was not opened */
    enum db_table table;     /* of a record */
    uint8_t key[DB_KEY_MAX]; /* of the record */
    size_t key_len;          /* 0: it is about none */
    bool is_repaired;
};

struct audit {
    struct finding *findings;
    size_t count;
    size_t room;
    uint64_t blobs, blob_bytes; /* looked at */
    uint64_t manifests, tags;
};

struct audit_options {
    bool is_quick; /* do not read files: names and sizes alone */
    bool is_live;  /* a daemon may be at work: what is young may be under way */
    int64_t now_s;
    verify_pace *pace; /* called while files are read; NULL: none */
    void *arg;
};

/* Look at all. What was found is in `a`, cleared by the caller (also after an error). A positive
 * result is that of `pace`, which ended it; an error is one of the index or of our own, as no
 * memory: damage is a finding. The reader must not be reading. */
MUST_CHECK int audit_run(struct audit *a, struct store *s, struct db_reader *r,
                         const struct audit_options *o);
void audit_clear(struct audit *a);

#endif
