/* SPDX-License-Identifier: ISC */
#include "cache/usage.h"

#include <string.h>

#include "cache/err.h"
#include "cache/record.h"

#define USAGE_RECORD_VERSION 1
#define LEAVING_RECORD_VERSION 1
#define RECORD_MAX 32
#define DISK_BLOCK_BYTES 4096u

static const char usage_key[] = "usage";

uint64_t usage_of(uint64_t size_bytes)
{
    return (size_bytes + DISK_BLOCK_BYTES - 1) / DISK_BLOCK_BYTES * DISK_BLOCK_BYTES;
}

/* --- the sum --- */

/* The first bytes of a blob's record are its version and its size. */
static int count_blob(void *arg, struct db_value key, struct db_value value)
{
    struct usage *u = arg;
    struct record_in in;

    (void)key;
    record_open(&in, value, 1);
    uint64_t size_bytes = record_get_u64(&in);

    if (record_check(&in) == 0 && size_bytes <= INT64_MAX) {
        u->blobs++;
        u->bytes += usage_of(size_bytes);
    }
    return 0;
}

static int count_leaving(void *arg, const struct digest *d, uint64_t size_bytes)
{
    struct usage *u = arg;

    (void)d;
    u->bytes += usage_of(size_bytes);
    u->leaving_bytes += usage_of(size_bytes);
    return 0;
}

static int count_all(struct db_txn *txn, struct usage *u)
{
    *u = (struct usage){0};
    int err = db_walk(txn, DB_BLOBS, NULL, 0, NULL, 0, count_blob, u);

    return err == 0 ? usage_walk_leaving(txn, count_leaving, u) : err;
}

int usage_get(struct db_txn *txn, struct usage *u)
{
    struct db_value value;
    struct record_in in;
    int err = db_get(txn, DB_META, usage_key, sizeof usage_key - 1, &value);

    if (err == ERR_NOT_FOUND)
        return count_all(txn, u);
    if (err != 0)
        return err;
    record_open(&in, value, USAGE_RECORD_VERSION);
    u->blobs = record_get_u64(&in);
    u->bytes = record_get_u64(&in);
    u->leaving_bytes = record_get_u64(&in);
    return record_close(&in) == 0 ? 0 : count_all(txn, u);
}

static int usage_put(struct db_txn *txn, const struct usage *u)
{
    uint8_t buf[RECORD_MAX];
    struct record_out out;

    record_start(&out, buf, sizeof buf, USAGE_RECORD_VERSION);
    record_put_u64(&out, u->blobs);
    record_put_u64(&out, u->bytes);
    record_put_u64(&out, u->leaving_bytes);
    CHECK(record_finish(&out) == 0);
    return db_put(txn, DB_META, usage_key, sizeof usage_key - 1, buf, out.len);
}

int usage_recount(struct db_txn *txn)
{
    struct usage u;
    int err = count_all(txn, &u);

    return err == 0 ? usage_put(txn, &u) : err;
}

/* Records that are damaged may be in the sum or not: it never goes below nothing. */
static void subtract(uint64_t *from, uint64_t n)
{
    *from = *from > n ? *from - n : 0;
}

int usage_add_blob(struct db_txn *txn, uint64_t size_bytes)
{
    struct usage u;
    int err = usage_get(txn, &u);

    if (err != 0)
        return err;
    u.blobs++;
    u.bytes += usage_of(size_bytes);
    return usage_put(txn, &u);
}

int usage_remove_blob(struct db_txn *txn, uint64_t size_bytes)
{
    struct usage u;
    int err = usage_get(txn, &u);

    if (err != 0)
        return err;
    subtract(&u.blobs, 1);
    subtract(&u.bytes, usage_of(size_bytes));
    return usage_put(txn, &u);
}

/* --- what is leaving --- */

static int get_leaving(struct db_value value, uint64_t *size_bytes)
{
    struct record_in in;

    record_open(&in, value, LEAVING_RECORD_VERSION);
    *size_bytes = record_get_u64(&in);
    record_require(&in, *size_bytes <= INT64_MAX);
    return record_close(&in);
}

int usage_leave(struct db_txn *txn, const struct digest *d, uint64_t size_bytes)
{
    uint8_t key[DIGEST_KEY_MAX], buf[RECORD_MAX];
    struct record_out out;
    struct usage u;
    int err = usage_left(txn, d);

    if (err == 0)
        err = usage_get(txn, &u);
    if (err != 0)
        return err;
    u.bytes += usage_of(size_bytes);
    u.leaving_bytes += usage_of(size_bytes);
    record_start(&out, buf, sizeof buf, LEAVING_RECORD_VERSION);
    record_put_u64(&out, size_bytes);
    CHECK(record_finish(&out) == 0);
    err = db_put(txn, DB_LEAVING, key, digest_to_key(d, key), buf, out.len);
    return err == 0 ? usage_put(txn, &u) : err;
}

int usage_left(struct db_txn *txn, const struct digest *d)
{
    uint8_t key[DIGEST_KEY_MAX];
    size_t len = digest_to_key(d, key);
    struct db_value value;
    struct usage u;
    uint64_t size_bytes = 0;
    int err = db_get(txn, DB_LEAVING, key, len, &value);

    if (err != 0)
        return err == ERR_NOT_FOUND ? 0 : err;
    bool is_counted = get_leaving(value, &size_bytes) == 0;

    err = usage_get(txn, &u);
    if (err == 0)
        err = db_delete(txn, DB_LEAVING, key, len);
    if (err != 0 || !is_counted)
        return err;
    subtract(&u.bytes, usage_of(size_bytes));
    subtract(&u.leaving_bytes, usage_of(size_bytes));
    return usage_put(txn, &u);
}

int usage_is_leaving(struct db_txn *txn, const struct digest *d, bool *is_leaving)
{
    uint8_t key[DIGEST_KEY_MAX];
    struct db_value value;
    int err = db_get(txn, DB_LEAVING, key, digest_to_key(d, key), &value);

    *is_leaving = err == 0;
    return err == ERR_NOT_FOUND ? 0 : err;
}

struct walk {
    usage_visit *visit;
    void *arg;
};

/* One that cannot be read still has a file to be removed. */
static int visit_leaving(void *arg, struct db_value key, struct db_value value)
{
    const struct walk *w = arg;
    struct digest d;
    uint64_t size_bytes = 0;

    if (digest_from_key(&d, key.data, key.size) != (int)key.size)
        return 0;
    if (get_leaving(value, &size_bytes) != 0)
        size_bytes = 0;
    return w->visit(w->arg, &d, size_bytes);
}

int usage_walk_leaving(struct db_txn *txn, usage_visit *visit, void *arg)
{
    struct walk w = {visit, arg};

    return db_walk(txn, DB_LEAVING, NULL, 0, NULL, 0, visit_leaving, &w);
}
