/* SPDX-License-Identifier: ISC */
#include "proxy/report_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cache/json.h"
#include "cache/ledger.h"
#include "proxy/version.h"

const char *report_bool(bool b)
{
    return b ? "true" : "false";
}

void report_text(FILE *out, const char *text)
{
    char *quoted = text ? json_quote(text) : NULL;

    fputs(quoted ? quoted : "null", out);
    free(quoted);
}

/* --- the ledger --- */

static void write_members(FILE *out, const struct ledger_record *r)
{
    fprintf(out,
            "\"line_bytes\":%" PRIu64 ",\"lan_bytes\":%" PRIu64 ",\"saved_bytes\":%" PRIu64
            ",\"line_requests\":%" PRIu64 ",\"lan_requests\":%" PRIu64 ",\"hits\":%" PRIu64
            ",\"hit_ratio\":",
            r->line_bytes, r->lan_bytes, ledger_saved_bytes(r), r->line_requests, r->lan_requests,
            r->hits);
    if (r->lan_requests > 0)
        fprintf(out, "%.6f", (double)r->hits / (double)r->lan_requests);
    else
        fputs("null", out);
}

static void write_sum(FILE *out, const char *name, const struct ledger_record *r)
{
    fprintf(out, "\"%s\":{", name);
    write_members(out, r);
    fputs("},\n", out);
}

static void write_days(FILE *out, const struct tally_sums *sums)
{
    fputs("\"days\":[", out);
    for (unsigned i = TALLY_DAYS; i > 0; i--) {
        time_t at = ((time_t)sums->day - (time_t)(i - 1)) * LEDGER_DAY_S;
        char date[16];
        struct tm tm;

        gmtime_r(&at, &tm);
        strftime(date, sizeof date, "%Y-%m-%d", &tm);
        fprintf(out, "%s\n{\"day\":\"%s\",", i < TALLY_DAYS ? "," : "", date);
        write_members(out, &sums->days[i - 1]);
        fputc('}', out);
    }
    fputs("],\n", out);
}

/* --- rates --- */

static uint64_t rate(uint64_t before, uint64_t after, int64_t ms)
{
    return ms > 0 && after > before ? (after - before) * 1000 / (uint64_t)ms : 0;
}

static void write_series(FILE *out, const char *name, const struct watch_view *v, size_t offset)
{
    fprintf(out, ",\"%s\":[", name);
    for (unsigned i = 1; i < v->sample_count; i++) {
        const struct watch_sample *a = &v->samples[i - 1], *b = &v->samples[i];
        const uint64_t *before = (const uint64_t *)((const char *)a + offset);
        const uint64_t *after = (const uint64_t *)((const char *)b + offset);

        fprintf(out, "%s%" PRIu64, i > 1 ? "," : "", rate(*before, *after, b->at_ms - a->at_ms));
    }
    fputc(']', out);
}

/* Bytes a second in each period, the oldest first: the last is the one just ended. */
static void write_rates(FILE *out, const struct watch_view *v)
{
    fprintf(out, "\"rates\":{\"period_ms\":%d", WATCH_PERIOD_MS);
    write_series(out, "line", v, offsetof(struct watch_sample, line_bytes));
    write_series(out, "lan", v, offsetof(struct watch_sample, lan_bytes));
    fputs("},\n", out);
}

/* --- the rest --- */

static void write_counters(FILE *out, const struct stats *s)
{
    fputs("\"stats\":{", out);
#define WRITE_COUNTER(field, metric, type, help)                                                   \
    fprintf(out, "\"" #field "\":%" PRIu64 ",",                                                    \
            atomic_load_explicit(&s->field, memory_order_relaxed));
    STATS_TABLE(WRITE_COUNTER)
#undef WRITE_COUNTER
    fprintf(out, "\"started_at\":%" PRId64 "}", s->started_at_s);
}

/* Requests since the start, by how they ended. */
static void write_outcomes(FILE *out, const struct stats *s)
{
    fputs("\"requests\":{", out);
    for (int i = 0; i < OUTCOME_COUNT; i++)
        fprintf(out, "%s\"%s\":%" PRIu64, i > 0 ? "," : "", outcome_row((enum outcome)i)->word,
                atomic_load_explicit(&s->requests[i], memory_order_relaxed));
    fputs("},\n", out);
}

static void write_held(FILE *out, const struct watch_view *v)
{
    fprintf(out,
            "\"held\":{\"blobs\":%" PRIu64 ",\"manifests\":%" PRIu64 ",\"tags\":%" PRIu64
            ",\"partials\":%" PRIu64 "},\n\"disk\":",
            v->blobs, v->manifests, v->tags, v->partials);
    if (v->has_disk)
        fprintf(out, "{\"bytes\":%" PRIu64 ",\"free_bytes\":%" PRIu64 "},\n", v->disk_bytes,
                v->disk_free_bytes);
    else
        fputs("null,\n", out);
}

char *report_status(const struct viewer *v, const struct watch_view *view, const struct stats *s,
                    const char *reason, size_t *len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, len);

    CHECK(out != NULL);
    fprintf(out, "{\"version\":\"%s\",\"started_at\":%" PRId64 ",\"now\":%" PRId64 ",\n",
            CACHALOT_VERSION, s->started_at_s, view->now_s);
    fprintf(out, "\"ready\":%s,\"reason\":", report_bool(!reason));
    report_text(out, reason);
    fprintf(out, ",\n\"viewer\":{\"operator\":%s,\"user\":", report_bool(v->is_operator));
    report_text(out, v->user);
    fprintf(out, ",\"may_login\":%s},\n", report_bool(v->may_login));
    write_sum(out, "run", &view->sums.run);
    write_sum(out, "today", &view->sums.today);
    write_sum(out, "month", &view->sums.month);
    write_sum(out, "all", &view->sums.all);
    write_days(out, &view->sums);
    write_rates(out, view);
    write_held(out, view);
    write_outcomes(out, s);
    write_counters(out, s);
    fputs("}\n", out);
    CHECK(fclose(out) == 0);
    return text;
}
