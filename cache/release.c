/* SPDX-License-Identifier: ISC */
#include "cache/release.h"

#include <stdbool.h>
#include <stdlib.h>

#include "cache/blob.h"
#include "cache/digest_map.h"
#include "cache/err.h"
#include "cache/manifest.h"
#include "cache/parent.h"
#include "cache/tag.h"

struct release {
    struct db_txn *txn;
    struct digest_map *tagged;
    struct digest_map *released; /* and what was found below it */
    struct digest *list;         /* of the latter, in order */
    size_t count;
    unsigned depth;
};

static int add_tagged(void *arg, const struct name *n, const char *tag, const struct tag_record *r)
{
    struct release *x = arg;
    size_t number;

    (void)n;
    (void)tag;
    digest_map_add(x->tagged, &r->digest, &number);
    return 0;
}

/* 1 when an index that stays names it. */
static int find_index(void *arg, const struct digest *parent, int role)
{
    const struct release *x = arg;
    struct manifest_record m;

    (void)role;
    return !digest_map_find(x->released, parent, NULL) && manifest_get(x->txn, parent, &m) == 0;
}

static int release(struct release *x, const struct digest *d);

static int release_child(void *arg, const struct manifest_child *child)
{
    struct release *x = arg;

    return child->role == CHILD_MANIFEST && x->depth < MANIFEST_DEPTH_MAX
               ? release(x, &child->digest)
               : 0;
}

static int release(struct release *x, const struct digest *d)
{
    size_t number;

    if (digest_map_find(x->tagged, d, NULL) || digest_map_find(x->released, d, NULL))
        return 0;
    int is_led_to = parent_walk(x->txn, d, find_index, x);

    if (is_led_to != 0)
        return is_led_to < 0 ? is_led_to : 0;
    digest_map_add(x->released, d, &number);
    x->list = mem_resize(x->list, (x->count + 1) * sizeof x->list[0]);
    x->list[x->count++] = *d;
    x->depth++;
    int err = manifest_walk(x->txn, d, release_child, x);

    x->depth--;
    return err == ERR_NOT_FOUND || err == ERR_DAMAGED ? 0 : err;
}

int release_manifest(struct db_txn *txn, const struct digest *d)
{
    struct release x = {.txn = txn, .tagged = digest_map_new(), .released = digest_map_new()};
    int err = tag_walk(txn, add_tagged, &x);

    if (err == 0)
        err = release(&x, d);
    for (size_t i = 0; err == 0 && i < x.count; i++)
        err = blob_release(txn, &x.list[i]);
    free(x.list);
    digest_map_free(&x.tagged);
    digest_map_free(&x.released);
    return err;
}
