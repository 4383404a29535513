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
#include "cache/pin.h"
#include "cache/survey.h"
#include "cache/tag.h"
#include "tools/command.h"
#include "tools/content.h"
#include "tools/output.h"

#define SHORT_DIGEST 12

/* A tag that is listed. Its survey is complete when all tags were walked. */
struct row {
    struct reference reference;
    struct digest digest;
    int64_t changed_at_s;
    int64_t checked_at_s; /* 0 when no upstream is asked */
    int64_t used_at_s;    /* 0: never */
    bool is_pinned;
    bool has_moved; /* to a manifest that is not held; this is the one before */
    const struct survey *survey;
};

struct listing {
    const struct options *options;
    struct db_txn *txn;
    struct surveys *surveys;
    const char *pattern; /* or NULL */
    struct row *rows;
    size_t count;
    size_t room;
    int64_t now_s;
};

/* --- what there is --- */

static bool matches(const char *pattern, const char *reference)
{
    if (pattern == NULL)
        return true;
    if (strpbrk(pattern, "*?[") == NULL)
        return strstr(reference, pattern) != NULL;
    return fnmatch(pattern, reference, 0) == 0;
}

static void add_row(struct listing *l, const struct row *row)
{
    if (l->count == l->room) {
        l->room = l->room == 0 ? 256 : l->room * 2;
        l->rows = mem_resize(l->rows, l->room * sizeof l->rows[0]);
    }
    l->rows[l->count++] = *row;
}

/* Those that do not match are surveyed too: what they share is not the others' own. */
static int list_tag(void *arg, const struct name *n, const char *tag, const struct tag_record *r)
{
    struct listing *l = arg;
    char text[REFERENCE_TEXT_MAX];
    struct blob_record blob;
    struct row row = {
        .reference = {.name = *n},
        .changed_at_s = r->changed_at_s,
        .checked_at_s = name_is_local(n) ? 0 : r->checked_at_s,
    };
    row.has_moved = tag_shown(l->txn, r, &row.digest);
    int err = surveys_add(l->surveys, &row.digest, r->size_bytes, &row.survey);
    memcpy(row.reference.tag, tag, strlen(tag) + 1);
    reference_text(&row.reference, text);
    if (err != 0 || !matches(l->pattern, text))
        return err;
    if (blob_get(l->txn, &row.digest, &blob) == 0)
        row.used_at_s = blob.used_at_s;
    row.is_pinned = pin_covers(l->txn, &row.reference, &row.digest);
    add_row(l, &row);
    return 0;
}

/* --- for people --- */

/* "complete", or what of it is held. Owned by the caller. */
static char *held_text(const struct survey *s)
{
    char *text = NULL;
    size_t len;
    if (!s->is_held)
        return mem_format("not held");
    if (!s->is_index)
        return s->own_held == s->own_total
                   ? mem_format("complete")
                   : mem_format("%u of %u blobs", s->own_held, s->own_total);
    if (s->complete == s->platforms)
        return s->platforms == 1 ? mem_format("complete")
                                 : mem_format("complete, %u platforms", s->platforms);
    if (s->some_count == 0)
        return mem_format("none of %u platforms", s->platforms);
    FILE *out = open_memstream(&text, &len);
    CHECK(out != NULL);
    for (unsigned i = 0; i < s->some_count; i++) {
        const struct survey_platform *p = &s->some[i];
        fprintf(out, "%s%s", i == 0 ? "" : ", ", p->name);
        if (p->held_count < p->total_count)
            fprintf(out, " (%u of %u blobs)", p->held_count, p->total_count);
    }
    CHECK(fclose(out) == 0);
    return text;
}

static void add_age(struct table *t, int64_t now_s, int64_t at_s)
{
    char age[TEXT_MAX];
    table_add(t, "%s", at_s == 0 ? "-" : age_text(age, now_s - at_s));
}

static void add_cells(struct table *t, const struct listing *l, const struct row *row)
{
    char reference[REFERENCE_TEXT_MAX], size[TEXT_MAX];
    const struct survey *s = row->survey;
    char *held = held_text(s);
    reference_text(&row->reference, reference);
    table_add(t, "%s", reference);
    table_add(t, "%s", short_size_text(size, s->held_bytes));
    table_add(t, "%s", short_size_text(size, s->own_bytes));
    table_add(t, "%s", short_size_text(size, s->held_bytes - s->own_bytes));
    add_age(t, l->now_s, row->used_at_s);
    table_add(t, "%s", row->is_pinned ? "yes" : "-");
    table_add(t, "%s%s", held, row->has_moved ? "; has moved to what is not held" : "");
    free(held);
}

static void print_table(const struct listing *l)
{
    static const char *const heads[] = {"REFERENCE", "SIZE", "OWN", "SHARED",
                                        "USED",      "PIN",  "HELD"};
    struct table *t = table_new("mrrrrlw");
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        table_add(t, "%s", heads[i]);
    for (size_t i = 0; i < l->count; i++)
        add_cells(t, l, &l->rows[i]);
    table_print(t);
    table_free(&t);
}

static void print_names(const struct listing *l)
{
    char reference[REFERENCE_TEXT_MAX];
    for (size_t i = 0; i < l->count; i++) {
        reference_text(&l->rows[i].reference, reference);
        puts(reference);
    }
}

/* --- for programs --- */

static json_t *time_json(int64_t at_s)
{
    return at_s == 0 ? json_null() : json_integer(at_s);
}

static json_t *platforms_json(const struct survey *s)
{
    json_t *all = json_array();
    for (unsigned i = 0; i < s->some_count; i++) {
        const struct survey_platform *p = &s->some[i];
        if (p->held_count == p->total_count)
            json_array_append_new(all, json_string(p->name));
        else
            json_array_append_new(
                all, json_sprintf("%s (%u of %u blobs)", p->name, p->held_count, p->total_count));
    }
    return all;
}

static json_t *row_json(const struct row *row)
{
    char reference[REFERENCE_TEXT_MAX], digest[DIGEST_TEXT_MAX];
    const struct survey *s = row->survey;
    char *held = held_text(s);
    reference_text(&row->reference, reference);
    json_t *json = json_pack(
        "{ss ss sb ss sb sI sI sI sI si si so sI so so sb sb}", "reference", reference, "digest",
        digest_text(&row->digest, digest), "moved", row->has_moved, "held", held, "complete",
        survey_is_complete(s), "held_bytes", (json_int_t)s->held_bytes, "total_bytes",
        (json_int_t)s->total_bytes, "own_bytes", (json_int_t)s->own_bytes, "shared_bytes",
        (json_int_t)(s->held_bytes - s->own_bytes), "held_blobs", (int)s->held_count, "total_blobs",
        (int)s->total_count, "platforms", platforms_json(s), "changed_at",
        (json_int_t)row->changed_at_s, "checked_at", time_json(row->checked_at_s), "used_at",
        time_json(row->used_at_s), "pinned", row->is_pinned, "index", s->is_index);
    free(held);
    return json;
}

static void print_json(const struct listing *l)
{
    json_t *array = json_array();
    for (size_t i = 0; i < l->count; i++)
        json_array_append_new(array, row_json(&l->rows[i]));
    json_print(array);
}

static enum exit_code print_listing(const struct listing *l)
{
    bool names_only = option_is_given(l->options, "names");
    if (l->count == 0 && l->pattern != NULL)
        return complain(EXIT_ABSENT, "no tag matches \"%s\"; \"cachalot ls\" lists them all",
                        l->pattern);
    if (l->options->quiet)
        return EXIT_DONE;
    if (l->options->format == FORMAT_JSON)
        print_json(l);
    else if (names_only)
        print_names(l);
    else if (l->count == 0)
        puts("No tag is held yet; pull an image through cachalotd, or push one.");
    else
        print_table(l);
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
        .surveys = surveys_new(cache.txn),
        .pattern = argc > 0 ? argv[0] : NULL,
        .now_s = (int64_t)time(NULL),
    };
    int err = tag_walk(cache.txn, list_tag, &l);
    cache_end_read(&cache);
    code = err == 0 ? print_listing(&l) : cache_complain(o, err);
    surveys_free(&l.surveys);
    free(l.rows);
    cache_close(&cache);
    return code;
}
