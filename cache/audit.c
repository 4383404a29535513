/* SPDX-License-Identifier: ISC */
/*
 * The blobs: first the records, each with its file, then the files, each with its record.
 * Beside a daemon at work what looks wrong is looked at twice: it may have been evicted,
 * healed or published just now.
 */
#include "cache/audit.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/audit_private.h"
#include "cache/blob.h"
#include "cache/err.h"
#include "cache/folder.h"
#include "cache/stride.h"
#include "cache/usage.h"

/* Younger files are perhaps about to be recorded. */
#define UNDER_WAY_S 600
#define NAMES_MAX 256

static const struct audit_row audit_rows[AUDIT_KIND_COUNT] = {
#define AUDIT_ROW(symbol, word, is_damage, meaning, fix)                                           \
    [symbol] = {(word), (is_damage), (meaning), (fix)},
    AUDIT_TABLE(AUDIT_ROW)
#undef AUDIT_ROW
};

const struct audit_row *audit_row(enum audit_kind kind)
{
    CHECK(kind < AUDIT_KIND_COUNT);
    return &audit_rows[kind];
}

struct finding *audit_add(struct audit *a, enum audit_kind kind)
{
    if (a->count == a->room) {
        a->room = a->room == 0 ? 16 : a->room * 2;
        a->findings = mem_resize(a->findings, a->room * sizeof a->findings[0]);
    }
    struct finding *f = &a->findings[a->count++];

    *f = (struct finding){.kind = kind};
    return f;
}

void audit_add_record(struct audit *a, enum db_table table, struct db_value key)
{
    struct finding *f = audit_add(a, AUDIT_RECORD_DAMAGED);

    CHECK(key.size <= sizeof f->key);
    f->table = table;
    f->key_len = key.size;
    memcpy(f->key, key.data, key.size);
}

void audit_clear(struct audit *a)
{
    for (size_t i = 0; i < a->count; i++)
        free(a->findings[i].name);
    free(a->findings);
    *a = (struct audit){0};
}

/* --- records, and their files --- */

struct recorded {
    struct digest digest;
    uint64_t size_bytes;
};

struct blobs {
    struct auditor *x;
    struct recorded *list; /* of one stride */
    size_t count;
    size_t room;
};

static int take_record(void *arg, struct db_txn *txn, struct db_value key, struct db_value value)
{
    struct blobs *b = arg;
    struct blob_record r;
    struct digest d;
    int used = digest_from_key(&d, key.data, key.size);

    (void)value;
    int err = used == (int)key.size ? blob_get(txn, &d, &r) : ERR_DAMAGED;

    if (err == ERR_IO)
        return err;
    if (err != 0) {
        audit_add_record(b->x->audit, DB_BLOBS, key);
        if (used == (int)key.size)
            b->x->audit->findings[b->x->audit->count - 1].digest = d;
        return 0;
    }
    if (b->count == b->room) {
        b->room = b->room == 0 ? 256 : b->room * 2;
        b->list = mem_resize(b->list, b->room * sizeof b->list[0]);
    }
    b->list[b->count++] = (struct recorded){d, r.size_bytes};
    return 0;
}

static int look(const struct auditor *x, const struct recorded *r, struct file_id *id)
{
    if (x->options->is_quick)
        return blob_check(x->store, &r->digest, r->size_bytes);
    return verify_blob(x->store, &r->digest, r->size_bytes, x->options->pace, x->options->arg, id);
}

/* Whether the record is what it was. */
static bool is_recorded_still(const struct auditor *x, const struct recorded *r)
{
    struct blob_record now;
    struct db_txn *txn;

    if (db_read(x->reader, &txn) != 0)
        return true;
    int err = blob_get(txn, &r->digest, &now);

    db_read_end(x->reader);
    return err == 0 && now.size_bytes == r->size_bytes;
}

static void add_file(struct auditor *x, const struct recorded *r, int err, const struct file_id *id)
{
    char name[DIGEST_TEXT_MAX];
    struct stat st;
    enum audit_kind kind = err == ERR_DAMAGED ? AUDIT_FILE_BAD : AUDIT_FILE_UNREADABLE;
    bool exists = fstatat(store_blobs_fd(x->store, (enum digest_alg)r->digest.alg),
                          store_blob_name(&r->digest, name), &st, AT_SYMLINK_NOFOLLOW) == 0;

    if (err == ERR_MISMATCH)
        kind = exists ? AUDIT_FILE_SIZE : AUDIT_FILE_MISSING;
    struct finding *f = audit_add(x->audit, kind);

    f->digest = r->digest;
    f->size_bytes = r->size_bytes;
    f->found_bytes = exists ? (uint64_t)st.st_size : 0;
    f->file = *id;
    /* One that we could not open, for whatever reason, is perhaps well. */
    if (exists && id->number == 0 && err == ERR_MISMATCH)
        f->file = (struct file_id){st.st_dev, st.st_ino};
}

static int look_at(struct auditor *x, const struct recorded *r)
{
    struct file_id id = {0};
    int err = look(x, r, &id);

    x->audit->blobs++;
    x->audit->blob_bytes += r->size_bytes;
    if (err >= 0 || !is_recorded_still(x, r))
        return err > 0 ? err : 0;
    if (x->options->is_live) {
        id = (struct file_id){0};
        err = look(x, r, &id);
    }
    if (err < 0)
        add_file(x, r, err, &id);
    return err > 0 ? err : 0;
}

static int look_at_files(void *arg)
{
    struct blobs *b = arg;
    int err = 0;

    for (size_t i = 0; err == 0 && i < b->count; i++)
        err = look_at(b->x, &b->list[i]);
    b->count = 0;
    return err;
}

static int audit_records(struct auditor *x)
{
    struct blobs b = {.x = x};
    int err = db_stride(x->reader, DB_BLOBS, NULL, 0, take_record, look_at_files, &b);

    free(b.list);
    return err;
}

/* --- files, and their records --- */

struct names {
    char list[NAMES_MAX][DIGEST_TEXT_MAX];
    unsigned count;
};

static void add_foreign(struct auditor *x, enum digest_alg alg, const char *name)
{
    const char *folder = alg == DIGEST_SHA256 ? "sha256" : "sha512";

    audit_add(x->audit, AUDIT_FILE_FOREIGN)->name = mem_format("blobs/%s/%s", folder, name);
}

/* What has no record. */
static void add_unrecorded(struct auditor *x, const struct digest *d)
{
    char name[DIGEST_TEXT_MAX];
    enum digest_alg alg = (enum digest_alg)d->alg;
    struct stat st;
    int64_t age_s;

    store_blob_name(d, name);
    if (fstatat(store_blobs_fd(x->store, alg), name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return;
    if (!S_ISREG(st.st_mode)) {
        add_foreign(x, alg, name);
        return;
    }
    /* The time of the rename: from then on the record is on its way. */
    if (x->options->is_live &&
        (__builtin_sub_overflow(x->options->now_s, st.st_ctim.tv_sec, &age_s) ||
         age_s < UNDER_WAY_S))
        return;
    struct finding *f = audit_add(x->audit, AUDIT_FILE_UNRECORDED);

    f->digest = *d;
    f->size_bytes = (uint64_t)st.st_size;
    f->file = (struct file_id){st.st_dev, st.st_ino};
}

/* Evicted, and removed by the daemon soon. */
static bool is_leaving(struct db_txn *txn, const struct digest *d)
{
    bool is = false;

    return usage_is_leaving(txn, d, &is) == 0 && is;
}

static int look_up_names(struct auditor *x, enum digest_alg alg, const struct names *names)
{
    struct blob_record r;
    struct db_txn *txn;
    struct digest d;
    bool is_without[NAMES_MAX] = {false};
    int err = db_read(x->reader, &txn);

    if (err != 0)
        return err;
    /* One whose record is damaged has been found already. */
    for (unsigned i = 0; i < names->count; i++)
        is_without[i] = !store_blob_digest(alg, names->list[i], &d) ||
                        (blob_get(txn, &d, &r) == ERR_NOT_FOUND && !is_leaving(txn, &d));
    db_read_end(x->reader);
    for (unsigned i = 0; i < names->count; i++) {
        if (!is_without[i])
            continue;
        if (store_blob_digest(alg, names->list[i], &d))
            add_unrecorded(x, &d);
        else
            add_foreign(x, alg, names->list[i]);
    }
    return 0;
}

struct folder_audit {
    struct auditor *x;
    enum digest_alg alg;
    struct names names;
};

/* One that is too long to be a digest is none. */
static int take_name(void *arg, const char *name)
{
    struct folder_audit *f = arg;
    struct names *names = &f->names;
    size_t len = strlen(name);

    if (len >= sizeof names->list[0]) {
        add_foreign(f->x, f->alg, name);
        return 0;
    }
    memcpy(names->list[names->count++], name, len + 1);
    if (names->count < NAMES_MAX)
        return 0;
    int err = look_up_names(f->x, f->alg, names);

    names->count = 0;
    return err;
}

static int audit_folder(struct auditor *x, enum digest_alg alg)
{
    struct folder_audit *f = mem_new(sizeof *f);

    f->x = x;
    f->alg = alg;
    int err = folder_walk(store_blobs_fd(x->store, alg), take_name, f);

    if (err == 0)
        err = look_up_names(x, alg, &f->names);
    free(f);
    return err;
}

/* --- the whole --- */

int audit_run(struct audit *a, struct store *s, struct db_reader *r, const struct audit_options *o)
{
    struct auditor x = {a, s, r, o};

    *a = (struct audit){0};
    int err = audit_records(&x);

    if (err == 0)
        err = audit_folder(&x, DIGEST_SHA256);
    if (err == 0)
        err = audit_folder(&x, DIGEST_SHA512);
    if (err == 0)
        err = audit_index(&x);
    if (err == 0)
        err = audit_partials(&x);
    return err;
}
