/* SPDX-License-Identifier: ISC */
/*
 * A blob: from the first question to its last byte in the intake.
 *
 *   OPENING    the partial is opened; what was kept of it is known then
 *      |  a kept partial may be whole: then straight to ENDING
 *   GOING      one connection brings it (lane 0), or several a piece at a time
 *      |       (upstream_lane.c)
 *   ENDING     intake_end or intake_abandon was called; `ended` frees all
 *
 * The fetch has a size, and so its readers a head, as soon as an upstream has given
 * a usable head, not before: until then they can still be told an honest error.
 */
#include "proxy/upstream_download.h"

#include <stdio.h>
#include <stdlib.h>

#include "cache/err.h"
#include "proxy/piece.h"
#include "proxy/thread.h"

/* The only writer of the state. */
static void download_enter(struct download *d, enum download_state next)
{
    CHECK(next > d->state);
    d->state = next;
}

static void download_free(struct download *d)
{
    LIST_REMOVE(d, link);
    for (unsigned i = 0; i < d->lane_count; i++)
        lane_free(d->lanes[i]);
    if (d->look)
        event_free(d->look);
    fetch_unref(&d->fetch);
    foreign_urls_clear(&d->urls);
    behalf_clear(&d->behalf);
    config_unref(&d->config);
    free(d);
}

/* --- ways to end --- */

static void end(struct download *d)
{
    for (unsigned i = 0; i < d->lane_count; i++)
        lane_stop(d->lanes[i]);
    event_del(d->look);
    download_enter(d, DOWNLOAD_ENDING);
}

void download_give_up(struct download *d, const struct failure *f)
{
    struct fetch_failure why = {.code = (int)f->outcome, .retry_after_s = f->retry_after_s};
    char text[DIGEST_TEXT_MAX];

    snprintf(why.text, sizeof why.text, "%s", f->why);
    snprintf(why.challenge, sizeof why.challenge, "%s", f->challenge);
    log_event_about(d->upstream->parts.log, f->outcome == OUT_DRAINING ? LOG_INFO : LOG_WARN,
                    &d->name, "the fetch of %s of %s/%s failed: %s",
                    digest_text(fetch_digest(d->fetch), text), d->name.registry, d->name.repository,
                    f->why);
    end(d);
    intake_abandon(d->intake, &why, d->discard);
}

bool download_complete(struct download *d)
{
    if (d->discard || extents_front(&d->have) != d->size_bytes)
        return false;
    if (!d->is_begun)
        intake_size(d->intake, d->size_bytes);
    d->is_begun = true;
    end(d);
    intake_end(d->intake);
    return true;
}

/* --- what an answer says of the blob --- */

void download_begin(struct download *d)
{
    if (d->left.count > 0)
        download_reset(d);
    if (d->is_begun || d->size_bytes == SIZE_UNKNOWN)
        return;
    intake_size(d->intake, d->size_bytes);
    d->is_begun = true;
}

void download_blame(struct download *d, unsigned url)
{
    CHECK(d->is_elsewhere && url < d->urls.count);
    foreign_blame(d->upstream, fetch_digest(d->fetch), d->urls.urls[url]);
}

void download_reset(struct download *d)
{
    intake_reset(d->intake);
    d->have.count = d->left.count = 0;
}

/* --- the intake's answers --- */

static void on_opened(void *arg, int err, const struct extents *kept, bool is_elsewhere)
{
    struct download *d = arg;
    struct failure f;

    if (err != 0) {
        failure_set(&f, OUT_STORE_FAILED, false, "the partial file: %s", err_text(err));
        download_give_up(d, &f);
        return;
    }
    download_enter(d, DOWNLOAD_GOING);
    *(is_elsewhere ? &d->left : &d->have) = *kept;
    if (extents_end(kept) > d->size_bytes)
        download_reset(d);
    if (download_complete(d))
        return;
    d->breaks = d->have.count > 0;
    d->in_pieces = download_is_large(d);
    if (d->in_pieces)
        d->piece_bytes = piece_size(d->size_bytes, (unsigned)d->to->connections);
    lane_go(lane_new(d));
}

static void on_sized(void *arg, bool is_passing)
{
    struct download *d = arg;

    d->is_sized = !is_passing;
    download_look_soon(d);
}

static void on_drained(void *arg, uint64_t bytes)
{
    struct download *d = arg;

    (void)bytes;
    upstream_resume_downloads(d->upstream);
}

static void on_broken(void *arg, int err)
{
    struct download *d = arg;
    struct failure f;

    if (err == ERR_NOT_FOUND)
        failure_set(&f, OUT_CLIENT_LEFT, false, "it is not stored, and nobody reads it");
    else
        failure_set(&f, OUT_STORE_FAILED, false, "writing the partial file: %s", err_text(err));
    d->discard = true;
    download_give_up(d, &f);
}

/* Of bytes with a wrong digest, whoever gave some may be to blame. */
static void on_ended(void *arg, int err)
{
    struct download *d = arg;

    for (unsigned i = 0; err == ERR_MISMATCH && i < d->urls.count; i++) {
        if (d->suspects & 1u << i)
            download_blame(d, i);
    }
    download_free(d);
}

static const struct intake_calls intake_calls = {
    .opened = on_opened,
    .sized = on_sized,
    .drained = on_drained,
    .broken = on_broken,
    .ended = on_ended,
};

/* --- from outside --- */

/* The front first: it must not starve for those that are ahead. */
static void resume(struct download *d)
{
    for (unsigned i = 0; i < d->lane_count; i++) {
        if (lane_is_front(d->lanes[i]))
            lane_resume(d->lanes[i]);
    }
    for (unsigned i = 0; i < d->lane_count; i++)
        lane_resume(d->lanes[i]);
}

void upstream_resume_downloads(struct upstream *u)
{
    struct download *d;

    LIST_FOREACH (d, &u->downloads, link) {
        if (d->state == DOWNLOAD_GOING && intake_has_room(d->intake))
            resume(d);
    }
}

void upstream_drain_downloads(struct upstream *u)
{
    struct download *d;
    struct failure f;

    failure_set(&f, OUT_DRAINING, false, "cachalot is shutting down");
    LIST_FOREACH (d, &u->downloads, link) {
        if (d->state != DOWNLOAD_ENDING)
            download_give_up(d, &f);
    }
}

static void look_now(evutil_socket_t s, short what, void *arg)
{
    (void)s;
    (void)what;
    download_look(arg);
}

/* No intake was made yet. */
static void refuse_fetch(struct download *d, enum outcome o, const char *text, int retry_after_s)
{
    struct upstream *u = d->upstream;
    struct fetch_failure why = {.code = (int)o, .retry_after_s = retry_after_s};

    snprintf(why.text, sizeof why.text, "%s", text);
    fetch_retire(u->parts.fetches, d->fetch);
    fetch_fail(d->fetch, &why);
    STATS_ADD(u->parts.stats, fetch_failures, 1);
    download_free(d);
}

/* A foreign layer of a local repository: where its manifests say that it is kept, by the way
 * to an upstream that may send there. */
static void find_elsewhere(struct download *d)
{
    if (foreign_find(d->upstream, &d->name, fetch_digest(d->fetch), &d->urls) != 0)
        return;
    d->to = foreign_way(d->config, &d->urls);
    d->is_elsewhere = true;
    failure_set(&d->registry_said, OUT_LOCAL_BLOB, false, "it was pushed without this layer");
}

static void begin(struct msg *m, void *owner)
{
    struct download *d = (struct download *)m;
    struct upstream *u = owner;

    LIST_INSERT_HEAD(&u->downloads, d, link);
    d->config = config_ref(u->config);
    d->to = config_find_upstream(d->config, d->name.registry);
    if (name_is_local(&d->name))
        find_elsewhere(d);
    if (u->stopping) {
        refuse_fetch(d, OUT_DRAINING, "cachalot is shutting down", 0);
        return;
    }
    if (!d->to || d->to->url_count == 0) {
        refuse_fetch(d, d->is_elsewhere ? OUT_FORBIDDEN : OUT_NAME_UNKNOWN,
                     d->is_elsewhere ? "no upstream's foreign-hosts has the host of its urls"
                                     : "the registry is not configured",
                     0);
        return;
    }
    if (d->to->offline || d->config->offline) {
        refuse_fetch(d, OUT_OFFLINE, OFFLINE_TEXT, 0);
        return;
    }
    int left_s = attempts_limit_left(u, d->to, &d->behalf, HEALTH_BLOBS);
    if (left_s > 0) {
        refuse_fetch(d, OUT_UPSTREAM_LIMITED, "the upstream answered 429 lately, and is left alone",
                     left_s);
        return;
    }
    d->look = event_new(u->base, -1, 0, look_now, d);
    CHECK(d->look);
    d->intake = intake_new(u->hasher, d->fetch, &d->name, d->is_elsewhere, &intake_calls, d);
}

void upstream_fetch(struct upstream *u, struct fetch *f, const struct name *n, uint64_t size_bytes,
                    const struct behalf *b)
{
    struct download *d = mem_new(sizeof *d);

    d->upstream = u;
    d->fetch = fetch_ref(f);
    d->name = *n;
    d->size_bytes = size_bytes;
    d->behalf = behalf_copy(b);
    d->msg.run = begin;
    fetch_describe(f, n, clock_now_ms());
    queue_post(u->queue, &d->msg);
}
