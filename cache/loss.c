/* SPDX-License-Identifier: ISC */
#include "cache/loss.h"

#include "cache/err.h"
#include "cache/record.h"

#define LOSS_RECORD_VERSION 1
#define LOSS_RECORD_MAX (1 + 8 + 8 + 2 + LOSS_WHY_MAX)

static int decode(struct db_value value, struct loss *l)
{
    struct record_in in;

    record_open(&in, value, LOSS_RECORD_VERSION);
    l->size_bytes = record_get_u64(&in);
    l->lost_at_s = record_get_i64(&in);
    record_copy_text(&in, l->why, sizeof l->why);
    record_require(&in, l->size_bytes <= INT64_MAX);
    return record_close(&in);
}

int loss_get(struct db_txn *txn, const struct digest *d, struct loss *l)
{
    uint8_t key[DIGEST_KEY_MAX];
    struct db_value value;
    int err = db_get(txn, DB_LOST, key, digest_to_key(d, key), &value);

    l->digest = *d;
    return err != 0 ? err : decode(value, l);
}

int loss_put(struct db_txn *txn, const struct loss *l)
{
    uint8_t key[DIGEST_KEY_MAX];
    uint8_t buf[LOSS_RECORD_MAX];
    struct record_out out;
    struct loss old;
    int64_t lost_at_s = loss_get(txn, &l->digest, &old) == 0 ? old.lost_at_s : l->lost_at_s;

    record_start(&out, buf, sizeof buf, LOSS_RECORD_VERSION);
    record_put_u64(&out, l->size_bytes);
    record_put_i64(&out, lost_at_s);
    record_put_text(&out, l->why);
    CHECK(record_finish(&out) == 0);
    return db_put(txn, DB_LOST, key, digest_to_key(&l->digest, key), buf, out.len);
}

int loss_forget(struct db_txn *txn, const struct digest *d)
{
    uint8_t key[DIGEST_KEY_MAX];
    int err = db_delete(txn, DB_LOST, key, digest_to_key(d, key));

    return err == ERR_NOT_FOUND ? 0 : err;
}

struct walk {
    loss_visit *visit;
    void *arg;
};

static int visit_record(void *arg, struct db_value key, struct db_value value)
{
    const struct walk *w = arg;
    struct loss l;

    if (digest_from_key(&l.digest, key.data, key.size) != (int)key.size || decode(value, &l) != 0)
        return 0;
    return w->visit(w->arg, &l);
}

int loss_walk(struct db_txn *txn, loss_visit *visit, void *arg)
{
    struct walk w = {visit, arg};

    return db_walk(txn, DB_LOST, NULL, 0, NULL, 0, visit_record, &w);
}
