/* SPDX-License-Identifier: ISC */
/* What is under way: downloads, uploads and temporary files, and what is left of them. */
#include "cache/audit_private.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/err.h"
#include "cache/partial.h"
#include "cache/stride.h"
#include "cache/upload.h"

/* Beside a daemon what is younger may be at work. */
#define UNDER_WAY_S 3600
#define PREFIX_LEN(prefix) (sizeof(prefix) - 1)

struct partial_audit {
    struct auditor *x;
    struct db_txn *txn;
};

static bool has_prefix(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

static bool is_young(const struct auditor *x, const char *name, uint64_t *size_bytes)
{
    struct stat st;
    int64_t age_s;

    *size_bytes = 0;
    if (fstatat(store_partial_fd(x->store), name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return true;
    *size_bytes = (uint64_t)st.st_size;
    return !__builtin_sub_overflow(x->options->now_s, st.st_mtim.tv_sec, &age_s) &&
           age_s < UNDER_WAY_S;
}

static bool is_upload(struct db_txn *txn, const char *name)
{
    const char *id = name + PREFIX_LEN(STORE_UPLOAD_PREFIX);
    struct upload_record r;

    return has_prefix(name, STORE_UPLOAD_PREFIX) && upload_id_is_valid(id, strlen(id)) &&
           upload_get(txn, id, &r) == 0;
}

/* An import may run beside this, or be taken up again, also without a daemon. */
static int look_at_file(void *arg, const char *name)
{
    const struct partial_audit *p = arg;
    struct auditor *x = p->x;
    uint64_t size_bytes;
    bool may_go_on = x->options->is_live || has_prefix(name, STORE_IMPORT_PREFIX);

    if (partial_is_recorded(p->txn, name) || is_upload(p->txn, name) ||
        (is_young(x, name, &size_bytes) && may_go_on))
        return 0;
    struct finding *f = audit_add(x->audit, AUDIT_LEFT_OVER);

    f->name = mem_format("partial/%s", name);
    f->size_bytes = size_bytes;
    return 0;
}

/* --- records without a file --- */

static bool has_file(const struct auditor *x, const char *name)
{
    struct stat st;

    return fstatat(store_partial_fd(x->store), name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISREG(st.st_mode);
}

static void add_record(struct auditor *x, enum db_table table, struct db_value key,
                       const char *file)
{
    struct finding *f = audit_add(x->audit, AUDIT_LEFT_OVER);

    f->name = mem_format("the record of partial/%s", file);
    f->table = table;
    f->key_len = key.size;
    memcpy(f->key, key.data, key.size);
}

static int look_at_partial(void *arg, struct db_txn *txn, struct db_value key,
                           struct db_value value)
{
    struct auditor *x = arg;
    char name[DIGEST_TEXT_MAX];
    struct partial_record r;
    struct digest d;
    int used = digest_from_key(&d, key.data, key.size);

    (void)value;
    if (used != (int)key.size || partial_get(txn, &d, &r) != 0)
        audit_add_record(x->audit, DB_PARTIALS, key);
    else if (!x->options->is_live && !has_file(x, store_partial_name(&d, name)))
        add_record(x, DB_PARTIALS, key, name);
    return 0;
}

static int look_at_upload(void *arg, struct db_txn *txn, struct db_value key, struct db_value value)
{
    struct auditor *x = arg;
    char name[PREFIX_LEN(STORE_UPLOAD_PREFIX) + UPLOAD_ID_SIZE] = STORE_UPLOAD_PREFIX;
    const char *id = name + PREFIX_LEN(STORE_UPLOAD_PREFIX);
    struct upload_record r;

    (void)value;
    if (!upload_id_is_valid(key.data, key.size)) {
        audit_add_record(x->audit, DB_UPLOADS, key);
        return 0;
    }
    memcpy(name + PREFIX_LEN(STORE_UPLOAD_PREFIX), key.data, UPLOAD_ID_SIZE - 1);
    if (upload_get(txn, id, &r) != 0)
        audit_add_record(x->audit, DB_UPLOADS, key);
    else if (!x->options->is_live && !has_file(x, name))
        add_record(x, DB_UPLOADS, key, name);
    return 0;
}

int audit_partials(struct auditor *x)
{
    struct partial_audit p = {.x = x};
    int err = db_stride(x->reader, DB_PARTIALS, NULL, 0, look_at_partial, NULL, x);

    if (err == 0)
        err = db_stride(x->reader, DB_UPLOADS, NULL, 0, look_at_upload, NULL, x);
    if (err == 0)
        err = db_read(x->reader, &p.txn);
    if (err != 0)
        return err;
    err = partial_walk_files(x->store, look_at_file, &p);
    db_read_end(x->reader);
    return err;
}
