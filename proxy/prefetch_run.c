/* SPDX-License-Identifier: ISC */
/*
 * One run of a prefetch: which images, each of them, and what is kept of how it went.
 *
 * An image that fails leaves the others alone. A run that the daemon's end cuts short has no
 * end in its record, and begins again at the next start.
 */
#include "proxy/prefetch_private.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache/err.h"

struct run {
    struct prefetch *prefetch;
    struct plan *plan;
    struct prefetch_record record;
    struct targets targets;
    struct platform platforms[CONFIG_PLATFORMS_MAX];
    bool knows_all; /* every pattern was looked up */
    bool may_pass;
    bool is_cut; /* stop */
};

/* --- what is kept --- */

static void write_index(struct run *r, int (*apply)(void *arg, struct db_txn *txn))
{
    struct courier *c = &r->prefetch->courier;
    int err = courier_write(c, apply, r);

    if (err)
        log_event(c->parts.log, LOG_ERROR, "the record of prefetch %s was not stored: %s",
                  r->plan->settings->name, err_text(err));
}

static int apply_record(void *arg, struct db_txn *txn)
{
    const struct run *r = arg;

    return prefetch_put(txn, r->plan->settings->name, &r->record);
}

/* And what prefetch_format shows. */
static void keep_record(struct run *r)
{
    struct prefetch *p = r->prefetch;

    write_index(r, apply_record);
    pthread_mutex_lock(&p->lock);
    r->plan->record = r->record;
    pthread_mutex_unlock(&p->lock);
}

struct build {
    const struct config_prefetch *settings;
    const struct reference *reference;
    const struct digest *digest;
    int64_t now_s;
    bool is_new;
};

static int apply_build(void *arg, struct db_txn *txn)
{
    struct build *b = arg;
    struct prefetch_builds old;

    int err = prefetch_builds_get(txn, b->settings->name, b->reference, &old);
    b->is_new = err != 0 || !digest_equal(&old.builds[0], b->digest);
    return prefetch_keep(txn, b->settings->name, b->reference, b->digest,
                         (unsigned)b->settings->keep, b->now_s);
}

static bool is_target(void *arg, const char *section, const struct reference *reference)
{
    const struct run *r = arg;
    char text[REFERENCE_TEXT_MAX], other[REFERENCE_TEXT_MAX];

    if (!reference || strcmp(section, r->plan->settings->name) != 0)
        return true;
    reference_text(reference, text);
    for (unsigned i = 0; i < r->targets.count; i++) {
        reference_text(&r->targets.list[i], other);
        if (strcmp(text, other) == 0)
            return true;
    }
    return false;
}

static int apply_prune(void *arg, struct db_txn *txn)
{
    struct run *r = arg;

    return prefetch_prune(txn, r->plan->settings->name, is_target, r);
}

/* When that image changed which has not for longest. */
static int64_t find_unchanged_since(struct run *r)
{
    struct db_reader *reader = r->prefetch->courier.reader;
    int64_t since_s = INT64_MAX;
    struct db_txn *txn;

    if (r->targets.count == 0 || db_read(reader, &txn) != 0)
        return INT64_MIN;
    for (unsigned i = 0; i < r->targets.count; i++) {
        struct prefetch_builds b;

        if (prefetch_builds_get(txn, r->plan->settings->name, &r->targets.list[i], &b) != 0)
            b.changed_at_s = INT64_MIN;
        if (b.changed_at_s < since_s)
            since_s = b.changed_at_s;
    }
    db_read_end(reader);
    return since_s;
}

/* --- failures --- */

static void fail(struct run *r, enum outcome o, const char *what, const char *why)
{
    int status = outcome_row(o)->status;

    if (o == OUT_DRAINING) {
        r->is_cut = true;
        return;
    }
    log_event(r->prefetch->courier.parts.log, LOG_WARN, "prefetch %s: %s: %s",
              r->plan->settings->name, what, why);
    if (r->record.failed++ == 0)
        snprintf(r->record.why, sizeof r->record.why, "%.120s: %.250s", what, why);
    if (status != 401 && status != 403 && status != 404 && o != OUT_OFFLINE && o != OUT_BAD_REQUEST)
        r->may_pass = true;
}

/* --- images --- */

static enum outcome refuse_more(char *why, size_t why_size)
{
    snprintf(why, why_size, "there are %d images before it; make another section", TARGETS_MAX);
    return OUT_BAD_REQUEST;
}

static void find_targets(struct run *r)
{
    const struct config_prefetch *s = r->plan->settings;
    char tags[CONFIG_TAGS_SIZE], why[256];
    struct reference reference;

    r->knows_all = true;
    for (unsigned i = 0; i < s->reference_count && !r->is_cut; i++) {
        enum outcome o = OUT_MISS;

        CHECK(config_reference(s->references[i], &reference, tags) == 0);
        if (tags[0])
            o = targets_find(r->prefetch, &r->targets, &reference.name, tags, why, sizeof why);
        else if (!targets_add(&r->targets, &reference))
            o = refuse_more(why, sizeof why);
        if (outcome_is_error(o)) {
            r->knows_all = false;
            fail(r, o, s->references[i], why);
        }
    }
}

static void take_progress(void *arg, const struct errand_progress *progress)
{
    struct run *r = arg;

    pthread_mutex_lock(&r->prefetch->lock);
    r->prefetch->progress = *progress;
    pthread_mutex_unlock(&r->prefetch->lock);
}

static void begin_image(struct run *r, const struct reference *reference)
{
    pthread_mutex_lock(&r->prefetch->lock);
    r->prefetch->now = *reference;
    r->prefetch->progress = (struct errand_progress){0};
    pthread_mutex_unlock(&r->prefetch->lock);
    r->record.references++;
}

static void keep_build(struct run *r, const struct reference *reference, const struct digest *d)
{
    struct courier *c = &r->prefetch->courier;
    struct build b = {
        .settings = r->plan->settings,
        .reference = reference,
        .digest = d,
        .now_s = time(NULL),
    };
    char text[REFERENCE_TEXT_MAX], digest[DIGEST_TEXT_MAX];

    int err = courier_write(c, apply_build, &b);
    reference_text(reference, text);
    if (err) {
        fail(r, OUT_STORE_FAILED, text, err_text(err));
    } else if (b.is_new) {
        r->record.changed++;
        log_event(c->parts.log, LOG_INFO, "prefetch %s: %s is %s", r->plan->settings->name, text,
                  digest_text(d, digest));
    }
}

static void fetch_image(struct run *r, const struct reference *reference)
{
    struct courier *c = &r->prefetch->courier;
    struct errand e = {
        .reference = *reference,
        .platforms = r->platforms,
        .platform_count = r->plan->settings->platform_count,
        .is_background = true,
        .tell = take_progress,
        .arg = r,
    };
    char text[REFERENCE_TEXT_MAX];
    struct errand_result result;

    begin_image(r, reference);
    errand_run(c, &e, &result);
    r->record.fetched_bytes += result.end.fetched_bytes;
    STATS_ADD(c->parts.stats, prefetch_bytes, result.end.fetched_bytes);
    reference_text(reference, text);
    if (outcome_is_error(result.outcome))
        fail(r, result.outcome, text, result.why);
    else
        keep_build(r, reference, &result.digest);
}

/* --- all --- */

static void begin(struct run *r)
{
    const struct config_prefetch *s = r->plan->settings;
    struct prefetch_record *record = &r->record;

    *record = r->plan->record;
    record->began_at_s = time(NULL);
    record->ended_at_s = 0;
    record->references = record->changed = record->failed = 0;
    record->fetched_bytes = 0;
    record->why[0] = '\0';
    for (unsigned i = 0; i < s->platform_count; i++)
        CHECK(platform_parse(&r->platforms[i], s->platforms[i]) == 0);
    keep_record(r);
    log_event(r->prefetch->courier.parts.log, LOG_INFO, "prefetch %s begins", s->name);
}

static void end(struct run *r)
{
    struct courier *c = &r->prefetch->courier;
    struct prefetch_record *record = &r->record;

    if (r->knows_all)
        write_index(r, apply_prune);
    record->ended_at_s = time(NULL);
    record->unchanged_since_s = find_unchanged_since(r);
    keep_record(r);
    log_event(c->parts.log, LOG_INFO,
              "prefetch %s ends: %u images, %u new, %u failed, %" PRIu64 " bytes fetched",
              r->plan->settings->name, record->references, record->changed, record->failed,
              record->fetched_bytes);
    STATS_ADD(c->parts.stats, prefetch_failures, record->failed > 0);
    STATS_ADD(c->parts.stats, prefetch_runs, 1);
}

bool prefetch_run(struct prefetch *p, struct plan *plan)
{
    struct run *r = mem_new(sizeof *r);

    r->prefetch = p;
    r->plan = plan;
    begin(r);
    find_targets(r);
    for (unsigned i = 0; i < r->targets.count && !r->is_cut; i++)
        fetch_image(r, &r->targets.list[i]);
    if (!r->is_cut)
        end(r);
    bool may_pass = r->may_pass;
    free(r);
    return may_pass;
}
