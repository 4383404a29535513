/* SPDX-License-Identifier: ISC */
#include "cache/ledger.h"

#include <endian.h>
#include <string.h>

#include "cache/err.h"
#include "cache/name.h"
#include "cache/record.h"

#define LEDGER_RECORD_VERSION 1
#define LEDGER_RECORD_MAX (1 + 5 * 8)
/* The day, big-endian so that keys are in its order, then the registry. */
#define LEDGER_KEY_MAX (sizeof(uint32_t) + NAME_MAX_SIZE)

static int ledger_decode(struct db_value value, struct ledger_record *r)
{
    struct record_in in;

    record_open(&in, value, LEDGER_RECORD_VERSION);
    r->line_bytes = record_get_u64(&in);
    r->lan_bytes = record_get_u64(&in);
    r->line_requests = record_get_u64(&in);
    r->lan_requests = record_get_u64(&in);
    r->hits = record_get_u64(&in);
    return record_close(&in);
}

void ledger_sum(struct ledger_record *sum, const struct ledger_record *r)
{
    sum->line_bytes += r->line_bytes;
    sum->lan_bytes += r->lan_bytes;
    sum->line_requests += r->line_requests;
    sum->lan_requests += r->lan_requests;
    sum->hits += r->hits;
}

uint64_t ledger_saved_bytes(const struct ledger_record *r)
{
    return r->lan_bytes > r->line_bytes ? r->lan_bytes - r->line_bytes : 0;
}

int ledger_add(struct db_txn *txn, uint32_t day, const char *registry,
               const struct ledger_record *add)
{
    uint8_t key[LEDGER_KEY_MAX];
    uint8_t buf[LEDGER_RECORD_MAX];
    uint32_t day_be = htobe32(day);
    size_t registry_len = strlen(registry);
    size_t key_len = sizeof day_be + registry_len;
    struct ledger_record sum = {0};
    struct record_out out;
    struct db_value value;

    CHECK(registry_len < NAME_MAX_SIZE);
    memcpy(key, &day_be, sizeof day_be);
    memcpy(key + sizeof day_be, registry, registry_len);
    int err = db_get(txn, DB_LEDGER, key, key_len, &value);

    if (err == 0 && ledger_decode(value, &sum) != 0)
        memset(&sum, 0, sizeof sum);
    else if (err != 0 && err != ERR_NOT_FOUND)
        return err;
    ledger_sum(&sum, add);
    record_start(&out, buf, sizeof buf, LEDGER_RECORD_VERSION);
    record_put_u64(&out, sum.line_bytes);
    record_put_u64(&out, sum.lan_bytes);
    record_put_u64(&out, sum.line_requests);
    record_put_u64(&out, sum.lan_requests);
    record_put_u64(&out, sum.hits);
    CHECK(record_finish(&out) == 0);
    return db_put(txn, DB_LEDGER, key, key_len, buf, out.len);
}

struct ledger_walk_state {
    ledger_visit *visit;
    void *arg;
};

static int ledger_walk_record(void *arg, struct db_value key, struct db_value value)
{
    struct ledger_walk_state *walk = arg;
    struct ledger_record r;
    char registry[NAME_MAX_SIZE];
    uint32_t day_be;

    if (key.size < sizeof day_be || key.size >= LEDGER_KEY_MAX || ledger_decode(value, &r) != 0)
        return 0;
    size_t len = key.size - sizeof day_be;

    memcpy(&day_be, key.data, sizeof day_be);
    memcpy(registry, (const char *)key.data + sizeof day_be, len);
    registry[len] = '\0';
    return walk->visit(walk->arg, be32toh(day_be), registry, &r);
}

int ledger_walk(struct db_txn *txn, ledger_visit *visit, void *arg)
{
    struct ledger_walk_state walk = {visit, arg};

    return db_walk(txn, DB_LEDGER, NULL, 0, NULL, 0, ledger_walk_record, &walk);
}
