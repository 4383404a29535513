/* SPDX-License-Identifier: ISC */
#include "cache/survey.h"

#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "cache/manifest.h"

/* What an image names. The last image that named it is remembered, so that it counts
 * once there; the first one owns it until another names it too. */
struct content {
    struct digest digest;
    uint64_t size_bytes;
    bool is_held;
    struct image_node *owner; /* NULL: it is shared */
    struct image_node *last;
    /* Of a manifest, within `last`. */
    bool is_walked;
    unsigned child_held, child_total;
    UT_hash_handle hh;
};

struct image_node {
    struct survey survey;
    UT_hash_handle hh;
};

struct surveys {
    struct db_txn *txn;
    struct content *contents;
    struct image_node *images;
};

/* One manifest within an image. */
struct visit {
    struct surveys *surveys;
    struct image_node *image;
    unsigned depth;
    bool is_index;
    unsigned held, total; /* of its own config and layers */
};

struct surveys *surveys_new(struct db_txn *txn)
{
    struct surveys *s = mem_new(sizeof *s);

    s->txn = txn;
    return s;
}

void surveys_free(struct surveys **sp)
{
    struct surveys *s = *sp;

    if (s == NULL)
        return;
    *sp = NULL;
    /* Without the table what was in it is a list. */
    struct content *c = s->contents;
    HASH_CLEAR(hh, s->contents);
    while (c != NULL) {
        struct content *next = c->hh.next;

        free(c);
        c = next;
    }
    struct image_node *i = s->images;
    HASH_CLEAR(hh, s->images);
    while (i != NULL) {
        struct image_node *next = i->hh.next;

        free(i->survey.some);
        free(i);
        i = next;
    }
    free(s);
}

static struct content *find_content(struct surveys *s, const struct digest *d, uint64_t size_bytes)
{
    struct content *c;
    struct blob_record r;

    HASH_FIND(hh, s->contents, d, sizeof *d, c);
    if (c != NULL)
        return c;
    c = mem_new(sizeof *c);
    c->digest = *d;
    c->is_held = blob_get(s->txn, d, &r) == 0;
    c->size_bytes = c->is_held ? r.size_bytes : size_bytes;
    HASH_ADD(hh, s->contents, digest, sizeof c->digest, c);
    return c;
}

/* The image names it. */
static struct content *add_content(struct surveys *s, struct image_node *image,
                                   const struct digest *d, uint64_t size_bytes)
{
    struct content *c = find_content(s, d, size_bytes);
    struct survey *survey = &image->survey;
    uint64_t held_bytes = c->is_held ? c->size_bytes : 0;

    if (c->last == image)
        return c;
    if (c->last == NULL) {
        c->owner = image;
        survey->own_bytes += held_bytes;
    } else if (c->owner != NULL) {
        c->owner->survey.own_bytes -= held_bytes;
        c->owner = NULL;
    }
    c->last = image;
    c->is_walked = false;
    survey->total_count++;
    survey->total_bytes += c->size_bytes;
    survey->held_count += c->is_held;
    survey->held_bytes += held_bytes;
    return c;
}

static int visit_child(void *arg, const struct manifest_child *child);

/* Survey what a manifest names. ERR_NOT_FOUND when it is not held, or is damaged. */
static int walk(struct visit *v, const struct digest *d)
{
    struct manifest_record r;
    int err = manifest_get(v->surveys->txn, d, &r);

    if (err == 0) {
        v->is_index = r.is_index;
        err = manifest_walk(v->surveys->txn, d, visit_child, v);
    }
    return err == ERR_DAMAGED ? ERR_NOT_FOUND : err;
}

/* What build tools attach to an index, like attestations, is of no platform. */
static bool is_platform(const char *platform)
{
    return strncmp(platform, "unknown/", 8) != 0;
}

static void add_platform(struct survey *s, const char *name, unsigned held, unsigned total)
{
    const char *shown = *name == '\0' ? "no platform" : name;
    struct survey_platform *p;

    s->some = mem_resize(s->some, (s->some_count + 1) * sizeof s->some[0]);
    p = &s->some[s->some_count++];
    *p = (struct survey_platform){.held_count = held, .total_count = total};
    memcpy(p->name, shown, strnlen(shown, sizeof p->name - 1));
}

/* An index may name one manifest many times: it is walked once. */
static int visit_manifest(struct visit *parent, const struct manifest_child *child,
                          struct content *c)
{
    struct survey *s = &parent->image->survey;

    if (!c->is_walked) {
        struct visit v = {parent->surveys, parent->image, .depth = parent->depth + 1};
        int err =
            c->is_held && v.depth < MANIFEST_DEPTH_MAX ? walk(&v, &child->digest) : ERR_NOT_FOUND;

        if (err != 0 && err != ERR_NOT_FOUND)
            return err;
        c->is_walked = true;
        c->child_held = v.held;
        c->child_total = err == 0 ? v.total : v.total + 1;
    }
    if (!is_platform(child->platform))
        return 0;
    bool is_complete = c->child_held == c->child_total;

    s->platforms++;
    s->complete += is_complete;
    if (is_complete || c->child_held > 0)
        add_platform(s, child->platform, c->child_held, c->child_total);
    return 0;
}

static int visit_child(void *arg, const struct manifest_child *child)
{
    struct visit *v = arg;
    struct content *c = add_content(v->surveys, v->image, &child->digest, child->size_bytes);

    if (child->role == CHILD_MANIFEST)
        return visit_manifest(v, child, c);
    v->total++;
    v->held += c->is_held;
    return 0;
}

int surveys_add(struct surveys *s, const struct digest *d, uint64_t size_bytes,
                const struct survey **found)
{
    struct image_node *image;

    HASH_FIND(hh, s->images, d, sizeof *d, image);
    if (image == NULL) {
        image = mem_new(sizeof *image);
        image->survey.digest = *d;
        HASH_ADD(hh, s->images, survey.digest, sizeof image->survey.digest, image);
        struct visit v = {.surveys = s, .image = image};

        image->survey.is_held = add_content(s, image, d, size_bytes)->is_held;
        int err = walk(&v, d);

        if (err != 0 && err != ERR_NOT_FOUND)
            return err;
        image->survey.is_held = image->survey.is_held && err == 0;
        image->survey.is_index = v.is_index;
        image->survey.own_held = v.held;
        image->survey.own_total = v.total;
    }
    *found = &image->survey;
    return 0;
}

bool survey_is_complete(const struct survey *s)
{
    if (!s->is_held)
        return false;
    return s->is_index ? s->complete == s->platforms : s->own_held == s->own_total;
}
