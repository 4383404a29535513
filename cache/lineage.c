/* SPDX-License-Identifier: ISC */
#include "cache/lineage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/tag.h"

/* Indexes of indexes are legal and rare. */
#define LEVELS_MAX 4
/* Tags that are named in the text; the others are counted. */
#define SHOWN_MAX 3

struct climb {
    struct lineage *lineage;
    struct db_txn *txn;
    const struct digest *manifest; /* whose children are looked at */
    bool has_found;
};

static struct ancestor *add(struct lineage *l, const struct digest *d)
{
    struct ancestor *a = mem_new(sizeof *a);

    a->digest = *d;
    HASH_ADD(hh, l->ancestors, digest, sizeof a->digest, a);
    return a;
}

const struct ancestor *lineage_find(const struct lineage *l, const struct digest *d)
{
    struct ancestor *a;

    HASH_FIND(hh, l->ancestors, d, sizeof *d, a);
    return a;
}

static int match_child(void *arg, const struct manifest_child *child)
{
    struct climb *c = arg;
    const struct ancestor *below = lineage_find(c->lineage, &child->digest);

    if (below == NULL)
        return 0;
    struct ancestor *a = add(c->lineage, c->manifest);

    a->below = below;
    a->child = *child;
    c->has_found = true;
    return 1;
}

/* Damaged records name nothing. */
static int visit_manifest(void *arg, struct db_value key, struct db_value value)
{
    struct climb *c = arg;
    struct digest d;

    (void)value;
    if (digest_from_key(&d, key.data, key.size) < 0 || lineage_find(c->lineage, &d) != NULL)
        return 0;
    c->manifest = &d;
    int err = manifest_walk(c->txn, &d, match_child, c);

    return err == ERR_DAMAGED || err > 0 ? 0 : err;
}

static int add_tag(void *arg, const struct name *n, const char *tag, const struct tag_record *r)
{
    struct lineage *l = arg;
    const struct ancestor *to = lineage_find(l, &r->digest);
    bool is_previous = to == NULL && r->previous.alg != 0;

    if (is_previous)
        to = lineage_find(l, &r->previous);
    if (to == NULL)
        return 0;
    l->tags = mem_resize(l->tags, (l->tag_count + 1) * sizeof l->tags[0]);
    struct leading_tag *t = &l->tags[l->tag_count++];

    *t = (struct leading_tag){.reference.name = *n, .to = to, .is_previous = is_previous};
    memcpy(t->reference.tag, tag, strlen(tag) + 1);
    for (const struct ancestor *a = to; a != NULL; a = a->below)
        ((struct ancestor *)a)->is_tagged = true;
    return 0;
}

int lineage_read(struct lineage *l, struct db_txn *txn, const struct digest *d)
{
    struct climb c = {.lineage = l, .txn = txn, .has_found = true};
    int err = 0;

    *l = (struct lineage){0};
    add(l, d);
    for (int level = 0; level < LEVELS_MAX && err == 0 && c.has_found; level++) {
        c.has_found = false;
        err = db_walk(txn, DB_MANIFESTS, NULL, 0, NULL, 0, visit_manifest, &c);
    }
    if (err == 0)
        err = tag_walk(txn, add_tag, l);
    if (err != 0)
        lineage_clear(l);
    return err;
}

void lineage_clear(struct lineage *l)
{
    struct ancestor *a = l->ancestors, *next;

    HASH_CLEAR(hh, l->ancestors);
    for (; a != NULL; a = next) {
        next = a->hh.next;
        free(a);
    }
    free(l->tags);
    *l = (struct lineage){0};
}

char *lineage_text(const struct lineage *l)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    CHECK(out != NULL);
    for (size_t i = 0; i < l->tag_count && i < SHOWN_MAX; i++) {
        char reference[REFERENCE_TEXT_MAX];

        reference_text(&l->tags[i].reference, reference);
        fprintf(out, "%s%s", i > 0 ? ", " : "", reference);
    }
    if (l->tag_count > SHOWN_MAX)
        fprintf(out, " and %zu more", l->tag_count - SHOWN_MAX);
    if (l->tag_count == 0)
        fputs("no tag", out);
    CHECK(fclose(out) == 0);
    return text;
}
