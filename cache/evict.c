/* SPDX-License-Identifier: ISC */
#include "cache/evict.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "cache/err.h"
#include "cache/evict_private.h"
#include "cache/link.h"
#include "cache/local.h"
#include "cache/parent.h"
#include "cache/usage.h"

void evicted_reset(struct evicted *e)
{
    e->count = 0;
    e->bytes = 0;
    e->images = 0;
    e->pushed_images = 0;
    e->name_count = 0;
}

void evicted_clear(struct evicted *e)
{
    free(e->list);
    *e = (struct evicted){0};
}

void evicted_add(struct evicted *e, const struct digest *d, uint64_t size_bytes)
{
    if (e->count == e->room) {
        e->room = e->room == 0 ? 64 : e->room * 2;
        e->list = mem_resize(e->list, e->room * sizeof e->list[0]);
    }
    e->list[e->count++] = *d;
    e->bytes += usage_of(size_bytes);
}

/* --- lists, for nothing may be written during a walk --- */

struct names {
    struct name *list;
    size_t count;
};

static int add_name(void *arg, const struct name *n)
{
    struct names *names = arg;

    names->list = mem_resize(names->list, (names->count + 1) * sizeof names->list[0]);
    names->list[names->count++] = *n;
    return 0;
}

struct children {
    struct manifest_child *list;
    bool *goes_along; /* by its place in the list */
    size_t count, room;
};

static int add_child(void *arg, const struct manifest_child *child)
{
    struct children *c = arg;

    if (c->count == c->room) {
        c->room = c->room == 0 ? 16 : c->room * 2;
        c->list = mem_resize(c->list, c->room * sizeof c->list[0]);
        c->goes_along = mem_resize(c->goes_along, c->room * sizeof c->goes_along[0]);
    }
    c->goes_along[c->count] = false;
    c->list[c->count++] = *child;
    return 0;
}

static void children_free(struct children *c)
{
    free(c->list);
    free(c->goes_along);
}

/* --- forgetting --- */

/* Where it can be had was learnt from manifests that are gone, and is learnt again with the
 * next; that a repository has it, too. */
static int forget_sources(struct db_txn *txn, const struct digest *d)
{
    struct names names = {0};
    int err = source_walk(txn, d, add_name, &names);

    for (size_t i = 0; err == 0 && i < names.count; i++) {
        err = source_forget(txn, d, &names.list[i]);
        if ((err == 0 || err == ERR_NOT_FOUND) && !name_is_local(&names.list[i]))
            err = link_forget(txn, &names.list[i], d);
    }
    free(names.list);
    return err == ERR_NOT_FOUND ? 0 : err;
}

/* The local repositories that have it have it no longer. */
static int forget_holders(struct db_txn *txn, const struct digest *d)
{
    struct names names = {0};
    int err = link_walk_holders(txn, d, add_name, &names);

    for (size_t i = 0; err == 0 && i < names.count; i++)
        err = local_evict(txn, &names.list[i], d);
    free(names.list);
    return err;
}

static int forget_blob(struct db_txn *txn, const struct digest *d, struct evicted *e)
{
    struct blob_record r;
    int err = blob_get(txn, d, &r);

    if (err == 0)
        err = blob_forget(txn, d);
    if (err == 0)
        err = usage_leave(txn, d, r.size_bytes);
    if (err == 0)
        evicted_add(e, d, r.size_bytes);
    return err;
}

/* A config or a layer of a manifest that is gone, or what never was one. */
static int forget_part(struct db_txn *txn, const struct evict_rules *rules,
                       const struct evict_guard *g, const struct digest *d, bool goes_along,
                       struct evicted *e)
{
    struct evict_unit u;
    int err = evict_judge(txn, rules, g, d, &u);

    if (err != 0)
        return err == ERR_NOT_FOUND || err == ERR_DAMAGED ? 0 : err;
    if (u.is_manifest || !(u.why == EVICT_LEAST_USED || evict_why_is_garbage(u.why) ||
                           (u.why == EVICT_WAITS && goes_along)))
        return 0;
    err = forget_sources(txn, d);
    if (err == 0)
        err = forget_holders(txn, d);
    return err == 0 ? forget_blob(txn, d, e) : err;
}

/* While the manifest is there: which of its layers were pushed with it, and go with it. */
static int find_along(struct db_txn *txn, const struct evict_unit *u, struct children *c)
{
    struct blob_record r;
    int is = 0;

    for (size_t i = 0; is >= 0 && i < c->count; i++) {
        if (c->list[i].role == CHILD_MANIFEST || blob_get(txn, &c->list[i].digest, &r) != 0)
            continue;
        const struct evict_unit part = {.digest = c->list[i].digest, .used_at_s = r.used_at_s};

        is = evict_goes_along(txn, &part, u);
        c->goes_along[i] = is > 0;
    }
    return is < 0 ? is : 0;
}

static int take_first(void *arg, const struct name *n)
{
    *(struct name *)arg = *n;
    return 1;
}

/* Before it is forgotten. A repository whose manifest names what it begins with has that of
 * a pulled one, or a copy. */
static int note_image(struct db_txn *txn, const struct digest *d, const struct children *c,
                      struct evicted *e)
{
    struct name n;
    int is = link_walk_holders(txn, d, take_first, &n);

    e->images++;
    e->pushed_images += is > 0;
    if (is == 0 && c->count > 0)
        is = source_walk(txn, &c->list[0].digest, take_first, &n);
    if (is <= 0)
        return is;
    for (unsigned i = 0; i < e->name_count; i++)
        if (name_equal(&e->names[i], &n))
            return 0;
    if (e->name_count < EVICTED_NAMES_MAX)
        e->names[e->name_count++] = n;
    return 0;
}

static int forget_manifest(struct db_txn *txn, const struct evict_rules *rules,
                           const struct evict_guard *g, const struct evict_unit *u,
                           struct evicted *e)
{
    const struct digest *d = &u->digest;
    uint8_t key[DIGEST_KEY_MAX];
    struct children c = {0};
    int err = manifest_walk(txn, d, add_child, &c);

    if (err == ERR_DAMAGED)
        err = 0;
    if (err == 0)
        err = find_along(txn, u, &c);
    if (err == 0)
        err = note_image(txn, d, &c, e);
    if (err == 0)
        err = forget_holders(txn, d);
    if (err == 0)
        err = db_delete(txn, DB_MANIFESTS, key, digest_to_key(d, key));
    if (err == ERR_NOT_FOUND)
        err = 0;
    for (size_t i = 0; err == 0 && i < c.count; i++) {
        err = parent_forget(txn, &c.list[i].digest, d, c.list[i].role);
        if (err == ERR_NOT_FOUND)
            err = 0;
    }
    if (err == 0)
        err = forget_blob(txn, d, e);
    for (size_t i = 0; err == 0 && i < c.count; i++)
        if (c.list[i].role != CHILD_MANIFEST)
            err = forget_part(txn, rules, g, &c.list[i].digest, c.goes_along[i], e);
    children_free(&c);
    return err;
}

int evict_forget(struct db_txn *txn, const struct evict_rules *rules, const struct evict_guard *g,
                 const struct digest *d, struct evicted *e)
{
    struct evict_unit u;
    int err = evict_judge(txn, rules, g, d, &u);

    if (err != 0)
        return err;
    if (!evict_rules_take(rules, u.why))
        return ERR_BUSY;
    return u.is_manifest ? forget_manifest(txn, rules, g, &u, e)
                         : forget_part(txn, rules, g, d, false, e);
}

int evict_forget_units(struct db_txn *txn, const struct evict_rules *rules,
                       const struct evict_guard *g, const struct digest *units, size_t count,
                       uint64_t bytes, struct evicted *e, unsigned *forgotten)
{
    int err = 0;

    *forgotten = 0;
    for (size_t i = 0; err == 0 && i < count && e->bytes < bytes; i++) {
        err = evict_forget(txn, rules, g, &units[i], e);
        *forgotten += err == 0;
        if (err == ERR_BUSY || err == ERR_NOT_FOUND || err == ERR_DAMAGED)
            err = 0;
    }
    return err;
}

/* --- the files --- */

int evict_forget_file(struct store *s, struct db_txn *txn, const struct digest *d,
                      struct evicted *e)
{
    char name[DIGEST_TEXT_MAX];
    struct blob_record r;
    struct stat st;
    int err = blob_get(txn, d, &r);

    if (err != ERR_NOT_FOUND)
        return err == ERR_DAMAGED ? 0 : err;
    if (fstatat(store_blobs_fd(s, (enum digest_alg)d->alg), store_blob_name(d, name), &st,
                AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISREG(st.st_mode))
        return 0;
    err = usage_leave(txn, d, (uint64_t)st.st_size);
    if (err == 0)
        evicted_add(e, d, (uint64_t)st.st_size);
    return err;
}

int evict_remove(struct store *s, struct db_txn *txn, const struct digest *d, int *fd)
{
    char name[DIGEST_TEXT_MAX];
    bool is_leaving;
    int err = usage_is_leaving(txn, d, &is_leaving);

    *fd = -1;
    if (err != 0 || !is_leaving)
        return err;
    *fd = openat(store_blobs_fd(s, (enum digest_alg)d->alg), store_blob_name(d, name),
                 O_PATH | O_NOFOLLOW | O_CLOEXEC);
    err = blob_unlink(s, d);
    return err == 0 ? usage_left(txn, d) : err;
}

/* --- an index of an earlier release --- */

struct digests {
    struct digest *list;
    size_t count, room;
};

static int add_key(void *arg, struct db_value key, struct db_value value)
{
    struct digests *all = arg;
    struct digest d;

    (void)value;
    if (digest_from_key(&d, key.data, key.size) != (int)key.size)
        return 0;
    if (all->count == all->room) {
        all->room = all->room == 0 ? 1024 : all->room * 2;
        all->list = mem_resize(all->list, all->room * sizeof all->list[0]);
    }
    all->list[all->count++] = d;
    return 0;
}

static int put_parents(struct db_txn *txn, const struct digest *d)
{
    struct children c = {0};
    int err = manifest_walk(txn, d, add_child, &c);

    if (err == ERR_DAMAGED)
        err = 0;
    for (size_t i = 0; err == 0 && i < c.count; i++)
        err = parent_put(txn, &c.list[i].digest, d, c.list[i].role);
    children_free(&c);
    return err;
}

int evict_prepare(struct db_txn *txn)
{
    static const char done_key[] = "parents";
    struct digests all = {0};
    struct db_value value;
    int err = db_get(txn, DB_META, done_key, sizeof done_key - 1, &value);

    if (err != ERR_NOT_FOUND)
        return err;
    err = db_walk(txn, DB_MANIFESTS, NULL, 0, NULL, 0, add_key, &all);
    for (size_t i = 0; err == 0 && i < all.count; i++)
        err = put_parents(txn, &all.list[i]);
    free(all.list);
    if (err == 0)
        err = usage_recount(txn);
    return err == 0 ? db_put(txn, DB_META, done_key, sizeof done_key - 1, "", 0) : err;
}
