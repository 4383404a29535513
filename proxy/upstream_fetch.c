/* SPDX-License-Identifier: ISC */
/*
 * A blob: from the first question to its last byte in the intake.
 *
 *   OPENING    the partial is opened; what was kept of it is hashed
 *      |  a kept partial may be whole: then straight to ENDING
 *   ASKING     a request is on its way; no head yet   <--+
 *      |                                                  |
 *   RECEIVING  its body comes                             |
 *      |  |                                               |
 *      |  +-- broken, refused: RESTING until a retry -----+  (or at once, next url)
 *   ENDING     intake_end or intake_abandon was called; `ended` frees all
 *
 * The fetch has a size, and so its readers a head, as soon as an upstream has given
 * a usable head, not before: until then they can still be told an honest error.
 */
#include "proxy/upstream_private.h"

#include <stdio.h>
#include <stdlib.h>

#include "cache/err.h"

/* Of a blob whose size nobody names. */
#define SIZE_LIMIT_BYTES (UINT64_C(64) * 1024 * 1024 * 1024)
/* An attempt that brought less is no progress. */
#define PROGRESS_BYTES 1024

#define SIZE_UNKNOWN UINT64_MAX

enum download_state {
    DOWNLOAD_OPENING,
    DOWNLOAD_ASKING,
    DOWNLOAD_RECEIVING,
    DOWNLOAD_RESTING,
    DOWNLOAD_ENDING,
};

struct download {
    struct msg msg;
    struct upstream *upstream;
    enum download_state state;
    LIST_ENTRY(download) link;
    struct config *config;
    struct fetch *fetch;
    struct name name;
    struct behalf behalf;
    struct intake *intake;
    struct transfer *transfer;
    struct event *retry;
    struct attempts attempts;
    uint64_t size_bytes;    /* as a manifest or a head said, or SIZE_UNKNOWN */
    bool is_begun;          /* the intake was told the size */
    uint64_t have_bytes;    /* kept and appended */
    uint64_t skip_bytes;    /* of the answer under way: we have them already */
    uint64_t attempt_bytes; /* new ones that this attempt brought */
    bool is_ranged;         /* this attempt asked for a range */
    bool without_range;     /* ranges were answered badly */
    bool ask_again;         /* at once: the answer was of no use, the next may be */
    bool discard;           /* what we have cannot be right */
};

static void attempt(struct download *d);

/* The only writer of the state. */
static void download_enter(struct download *d, enum download_state next)
{
    CHECK(d->state != DOWNLOAD_ENDING);
    d->state = next;
}

static void download_free(struct download *d)
{
    LIST_REMOVE(d, link);
    if (d->retry)
        event_free(d->retry);
    fetch_unref(&d->fetch);
    behalf_clear(&d->behalf);
    config_unref(&d->config);
    free(d);
}

/* --- ways to end --- */

static void give_up(struct download *d, const struct failure *f)
{
    struct fetch_failure why = {.code = (int)f->outcome, .retry_after_s = f->retry_after_s};
    char text[DIGEST_TEXT_MAX];

    snprintf(why.text, sizeof why.text, "%s", f->why);
    snprintf(why.challenge, sizeof why.challenge, "%s", f->challenge);
    log_event(d->upstream->parts.log, f->outcome == OUT_DRAINING ? LOG_INFO : LOG_WARN,
              "the fetch of %s of %s/%s failed: %s", digest_text(fetch_digest(d->fetch), text),
              d->name.registry, d->name.repository, f->why);
    transfer_cancel(&d->transfer);
    event_del(d->retry);
    download_enter(d, DOWNLOAD_ENDING);
    intake_abandon(d->intake, &why, d->discard);
}

/* Every byte is in the intake; its digest decides. */
static void complete(struct download *d)
{
    if (!d->is_begun)
        intake_size(d->intake, d->have_bytes);
    d->is_begun = true;
    download_enter(d, DOWNLOAD_ENDING);
    intake_end(d->intake);
}

static void retry_now(evutil_socket_t s, short what, void *arg)
{
    (void)s;
    (void)what;
    attempt(arg);
}

static void failed(struct download *d, const struct failure *f)
{
    const struct config_upstream *to = d->attempts.to;
    int wait_ms;

    if (d->attempt_bytes >= PROGRESS_BYTES)
        attempts_progress(&d->attempts, to->retries);
    switch (attempts_failed(&d->attempts, f, &wait_ms)) {
    case ATTEMPT_NOW:
        attempt(d);
        break;
    case ATTEMPT_LATER: {
        struct timeval t = {.tv_sec = wait_ms / 1000, .tv_usec = wait_ms % 1000 * 1000};
        log_event(d->upstream->parts.log, LOG_INFO, "%s; trying again in %d ms", f->why, wait_ms);
        download_enter(d, DOWNLOAD_RESTING);
        CHECK(event_add(d->retry, &t) == 0);
        break;
    }
    case ATTEMPT_NEVER:
        give_up(d, &d->attempts.worst);
        break;
    }
}

/* --- the answer --- */

static bool wrong_size(struct download *d, uint64_t got, struct failure *f)
{
    STATS_ADD(d->upstream->parts.stats, verify_failures, 1);
    failure_set(f, OUT_BAD_CONTENT, false, "%s: the blob has %llu bytes where %llu were expected",
                d->attempts.to->registry, (unsigned long long)got,
                (unsigned long long)d->size_bytes);
    return false;
}

/* A range was answered with something else: ask for the whole, and skip. */
static bool bad_range(struct download *d, struct failure *f, const char *what)
{
    d->ask_again = true;
    d->without_range = true;
    failure_set(f, OUT_UPSTREAM_BROKEN, false, "%s: answered a range with %s",
                d->attempts.to->registry, what);
    return false;
}

static bool take_part(struct download *d, const struct head *h, struct failure *f)
{
    const struct content_range *r = &h->range;

    if (!r->given || r->first != d->have_bytes || r->total == 0 || r->last != r->total - 1 ||
        r->first > r->last)
        return bad_range(d, f, "another range");
    if (d->size_bytes != SIZE_UNKNOWN && r->total != d->size_bytes)
        return bad_range(d, f, "a part of another size");
    if (h->content_length >= 0 && (uint64_t)h->content_length != r->total - r->first)
        return bad_range(d, f, "another length");
    d->size_bytes = r->total;
    d->skip_bytes = 0;
    return true;
}

static bool take_whole(struct download *d, const struct head *h, struct failure *f)
{
    if (h->content_length >= 0) {
        uint64_t length = (uint64_t)h->content_length;
        if (d->size_bytes != SIZE_UNKNOWN && length != d->size_bytes)
            return wrong_size(d, length, f);
        if (length > SIZE_LIMIT_BYTES) {
            failure_set(f, OUT_UPSTREAM_BROKEN, false, "%s: the blob is too large",
                        d->attempts.to->registry);
            return false;
        }
        d->size_bytes = length;
    }
    /* What was kept of a longer file is of no use. */
    if (!d->is_begun && d->size_bytes < d->have_bytes) {
        intake_reset(d->intake);
        d->have_bytes = 0;
    }
    d->skip_bytes = d->have_bytes;
    return true;
}

/* 416: we have more than there is, it seems. While nothing was promised, drop it. */
static bool take_unsatisfiable(struct download *d, struct failure *f)
{
    bool refused = bad_range(d, f, "416");

    if (!d->is_begun) {
        intake_reset(d->intake);
        d->have_bytes = 0;
        d->without_range = false;
    }
    return refused;
}

static bool on_head(void *arg, const struct head *h, struct failure *f)
{
    struct download *d = arg;
    bool taken;

    if (h->status == 206)
        taken = take_part(d, h, f);
    else if (h->status == 416)
        taken = take_unsatisfiable(d, f);
    else
        taken = take_whole(d, h, f);
    if (!taken)
        return false;
    if (!d->is_begun && d->size_bytes != SIZE_UNKNOWN) {
        intake_size(d->intake, d->size_bytes);
        d->is_begun = true;
    }
    attempts_succeeded(&d->attempts, d->upstream);
    download_enter(d, DOWNLOAD_RECEIVING);
    return true;
}

static bool on_room(void *arg)
{
    struct download *d = arg;

    return !intake_is_full(d->intake);
}

static bool on_body(void *arg, const void *data, size_t len, struct failure *f)
{
    struct download *d = arg;
    uint64_t limit = d->size_bytes != SIZE_UNKNOWN ? d->size_bytes : SIZE_LIMIT_BYTES;
    size_t skip = d->skip_bytes < len ? (size_t)d->skip_bytes : len;

    d->skip_bytes -= skip;
    data = (const char *)data + skip;
    len -= skip;
    if (len > limit - d->have_bytes) {
        /* What came so far may be right: but its sender cannot be. */
        d->discard = true;
        return wrong_size(d, d->have_bytes + len, f);
    }
    if (len > 0)
        intake_append(d->intake, data, len);
    d->have_bytes += len;
    d->attempt_bytes += len;
    return true;
}

static void on_done(void *arg, const struct failure *f)
{
    struct download *d = arg;
    struct failure cut;

    d->transfer = NULL;
    if (!f && d->size_bytes == SIZE_UNKNOWN && d->skip_bytes == 0)
        d->size_bytes = d->have_bytes;
    /* All is there, whatever befell the connection after the last byte. */
    if (d->have_bytes == d->size_bytes && !d->discard) {
        complete(d);
        return;
    }
    if (!f) {
        failure_set(&cut, OUT_UPSTREAM_BROKEN, true, "%s: sent %llu of %llu bytes",
                    d->attempts.to->registry, (unsigned long long)d->have_bytes,
                    (unsigned long long)d->size_bytes);
        f = &cut;
    }
    bool ask_again = d->ask_again;
    d->ask_again = false;
    if (d->discard)
        give_up(d, f);
    else if (ask_again)
        attempt(d);
    else
        failed(d, f);
}

static const struct transfer_calls transfer_calls = {
    .head = on_head,
    .room = on_room,
    .body = on_body,
    .done = on_done,
};

static void attempt(struct download *d)
{
    struct upstream *u = d->upstream;
    char digest[DIGEST_TEXT_MAX];
    char *path = mem_format("blobs/%s", digest_text(fetch_digest(d->fetch), digest));
    char *url = attempts_url(&d->attempts, &d->name, path);

    d->is_ranged = d->have_bytes > 0 && !d->without_range;
    d->attempt_bytes = 0;
    d->skip_bytes = 0;
    if (d->is_ranged)
        STATS_ADD(u->parts.stats, upstream_resumes, 1);
    download_enter(d, DOWNLOAD_ASKING);
    struct transfer_order order = {
        .to = d->attempts.to,
        .registry = d->name.registry,
        .url = url,
        .behalf = &d->behalf,
        .range_start = d->is_ranged ? d->have_bytes : 0,
        .not_found = OUT_BLOB_UNKNOWN,
    };
    d->transfer = transfer_start(u, &order, &transfer_calls, d);
    if (!d->transfer) {
        struct failure f;
        failure_set(&f, OUT_UPSTREAM_BROKEN, false, "%s: the url %.150s is not valid",
                    d->name.registry, url);
        give_up(d, &f);
    }
    free(url);
    free(path);
}

/* --- the intake's answers --- */

static void on_opened(void *arg, int err, uint64_t kept_bytes)
{
    struct download *d = arg;
    struct failure f;

    if (err != 0) {
        failure_set(&f, OUT_STORE_FAILED, false, "the partial file: %s", err_text(err));
        give_up(d, &f);
        return;
    }
    d->have_bytes = kept_bytes;
    if (d->size_bytes != SIZE_UNKNOWN && kept_bytes > d->size_bytes) {
        intake_reset(d->intake);
        d->have_bytes = 0;
    }
    if (d->have_bytes == d->size_bytes)
        complete(d);
    else
        attempt(d);
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

    failure_set(&f, OUT_STORE_FAILED, false, "writing the partial file: %s", err_text(err));
    d->discard = true;
    give_up(d, &f);
}

static void on_ended(void *arg, int err)
{
    (void)err;
    download_free(arg);
}

static const struct intake_calls intake_calls = {
    .opened = on_opened,
    .drained = on_drained,
    .broken = on_broken,
    .ended = on_ended,
};

/* --- from outside --- */

void upstream_resume_downloads(struct upstream *u)
{
    struct download *d;

    LIST_FOREACH (d, &u->downloads, link) {
        if (d->transfer && intake_has_room(d->intake))
            transfer_resume(d->transfer);
    }
}

void upstream_drain_downloads(struct upstream *u)
{
    struct download *d;
    struct failure f;

    failure_set(&f, OUT_DRAINING, false, "cachalot is shutting down");
    LIST_FOREACH (d, &u->downloads, link) {
        if (d->state != DOWNLOAD_ENDING)
            give_up(d, &f);
    }
}

/* No intake was made yet. */
static void refuse_fetch(struct download *d, enum outcome o, const char *text)
{
    struct upstream *u = d->upstream;
    struct fetch_failure why = {.code = (int)o};

    snprintf(why.text, sizeof why.text, "%s", text);
    fetch_fail(d->fetch, &why);
    fetch_retire(u->parts.fetches, d->fetch);
    STATS_ADD(u->parts.stats, fetch_failures, 1);
    download_free(d);
}

static void begin(struct msg *m, void *owner)
{
    struct download *d = (struct download *)m;
    struct upstream *u = owner;

    LIST_INSERT_HEAD(&u->downloads, d, link);
    d->config = config_ref(u->config);
    const struct config_upstream *to = config_find_upstream(d->config, d->name.registry);
    if (u->stopping) {
        refuse_fetch(d, OUT_DRAINING, "cachalot is shutting down");
        return;
    }
    if (!to || to->url_count == 0) {
        refuse_fetch(d, OUT_NAME_UNKNOWN, "the registry is not configured");
        return;
    }
    attempts_init(&d->attempts, to, to->retries);
    attempts_prefer(&d->attempts, u);
    d->retry = event_new(u->base, -1, 0, retry_now, d);
    CHECK(d->retry);
    d->intake = intake_new(u->hasher, d->fetch, &d->name, &intake_calls, d);
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
    queue_post(u->queue, &d->msg);
}
