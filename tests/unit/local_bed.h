/* SPDX-License-Identifier: ISC */
/* Local repositories for the tests of cache/local.c: pushes and questions in one line. */
#ifndef TESTS_UNIT_LOCAL_BED_H
#define TESTS_UNIT_LOCAL_BED_H

#include "cache/blob.h"
#include "cache/err.h"
#include "cache/local.h"
#include "cache/tag.h"
#include "tests/unit/scratch.h"

#define IMAGE "application/vnd.oci.image.manifest.v1+json"
#define INDEX "application/vnd.oci.image.index.v1+json"
#define NOW_S 1000

static inline void put_blob(struct db_txn *txn, const char *what, enum blob_origin origin)
{
    struct blob_record r = {.size_bytes = strlen(what), .origin = origin, .stored_at_s = 1};
    struct digest d = scratch_digest(what);

    assert_int_equal(blob_put(txn, &d, &r), 0);
}

static inline void push_blob(struct db_txn *txn, const char *repository, const char *what)
{
    struct name n = scratch_local(repository);
    struct digest d = scratch_digest(what);

    assert_int_equal(local_put_blob(txn, &n, &d, strlen(what), NOW_S), 0);
}

static inline struct manifest *parse(const char *media_type, const char *text)
{
    struct manifest *m;
    char why[256] = "";

    if (manifest_parse(&m, media_type, text, strlen(text), why, sizeof why) != 0) {
        fail_msg("%s", why);
    }
    return m;
}

static inline struct digest push_manifest(struct db_txn *txn, const char *repository,
                                          const char *media_type, const char *text, const char *tag)
{
    struct name n = scratch_local(repository);
    struct digest d = scratch_digest(text);
    struct manifest *m = parse(media_type, text);

    assert_int_equal(
        local_put_manifest(txn, &n, &d, m, strlen(text), &tag, tag != NULL ? 1 : 0, NOW_S), 0);
    manifest_free(&m);
    return d;
}

static inline int find_blob(struct db_txn *txn, const char *repository, const char *what)
{
    struct name n = scratch_local(repository);
    struct digest d = scratch_digest(what);
    struct blob_record r;
    int err = local_find_blob(txn, &n, &d, &r);

    if (err == 0) {
        assert_true(r.size_bytes == strlen(what));
    }
    return err;
}

static inline int find_manifest(struct db_txn *txn, const char *repository, const struct digest *d)
{
    struct name n = scratch_local(repository);
    struct manifest_record r;

    return local_find_manifest(txn, &n, d, &r);
}

static inline int delete_blob(struct db_txn *txn, const char *repository, const char *what)
{
    struct name n = scratch_local(repository);
    struct digest d = scratch_digest(what);

    return local_delete_blob(txn, &n, &d, NOW_S);
}

static inline int mount_blob(struct db_txn *txn, const char *to, const char *what,
                             const struct name *from)
{
    struct name n = scratch_local(to);
    struct digest d = scratch_digest(what);

    return local_mount(txn, &n, &d, from, NOW_S);
}

#endif
