/* SPDX-License-Identifier: ISC */
#include "tools/totals.h"

#include <time.h>

#include "cache/blob.h"
#include "cache/ledger.h"

struct blob_sum {
    struct db_txn *txn;
    struct held *held;
};

static int add_blob(void *arg, struct db_value key, struct db_value value)
{
    (void)value;
    struct blob_sum *sum = arg;
    struct digest d;
    struct blob_record r;
    if (digest_from_key(&d, key.data, key.size) < 0 || blob_get(sum->txn, &d, &r) != 0)
        return 0;
    sum->held->blobs++;
    sum->held->bytes += r.size_bytes;
    return 0;
}

int held_count(struct db_txn *txn, struct held *held)
{
    struct blob_sum sum = {txn, held};
    *held = (struct held){0};
    int err = db_walk(txn, DB_BLOBS, NULL, 0, NULL, 0, add_blob, &sum);
    if (err == 0)
        err = db_count(txn, DB_MANIFESTS, &held->manifests);
    if (err == 0)
        err = db_count(txn, DB_TAGS, &held->tags);
    if (err == 0)
        err = db_count(txn, DB_PARTIALS, &held->partials);
    if (err == 0)
        err = db_count(txn, DB_LOST, &held->lost);
    return err;
}

struct summing {
    struct sums *sums;
    uint32_t today;
    uint32_t month_start;
};

static int add_day(void *arg, uint32_t day, const char *registry, const struct ledger_record *r)
{
    (void)registry;
    const struct summing *s = arg;
    ledger_sum(&s->sums->all, r);
    if (day >= s->month_start)
        ledger_sum(&s->sums->month, r);
    if (day == s->today)
        ledger_sum(&s->sums->day, r);
    return 0;
}

int sums_read(struct db_txn *txn, int64_t now_s, struct sums *sums)
{
    time_t now = (time_t)now_s;
    struct tm tm = {.tm_mday = 1};
    gmtime_r(&now, &tm);
    uint32_t today = (uint32_t)(now_s / LEDGER_DAY_S);
    struct summing summing = {sums, today, today - (uint32_t)(tm.tm_mday - 1)};
    *sums = (struct sums){0};
    return ledger_walk(txn, add_day, &summing);
}
