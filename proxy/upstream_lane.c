/* SPDX-License-Identifier: ISC */
/*
 * One of the connections that bring a blob.
 *
 * As a rule there is one, and it asks for all that is missing. A large blob comes in
 * pieces: the first question is for the first piece alone; when it is answered as it
 * should be, further lanes ask for those that follow, each for the missing piece that
 * is next when it is free. They are twice as many at each look, as long as what they
 * bring is taken at once: one connection that brings more than that is enough. A piece whose
 * connection broke is missing from there on. A lane that has no retry left is out of it; the last
 * one takes the fetch with it. An upstream that answers ranges with nonsense is asked for the
 * whole, by one lane.
 */
#include "proxy/upstream_download.h"

#include <stdio.h>
#include <stdlib.h>

#include "proxy/piece.h"
#include "proxy/thread.h"

/* An attempt that brought less is no progress. */
#define PROGRESS_BYTES 1024
/* Answers of no use to one lane's ranges, in a row. */
#define BAD_ANSWERS_MAX 3

/* The only writer of the state. */
static void lane_enter(struct lane *l, enum lane_state next)
{
    CHECK(l->state != LANE_DEAD || next == LANE_IDLE);
    l->state = next;
}

bool lane_is_busy(const struct lane *l)
{
    return l->state == LANE_ASKING || l->state == LANE_RECEIVING;
}

bool lane_is_front(const struct lane *l)
{
    const struct download *d = l->download;

    for (unsigned i = 0; i < d->lane_count; i++) {
        if (lane_is_busy(d->lanes[i]) && d->lanes[i]->at < l->at)
            return false;
    }
    return lane_is_busy(l);
}

/* --- life --- */

/* By way of the loop: curl must not be called from its own callback. */
static void go_soon(struct lane *l, int wait_ms)
{
    struct timeval t = {.tv_sec = wait_ms / 1000, .tv_usec = wait_ms % 1000 * 1000};

    lane_enter(l, LANE_RESTING);
    CHECK(event_add(l->retry, &t) == 0);
}

static void retry_now(evutil_socket_t s, short what, void *arg)
{
    struct lane *l = arg;

    (void)s;
    (void)what;
    lane_enter(l, LANE_IDLE);
    lane_go(l);
}

static void flow_goes(void *arg)
{
    lane_resume(arg);
}

static bool flow_is_background(void *arg)
{
    const struct lane *l = arg;

    return fetch_is_background(l->download->fetch);
}

static void begin_attempts(struct lane *l)
{
    struct download *d = l->download;

    attempts_init(&l->attempts, d->to, d->to->retries);
    if (d->is_elsewhere)
        attempts_go_elsewhere(&l->attempts, &d->urls, d->to->retries);
    else
        attempts_prefer(&l->attempts, d->upstream);
}

struct lane *lane_new(struct download *d)
{
    struct lane *l = mem_new(sizeof *l);

    CHECK(d->lane_count < INTAKE_LANES_MAX);
    l->download = d;
    l->number = d->lane_count;
    begin_attempts(l);
    l->retry = event_new(d->upstream->base, -1, 0, retry_now, l);
    CHECK(l->retry);
    flow_init(&l->flow, d->upstream->throttle, d->name.registry, flow_is_background, flow_goes, l);
    d->lanes[d->lane_count++] = l;
    return l;
}

void lane_stop(struct lane *l)
{
    transfer_cancel(&l->transfer);
    flow_stop(&l->flow);
    event_del(l->retry);
    if (l->state != LANE_DEAD)
        lane_enter(l, LANE_IDLE);
}

void lane_free(struct lane *l)
{
    lane_stop(l);
    event_free(l->retry);
    free(l);
}

void lane_resume(struct lane *l)
{
    /* Who waits for its turn is told when it comes. */
    if (l->transfer && !l->flow.is_waiting)
        transfer_resume(l->transfer);
}

/* Several connections will not do: lane 0 brings the rest, by the whole. One that is
 * receiving the whole already goes on. */
static void fall_back(struct download *d)
{
    struct lane *first = d->lanes[0];

    log_event_about(d->upstream->parts.log, LOG_WARN, NULL,
                    "%s answers ranges of blobs badly; going on with one connection",
                    d->name.registry);
    d->in_pieces = false;
    d->without_range = true;
    for (unsigned i = 1; i < d->lane_count; i++)
        lane_stop(d->lanes[i]);
    if (first->state == LANE_RECEIVING && !first->is_ranged) {
        first->end = SIZE_UNKNOWN;
        return;
    }
    lane_stop(first);
    if (first->state == LANE_DEAD) {
        begin_attempts(first);
        lane_enter(first, LANE_IDLE);
    }
    lane_go(first);
}

/* --- ways to fail --- */

static bool is_last(const struct lane *l)
{
    const struct download *d = l->download;

    for (unsigned i = 0; i < d->lane_count; i++) {
        if (d->lanes[i] != l && d->lanes[i]->state != LANE_DEAD && d->lanes[i]->state != LANE_IDLE)
            return false;
    }
    return true;
}

/* The registry does not have it, or not for us: whether it may be had elsewhere. */
static bool go_elsewhere(struct lane *l)
{
    struct download *d = l->download;
    const struct failure *f = &l->attempts.worst;
    int status = outcome_row(f->outcome)->status;

    if (d->is_elsewhere || (status != 401 && status != 403 && status != 404) ||
        foreign_find(d->upstream, &d->name, fetch_digest(d->fetch), &d->urls) != 0)
        return false;
    d->registry_said = *f;
    d->is_elsewhere = true;
    if (!d->is_begun && d->have.count > 0)
        download_reset(d);
    intake_go_elsewhere(d->intake);
    if (d->left.count > 0)
        d->have = d->left;
    d->left.count = 0;
    for (unsigned i = 0; i < d->lane_count; i++)
        begin_attempts(d->lanes[i]);
    return true;
}

/* All attempts of all lanes have failed. */
static void attempts_over(struct lane *l)
{
    struct download *d = l->download;
    struct failure *f = &l->attempts.worst;

    if (!d->is_elsewhere && !l->has_head)
        attempts_report(&l->attempts, d->upstream, &d->behalf, HEALTH_BLOBS, f);
    if (go_elsewhere(l)) {
        if (!download_complete(d))
            lane_go(l);
        return;
    }
    struct failure last = d->is_elsewhere ? foreign_failure(&d->registry_said, f) : *f;
    download_give_up(d, &last);
}

static void failed(struct lane *l, const struct failure *f)
{
    struct download *d = l->download;
    struct log *log = d->upstream->parts.log;
    int wait_ms;

    if (l->attempt_bytes >= PROGRESS_BYTES)
        attempts_progress(&l->attempts, d->to->retries);
    d->breaks++;
    switch (attempts_failed(&l->attempts, f, &wait_ms)) {
    case ATTEMPT_NOW:
        lane_go(l);
        break;
    case ATTEMPT_LATER:
        log_event(log, LOG_INFO, "%s; trying again in %d ms", f->why, wait_ms);
        go_soon(l, wait_ms);
        break;
    case ATTEMPT_NEVER:
        if (is_last(l)) {
            attempts_over(l);
            break;
        }
        log_event(log, LOG_INFO, "%s; going on with one connection less", f->why);
        lane_enter(l, LANE_DEAD);
        break;
    }
}

static bool wrong_size(struct download *d, uint64_t got, struct failure *f)
{
    STATS_ADD(d->upstream->parts.stats, verify_failures, 1);
    failure_set(f, OUT_BAD_CONTENT, false, "%s: the blob has %llu bytes where %llu were expected",
                d->to->registry, (unsigned long long)got, (unsigned long long)d->size_bytes);
    return false;
}

/* A range was answered with something else. */
static bool bad_range(struct lane *l, struct failure *f, const char *what)
{
    l->ask_again = true;
    l->bad_answers++;
    failure_set(f, OUT_UPSTREAM_BROKEN, false, "%s: answered a range with %s",
                l->download->to->registry, what);
    return false;
}

/* --- the answer --- */

static bool take_part(struct lane *l, const struct head *h, struct failure *f)
{
    struct download *d = l->download;
    const struct content_range *r = &h->range;
    uint64_t end = d->in_pieces ? l->end : r->total;

    if (!r->given || r->first != l->at || r->total == 0 || end == 0 || r->last != end - 1 ||
        r->first > r->last)
        return bad_range(l, f, "another range");
    if (d->size_bytes != SIZE_UNKNOWN && r->total != d->size_bytes)
        return bad_range(l, f, "a part of another size");
    if (h->content_length >= 0 && (uint64_t)h->content_length != end - r->first)
        return bad_range(l, f, "another length");
    if (r->total > SIZE_LIMIT_BYTES || r->total < extents_end(&d->have))
        return bad_range(l, f, "a part of another blob");
    d->size_bytes = r->total;
    d->is_proven = true;
    return true;
}

static bool take_whole(struct lane *l, const struct head *h, struct failure *f)
{
    struct download *d = l->download;

    if (h->content_length >= 0) {
        uint64_t length = (uint64_t)h->content_length;
        if (d->size_bytes != SIZE_UNKNOWN && length != d->size_bytes)
            return wrong_size(d, length, f);
        if (length > SIZE_LIMIT_BYTES) {
            failure_set(f, OUT_UPSTREAM_BROKEN, false, "%s: the blob is too large",
                        d->to->registry);
            return false;
        }
        d->size_bytes = length;
    }
    /* What was kept of a longer file is of no use. */
    if (!d->is_begun && d->size_bytes < extents_end(&d->have))
        download_reset(d);
    l->at = 0;
    return true;
}

/* 200 to a range: the upstream knows none, and this is the whole. But where it did
 * know them it is out of its mind, and others have their share already. */
static bool take_whole_for_part(struct lane *l, const struct head *h, struct failure *f)
{
    struct download *d = l->download;

    if (d->in_pieces && d->is_proven)
        return bad_range(l, f, "the whole");
    d->in_pieces = false;
    d->without_range = true;
    l->end = SIZE_UNKNOWN;
    return take_whole(l, h, f);
}

/* 416: we have more than there is, it seems. While nothing was promised, drop it. */
static bool take_unsatisfiable(struct lane *l, struct failure *f)
{
    struct download *d = l->download;

    if (!d->is_begun && d->have.count > 0) {
        download_reset(d);
        l->bad_answers = 0;
        l->ask_again = true;
        failure_set(f, OUT_UPSTREAM_BROKEN, false, "%s: answered a range with 416",
                    d->to->registry);
        return false;
    }
    return bad_range(l, f, "416");
}

static bool on_head(void *arg, const struct head *h, struct failure *f)
{
    struct lane *l = arg;
    struct download *d = l->download;
    bool taken;

    if (h->status == 206)
        taken = take_part(l, h, f);
    else if (h->status == 416)
        taken = take_unsatisfiable(l, f);
    else if (l->is_ranged)
        taken = take_whole_for_part(l, h, f);
    else
        taken = take_whole(l, h, f);
    if (!taken)
        return false;
    download_begin(d);
    attempts_succeeded(&l->attempts, d->upstream);
    l->has_head = true;
    lane_enter(l, LANE_RECEIVING);
    d->may_split = !d->in_pieces && (h->status == 206 || h->accepts_ranges);
    download_look_soon(d);
    return true;
}

static bool on_room(void *arg, size_t len)
{
    struct lane *l = arg;
    struct download *d = l->download;

    if (intake_is_full(d->intake, lane_is_front(l))) {
        d->full_at_ms = clock_now_ms();
        return false;
    }
    return flow_take(&l->flow, len);
}

/* Hand on what is not there yet. */
static void take(struct lane *l, const char *data, size_t len)
{
    struct download *d = l->download;
    uint64_t end = l->at + len;
    uint64_t gap_end;

    if (d->is_elsewhere)
        d->suspects |= 1u << attempts_url_index(&l->attempts);

    for (uint64_t at = extents_gap(&d->have, l->at, &gap_end); at < end;
         at = extents_gap(&d->have, at, &gap_end)) {
        uint64_t part = (gap_end < end ? gap_end : end) - at;
        intake_write(d->intake, l->number, at, data + (at - l->at), (size_t)part);
        CHECK(extents_add(&d->have, at, at + part));
        l->attempt_bytes += part;
    }
    l->at = end;
}

static bool on_body(void *arg, const void *data, size_t len, struct failure *f)
{
    struct lane *l = arg;
    struct download *d = l->download;
    uint64_t limit = d->size_bytes != SIZE_UNKNOWN ? d->size_bytes : SIZE_LIMIT_BYTES;

    if (l->end == SIZE_UNKNOWN && len > limit - l->at) {
        /* What came so far may be right: but its sender cannot be. */
        d->discard = true;
        return wrong_size(d, l->at + len, f);
    }
    if (l->end == SIZE_UNKNOWN || len <= l->end - l->at) {
        take(l, data, len);
        return true;
    }
    take(l, data, (size_t)(l->end - l->at));
    failure_set(f, OUT_UPSTREAM_BROKEN, true, "%s: sent more than a piece", d->to->registry);
    return false;
}

static void piece_done(struct lane *l)
{
    l->bad_answers = 0;
    attempts_progress(&l->attempts, l->download->to->retries);
    /* One that is not needed now comes back when it is. */
    if (download_needs_lane(l->download))
        lane_go(l);
}

/* The answer was of no use: ask again at once, but not for ever. */
static void ask_again(struct lane *l)
{
    struct download *d = l->download;

    l->ask_again = false;
    d->breaks++;
    if (l->bad_answers == 0) {
        lane_go(l);
    } else if (!d->is_proven || !d->in_pieces) {
        /* By the whole, skipping what is there. */
        d->in_pieces = false;
        d->without_range = true;
        lane_go(l);
    } else if (l->bad_answers < BAD_ANSWERS_MAX) {
        lane_go(l);
    } else {
        fall_back(d);
    }
}

static void on_done(void *arg, const struct failure *f)
{
    struct lane *l = arg;
    struct download *d = l->download;
    struct failure cut;

    l->transfer = NULL;
    flow_stop(&l->flow);
    lane_enter(l, LANE_IDLE);
    if (!f && d->size_bytes == SIZE_UNKNOWN && l->at >= extents_end(&d->have))
        d->size_bytes = l->at;
    /* All is there, whatever befell the connection after the last byte. */
    if (download_complete(d))
        return;
    if (d->in_pieces && l->at >= l->end && !d->discard) {
        piece_done(l);
        return;
    }
    if (!f) {
        failure_set(&cut, OUT_UPSTREAM_BROKEN, true, "%s: sent %llu of %llu bytes", d->to->registry,
                    (unsigned long long)l->at, (unsigned long long)d->size_bytes);
        f = &cut;
    }
    if (d->is_elsewhere && f->outcome == OUT_BAD_CONTENT)
        download_blame(d, attempts_url_index(&l->attempts));
    if (d->discard)
        download_give_up(d, f);
    else if (l->ask_again)
        ask_again(l);
    else
        failed(l, f);
}

/* --- the question --- */

static const struct transfer_calls transfer_calls = {
    .head = on_head,
    .room = on_room,
    .body = on_body,
    .done = on_done,
};

static void ask(struct lane *l)
{
    struct download *d = l->download;
    struct upstream *u = d->upstream;
    char digest[DIGEST_TEXT_MAX];
    char *path = mem_format("blobs/%s", digest_text(fetch_digest(d->fetch), digest));
    char *url = attempts_url(&l->attempts, &d->name, path);

    l->attempt_bytes = 0;
    l->has_head = false;
    if (d->breaks > 0) {
        d->breaks--;
        if (l->is_ranged && d->have.count > 0)
            STATS_ADD(u->parts.stats, upstream_resumes, 1);
    }
    const struct behalf nobody = {.loop = d->behalf.loop};
    lane_enter(l, LANE_ASKING);
    struct transfer_order order = {
        .to = d->to,
        .registry = d->name.registry,
        .url = url,
        .behalf = d->is_elsewhere ? &nobody : &d->behalf,
        .repository = d->is_elsewhere ? NULL : d->name.repository,
        .is_foreign = d->is_elsewhere,
        .range_start = l->is_ranged ? l->at : 0,
        .range_end = l->is_ranged && d->in_pieces ? l->end : 0,
        .not_found = OUT_BLOB_UNKNOWN,
    };
    l->transfer = transfer_start(u, &order, &transfer_calls, l);
    if (!l->transfer) {
        struct failure f;
        failure_set(&f, OUT_UPSTREAM_BROKEN, false, "%s: the url %.150s is not valid",
                    d->name.registry, url);
        download_give_up(d, &f);
    }
    free(url);
    free(path);
}

static bool choose_piece(struct lane *l)
{
    struct download *d = l->download;
    struct extent taken[INTAKE_LANES_MAX], piece;
    unsigned count = 0;

    for (unsigned i = 0; i < d->lane_count; i++) {
        const struct lane *other = d->lanes[i];
        if (other != l && lane_is_busy(other))
            taken[count++] = (struct extent){other->at, other->end};
    }
    if (!piece_next(&d->have, taken, count, d->size_bytes, d->piece_bytes, &piece))
        return false;
    l->at = piece.start;
    l->end = piece.end;
    l->is_ranged = true;
    return true;
}

void lane_go(struct lane *l)
{
    struct download *d = l->download;

    if (d->state != DOWNLOAD_GOING)
        return;
    if (d->in_pieces) {
        if (!choose_piece(l))
            return;
    } else {
        l->at = extents_front(&d->have);
        l->end = SIZE_UNKNOWN;
        l->is_ranged = l->at > 0 && !d->without_range;
    }
    ask(l);
}
