/* SPDX-License-Identifier: ISC */
#include "tools/remove.h"

#include <unistd.h>

#include "cache/err.h"

static int forget(struct db_txn *txn, const struct evict_rules *rules, const struct digest *units,
                  size_t count, uint64_t bytes, struct evicted *gone)
{
    struct evict_guard *g;
    unsigned forgotten;
    int err = evict_guard_new(&g, txn, NULL, 0);
    if (err == 0)
        err = evict_forget_units(txn, rules, g, units, count, bytes, gone, &forgotten);
    evict_guard_free(&g);
    return err;
}

static int remove_files(struct store *s, struct db_txn *txn, const struct evicted *gone)
{
    int err = 0;
    for (size_t i = 0; err == 0 && i < gone->count; i++) {
        int fd;
        err = evict_remove(s, txn, &gone->list[i], &fd);
        if (fd >= 0)
            close(fd);
    }
    return err;
}

static int end(struct db_txn **txn, int err)
{
    if (err == 0)
        return db_commit(txn);
    db_abort(txn);
    return err;
}

int remove_units(struct store *s, const struct evict_rules *rules, const struct digest *units,
                 size_t count, uint64_t bytes, uint64_t *gone_bytes)
{
    struct evicted gone = {0};
    struct db_txn *txn;
    *gone_bytes = 0;
    int err = db_write(store_db(s), &txn);
    if (err == 0)
        err = end(&txn, forget(txn, rules, units, count, bytes, &gone));
    if (err == 0)
        err = db_write(store_db(s), &txn);
    if (err == 0)
        err = end(&txn, remove_files(s, txn, &gone));
    if (err == 0)
        *gone_bytes = gone.bytes;
    evicted_clear(&gone);
    return err;
}
