/* SPDX-License-Identifier: ISC */
#include "tools/content.h"

#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/link.h"
#include "cache/manifest.h"
#include "cache/parent.h"
#include "cache/pin.h"

static void add_text(char ***list, size_t *count, const char *text)
{
    *list = mem_resize(*list, (*count + 1) * sizeof **list);
    (*list)[(*count)++] = mem_copy(text, strlen(text));
}

struct sourcing {
    struct content *content;
    struct db_txn *txn;
};

/* Urls are those of the registry that names them. */
static int add_source(void *arg, const struct name *n)
{
    struct sourcing *s = arg;
    struct content *c = s->content;
    struct foreign_urls urls;
    char name[NAME_MAX_SIZE];
    if (name_is_local(n))
        return 0;
    name_text(n, name);
    add_text(&c->sources, &c->source_count, name);
    if (c->url_count > 0 || foreign_urls_get(s->txn, n->registry, &c->digest, &urls) != 0)
        return 0;
    for (unsigned i = 0; i < urls.count; i++)
        add_text(&c->urls, &c->url_count, urls.urls[i]);
    foreign_urls_clear(&urls);
    return 0;
}

int content_read(struct content *c, struct db_txn *txn, const struct digest *d, uint64_t size_bytes)
{
    struct sourcing s = {c, txn};
    *c = (struct content){.digest = *d, .size_bytes = size_bytes};
    c->is_held = blob_get(txn, d, &c->record) == 0;
    if (c->is_held)
        c->size_bytes = c->record.size_bytes;
    int err = source_walk(txn, d, add_source, &s);
    if (err != 0)
        content_clear(c);
    return err;
}

void content_clear(struct content *c)
{
    for (size_t i = 0; i < c->source_count; i++)
        free(c->sources[i]);
    for (size_t i = 0; i < c->url_count; i++)
        free(c->urls[i]);
    free(c->sources);
    free(c->urls);
    *c = (struct content){0};
}

const char *content_origin(const struct content *c)
{
    if (!c->is_held)
        return NULL;
    switch (c->record.origin) {
    case BLOB_PUBLIC:
        return "pulled";
    case BLOB_PRIVATE:
        return "private";
    case BLOB_PUSHED:
        return "pushed";
    }
    return "?";
}

static json_t *texts_json(char *const *texts, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(array, json_string(texts[i]));
    return array;
}

json_t *content_json(const struct content *c)
{
    char digest[DIGEST_TEXT_MAX];
    bool is_held = c->is_held;
    return json_pack(
        "{ss sI sb ss? so so so so}", "digest", digest_text(&c->digest, digest), "size_bytes",
        (json_int_t)c->size_bytes, "held", is_held, "origin", content_origin(c), "stored_at",
        is_held ? json_integer(c->record.stored_at_s) : json_null(), "used_at",
        is_held ? json_integer(c->record.used_at_s) : json_null(), "sources",
        texts_json(c->sources, c->source_count), "urls", texts_json(c->urls, c->url_count));
}

static bool has_source(const struct content *c, const struct name *n)
{
    char name[NAME_MAX_SIZE];
    name_text(n, name);
    for (size_t i = 0; i < c->source_count; i++) {
        if (strcmp(c->sources[i], name) == 0)
            return true;
    }
    return false;
}

char *content_from_text(const struct content *c, const struct name *at_hand)
{
    const char *urls = c->url_count > 0 ? ", has urls" : "";
    if (c->is_held)
        return mem_format("%s%s", content_origin(c), urls);
    if (at_hand != NULL && has_source(c, at_hand))
        return mem_format("upstream%s", urls);
    if (c->source_count == 0)
        return mem_format("nowhere%s", urls);
    if (c->source_count == 1)
        return mem_format("%s%s", c->sources[0], urls);
    return mem_format("%s and %zu more%s", c->sources[0], c->source_count - 1, urls);
}

struct role_search {
    struct db_txn *txn;
    const struct digest *digest;
    int role;
    uint64_t size_bytes;
};

static int match_child(void *arg, const struct manifest_child *child)
{
    struct role_search *s = arg;
    if (!digest_equal(&child->digest, s->digest))
        return 0;
    s->role = child->role;
    s->size_bytes = child->size_bytes;
    return 1;
}

/* Parents that are gone, or damaged, tell nothing. */
static int ask_parent(void *arg, const struct digest *parent, int role)
{
    struct role_search *s = arg;
    (void)role;
    return manifest_walk(s->txn, parent, match_child, s) == 1;
}

int content_role(struct db_txn *txn, const struct digest *d, uint64_t *size_bytes)
{
    struct role_search s = {txn, d, -1, 0};
    struct manifest_record r;
    if (manifest_get(txn, d, &r) == 0)
        return CHILD_MANIFEST;
    if (parent_walk(txn, d, ask_parent, &s) == 1)
        *size_bytes = s.size_bytes;
    return s.role;
}

const char *role_name(int role)
{
    switch (role) {
    case CHILD_MANIFEST:
        return "manifest";
    case CHILD_CONFIG:
        return "config";
    case CHILD_LAYER:
        return "layer";
    default:
        return "blob";
    }
}
