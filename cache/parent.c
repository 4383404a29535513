/* SPDX-License-Identifier: ISC */
#include "cache/parent.h"

#include "cache/err.h"
#include "cache/record.h"

#define PARENT_RECORD_VERSION 1
#define PARENT_KEY_MAX (2 * DIGEST_KEY_MAX + 1)

/* digest, digest of the parent, role */
static size_t parent_key(const struct digest *child, const struct digest *parent, int role,
                         uint8_t key[PARENT_KEY_MAX])
{
    size_t len = digest_to_key(child, key);

    len += digest_to_key(parent, key + len);
    key[len++] = (uint8_t)role;
    return len;
}

int parent_put(struct db_txn *txn, const struct digest *child, const struct digest *parent,
               int role)
{
    uint8_t key[PARENT_KEY_MAX];
    uint8_t version = PARENT_RECORD_VERSION;

    return db_put(txn, DB_PARENTS, key, parent_key(child, parent, role, key), &version,
                  sizeof version);
}

int parent_get(struct db_txn *txn, const struct digest *child, const struct digest *parent,
               int role)
{
    uint8_t key[PARENT_KEY_MAX];
    struct db_value value;

    return db_get(txn, DB_PARENTS, key, parent_key(child, parent, role, key), &value);
}

int parent_forget(struct db_txn *txn, const struct digest *child, const struct digest *parent,
                  int role)
{
    uint8_t key[PARENT_KEY_MAX];

    return db_delete(txn, DB_PARENTS, key, parent_key(child, parent, role, key));
}

struct walk {
    size_t prefix_len;
    parent_visit *visit;
    void *arg;
};

/* The record has nothing but its version. A key that is damaged names no parent. */
static int visit_record(void *arg, struct db_value key, struct db_value value)
{
    const struct walk *w = arg;
    const uint8_t *rest = (const uint8_t *)key.data + w->prefix_len;
    size_t len = key.size - w->prefix_len;
    struct digest parent;
    int used = digest_from_key(&parent, rest, len);

    (void)value;
    if (used < 0 || (size_t)used + 1 != len)
        return 0;
    return w->visit(w->arg, &parent, rest[used]);
}

int parent_walk(struct db_txn *txn, const struct digest *child, parent_visit *visit, void *arg)
{
    uint8_t prefix[DIGEST_KEY_MAX];
    struct walk w = {.prefix_len = digest_to_key(child, prefix), .visit = visit, .arg = arg};

    return db_walk(txn, DB_PARENTS, prefix, w.prefix_len, NULL, 0, visit_record, &w);
}
