/* SPDX-License-Identifier: ISC */
/*
 * A finding goes through: prepare (files are read; no transaction), apply (records, in the
 * transaction that it shares with others), the commit, finish (files go away). So a record
 * is dropped before its file is, and comes after it was verified.
 */
#include "cache/repair.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "cache/loss.h"
#include "cache/manifest.h"
#include "cache/parent.h"
#include "cache/quarantine.h"

#define BATCH_MAX 256

struct repair {
    struct finding *finding;
    bool is_right;             /* a file without a record has the bytes of its name */
    bool is_unknown;           /* it could not be told whether it has */
    struct manifest *manifest; /* of a manifest's file; NULL: it is none */
    bool is_applied;
};

struct repairs {
    struct store *store;
    int64_t now_s;
    struct repair list[BATCH_MAX];
    unsigned count;
};

/* A blob without a record, or with one that cannot be read. */
static bool is_unrecorded(const struct finding *f)
{
    return f->kind == AUDIT_FILE_UNRECORDED ||
           (f->kind == AUDIT_RECORD_DAMAGED && f->table == DB_BLOBS && f->digest.alg != 0);
}

static bool is_bad_file(const struct finding *f)
{
    return f->kind == AUDIT_FILE_MISSING || f->kind == AUDIT_FILE_SIZE ||
           f->kind == AUDIT_FILE_BAD || f->kind == AUDIT_FILE_UNREADABLE;
}

static bool is_about_manifest(const struct finding *f)
{
    return f->kind == AUDIT_MANIFEST_DIFFERS || f->kind == AUDIT_PARENT_MISSING;
}

/* --- prepare --- */

static void prepare_unrecorded(struct repairs *x, struct repair *r)
{
    struct finding *f = r->finding;
    int dir_fd = store_blobs_fd(x->store, (enum digest_alg)f->digest.alg);
    char name[DIGEST_TEXT_MAX];
    char *data;

    f->size_bytes = UINT64_MAX;
    struct file_id id = {0};
    int err = verify_file(dir_fd, store_blob_name(&f->digest, name), &f->digest, NULL, NULL, &id,
                          &f->size_bytes);

    if (id.number != 0)
        f->file = id;
    r->is_right = err == 0;
    /* That we could not open it says nothing of it, but that nobody may read it does. */
    r->is_unknown = err == ERR_IO && id.number == 0;
    if (err != 0 || f->size_bytes > MANIFEST_SIZE_MAX ||
        blob_read(x->store, &f->digest, f->size_bytes, &data) != 0)
        return;
    if (manifest_guess(&r->manifest, data, f->size_bytes) != 0)
        r->manifest = NULL;
    free(data);
}

static void prepare_manifest(struct repairs *x, struct repair *r)
{
    const struct finding *f = r->finding;
    char *data;

    if (f->size_bytes > MANIFEST_SIZE_MAX ||
        blob_read(x->store, &f->digest, f->size_bytes, &data) != 0)
        return;
    if (manifest_guess(&r->manifest, data, f->size_bytes) != 0)
        r->manifest = NULL;
    free(data);
}

static void prepare(struct repairs *x, struct repair *r)
{
    if (is_unrecorded(r->finding))
        prepare_unrecorded(x, r);
    else if (is_about_manifest(r->finding))
        prepare_manifest(x, r);
}

/* --- apply --- */

static int absent_is_done(int err)
{
    return err == ERR_NOT_FOUND ? 0 : err;
}

static int drop_bad(struct repairs *x, struct repair *r, struct db_txn *txn)
{
    const struct finding *f = r->finding;

    if (!verify_is_same(x->store, &f->digest, f->size_bytes, &f->file))
        return 0;
    int err = absent_is_done(blob_forget(txn, &f->digest));

    r->is_applied = err == 0;
    return err;
}

/* What it was, a download or a push, cannot be told from the bytes: it is taken for
 * private unless its file says that it is public. */
static int record_blob(struct repairs *x, struct repair *r, struct db_txn *txn)
{
    const struct finding *f = r->finding;
    struct blob_record now,
        record = {
            .size_bytes = f->size_bytes,
            .origin = blob_is_marked_public(x->store, &f->digest) ? BLOB_PUBLIC : BLOB_PRIVATE,
            .stored_at_s = x->now_s,
            .used_at_s = x->now_s,
        };
    int err = blob_get(txn, &f->digest, &now);

    if (err != ERR_NOT_FOUND && err != ERR_DAMAGED)
        return err;
    if (!r->is_right)
        return f->kind == AUDIT_RECORD_DAMAGED ? absent_is_done(blob_forget(txn, &f->digest)) : 0;
    err = blob_put(txn, &f->digest, &record);
    if (err == 0 && r->manifest != NULL)
        err = manifest_restore(txn, &f->digest, r->manifest, f->size_bytes);
    return err;
}

/* The type that repositories gave it is in their links. */
static int record_manifest(struct repair *r, struct db_txn *txn)
{
    const struct finding *f = r->finding;

    if (r->manifest == NULL)
        return 0;
    int err = manifest_restore(txn, &f->digest, r->manifest, f->size_bytes);

    r->is_applied = err == 0;
    return err;
}

static int drop_record(struct repair *r, struct db_txn *txn)
{
    const struct finding *f = r->finding;
    int err = absent_is_done(db_delete(txn, f->table, f->key, f->key_len));

    r->is_applied = err == 0;
    return err;
}

static int drop_tag(struct repair *r, struct db_txn *txn)
{
    struct manifest_record manifest;
    struct blob_record blob;

    /* Pushed again meanwhile. */
    if (manifest_get(txn, &r->finding->digest, &manifest) == 0 &&
        blob_get(txn, &r->finding->digest, &blob) == 0)
        return 0;
    return drop_record(r, txn);
}

static int find_parent(void *arg, const struct digest *parent, int role)
{
    struct db_txn *txn = arg;
    struct blob_record r;

    (void)role;
    return blob_get(txn, parent, &r) == 0;
}

/* What no manifest that is held names is missed by nobody. */
static int drop_loss(struct repair *r, struct db_txn *txn)
{
    const struct digest *d = &r->finding->digest;
    int result = parent_walk(txn, d, find_parent, txn);

    if (result != 0)
        return result < 0 ? result : 0;
    int err = loss_forget(txn, d);

    r->is_applied = err == 0;
    return err;
}

static int apply(struct repairs *x, struct repair *r, struct db_txn *txn)
{
    const struct finding *f = r->finding;

    r->is_applied = false;
    if (is_unrecorded(f)) {
        r->is_applied = !r->is_unknown;
        return r->is_unknown ? 0 : record_blob(x, r, txn);
    }
    if (is_bad_file(f))
        return drop_bad(x, r, txn);
    if (is_about_manifest(f))
        return record_manifest(r, txn);
    if (f->kind == AUDIT_TAG_LOOSE)
        return drop_tag(r, txn);
    if (f->kind == AUDIT_LOST)
        return drop_loss(r, txn);
    if (f->kind == AUDIT_RECORD_DAMAGED || (f->kind == AUDIT_LEFT_OVER && f->key_len > 0))
        return drop_record(r, txn);
    r->is_applied = f->kind == AUDIT_FILE_FOREIGN || f->kind == AUDIT_LEFT_OVER;
    return 0;
}

/* --- finish --- */

static bool remove_file(int dir_fd, const char *name)
{
    return unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT;
}

static bool move_foreign(struct repairs *x, const struct finding *f)
{
    const char *name = strrchr(f->name, '/') + 1;
    bool is_sha512 = strncmp(f->name, "blobs/sha512/", 13) == 0;

    return quarantine_foreign(x->store,
                              store_blobs_fd(x->store, is_sha512 ? DIGEST_SHA512 : DIGEST_SHA256),
                              name) == 0;
}

static bool finish(struct repairs *x, const struct repair *r)
{
    struct finding *f = r->finding;

    if (f->file.number != 0 && (is_bad_file(f) || (is_unrecorded(f) && !r->is_right))) {
        int err = quarantine_blob(x->store, &f->digest, &f->file);
        return err == 0 || err == ERR_NOT_FOUND;
    }
    if (f->kind == AUDIT_FILE_FOREIGN)
        return move_foreign(x, f);
    if (f->kind == AUDIT_LEFT_OVER && f->key_len == 0)
        return remove_file(store_partial_fd(x->store), strchr(f->name, '/') + 1);
    return true;
}

/* --- the whole --- */

static int apply_all(struct repairs *x)
{
    struct db_txn *txn;
    int err = db_write(store_db(x->store), &txn);

    if (err != 0)
        return err;
    for (unsigned i = 0; err == 0 && i < x->count; i++)
        err = apply(x, &x->list[i], txn);
    if (err == 0)
        return db_commit(&txn);
    db_abort(&txn);
    return err;
}

static int do_batch(struct repairs *x)
{
    for (unsigned i = 0; i < x->count; i++)
        prepare(x, &x->list[i]);
    int err = apply_all(x);

    for (unsigned i = 0; i < x->count; i++) {
        struct repair *r = &x->list[i];

        if (err == 0 && r->is_applied)
            r->finding->is_repaired = finish(x, r);
        manifest_free(&r->manifest);
    }
    x->count = 0;
    return err;
}

int audit_repair(struct audit *a, struct store *s, int64_t now_s)
{
    struct repairs *x = mem_new(sizeof *x);
    int err = 0;

    x->store = s;
    x->now_s = now_s;
    for (size_t i = 0; err == 0 && i < a->count; i++) {
        x->list[x->count++] = (struct repair){.finding = &a->findings[i]};
        if (x->count == BATCH_MAX)
            err = do_batch(x);
    }
    if (err == 0)
        err = do_batch(x);
    free(x);
    return err;
}
