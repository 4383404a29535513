/* SPDX-License-Identifier: ISC */
#include "cache/diff.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/manifest.h"
#include "cache/parent.h"
#include "cache/record.h"

#define DIFF_RECORD_VERSION 1
#define CONTENT_RECORD_VERSION 1
#define DIFF_KEY_MAX (2 * DIGEST_KEY_MAX)

/* Images of one config: as a rule one, and a few that have it in another form. */
#define PARENTS_MAX 64
/* Entries looked at to find them. */
#define PARENTS_SCAN_MAX 1024

/* --- records --- */

static int put_content(struct db_txn *txn, const struct digest *d, const struct digest *diff_id)
{
    uint8_t key[DIGEST_KEY_MAX];
    uint8_t buf[1 + DIGEST_KEY_MAX];
    struct record_out out;

    record_start(&out, buf, sizeof buf, CONTENT_RECORD_VERSION);
    record_put_digest(&out, diff_id);
    CHECK(record_finish(&out) == 0);
    return db_put(txn, DB_CONTENTS, key, digest_to_key(d, key), buf, out.len);
}

int diff_get(struct db_txn *txn, const struct digest *d, struct digest *diff_id)
{
    uint8_t key[DIGEST_KEY_MAX];
    struct db_value value;
    struct record_in in;
    int err = db_get(txn, DB_CONTENTS, key, digest_to_key(d, key), &value);

    if (err != 0)
        return err;
    record_open(&in, value, CONTENT_RECORD_VERSION);
    record_get_digest(&in, diff_id);
    return record_close(&in);
}

/* diff_id, digest */
static int put_diff(struct db_txn *txn, const struct digest *diff_id, const struct digest *d,
                    enum diff_proof proof)
{
    uint8_t key[DIFF_KEY_MAX];
    uint8_t buf[2];
    size_t len = digest_to_key(diff_id, key);
    struct record_out out;

    len += digest_to_key(d, key + len);
    record_start(&out, buf, sizeof buf, DIFF_RECORD_VERSION);
    record_put_u8(&out, (uint8_t)proof);
    CHECK(record_finish(&out) == 0);
    return db_put(txn, DB_DIFFS, key, len, buf, out.len);
}

int diff_put(struct db_txn *txn, const struct digest *diff_id, const struct digest *d,
             enum diff_proof proof)
{
    struct digest shown;
    int err = 0;

    if (proof == DIFF_HASHED) {
        err = put_content(txn, d, diff_id);
    } else {
        err = diff_get(txn, d, &shown);
        if (err == 0)
            return 0;
        err = err == ERR_NOT_FOUND || err == ERR_DAMAGED ? 0 : err;
    }
    return err != 0 ? err : put_diff(txn, diff_id, d, proof);
}

/* --- what configs claim --- */

/* The manifests that have the config, gathered before the tables are written to. */
struct parents {
    unsigned seen;
    unsigned count;
    struct digest digests[PARENTS_MAX];
};

static int add_parent(void *arg, const struct digest *parent, int role)
{
    struct parents *p = arg;

    if (role == CHILD_CONFIG)
        p->digests[p->count++] = *parent;
    return p->count == PARENTS_MAX || ++p->seen == PARENTS_SCAN_MAX ? 1 : 0;
}

struct layers {
    unsigned count; /* may be more than there is room for */
    struct digest digests[IMAGE_LAYERS_MAX];
};

static int add_layer(void *arg, const struct manifest_child *child)
{
    struct layers *l = arg;

    if (child->role == CHILD_LAYER) {
        if (l->count < IMAGE_LAYERS_MAX)
            l->digests[l->count] = child->digest;
        l->count++;
    }
    return 0;
}

static int index_manifest(struct db_txn *txn, const struct digest *manifest,
                          const struct image *image, struct layers *layers)
{
    layers->count = 0;
    int err = manifest_walk(txn, manifest, add_layer, layers);

    if (err == ERR_NOT_FOUND || err == ERR_DAMAGED)
        return 0;
    if (err != 0 || layers->count != image->count)
        return err;
    for (unsigned i = 0; err == 0 && i < image->count; i++)
        err = diff_put(txn, &image->diff_ids[i], &layers->digests[i], DIFF_CLAIMED);
    return err;
}

int diff_index_config(struct db_txn *txn, const struct digest *config, const struct image *image)
{
    struct parents parents = {0};
    int err = parent_walk(txn, config, add_parent, &parents);

    if (err < 0)
        return err;
    struct layers *layers = mem_new(sizeof *layers);

    err = 0;
    for (unsigned i = 0; err == 0 && i < parents.count; i++)
        err = index_manifest(txn, &parents.digests[i], image, layers);
    free(layers);
    return err;
}

/* --- walks --- */

/* ERR_NOT_FOUND when this record says nothing, or nothing that holds. */
static int read_blob(struct db_txn *txn, const struct digest *diff_id, const uint8_t *key,
                     size_t key_len, struct db_value value, struct diff_blob *b)
{
    struct record_in in;
    struct digest shown;

    record_open(&in, value, DIFF_RECORD_VERSION);
    b->proof = (enum diff_proof)record_get_u8(&in);
    record_require(&in, b->proof == DIFF_CLAIMED || b->proof == DIFF_HASHED);
    if (record_close(&in) != 0 || digest_from_key(&b->digest, key, key_len) != (int)key_len)
        return ERR_NOT_FOUND;
    int err = blob_get(txn, &b->digest, &b->record);

    if (err != 0)
        return err == ERR_DAMAGED ? ERR_NOT_FOUND : err;
    err = b->proof == DIFF_CLAIMED ? diff_get(txn, &b->digest, &shown) : ERR_NOT_FOUND;
    if (err == 0 && !digest_equal(&shown, diff_id))
        return ERR_NOT_FOUND;
    return err == ERR_NOT_FOUND || err == ERR_DAMAGED ? 0 : err;
}

struct walk {
    struct db_txn *txn;
    const struct digest *diff_id;
    size_t prefix_len;
    diff_visit *visit;
    void *arg;
};

static int visit_diff(void *arg, struct db_value key, struct db_value value)
{
    const struct walk *w = arg;
    struct diff_blob b;
    int err = read_blob(w->txn, w->diff_id, (const uint8_t *)key.data + w->prefix_len,
                        key.size - w->prefix_len, value, &b);

    if (err != 0)
        return err == ERR_NOT_FOUND ? 0 : err;
    return w->visit(w->arg, &b);
}

int diff_walk(struct db_txn *txn, const struct digest *diff_id, diff_visit *visit, void *arg)
{
    uint8_t prefix[DIGEST_KEY_MAX];
    struct walk w = {
        .txn = txn,
        .diff_id = diff_id,
        .prefix_len = digest_to_key(diff_id, prefix),
        .visit = visit,
        .arg = arg,
    };

    return db_walk(txn, DB_DIFFS, prefix, w.prefix_len, NULL, 0, visit_diff, &w);
}

/* --- duplicates --- */

/* The blobs of one content, until the walk comes to the next. */
struct group {
    struct db_txn *txn;
    duplicate_visit *visit;
    void *arg;
    struct digest diff_id;
    struct diff_blob *blobs;
    unsigned count;
    unsigned room;
};

static int compare_blobs(const void *a, const void *b)
{
    const struct diff_blob *x = a;
    const struct diff_blob *y = b;

    if (x->record.origin != y->record.origin)
        return x->record.origin < y->record.origin ? -1 : 1;
    if (x->record.stored_at_s != y->record.stored_at_s)
        return x->record.stored_at_s < y->record.stored_at_s ? -1 : 1;
    return memcmp(&x->digest, &y->digest, sizeof x->digest);
}

static int end_group(struct group *g)
{
    unsigned count = g->count;

    g->count = 0;
    if (count < 2)
        return 0;
    qsort(g->blobs, count, sizeof g->blobs[0], compare_blobs);
    return g->visit(g->arg, &g->diff_id, g->blobs, count);
}

static int visit_any(void *arg, struct db_value key, struct db_value value)
{
    struct group *g = arg;
    struct digest diff_id;
    int used = digest_from_key(&diff_id, key.data, key.size);
    int err = 0;

    if (used < 0)
        return 0;
    if (!digest_equal(&diff_id, &g->diff_id))
        err = end_group(g);
    if (err != 0)
        return err;
    g->diff_id = diff_id;
    if (g->count == g->room) {
        g->room = g->room == 0 ? 8 : g->room * 2;
        g->blobs = mem_resize(g->blobs, g->room * sizeof g->blobs[0]);
    }
    err = read_blob(g->txn, &diff_id, (const uint8_t *)key.data + used, key.size - (size_t)used,
                    value, &g->blobs[g->count]);
    if (err == 0)
        g->count++;
    return err == ERR_NOT_FOUND ? 0 : err;
}

int diff_walk_duplicates(struct db_txn *txn, duplicate_visit *visit, void *arg)
{
    struct group g = {.txn = txn, .visit = visit, .arg = arg};
    int err = db_walk(txn, DB_DIFFS, NULL, 0, NULL, 0, visit_any, &g);

    if (err == 0)
        err = end_group(&g);
    free(g.blobs);
    return err;
}
