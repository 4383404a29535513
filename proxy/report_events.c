/* SPDX-License-Identifier: ISC */
/* What goes on and went wrong: upstreams, events, fetches. */
#include "proxy/report_private.h"

#include <inttypes.h>
#include <stdio.h>

/* --- upstreams --- */

static void write_number(FILE *out, const char *name, const _Atomic uint64_t *value)
{
    uint64_t n = atomic_load_explicit(value, memory_order_relaxed);

    if (n == STATS_UNKNOWN)
        fprintf(out, ",\"%s\":null", name);
    else
        fprintf(out, ",\"%s\":%" PRIu64, name, n);
}

static void write_failure(FILE *out, const struct registry_stats *r)
{
    uint64_t both = atomic_load_explicit(&r->failure, memory_order_relaxed);

    if (both == 0) {
        fputs(",\"failure\":null", out);
        return;
    }
    const struct outcome_row *why = outcome_row((enum outcome)(both % OUTCOME_COUNT));
    fprintf(out, ",\"failure\":{\"at\":%" PRIu64 ",\"result\":\"%s\",\"text\":\"%s\"}",
            both / OUTCOME_COUNT, why->word, why->text);
}

static void write_upstream(FILE *out, const struct viewer *v, const struct registry_stats *r)
{
    const struct config_upstream *u = config_find_upstream(v->config, r->registry);

    fprintf(out, "{\"registry\":\"%s\",\"configured\":%s,\"offline\":%s", r->registry,
            report_bool(u), report_bool(v->config->offline || (u && u->offline)));
#define WRITE_FIELD(field, metric, help) write_number(out, #field, &r->field);
    STATS_REGISTRY_TABLE(WRITE_FIELD)
#undef WRITE_FIELD
#define WRITE_FIELD(field, metric, help, initial) write_number(out, #field, &r->field);
    STATS_UPSTREAM_TABLE(WRITE_FIELD)
#undef WRITE_FIELD
    write_failure(out, r);
    fputc('}', out);
}

char *report_upstreams(const struct viewer *v, const struct stats *s, size_t *len)
{
    unsigned count = atomic_load_explicit(&s->registry_count, memory_order_acquire);
    char *text = NULL;
    FILE *out = open_memstream(&text, len);

    CHECK(out != NULL);
    fputs("{\"upstreams\":[", out);
    for (unsigned i = 0; i < count; i++) {
        fputs(i > 0 ? ",\n" : "\n", out);
        write_upstream(out, v, &s->registries[i]);
    }
    fputs("]}\n", out);
    CHECK(fclose(out) == 0);
    return text;
}

/* --- events --- */

struct listing {
    FILE *out;
    struct viewer *viewer;
    struct db_txn *txn;
    int64_t now_ms;
    unsigned count, hidden;
};

static bool may_read(struct listing *l, const struct log_recent_event *e)
{
    return l->viewer->is_operator || e->readers == LOG_FOR_ALL ||
           (e->readers == LOG_FOR_READERS && viewer_may_see(l->viewer, l->txn, &e->about));
}

/* That something went wrong is for everybody to know; what it was about may not be. */
static void write_event(void *arg, const struct log_recent_event *e)
{
    struct listing *l = arg;
    fprintf(l->out,
            "%s\n{\"first_at\":%" PRId64 ",\"last_at\":%" PRId64
            ",\"count\":%u,\"level\":\"%s\",\"text\":",
            l->count++ > 0 ? "," : "", e->first_ms / 1000, e->last_ms / 1000, e->count,
            e->level == LOG_ERROR ? "error" : "warn");
    report_text(l->out, may_read(l, e) ? e->text : NULL);
    fputc('}', l->out);
}

char *report_events(struct viewer *v, struct db_txn *txn, struct log_recent *recent, size_t *len)
{
    char *text = NULL;
    struct listing l = {.out = open_memstream(&text, len), .viewer = v, .txn = txn};

    CHECK(l.out != NULL);
    fputs("{\"events\":[", l.out);
    log_recent_walk(recent, write_event, &l);
    fputs("]}\n", l.out);
    CHECK(fclose(l.out) == 0);
    return text;
}

/* --- fetches --- */

static const char *state_name(enum fetch_state state)
{
    switch (state) {
    case FETCH_ASKING:
        return "asking";
    case FETCH_STREAMING:
        return "streaming";
    case FETCH_VERIFIED:
        return "verified";
    case FETCH_FAILED:
        return "failed";
    }
    return "";
}

/* Since it began; and when it ends if it goes on like that. */
static void write_pace(FILE *out, const struct fetch_progress *p, int64_t elapsed_ms)
{
    uint64_t come = p->avail_bytes > p->kept_bytes ? p->avail_bytes - p->kept_bytes : 0;
    uint64_t pace = elapsed_ms > 0 ? come * 1000 / (uint64_t)elapsed_ms : 0;

    fprintf(out, ",\"bytes_per_second\":%" PRIu64 ",\"eta_seconds\":", pace);
    if (p->state == FETCH_STREAMING && pace > 0)
        fprintf(out, "%" PRIu64, (p->size_bytes - p->avail_bytes) / pace);
    else
        fputs("null", out);
}

static void write_fetch(FILE *out, const struct fetch_progress *p, int64_t now_ms)
{
    char digest[DIGEST_TEXT_MAX], name[NAME_MAX_SIZE];

    name_text(&p->name, name);
    fprintf(out, "{\"digest\":\"%s\",\"name\":\"%s\",\"state\":\"%s\",\"size_bytes\":",
            digest_text(&p->digest, digest), name, state_name(p->state));
    if (p->state == FETCH_STREAMING || p->state == FETCH_VERIFIED)
        fprintf(out, "%" PRIu64, p->size_bytes);
    else
        fputs("null", out);
    fprintf(out,
            ",\"done_bytes\":%" PRIu64 ",\"kept_bytes\":%" PRIu64 ",\"readers\":%u"
            ",\"elapsed_ms\":%" PRId64,
            p->avail_bytes, p->kept_bytes, p->reader_count, now_ms - p->started_ms);
    write_pace(out, p, now_ms - p->started_ms);
    fputc('}', out);
}

/* With the table locked, which only looks at the index make longer. */
static void list_fetch(void *arg, const struct fetch_progress *p)
{
    struct listing *l = arg;

    if (!viewer_may_see(l->viewer, l->txn, &p->name)) {
        l->hidden++;
        return;
    }
    fputs(l->count++ > 0 ? ",\n" : "\n", l->out);
    write_fetch(l->out, p, l->now_ms);
}

char *report_fetches(struct viewer *v, struct db_txn *txn, struct fetch_table *t, int64_t now_ms,
                     size_t *len)
{
    char *text = NULL;
    struct listing l = {
        .out = open_memstream(&text, len),
        .viewer = v,
        .txn = txn,
        .now_ms = now_ms,
    };

    CHECK(l.out != NULL);
    fputs("{\"fetches\":[", l.out);
    fetch_table_walk(t, list_fetch, &l);
    fprintf(l.out, "],\"hidden\":%u}\n", l.hidden);
    CHECK(fclose(l.out) == 0);
    return text;
}
