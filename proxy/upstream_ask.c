/* SPDX-License-Identifier: ISC */
/*
 * Small questions. Tags, and whether there is such content, are asked for by HEAD,
 * which costs nothing of a client's pull limit; some upstreams answer HEAD badly, then
 * by GET. An upstream that wants to be left alone is not asked.
 *
 * A question lives from upstream_ask until its ask is answered, or handed with
 * its answer to the storage thread (upstream_keep.c).
 */
#include "proxy/upstream_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More would outlast the client that waits. */
#define RETRIES_MAX 2
#define BODY_FIRST_BYTES (16u * 1024)

struct question {
    struct msg msg;
    struct upstream *upstream;
    LIST_ENTRY(question) link;
    struct config *config;
    struct ask *ask;
    struct transfer *transfer;
    struct event *retry;
    struct attempts attempts;
    bool head_only;
    bool is_known; /* ASK_EXISTS by GET: the head said all */
    /* Of the answer under way. */
    char media_type[MEDIA_TYPE_MAX];
    char digest[DIGEST_TEXT_MAX];
    int64_t content_length;
    char *link_field;
    char *body;
    size_t body_len;
    size_t body_size;
};

static void attempt(struct question *q);

static void drop_answer(struct question *q)
{
    free(q->link_field);
    free(q->body);
    q->link_field = NULL;
    q->body = NULL;
    q->body_len = q->body_size = 0;
}

static void question_free(struct question *q)
{
    transfer_cancel(&q->transfer);
    drop_answer(q);
    LIST_REMOVE(q, link);
    if (q->retry)
        event_free(q->retry);
    config_unref(&q->config);
    ask_unref(&q->ask);
    free(q);
}

/* End it with an error. */
static void end_badly(struct question *q, const struct failure *f)
{
    struct upstream_parts *p = &q->upstream->parts;

    ask_fail(q->ask, f->outcome, "%s", f->why);
    struct ask_result *r = ask_answer(q->ask);
    r->retry_after_s = f->retry_after_s;
    snprintf(r->challenge, sizeof r->challenge, "%s", f->challenge);
    ask_finish(p->asks, q->ask);
    question_free(q);
}

/* The upstream was asked, in vain. */
static void give_up(struct question *q, const struct failure *f)
{
    const struct name *n = ask_name(q->ask);
    struct failure last = *f;

    if (f->outcome != OUT_DRAINING && outcome_row(f->outcome)->status != 404)
        log_event_about(q->upstream->parts.log, LOG_WARN, n, "asking for %s of %s/%s failed: %s",
                        ask_reference(q->ask), n->registry, n->repository, f->why);
    attempts_report(&q->attempts, q->upstream, ask_behalf(q->ask), HEALTH_ASKS, &last);
    end_badly(q, &last);
}

static void retry_now(evutil_socket_t s, short what, void *arg)
{
    (void)s;
    (void)what;
    attempt(arg);
}

static void failed(struct question *q, const struct failure *f)
{
    int wait_ms;

    switch (attempts_failed(&q->attempts, f, &wait_ms)) {
    case ATTEMPT_NOW:
        attempt(q);
        break;
    case ATTEMPT_LATER: {
        /* Others would ask meanwhile. */
        if (q->attempts.worst.outcome == OUT_UPSTREAM_LIMITED) {
            give_up(q, &q->attempts.worst);
            break;
        }
        struct timeval t = {.tv_sec = wait_ms / 1000, .tv_usec = wait_ms % 1000 * 1000};
        CHECK(event_add(q->retry, &t) == 0);
        break;
    }
    case ATTEMPT_NEVER:
        give_up(q, &q->attempts.worst);
        break;
    }
}

/* --- the answer --- */

static size_t body_limit(const struct question *q)
{
    return ask_kind(q->ask) == ASK_LIST ? ASK_LIST_MAX : MANIFEST_SIZE_MAX;
}

static bool too_large(struct question *q, struct failure *f)
{
    failure_set(f, OUT_UPSTREAM_BROKEN, false, "%s: the answer is larger than %zu bytes",
                q->attempts.to->registry, body_limit(q));
    return false;
}

/* Of content that was only to be asked for, by GET: its size, and then no more. */
static bool learn_size(struct question *q, const struct head *h, struct failure *f)
{
    q->is_known = true;
    if (h->status == 416)
        q->content_length = 0; /* not even a first byte */
    else if (h->status == 206)
        q->content_length = h->range.given ? (int64_t)h->range.total : -1;
    else
        q->content_length = h->content_length;
    failure_set(f, OUT_UPSTREAM_BROKEN, false, "%s: was not listened to any more",
                q->attempts.to->registry);
    return false;
}

static bool on_head(void *arg, const struct head *h, struct failure *f)
{
    struct question *q = arg;

    if (ask_kind(q->ask) == ASK_EXISTS && !q->head_only)
        return learn_size(q, h, f);
    if (ask_kind(q->ask) != ASK_EXISTS && h->content_length > (int64_t)body_limit(q))
        return too_large(q, f);
    memcpy(q->media_type, h->content_type, sizeof q->media_type);
    memcpy(q->digest, h->digest, sizeof q->digest);
    q->content_length = h->content_length;
    memcpy(ask_answer(q->ask)->filters, h->filters, sizeof h->filters);
    if (h->link)
        q->link_field = mem_copy(h->link, strlen(h->link));
    return true;
}

static bool on_body(void *arg, const void *data, size_t len, struct failure *f)
{
    struct question *q = arg;

    if (len > body_limit(q) - q->body_len)
        return too_large(q, f);
    if (q->body_len + len > q->body_size) {
        size_t size = q->body_size ? q->body_size : BODY_FIRST_BYTES;
        while (size < q->body_len + len)
            size *= 2;
        q->body = mem_resize(q->body, size);
        q->body_size = size;
    }
    memcpy(q->body + q->body_len, data, len);
    q->body_len += len;
    return true;
}

/* Hand the ask with its answer to the storage thread. */
static void hand_over(struct question *q)
{
    struct ask_result *r = ask_answer(q->ask);

    r->outcome = OUT_MISS;
    memcpy(r->media_type, q->media_type, sizeof r->media_type);
    r->link = q->link_field;
    /* An empty body is a body. */
    r->body = q->body || q->head_only || q->is_known ? q->body : mem_new(1);
    r->body_len = q->body_len;
    q->link_field = NULL;
    q->body = NULL;
    const struct config_upstream *to = config_find_upstream(q->config, ask_name(q->ask)->registry);

    keep_answer(&q->upstream->parts, q->ask, to && to->visibility == VISIBILITY_PRIVATE);
    question_free(q);
}

/* What a HEAD said of a tag; false when that is no use. */
static bool tag_by_head(struct question *q)
{
    struct ask_result *r = ask_answer(q->ask);

    if (q->content_length < 0 || keep_type_is_generic(q->media_type) ||
        digest_parse(&r->digest, q->digest, strlen(q->digest)) != 0)
        return false;
    r->size_bytes = (uint64_t)q->content_length;
    hand_over(q);
    return true;
}

static void manifest_came(struct question *q)
{
    struct ask_result *r = ask_answer(q->ask);
    const char *text = ask_kind(q->ask) == ASK_MANIFEST ? ask_reference(q->ask) : q->digest;
    struct failure f;

    r->size_bytes = q->body_len;
    if (text[0] == '\0') {
        digest_of(DIGEST_SHA256, q->body ? q->body : "", q->body_len, &r->digest);
    } else if (digest_parse(&r->digest, text, strlen(text)) != 0) {
        failure_set(&f, OUT_UPSTREAM_BROKEN, false, "%s: sent a Docker-Content-Digest that is none",
                    q->attempts.to->registry);
        give_up(q, &f);
        return;
    }
    hand_over(q);
}

static void content_known(struct question *q)
{
    struct ask_result *r = ask_answer(q->ask);
    struct failure f;

    if (q->content_length < 0 && q->head_only) {
        q->head_only = false;
        attempt(q);
        return;
    }
    if (q->content_length < 0) {
        failure_set(&f, OUT_UPSTREAM_BROKEN, false, "%s: did not say how large the content is",
                    q->attempts.to->registry);
        failed(q, &f);
        return;
    }
    r->size_bytes = (uint64_t)q->content_length;
    hand_over(q);
}

static void answered(struct question *q)
{
    switch (ask_kind(q->ask)) {
    case ASK_TAG:
        if (!q->head_only) {
            manifest_came(q);
        } else if (!tag_by_head(q)) {
            q->head_only = false;
            attempt(q);
        }
        break;
    case ASK_MANIFEST:
        manifest_came(q);
        break;
    case ASK_EXISTS:
        content_known(q);
        break;
    case ASK_LIST:
        hand_over(q);
        break;
    case ASK_PING:
        ask_answer(q->ask)->outcome = OUT_MISS;
        ask_finish(q->upstream->parts.asks, q->ask);
        question_free(q);
        break;
    }
}

static void on_done(void *arg, const struct failure *f)
{
    struct question *q = arg;

    q->transfer = NULL;
    if (!f || q->is_known) {
        attempts_succeeded(&q->attempts, q->upstream);
        answered(q);
    } else if (f->outcome == OUT_UNAUTHORIZED) {
        attempts_succeeded(&q->attempts, q->upstream);
        end_badly(q, f);
    } else if (q->head_only &&
               (f->outcome == OUT_UPSTREAM_BROKEN || f->outcome == OUT_UPSTREAM_ERROR)) {
        q->head_only = false;
        attempt(q);
    } else {
        failed(q, f);
    }
}

static const struct transfer_calls transfer_calls = {
    .head = on_head,
    .body = on_body,
    .done = on_done,
};

/* --- the question --- */

/* One row a kind, in the order of enum ask_kind. */
static const struct {
    const char *path; /* before the reference */
    bool head_only;
    bool accept_manifests;
    enum outcome not_found;
} kinds[] = {
    [ASK_TAG] = {"manifests/", true, true, OUT_MANIFEST_UNKNOWN},
    [ASK_MANIFEST] = {"manifests/", false, true, OUT_MANIFEST_UNKNOWN},
    [ASK_EXISTS] = {"", true, true, OUT_BLOB_UNKNOWN},
    [ASK_LIST] = {"", false, false, OUT_NAME_UNKNOWN},
    [ASK_PING] = {"", false, false, OUT_NO_ROUTE},
};

static void attempt(struct question *q)
{
    enum ask_kind kind = ask_kind(q->ask);
    char *rest = mem_format("%s%s", kinds[kind].path, ask_reference(q->ask));
    char *url = attempts_url(&q->attempts, ask_name(q->ask), rest);
    struct transfer_order order = {
        .to = q->attempts.to,
        .registry = ask_name(q->ask)->registry,
        .url = url,
        .behalf = ask_behalf(q->ask),
        .repository = kind == ASK_PING ? NULL : ask_name(q->ask)->repository,
        .is_ping = kind == ASK_PING,
        .timeout_ms = q->attempts.to->request_timeout_ms,
        .head_only = q->head_only,
        .accept_manifests = kinds[kind].accept_manifests,
        .not_found = kinds[kind].not_found,
        /* One byte, for the size that the answer says. */
        .range_end = kind == ASK_EXISTS && !q->head_only && strncmp(rest, "blobs/", 6) == 0,
    };

    drop_answer(q);
    q->is_known = false;
    q->transfer = transfer_start(q->upstream, &order, &transfer_calls, q);
    if (!q->transfer) {
        struct failure f;
        failure_set(&f, OUT_UPSTREAM_BROKEN, false, "the url %.150s is not valid", url);
        give_up(q, &f);
    }
    free(url);
    free(rest);
}

/* Without asking. */
static void refuse(struct question *q, enum outcome o, const char *why)
{
    struct failure f;

    failure_set(&f, o, false, "%s", why);
    end_badly(q, &f);
}

static void leave_alone(struct question *q, const struct config_upstream *to, int left_s)
{
    struct failure f;

    failure_set(&f, OUT_UPSTREAM_LIMITED, true,
                "%s: answered 429 lately, and is left alone for %d s", to->registry, left_s);
    f.retry_after_s = left_s;
    end_badly(q, &f);
}

void upstream_drain_questions(struct upstream *u)
{
    struct question *q, *next;

    for (q = LIST_FIRST(&u->questions); q; q = next) {
        next = LIST_NEXT(q, link);
        refuse(q, OUT_DRAINING, "cachalot is shutting down");
    }
}

/* Retries are for clients to whom nothing else can be said: one that is down is asked
 * once. */
static int64_t retries(const struct upstream *u, const struct config_upstream *to)
{
    if (health_is_down(u->parts.health, to->registry))
        return 0;
    return to->retries < RETRIES_MAX ? to->retries : RETRIES_MAX;
}

static void begin(struct msg *m, void *owner)
{
    struct question *q = (struct question *)m;
    struct upstream *u = owner;

    LIST_INSERT_HEAD(&u->questions, q, link);
    q->config = config_ref(u->config);
    const struct config_upstream *to = config_find_upstream(q->config, ask_name(q->ask)->registry);
    if (u->stopping) {
        refuse(q, OUT_DRAINING, "cachalot is shutting down");
        return;
    }
    if (!to || to->url_count == 0) {
        refuse(q, OUT_NAME_UNKNOWN, "the registry is not configured");
        return;
    }
    if (to->offline || q->config->offline) {
        refuse(q, OUT_OFFLINE, OFFLINE_TEXT);
        return;
    }
    int left_s = attempts_limit_left(u, to, ask_behalf(q->ask), HEALTH_ASKS);
    if (left_s > 0) {
        leave_alone(q, to, left_s);
        return;
    }
    attempts_init(&q->attempts, to, retries(u, to));
    attempts_prefer(&q->attempts, u);
    q->head_only = kinds[ask_kind(q->ask)].head_only;
    q->retry = event_new(u->base, -1, 0, retry_now, q);
    CHECK(q->retry);
    attempt(q);
}

void upstream_ask(struct upstream *u, struct ask *a)
{
    struct question *q = mem_new(sizeof *q);

    q->upstream = u;
    q->ask = ask_ref(a);
    q->msg.run = begin;
    queue_post(u->queue, &q->msg);
}
