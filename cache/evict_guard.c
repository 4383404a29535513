/* SPDX-License-Identifier: ISC */
/* The manifests that must not go, and who is asked whether one is among them. */
#include "cache/evict_private.h"

#include <stdlib.h>

#include "cache/err.h"
#include "cache/parent.h"
#include "cache/pin.h"
#include "cache/tag.h"

/* What is served when the tag has moved on, and the new manifest was not had yet. */
static void add_previous(struct evict_guard *g, const struct tag_record *tag)
{
    struct manifest_record r;
    size_t number;

    if (tag->previous.alg != 0 && manifest_get(g->txn, &tag->digest, &r) != 0)
        digest_map_add(g->pinned, &tag->previous, &number);
}

static int add_pin(void *arg, const struct pin *p)
{
    struct evict_guard *g = arg;
    struct digest d = p->reference.digest;
    struct tag_record tag;
    size_t number;

    if (!p->reference.by_digest) {
        int err = tag_get(g->txn, &p->reference.name, p->reference.tag, &tag);

        if (err != 0)
            return err == ERR_NOT_FOUND || err == ERR_DAMAGED ? 0 : err;
        add_previous(g, &tag);
        d = tag.digest;
    }
    digest_map_add(g->pinned, &d, &number);
    return 0;
}

static int add_busy(void *arg, const struct digest *parent, int role)
{
    struct evict_guard *g = arg;
    size_t number;

    (void)role;
    digest_map_add(g->busy, parent, &number);
    return 0;
}

int evict_guard_new(struct evict_guard **gp, struct db_txn *txn, const struct digest *busy,
                    size_t busy_count)
{
    struct evict_guard *g = mem_new(sizeof *g);

    g->txn = txn;
    g->pinned = digest_map_new();
    g->busy = digest_map_new();
    int err = pin_walk(txn, add_pin, g);

    for (size_t i = 0; err == 0 && i < busy_count; i++)
        err = parent_walk(txn, &busy[i], add_busy, g);
    if (err != 0)
        evict_guard_free(&g);
    *gp = g;
    return err;
}

void evict_guard_free(struct evict_guard **gp)
{
    struct evict_guard *g = *gp;

    if (g == NULL)
        return;
    *gp = NULL;
    digest_map_free(&g->pinned);
    digest_map_free(&g->busy);
    free(g);
}

struct search {
    struct db_txn *txn;
    const struct digest_map *in;
    unsigned depth;
};

static int find_above(void *arg, const struct digest *parent, int role)
{
    const struct search *s = arg;
    struct search above = {s->txn, s->in, s->depth + 1};
    struct manifest_record r;

    (void)role;
    if (manifest_get(s->txn, parent, &r) != 0)
        return 0;
    if (digest_map_find(s->in, parent, NULL))
        return 1;
    return above.depth < MANIFEST_DEPTH_MAX ? parent_walk(s->txn, parent, find_above, &above) : 0;
}

/* 1 when the manifest, or an index that leads to it, is in the map. */
static int is_under(struct db_txn *txn, const struct digest_map *in, const struct digest *d)
{
    struct search s = {txn, in, 0};

    if (digest_map_count(in) == 0)
        return 0;
    return digest_map_find(in, d, NULL) ? 1 : parent_walk(txn, d, find_above, &s);
}

int evict_guard_pins(const struct evict_guard *g, struct db_txn *txn, const struct digest *d)
{
    return is_under(txn, g->pinned, d);
}

int evict_guard_is_busy(const struct evict_guard *g, struct db_txn *txn, const struct digest *d)
{
    return is_under(txn, g->busy, d);
}
