/* SPDX-License-Identifier: ISC */
#include "proxy/prefetch_private.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/json.h"
#include "cache/json_list.h"

/* Of one list; registries give thousands of tags in one. */
#define PAGES_MAX 100

bool targets_add(struct targets *t, const struct reference *r)
{
    char text[REFERENCE_TEXT_MAX], other[REFERENCE_TEXT_MAX];

    reference_text(r, text);
    for (unsigned i = 0; i < t->count; i++) {
        reference_text(&t->list[i], other);
        if (strcmp(text, other) == 0)
            return true;
    }
    if (t->count == TARGETS_MAX)
        return false;
    t->list[t->count++] = *r;
    return true;
}

bool link_next_query(const char *link, char *out, size_t size)
{
    const char *end = link ? strchr(link, '>') : NULL;
    const char *query = link ? strchr(link, '?') : NULL;
    const char *next = end ? strstr(end, "rel=") : NULL;

    if (!next || *link != '<' || !query || query > end)
        return false;
    next += 4 + (next[4] == '"');
    size_t len = (size_t)(end - query - 1);

    if (strncmp(next, "next", 4) != 0 || len == 0 || len >= size)
        return false;
    memcpy(out, query + 1, len);
    out[len] = '\0';
    return true;
}

struct match {
    struct targets *targets;
    struct reference reference; /* its tag is the one at hand */
    const char *pattern;
    bool is_full;
};

static void take_tag(void *arg, const char *tag)
{
    struct match *m = arg;
    size_t len = strlen(tag);

    if (!name_is_tag(tag, len) || fnmatch(m->pattern, tag, FNM_NOESCAPE) != 0)
        return;
    memcpy(m->reference.tag, tag, len + 1);
    m->is_full = m->is_full || !targets_add(m->targets, &m->reference);
}

static enum outcome take_list(const struct ask_result *r, struct match *m, char *next, char *why,
                              size_t why_size)
{
    struct json_t *list;

    if (outcome_is_error(r->outcome)) {
        snprintf(why, why_size, "the list of tags: %s",
                 r->why[0] ? r->why : outcome_row(r->outcome)->text);
        return r->outcome;
    }
    if (json_parse(&list, r->body, r->body_len, why, why_size) != 0)
        return OUT_UPSTREAM_BROKEN;
    json_member_walk_texts(list, "tags", take_tag, m);
    if (!link_next_query(r->link, next, ASK_REFERENCE_MAX - sizeof "tags/list?"))
        *next = '\0';
    json_wipe(&list);
    return OUT_MISS;
}

/* One page; the query of the next in `next`, empty when it is the last. */
static enum outcome take_page(struct prefetch *p, struct match *m, const char *query, char *next,
                              char *why, size_t why_size)
{
    struct errand e = {.reference.name = m->reference.name};
    char *path = mem_format("tags/list%s%s", *query ? "?" : "", query);
    struct ask *a = errand_ask(&p->courier, &e, &(struct errand_progress){0}, ASK_LIST, path);
    enum outcome o = OUT_DRAINING;

    free(path);
    *next = '\0';
    if (a)
        o = take_list(ask_result(a), m, next, why, why_size);
    else
        snprintf(why, why_size, "%s", outcome_row(o)->text);
    ask_unref(&a);
    return o;
}

enum outcome targets_find(struct prefetch *p, struct targets *t, const struct name *n,
                          const char *tags, char *why, size_t why_size)
{
    struct match m = {.targets = t, .reference.name = *n, .pattern = tags};
    char query[ASK_REFERENCE_MAX] = "", next[ASK_REFERENCE_MAX];
    enum outcome o = OUT_MISS;
    unsigned before = t->count;

    for (unsigned i = 0; i < PAGES_MAX && !outcome_is_error(o); i++) {
        o = take_page(p, &m, query, next, why, why_size);
        if (*next == '\0' || strcmp(next, query) == 0)
            break;
        memcpy(query, next, sizeof query);
    }
    if (outcome_is_error(o))
        return o;
    if (m.is_full) {
        snprintf(why, why_size, "more than %d tags fit; make the pattern narrower", TARGETS_MAX);
        return OUT_BAD_REQUEST;
    }
    if (t->count == before) {
        snprintf(why, why_size, "no tag fits");
        return OUT_MANIFEST_UNKNOWN;
    }
    return o;
}
