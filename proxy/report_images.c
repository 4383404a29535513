/* SPDX-License-Identifier: ISC */
#include "proxy/report_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "cache/pin.h"
#include "cache/survey.h"
#include "cache/tag.h"

/* A tag that is listed. */
struct row {
    struct reference reference;
    struct digest digest;
    uint64_t size_bytes; /* of the manifest */
    int64_t changed_at_s, checked_at_s;
    int64_t used_at_s; /* 0: not known */
    bool has_moved;    /* to a manifest that is not held; this is the one before */
};

/* The best rows so far: when `rows` is full, those beyond `wanted` go. */
struct search {
    struct viewer *viewer;
    struct db_txn *txn;
    const struct report_search *query;
    struct row *rows;
    size_t count, room, wanted;
    uint64_t total; /* that matched */
};

/* --- finding --- */

static void fill_row(struct db_txn *txn, struct row *row, const struct name *n, const char *tag,
                     const struct tag_record *r)
{
    struct blob_record blob;

    row->reference.name = *n;
    row->reference.by_digest = false;
    memcpy(row->reference.tag, tag, strlen(tag) + 1);
    row->has_moved = tag_shown(txn, r, &row->digest);
    row->size_bytes = r->size_bytes;
    row->changed_at_s = r->changed_at_s;
    row->checked_at_s = name_is_local(n) ? 0 : r->checked_at_s;
    row->used_at_s = blob_get(txn, &row->digest, &blob) == 0 ? blob.used_at_s : 0;
}

/* The last used first; those of the same time in the order of the walk, which is that of
 * their names. */
static int by_use(const void *a, const void *b)
{
    const struct row *x = a, *y = b;

    if (x->used_at_s != y->used_at_s)
        return x->used_at_s < y->used_at_s ? 1 : -1;
    int order = strcmp(x->reference.name.registry, y->reference.name.registry);
    if (order == 0)
        order = strcmp(x->reference.name.repository, y->reference.name.repository);
    return order ? order : strcmp(x->reference.tag, y->reference.tag);
}

static void keep_best(struct search *s)
{
    qsort(s->rows, s->count, sizeof s->rows[0], by_use);
    if (s->count > s->wanted)
        s->count = s->wanted;
}

static bool matches(const struct search *s, const struct name *n, const char *tag)
{
    char text[REFERENCE_TEXT_MAX];
    size_t len;

    if (!s->query->text[0])
        return true;
    len = name_text(n, text);
    snprintf(text + len, sizeof text - len, ":%s", tag);
    return strcasestr(text, s->query->text) != NULL;
}

static int take_tag(void *arg, const struct name *n, const char *tag, const struct tag_record *r)
{
    struct search *s = arg;

    if (!viewer_may_see(s->viewer, s->txn, n) || !matches(s, n, tag))
        return 0;
    s->total++;
    if (s->query->order == REPORT_BY_NAME && s->count == s->wanted)
        return 0;
    if (s->count == s->room)
        keep_best(s);
    fill_row(s->txn, &s->rows[s->count++], n, tag, r);
    return 0;
}

/* --- telling --- */

static void write_time(FILE *out, const char *name, int64_t at_s)
{
    if (at_s == 0)
        fprintf(out, ",\"%s\":null", name);
    else
        fprintf(out, ",\"%s\":%" PRId64, name, at_s);
}

static void write_platforms(FILE *out, const struct survey *s)
{
    fprintf(out, ",\"platforms\":%u,\"held\":[", s->platforms);
    for (unsigned i = 0; i < s->some_count; i++) {
        const struct survey_platform *p = &s->some[i];

        fprintf(out, "%s{\"name\":", i > 0 ? "," : "");
        report_text(out, p->name);
        fprintf(out, ",\"blobs\":%u,\"of\":%u}", p->held_count, p->total_count);
    }
    fputc(']', out);
}

static int write_row(FILE *out, struct search *s, struct surveys *surveys, const struct row *row)
{
    char reference[REFERENCE_TEXT_MAX], digest[DIGEST_TEXT_MAX];
    const struct survey *survey;
    int err = surveys_add(surveys, &row->digest, row->size_bytes, &survey);

    if (err != 0)
        return err;
    reference_text(&row->reference, reference);
    fprintf(out,
            "{\"reference\":\"%s\",\"digest\":\"%s\",\"local\":%s,\"moved\":%s,\"pinned\":%s,"
            "\"complete\":%s,\"index\":%s,\"bytes\":%" PRIu64 ",\"total_bytes\":%" PRIu64
            ",\"blobs\":%u,\"of\":%u",
            reference, digest_text(&row->digest, digest),
            report_bool(name_is_local(&row->reference.name)), report_bool(row->has_moved),
            report_bool(pin_covers(s->txn, &row->reference, &row->digest)),
            report_bool(survey->is_held && survey_is_complete(survey)),
            report_bool(survey->is_index), survey->held_bytes, survey->total_bytes,
            survey->held_count, survey->total_count);
    write_platforms(out, survey);
    write_time(out, "used_at", row->used_at_s);
    write_time(out, "changed_at", row->changed_at_s);
    write_time(out, "checked_at", row->checked_at_s);
    fputc('}', out);
    return 0;
}

static int write_rows(FILE *out, struct search *s)
{
    struct surveys *surveys = surveys_new(s->txn);
    int err = 0;

    fprintf(out, "{\"total\":%" PRIu64 ",\"offset\":%u,\"images\":[", s->total, s->query->offset);
    for (size_t i = s->query->offset; err == 0 && i < s->count; i++) {
        fputs(i > s->query->offset ? ",\n" : "\n", out);
        err = write_row(out, s, surveys, &s->rows[i]);
    }
    fputs("]}\n", out);
    surveys_free(&surveys);
    return err;
}

int report_images(struct viewer *v, struct db_txn *txn, const struct report_search *q, char **text,
                  size_t *len)
{
    struct search s = {.viewer = v, .txn = txn, .query = q, .wanted = q->offset + q->count};
    FILE *out;

    *text = NULL;
    s.room = q->order == REPORT_BY_NAME ? s.wanted + 1 : 2 * s.wanted + 1;
    s.rows = mem_new(s.room * sizeof s.rows[0]);
    int err = tag_walk(txn, take_tag, &s);
    if (q->order == REPORT_BY_USE)
        keep_best(&s);
    out = open_memstream(text, len);
    CHECK(out != NULL);
    if (err == 0)
        err = write_rows(out, &s);
    CHECK(fclose(out) == 0);
    free(s.rows);
    if (err != 0) {
        free(*text);
        *text = NULL;
    }
    return err;
}
