/* SPDX-License-Identifier: ISC */
/* cachalot ls: one row a tag, and how much of its image is held. */
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "cache/manifest.h"
#include "cache/tag.h"
#include "tools/command.h"
#include "tools/output.h"

#define SHORT_DIGEST 12
/* An index of indexes is legal and rare; deeper ones are shown as not held. */
#define DEPTH_MAX 3

/* What a manifest leads to. A blob counts once however often it is named. */
struct survey {
    struct db_txn *txn;
    uint64_t held_bytes;
    uint64_t total_bytes;
    unsigned held_count;
    unsigned total_count;
    struct digest *seen;
    size_t seen_count;
    /* Of an index. */
    unsigned platforms;          /* that there are */
    unsigned complete_platforms; /* that are held whole */
    json_t *names;               /* of those that are held, whole or not */
};

/* One manifest within a survey. */
struct visit {
    struct survey *survey;
    unsigned depth;
    bool is_index;
    unsigned held; /* of its own children, when it is not an index */
    unsigned total;
};

static void add_content(struct survey *s, const struct digest *d, uint64_t size_bytes, bool held)
{
    for (size_t i = 0; i < s->seen_count; i++) {
        if (digest_equal(&s->seen[i], d))
            return;
    }
    s->seen = mem_resize(s->seen, (s->seen_count + 1) * sizeof s->seen[0]);
    s->seen[s->seen_count++] = *d;
    s->total_bytes += size_bytes;
    s->total_count++;
    if (held) {
        s->held_bytes += size_bytes;
        s->held_count++;
    }
}

static bool is_held(struct db_txn *txn, const struct digest *d)
{
    struct blob_record r;
    return blob_get(txn, d, &r) == 0;
}

static int visit_child(void *arg, const struct manifest_child *child);

/* Survey what a held manifest names; its own counts stay in `v`. */
static int survey_manifest(struct visit *v, const struct digest *d)
{
    struct manifest_record r;
    int err = manifest_get(v->survey->txn, d, &r);
    if (err != 0)
        return err;
    v->is_index = r.is_index;
    return manifest_walk(v->survey->txn, d, visit_child, v);
}

/* What build tools attach to an index, like attestations, is of no platform. */
static bool is_platform(const char *platform)
{
    return strncmp(platform, "unknown/", 8) != 0;
}

static int visit_platform(struct visit *parent, const struct manifest_child *child, bool held)
{
    struct survey *s = parent->survey;
    struct visit v = {.survey = s, .depth = parent->depth + 1};
    int err = held && v.depth < DEPTH_MAX ? survey_manifest(&v, &child->digest) : ERR_NOT_FOUND;
    if (err != 0 && err != ERR_NOT_FOUND)
        return err;
    if (!is_platform(child->platform))
        return 0;
    s->platforms++;
    bool complete = err == 0 && v.held == v.total;
    s->complete_platforms += complete;
    const char *name = *child->platform == '\0' ? "no platform" : child->platform;
    if (complete)
        json_array_append_new(s->names, json_string(name));
    else if (v.held > 0)
        json_array_append_new(s->names, json_sprintf("%s (%u of %u blobs)", name, v.held, v.total));
    return 0;
}

static int visit_child(void *arg, const struct manifest_child *child)
{
    struct visit *v = arg;
    bool held = is_held(v->survey->txn, &child->digest);
    add_content(v->survey, &child->digest, child->size_bytes, held);
    if (child->role == CHILD_MANIFEST)
        return visit_platform(v, child, held);
    v->total++;
    v->held += held;
    return 0;
}

struct listing {
    const struct options *options;
    struct db_txn *txn;
    const char *pattern; /* or NULL */
    struct table *table;
    json_t *array;
    int64_t now_s;
    size_t count;
};

/* "complete", or what of it is held, for people. Owned by the caller. */
static char *held_text(const struct survey *s, const struct visit *v)
{
    if (!v->is_index)
        return v->held == v->total ? mem_format("complete")
                                   : mem_format("%u of %u blobs", v->held, v->total);
    if (s->complete_platforms == s->platforms)
        return mem_format("complete, %u platforms", s->platforms);
    if (json_array_size(s->names) == 0)
        return mem_format("none of %u platforms", s->platforms);
    char *text = mem_format("%s", "");
    for (size_t i = 0; i < json_array_size(s->names); i++) {
        char *longer = mem_format("%s%s%s", text, i == 0 ? "" : ", ",
                                  json_string_value(json_array_get(s->names, i)));
        free(text);
        text = longer;
    }
    return text;
}

/* `checked_at_s` is 0 when no upstream is asked. */
static void add_row(struct listing *l, const char *reference, const struct digest *d,
                    const struct tag_record *tag, int64_t checked_at_s, int64_t used_at_s,
                    const struct survey *s, const char *held)
{
    char digest[DIGEST_TEXT_MAX], size[TEXT_MAX], age[TEXT_MAX], checked[TEXT_MAX], used[TEXT_MAX];
    digest_text(d, digest);
    if (l->options->format == FORMAT_JSON) {
        json_array_append_new(
            l->array,
            json_pack("{ss ss ss sI sI si si sO sI sI sI}", "reference", reference, "digest",
                      digest, "held", held, "held_bytes", (json_int_t)s->held_bytes, "total_bytes",
                      (json_int_t)s->total_bytes, "held_blobs", (int)s->held_count, "total_blobs",
                      (int)s->total_count, "platforms", s->names, "changed_at",
                      (json_int_t)tag->changed_at_s, "checked_at", (json_int_t)checked_at_s,
                      "used_at", (json_int_t)used_at_s));
        return;
    }
    table_add(l->table, "%s", reference);
    table_add(l->table, "%.*s", SHORT_DIGEST, strchr(digest, ':') + 1);
    table_add(l->table, "%s", size_text(size, s->held_bytes));
    table_add(l->table, "%s", held);
    table_add(l->table, "%s", age_text(age, l->now_s - tag->changed_at_s));
    table_add(l->table, "%s", checked_at_s > 0 ? age_text(checked, l->now_s - checked_at_s) : "-");
    table_add(l->table, "%s", used_at_s == 0 ? "-" : age_text(used, l->now_s - used_at_s));
}

static bool matches(const char *pattern, const char *reference)
{
    if (pattern == NULL)
        return true;
    if (strpbrk(pattern, "*?[") == NULL)
        return strstr(reference, pattern) != NULL;
    return fnmatch(pattern, reference, 0) == 0;
}

/* Where the tag points to, or pointed to last when that is not held yet. */
static const struct digest *shown_digest(struct db_txn *txn, const struct tag_record *tag)
{
    bool moved =
        !is_held(txn, &tag->digest) && tag->previous.alg != 0 && is_held(txn, &tag->previous);
    return moved ? &tag->previous : &tag->digest;
}

static int list_tag(void *arg, const struct name *n, const char *tag, const struct tag_record *r)
{
    struct listing *l = arg;
    char name[NAME_MAX_SIZE];
    name_text(n, name);
    char *reference = mem_format("%s:%s", name, tag);
    int err = 0;
    if (matches(l->pattern, reference)) {
        const struct digest *d = shown_digest(l->txn, r);
        struct survey s = {.txn = l->txn, .names = json_array()};
        struct visit v = {.survey = &s};
        struct blob_record blob = {0};
        bool held = blob_get(l->txn, d, &blob) == 0;
        add_content(&s, d, held ? blob.size_bytes : r->size_bytes, held);
        err = survey_manifest(&v, d);
        char *text = err == 0 ? held_text(&s, &v) : mem_format("not held");
        if (err == ERR_NOT_FOUND)
            err = 0;
        add_row(l, reference, d, r, name_is_local(n) ? 0 : r->checked_at_s, blob.used_at_s, &s,
                text);
        l->count++;
        free(text);
        free(s.seen);
        json_decref(s.names);
    }
    free(reference);
    return err;
}

static enum exit_code print_listing(struct listing *l)
{
    if (l->count == 0 && l->pattern != NULL)
        return complain(EXIT_ABSENT, "no tag matches \"%s\"; \"cachalot ls\" lists them all",
                        l->pattern);
    if (l->options->format == FORMAT_JSON && !l->options->quiet)
        json_print(json_incref(l->array));
    else if (l->count == 0 && !l->options->quiet)
        puts("No tag is held yet; pull an image through cachalotd, or push one.");
    else if (!l->options->quiet)
        table_print(l->table);
    return output_end();
}

enum exit_code cmd_ls(const struct options *o, int argc, char **argv)
{
    struct cache cache;
    enum exit_code code = cache_open(&cache, o);
    if (code != EXIT_DONE)
        return code;
    struct listing l = {
        .options = o,
        .txn = cache.txn,
        .pattern = argc > 0 ? argv[0] : NULL,
        .table = table_new("llrlrrr"),
        .array = json_array(),
        .now_s = (int64_t)time(NULL),
    };
    static const char *const heads[] = {"REFERENCE", "DIGEST",  "SIZE", "HELD",
                                        "AGE",       "CHECKED", "USED"};
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        table_add(l.table, "%s", heads[i]);
    int err = tag_walk(cache.txn, list_tag, &l);
    code = err == 0 ? print_listing(&l) : cache_complain(o, err);
    json_decref(l.array);
    table_free(&l.table);
    cache_close(&cache);
    return code;
}
