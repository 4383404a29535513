/* SPDX-License-Identifier: ISC */
/* cachalot why: why a content is here, and how long it will be. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache/clients.h"
#include "cache/err.h"
#include "cache/evict.h"
#include "cache/lineage.h"
#include "cache/link.h"
#include "cache/partial.h"
#include "cache/pin.h"
#include "cache/tag.h"
#include "tools/command.h"
#include "tools/content.h"
#include "tools/limits.h"
#include "tools/output.h"
#include "tools/target.h"

#define SHORT_DIGEST 12
/* Sources, clients and the like named in the table; JSON has them all. */
#define SHOWN_MAX 3

struct answer {
    struct db_txn *txn;
    struct content content;
    struct lineage lineage;
    int role;
    bool is_index;
    json_t *pins;    /* references */
    json_t *holders; /* local repositories */
    bool has_partial;
    struct partial_record partial;
    struct clients clients;
    int64_t now_s;
    struct evict_rules rules;
    struct evict_unit unit; /* what eviction has to say of it, if it is held */
    uint64_t before_bytes;  /* of what was used longer ago */
};

/* --- what is known --- */

static int add_pin(void *arg, const struct pin *p)
{
    struct answer *a = arg;
    struct digest d = p->reference.digest;
    struct tag_record tag;
    char text[REFERENCE_TEXT_MAX];
    if (!p->reference.by_digest) {
        if (tag_get(a->txn, &p->reference.name, p->reference.tag, &tag) != 0)
            return 0;
        (void)tag_shown(a->txn, &tag, &d);
    }
    if (lineage_find(&a->lineage, &d) != NULL) {
        reference_text(&p->reference, text);
        json_array_append_new(a->pins, json_string(text));
    }
    return 0;
}

static int add_holder(void *arg, const struct name *n)
{
    struct answer *a = arg;
    char text[NAME_MAX_SIZE];
    name_text(n, text);
    json_array_append_new(a->holders, json_string(text));
    return 0;
}

static int read_rest(struct answer *a, const struct digest *d)
{
    struct manifest_record r;
    a->is_index = manifest_get(a->txn, d, &r) == 0 && r.is_index;
    a->has_partial = partial_get(a->txn, d, &a->partial) == 0;
    if (clients_get(a->txn, d, &a->clients) != 0)
        a->clients.count = 0;
    int err = pin_walk(a->txn, add_pin, a);
    return err == 0 ? link_walk_holders(a->txn, d, add_holder, a) : err;
}

static int add_before(void *arg, const struct digest *d, const struct blob_record *r)
{
    struct answer *a = arg;
    (void)d;
    if (r->used_at_s < a->unit.used_at_s)
        a->before_bytes += r->size_bytes;
    return 0;
}

static int read_eviction(struct answer *a, const struct digest *d)
{
    struct evict_guard *g;
    int err = evict_guard_new(&g, a->txn, NULL, 0);
    if (err != 0)
        return err;
    err = evict_judge(a->txn, &a->rules, g, d, &a->unit);
    evict_guard_free(&g);
    if (err == 0 && a->unit.why == EVICT_LEAST_USED)
        err = blob_walk(a->txn, NULL, add_before, a);
    return err == ERR_NOT_FOUND ? 0 : err;
}

static int read_answer(struct answer *a, const struct digest *d)
{
    uint64_t size_bytes = 0;
    a->role = content_role(a->txn, d, &size_bytes);
    int err = content_read(&a->content, a->txn, d, size_bytes);
    if (err != 0)
        return err;
    err = lineage_read(&a->lineage, a->txn, d);
    if (err == 0)
        err = read_eviction(a, d);
    return err == 0 ? read_rest(a, d) : err;
}

static void clear_answer(struct answer *a)
{
    content_clear(&a->content);
    lineage_clear(&a->lineage);
    json_decref(a->pins);
    json_decref(a->holders);
}

static const char *what(const struct answer *a)
{
    return a->is_index ? "index" : role_name(a->role);
}

/* --- for programs --- */

static json_t *parents_json(const struct answer *a)
{
    json_t *all = json_array();
    char digest[DIGEST_TEXT_MAX];
    for (const struct ancestor *x = a->lineage.ancestors; x != NULL; x = x->hh.next) {
        if (x->below == NULL || x->below->below != NULL)
            continue;
        json_array_append_new(all,
                              json_pack("{ss ss ss* sb}", "digest", digest_text(&x->digest, digest),
                                        "as", role_name(x->child.role), "platform",
                                        *x->child.platform != '\0' ? x->child.platform : NULL,
                                        "tagged", x->is_tagged));
    }
    return all;
}

static json_t *tags_json(const struct answer *a)
{
    json_t *all = json_array();
    char digest[DIGEST_TEXT_MAX], reference[REFERENCE_TEXT_MAX];
    for (size_t i = 0; i < a->lineage.tag_count; i++) {
        const struct leading_tag *t = &a->lineage.tags[i];
        json_t *through = json_array();
        for (const struct ancestor *x = t->to; x->below != NULL; x = x->below)
            json_array_append_new(through, json_string(digest_text(&x->digest, digest)));
        reference_text(&t->reference, reference);
        json_array_append_new(all, json_pack("{ss so sb}", "reference", reference, "through",
                                             through, "previous", t->is_previous));
    }
    return all;
}

static json_t *clients_json(const struct answer *a)
{
    json_t *all = json_array();
    char address[INET6_ADDRSTRLEN];
    for (size_t i = 0; i < a->clients.count; i++) {
        const struct client *c = &a->clients.list[i];
        json_array_append_new(all, json_pack("{ss sI}", "address", client_text(c, address),
                                             "used_at", (json_int_t)c->used_at_s));
    }
    return all;
}

static void print_json(const struct answer *a)
{
    json_t *json = content_json(&a->content);
    json_t *partial = json_null();
    if (a->has_partial)
        partial = json_pack("{sI sI}", "size_bytes", (json_int_t)a->partial.size_bytes,
                            "front_bytes", (json_int_t)extents_front(&a->partial.extents));
    json_object_set_new(json, "is", json_string(what(a)));
    json_object_set_new(json, "parents", parents_json(a));
    json_object_set_new(json, "tags", tags_json(a));
    json_object_set(json, "local_repositories", a->holders);
    json_object_set(json, "pins", a->pins);
    json_object_set_new(json, "used_by", clients_json(a));
    json_object_set_new(json, "partial", partial);
    json_object_set_new(json, "eviction",
                        a->content.is_held ? json_string(evict_why_word(a->unit.why))
                                           : json_null());
    json_object_set_new(json, "evicted_before_bytes", json_integer((json_int_t)a->before_bytes));
    json_print(json);
}

/* --- for people --- */

/* The first ones and how many more; owned by the caller. */
static char *list_text(char *const *texts, size_t count)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    CHECK(out != NULL);
    for (size_t i = 0; i < count && i < SHOWN_MAX; i++)
        fprintf(out, "%s%s", i > 0 ? ", " : "", texts[i]);
    if (count > SHOWN_MAX)
        fprintf(out, " and %zu more", count - SHOWN_MAX);
    CHECK(fclose(out) == 0);
    return text;
}

static char *json_list_text(const json_t *array)
{
    size_t count = json_array_size(array);
    char **texts = mem_new((count + 1) * sizeof *texts);
    for (size_t i = 0; i < count; i++)
        texts[i] = (char *)json_string_value(json_array_get(array, i));
    char *text = list_text(texts, count);
    free(texts);
    return text;
}

static void add_line(struct table *t, const char *head, char *text)
{
    table_add(t, "%s", head);
    table_add(t, "%s", text);
    free(text);
}

static char *is_text(const struct answer *a)
{
    char size[TEXT_MAX], stored[TEXT_MAX], used[TEXT_MAX];
    const struct content *c = &a->content;
    const char *article = a->is_index ? "an" : "a";
    size_text(size, c->size_bytes);
    if (!c->is_held)
        return mem_format("%s %s of %s that is not held", article, what(a), size);
    return mem_format("%s %s of %s, held for %s, last used %s ago", article, what(a), size,
                      age_text(stored, a->now_s - c->record.stored_at_s),
                      age_text(used, a->now_s - c->record.used_at_s));
}

static void add_partial(struct table *t, const struct answer *a)
{
    char done[TEXT_MAX], size[TEXT_MAX];
    if (a->has_partial)
        add_line(t, "partial",
                 mem_format("%s of %s are on disk; the next pull goes on from there",
                            size_text(done, extents_front(&a->partial.extents)),
                            size_text(size, a->partial.size_bytes)));
}

static char *client_used_text(const struct client *c)
{
    char address[INET6_ADDRSTRLEN], at[TEXT_MAX] = "-";
    time_t used_at = (time_t)c->used_at_s;
    struct tm tm;
    if (localtime_r(&used_at, &tm) != NULL)
        strftime(at, sizeof at, "%Y-%m-%d %H:%M", &tm);
    return mem_format("%s (%s)", client_text(c, address), at);
}

static char *clients_text(const struct clients *c)
{
    char *texts[CLIENTS_MAX];
    if (c->count == 0)
        return mem_format("nobody yet, or before this was noted");
    for (size_t i = 0; i < c->count; i++)
        texts[i] = client_used_text(&c->list[i]);
    char *text = list_text(texts, c->count);
    for (size_t i = 0; i < c->count; i++)
        free(texts[i]);
    return text;
}

static char *evicted_text(const struct answer *a)
{
    char size[TEXT_MAX];
    const char *text = evict_why_text(a->unit.why);
    if (a->unit.why == EVICT_LEAST_USED)
        return mem_format("%s; %s were used longer ago", text, size_text(size, a->before_bytes));
    if (evict_why_is_garbage(a->unit.why))
        return mem_format("goes soon: %s; \"cachalot gc\" does it now", text);
    return mem_format("%s", text);
}

static void add_lines(struct table *t, const struct answer *a)
{
    char digest[DIGEST_TEXT_MAX];
    const struct content *c = &a->content;
    const char *origin = content_origin(c);
    add_line(t, "digest", mem_format("%s", digest_text(&c->digest, digest)));
    add_line(t, "is", is_text(a));
    add_partial(t, a);
    if (origin != NULL)
        add_line(t, "came",
                 mem_format("%s", c->record.origin == BLOB_PUSHED    ? "by a push"
                                  : c->record.origin == BLOB_PRIVATE ? "from an upstream, with "
                                                                       "credentials: private"
                                                                     : "from a public upstream"));
    if (c->source_count > 0)
        add_line(t, "sources", list_text(c->sources, c->source_count));
    if (c->url_count > 0)
        add_line(t, "urls", list_text(c->urls, c->url_count));
    if (json_array_size(a->holders) > 0)
        add_line(t, "local", json_list_text(a->holders));
    if (json_array_size(a->pins) > 0)
        add_line(t, "pinned", json_list_text(a->pins));
    else
        add_line(t, "pinned", mem_format("no"));
    if (c->is_held)
        add_line(t, "used by", clients_text(&a->clients));
    if (c->is_held)
        add_line(t, "evicted", evicted_text(a));
}

static void print_digest(FILE *out, const struct digest *d)
{
    char digest[DIGEST_TEXT_MAX];
    fprintf(out, " %.*s", SHORT_DIGEST, strchr(digest_text(d, digest), ':') + 1);
}

/* The way down: "index 0123456789ab > linux/amd64 123456789abc > layer"; owned by the
 * caller. */
static char *way_text(const struct ancestor *from)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    CHECK(out != NULL);
    if (from->below == NULL) {
        fputs("itself", out);
    } else {
        fputs(from->child.role == CHILD_MANIFEST ? "index" : "manifest", out);
        print_digest(out, &from->digest);
    }
    for (const struct ancestor *x = from; x->below != NULL; x = x->below) {
        bool has_platform = x->child.role == CHILD_MANIFEST && *x->child.platform != '\0';
        fprintf(out, " > %s", has_platform ? x->child.platform : role_name(x->child.role));
        if (x->below->below != NULL)
            print_digest(out, &x->below->digest);
    }
    CHECK(fclose(out) == 0);
    return text;
}

static void print_ways(const struct answer *a)
{
    char reference[REFERENCE_TEXT_MAX];
    struct table *t = table_new("mw");
    table_add(t, "TAG");
    table_add(t, "WAY");
    for (size_t i = 0; i < a->lineage.tag_count; i++) {
        const struct leading_tag *tag = &a->lineage.tags[i];
        char *way = way_text(tag->to);
        reference_text(&tag->reference, reference);
        table_add(t, "%s", reference);
        table_add(t, "%s%s", way, tag->is_previous ? "; before it moved" : "");
        free(way);
    }
    for (const struct ancestor *x = a->lineage.ancestors; x != NULL; x = x->hh.next) {
        if (x->is_tagged || x->below == NULL)
            continue;
        char *way = way_text(x);
        table_add(t, "no tag");
        table_add(t, "%s", way);
        free(way);
    }
    if (table_rows(t) > 1)
        table_print(t);
    else
        puts("No tag leads to it, and no manifest that is held names it.");
    table_free(&t);
}

static void print_table(const struct answer *a)
{
    struct table *t = table_new("lw");
    add_lines(t, a);
    table_print_plain(t);
    table_free(&t);
    putchar('\n');
    print_ways(a);
}

enum exit_code cmd_why(const struct options *o, int argc, char **argv)
{
    struct cache cache;
    struct target target;
    (void)argc;
    enum exit_code code = cache_open(&cache, o);
    if (code != EXIT_DONE)
        return code;
    code = target_find(&target, o, cache.txn, argv[0]);
    if (code == EXIT_DONE) {
        struct answer a = {.txn = cache.txn,
                           .pins = json_array(),
                           .holders = json_array(),
                           .now_s = (int64_t)time(NULL),
                           .rules = limits_rules(o)};
        int err = read_answer(&a, &target.digest);
        if (err != 0)
            code = cache_complain(o, err);
        else if (o->format == FORMAT_JSON && !o->quiet)
            print_json(&a);
        else if (!o->quiet)
            print_table(&a);
        if (err == 0)
            code = output_end();
        clear_answer(&a);
    }
    cache_close(&cache);
    return code;
}
