/* SPDX-License-Identifier: ISC */
#include "cache/clients.h"

#include <string.h>

#include "cache/err.h"
#include "cache/record.h"

#define CLIENTS_RECORD_VERSION 1
#define CLIENT_BYTES (sizeof(struct in6_addr) + sizeof(int64_t))
#define CLIENTS_RECORD_MAX (2 + CLIENTS_MAX * CLIENT_BYTES)

static bool has_address(const struct clients *c, const struct in6_addr *address)
{
    for (size_t i = 0; i < c->count; i++)
        if (IN6_ARE_ADDR_EQUAL(&c->list[i].address, address))
            return true;
    return false;
}

/* One more, unless there is no room or it is there already. */
static void add(struct clients *c, const struct in6_addr *address, int64_t used_at_s)
{
    if (c->count < CLIENTS_MAX && !has_address(c, address))
        c->list[c->count++] = (struct client){*address, used_at_s};
}

static int decode(struct db_value value, struct clients *c)
{
    struct record_in in;

    c->count = 0;
    record_open(&in, value, CLIENTS_RECORD_VERSION);
    size_t count = record_get_u8(&in);
    record_require(&in, count <= CLIENTS_MAX);
    for (size_t i = 0; i < count && record_check(&in) == 0; i++) {
        struct in6_addr address = in6addr_any;
        const void *bytes = record_get_bytes(&in, sizeof address);

        if (bytes != NULL)
            memcpy(&address, bytes, sizeof address);
        add(c, &address, record_get_i64(&in));
    }
    record_require(&in, c->count == count);
    return record_close(&in);
}

int clients_get(struct db_txn *txn, const struct digest *d, struct clients *c)
{
    uint8_t key[DIGEST_KEY_MAX];
    struct db_value value;
    int err = db_get(txn, DB_CLIENTS, key, digest_to_key(d, key), &value);

    return err != 0 ? err : decode(value, c);
}

static int put(struct db_txn *txn, const struct digest *d, const struct clients *c)
{
    uint8_t key[DIGEST_KEY_MAX];
    uint8_t buf[CLIENTS_RECORD_MAX];
    struct record_out out;

    record_start(&out, buf, sizeof buf, CLIENTS_RECORD_VERSION);
    record_put_u8(&out, (uint8_t)c->count);
    for (size_t i = 0; i < c->count; i++) {
        record_put_bytes(&out, &c->list[i].address, sizeof c->list[i].address);
        record_put_i64(&out, c->list[i].used_at_s);
    }
    CHECK(record_finish(&out) == 0);
    return db_put(txn, DB_CLIENTS, key, digest_to_key(d, key), buf, out.len);
}

int clients_note(struct db_txn *txn, const struct digest *d, const struct in6_addr *addresses,
                 size_t count, int64_t now_s)
{
    uint8_t key[DIGEST_KEY_MAX];
    struct db_value blob;
    struct clients old, now = {.count = 0};
    int err = count > 0 ? db_get(txn, DB_BLOBS, key, digest_to_key(d, key), &blob) : ERR_NOT_FOUND;

    if (err != 0)
        return err == ERR_NOT_FOUND ? 0 : err;
    err = clients_get(txn, d, &old);
    if (err == ERR_NOT_FOUND || err == ERR_DAMAGED)
        old.count = 0;
    else if (err != 0)
        return err;
    for (size_t i = 0; i < count; i++)
        add(&now, &addresses[i], now_s);
    for (size_t i = 0; i < old.count; i++)
        add(&now, &old.list[i].address, old.list[i].used_at_s);
    return put(txn, d, &now);
}

int clients_forget(struct db_txn *txn, const struct digest *d)
{
    uint8_t key[DIGEST_KEY_MAX];
    int err = db_delete(txn, DB_CLIENTS, key, digest_to_key(d, key));

    return err == ERR_NOT_FOUND ? 0 : err;
}

const char *client_text(const struct client *c, char out[INET6_ADDRSTRLEN])
{
    const uint8_t *bytes = c->address.s6_addr;

    if (IN6_IS_ADDR_V4MAPPED(&c->address))
        return inet_ntop(AF_INET, bytes + 12, out, INET6_ADDRSTRLEN);
    return inet_ntop(AF_INET6, bytes, out, INET6_ADDRSTRLEN);
}
