/* SPDX-License-Identifier: ISC */
#include "proxy/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache/fetch_pass.h"
#include "proxy/login.h"
#include "proxy/request_api.h"
#include "proxy/request_intercept.h"
#include "proxy/request_login.h"
#include "proxy/request_report.h"
#include "proxy/request_room.h"
#include "proxy/spoilt.h"

static uint64_t monotonic_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

void request_enter(struct request *r, enum request_state next)
{
    CHECK(r->state != REQUEST_ENDED);
    /* Before it sends, a request may wait for one thing after the other: for a tag,
     * its manifest, a proof of access, a fetch. */
    CHECK(next > r->state || (next >= REQUEST_ASKING && r->state < REQUEST_SENDING));
    r->state = next;
    r->since_ms = r->worker->now_ms;
}

/* --- waiting --- */

static void request_free(struct request *r)
{
    CHECK(r->state == REQUEST_ENDED && !r->wake_posted);
    r->worker->requests--;
    free(r->worker->spare_request);
    r->worker->spare_request = r;
}

static void request_more(struct request *r);
static bool wait_answerable(struct request *r);

static void on_wake(struct msg *m, void *owner)
{
    struct request *r = CONTAINER_OF(m, struct request, wake);

    worker_clock(owner);
    r->wake_posted = false;
    ask_cancel(&r->asker);
    switch (r->state) {
    case REQUEST_ASKING:
        if (ask_kind(r->ask) == ASK_PING)
            intercept_ping_answered(r);
        else
            pull_answered(r);
        break;
    case REQUEST_JOINED:
        if (!wait_answerable(r))
            pull_joined(r);
        break;
    case REQUEST_SENDING:
        request_more(r);
        break;
    case REQUEST_ENDED:
        request_free(r);
        break;
    case REQUEST_NEW:
    case REQUEST_DIALLING:
    case REQUEST_WORKING:
        CHECK(!"a wake without a wait");
    }
}

/* In the waker's thread, with the lock of the ask or fetch held. */
static void wake(struct request *r)
{
    r->wake_posted = true;
    queue_post(r->worker->queue, &r->wake);
}

static void wake_asker(struct asker *a)
{
    wake(CONTAINER_OF(a, struct request, asker));
}

static void wake_reader(struct reader *reader)
{
    wake(CONTAINER_OF(reader, struct request, reader));
}

bool request_wait_ask(struct request *r, struct ask *a)
{
    reader_cancel(&r->reader);
    fetch_unref(&r->fetch);
    ask_unref(&r->ask);
    r->ask = a;
    request_enter(r, REQUEST_ASKING);
    return ask_wait(&r->asker, a);
}

/* Whether the fetch can be answered: its size is known. Of an empty blob nothing
 * could be held back, so that one must be verified first. */
static bool wait_answerable(struct request *r)
{
    struct fetch_view view;

    do {
        fetch_look(r->fetch, &view);
        if (view.state > FETCH_STREAMING || (view.state == FETCH_STREAMING && view.size_bytes > 0))
            return false;
    } while (!reader_wait(&r->reader, r->fetch, view.state, 0));
    return true;
}

bool request_wait_fetch(struct request *r, struct fetch *f)
{
    CHECK(!r->fetch);
    r->fetch = f;
    request_enter(r, REQUEST_JOINED);
    return wait_answerable(r);
}

static void request_more(struct request *r)
{
    struct fetch_view view;

    CHECK(r->fetch);
    reader_move(&r->reader, r->send_limit);
    do {
        fetch_look(r->fetch, &view);
        if (view.state == FETCH_FAILED) {
            conn_cut(r->conn);
            return;
        }
        uint64_t limit = view.sendable_bytes < r->send_end ? view.sendable_bytes : r->send_end;
        if (limit > r->send_limit) {
            r->send_limit = limit;
            conn_extend(r->conn, limit);
            return;
        }
    } while (!reader_wait(&r->reader, r->fetch, view.state, view.sendable_bytes));
}

/* --- begin and end --- */

static void keep_field(char out[REQUEST_FIELD_MAX], struct span s)
{
    size_t len = s.p && s.len < REQUEST_FIELD_MAX ? s.len : 0;

    if (len)
        memcpy(out, s.p, len);
    out[len] = '\0';
}

static struct request *request_new(struct conn *c, enum http_method method)
{
    struct worker *w = conn_worker(c);
    struct request *r = mem_resize(w->spare_request, sizeof *r);
    struct timespec t;

    w->spare_request = NULL;
    /* The texts at the end are a large part of the cost of a hit when they are zeroed. */
    memset(r, 0, offsetof(struct request, tag));
    r->tag.digest.alg = r->tag.previous.alg = 0;
    r->range[0] = r->if_range[0] = r->if_none_match[0] = '\0';
    r->user_agent[0] = r->origin[0] = r->path[0] = '\0';

    clock_gettime(CLOCK_REALTIME_COARSE, &t);
    r->worker = w;
    r->conn = c;
    r->method = method;
    r->started_ms = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
    r->started_us = monotonic_us();
    r->since_ms = w->now_ms;
    r->wake.run = on_wake;
    r->asker.wake = wake_asker;
    r->reader.wake = wake_reader;
    w->requests++;
    return r;
}

static void send_metrics(struct request *r)
{
    size_t len;
    char *text = stats_format(r->worker->parts.stats, &len);

    request_text(r, "text/plain; version=0.0.4; charset=utf-8", text, len);
    free(text);
}

/* Whether credentials that come to a registry listener are for cachalot. */
static bool has_logins(const struct request *r)
{
    const struct config_auth *a = &r->worker->config->auth;

    return conn_listener(r->conn)->role == ROLE_REGISTRY && (a->passwords || a->key);
}

static void pull_granted(struct request *r)
{
    /* What the client said of itself was for us. */
    if (has_logins(r))
        pull_disown(r);
    pull_begin(r, config_find_upstream(r->worker->config, r->target.name.registry));
}

void request_pull(struct request *r)
{
    const struct target *t = &r->target;
    const struct config_upstream *u = config_find_upstream(r->worker->config, t->name.registry);
    char detail[2 * NAME_MAX_SIZE + 128];

    if (!u) {
        snprintf(detail, sizeof detail,
                 "registry %s is not configured; add a section [upstream %s] to cachalot.ini and "
                 "reload",
                 t->name.registry, t->name.registry);
        request_error(r, OUT_NAME_UNKNOWN, detail, 0);
        return;
    }
    r->registry = stats_find_registry(r->worker->parts.stats, t->name.registry);
    if (u->visibility == VISIBILITY_PRIVATE)
        request_login(r, RIGHT_PULL, pull_granted);
    else
        pull_granted(r);
}

static void send_ca(struct request *r)
{
    const char *pem = r->worker->config->ca_pem;

    if (pem)
        request_text(r, "application/x-x509-ca-cert", pem, strlen(pem));
    else
        request_error(r, OUT_NO_ROUTE, "no listener needs a certificate authority", 0);
}

static bool has_repository(const struct request *r)
{
    return r->target.name.repository[0] != '\0';
}

void request_own(struct request *r, const struct http_head *h)
{
    const struct config_listener *l = conn_listener(r->conn);
    enum outcome o = route_parse(&r->target, h->target, l->role, l->mirror_of);
    bool is_proxy = l->role == ROLE_INTERCEPT || l->role == ROLE_TLS_INTERCEPT;

    if (is_proxy && o == OUT_LOCAL && r->target.door != DOOR_ADMIN)
        o = OUT_NO_ROUTE;
    if (o != OUT_LOCAL) {
        request_error(r, o, is_proxy ? "this listener is a proxy, not a registry" : NULL, 0);
        return;
    }
    r->has_target = true;
    if (r->target.door == DOOR_LOCAL) {
        local_begin(r, h);
        return;
    }
    if (r->target.endpoint == ENDPOINT_ORDERS || r->target.endpoint == ENDPOINT_PREFETCH ||
        r->target.endpoint == ENDPOINT_COLLECT || r->target.endpoint == ENDPOINT_ROOM) {
        request_api(r, h);
        return;
    }
    if (r->method != HTTP_GET && r->method != HTTP_HEAD) {
        conn_forbid_keep_alive(r->conn);
        request_error(r, has_repository(r) ? OUT_READ_ONLY : OUT_METHOD, NULL, 0);
        return;
    }
    switch (r->target.endpoint) {
    case ENDPOINT_PING:
        if (l->role == ROLE_REGISTRY)
            request_greet(r);
        else
            request_text(r, "application/json", "{}", 2);
        break;
    case ENDPOINT_HEALTH:
        request_text(r, "text/plain; charset=utf-8", "ok\n", 3);
        break;
    case ENDPOINT_METRICS:
        send_metrics(r);
        break;
    case ENDPOINT_CA:
        send_ca(r);
        break;
    case ENDPOINT_SETUP:
        request_setup(r, h);
        break;
    case ENDPOINT_READY:
        request_ready(r);
        break;
    case ENDPOINT_PAGE:
        request_page(r);
        break;
    case ENDPOINT_REPORT:
        request_report(r, h);
        break;
    case ENDPOINT_ORDERS:
    case ENDPOINT_PREFETCH:
    case ENDPOINT_COLLECT:
    case ENDPOINT_ROOM:
        CHECK(!"answered before");
        break;
    case ENDPOINT_TOKEN:
        request_give_pass(r);
        break;
    case ENDPOINT_MANIFEST:
    case ENDPOINT_BLOB:
    case ENDPOINT_TAGS:
    case ENDPOINT_REFERRERS:
        request_pull(r);
        break;
    case ENDPOINT_UPLOADS:
    case ENDPOINT_UPLOAD:
    case ENDPOINT_CATALOG:
        request_error(r, OUT_READ_ONLY, NULL, 0);
        break;
    }
}

static void dispatch(struct request *r, const struct http_head *h)
{
    enum role role = conn_listener(r->conn)->role;

    if (!conn_is_allowed(r->conn)) {
        conn_forbid_keep_alive(r->conn);
        request_error(r, OUT_FORBIDDEN, "the client's address is not in the listener's allow", 0);
    } else if (role == ROLE_INTERCEPT || role == ROLE_TLS_INTERCEPT) {
        intercept_begin(r, h);
    } else {
        request_own(r, h);
    }
}

/* Keep what goes on to an upstream. False when the request has been here before. */
static bool keep_behalf(struct request *r, const struct http_head *h)
{
    const char *id = r->worker->parts.loop_id;

    if (h->authorization.p) {
        r->behalf.authorization = mem_copy(h->authorization.p, h->authorization.len);
        r->credential = permit_fingerprint(r->worker->parts.permits, r->behalf.authorization);
    }
    if (!h->cdn_loop.p)
        return true;
    /* In any of its lines: nobody else knows our id. */
    if (memmem(h->fields.p, h->fields.len, id, strlen(id)))
        return false;
    r->behalf.loop = mem_format("%.*s, %s", (int)h->cdn_loop.len, h->cdn_loop.p, id);
    return true;
}

static void request_begin(struct conn *c, struct request **slot, const struct http_head *h)
{
    struct request *r = request_new(c, h->method);
    struct span path = h->target;

    *slot = r;
    if (path.len >= REQUEST_FIELD_MAX)
        path.len = REQUEST_FIELD_MAX - 1;
    keep_field(r->path, path);
    keep_field(r->range, h->range);
    keep_field(r->if_range, h->if_range);
    keep_field(r->if_none_match, h->if_none_match);
    keep_field(r->user_agent, h->user_agent);
    request_login_begin(r, h);
    if (!keep_behalf(r, h)) {
        request_error(r, OUT_LOOP, "two caches are each other's upstream", 0);
        return;
    }
    dispatch(r, h);
}

static void refuse_head(struct conn *c, struct request **slot, enum outcome why)
{
    struct request *r = request_new(c, HTTP_OTHER);

    *slot = r;
    request_error(r, why, NULL, 0);
}

static bool request_is_too_slow(struct request *r)
{
    return reader_is_too_slow(&r->reader, r->worker->now_ms);
}

static void request_check_time(struct request *r)
{
    if (r->state == REQUEST_ASKING)
        pull_check_time(r);
}

#define ID_LOGGED 8

/* Who has the id of an upload session has the session: of an id only the beginning is told. */
static const char *hide_id(const struct request *r, char out[REQUEST_FIELD_MAX])
{
    static const char before[] = "/blobs/uploads/";

    if (r->has_target && r->target.endpoint == ENDPOINT_UPLOAD) {
        snprintf(out, REQUEST_FIELD_MAX, "%.*s", ID_LOGGED, r->target.tag);
        return out;
    }
    const char *at = strstr(r->path, before);
    if (!at || at[sizeof before - 1] == '?')
        return r->path;
    at += sizeof before - 1;
    snprintf(out, REQUEST_FIELD_MAX, "%.*s", (int)(at - r->path) + (int)strnlen(at, ID_LOGGED),
             r->path);
    return out;
}

/* What a page that is left open asks every two seconds would be most of the log. */
static bool is_poll(const struct request *r)
{
    return r->has_target && r->target.endpoint == ENDPOINT_REPORT && r->status == 200 &&
           r->worker->config->log_level != LOG_DEBUG;
}

static void log_request(const struct request *r, uint64_t body_bytes)
{
    if (!log_wants_access(r->worker->access) || is_poll(r))
        return;

    const struct target *t = &r->target;
    char digest[DIGEST_TEXT_MAX] = "", hidden[REQUEST_FIELD_MAX];
    struct access_line line = {
        .time_ms = r->started_ms,
        .client = conn_peer(r->conn),
        .user = request_user(r),
        .method = http_method_name(r->method),
        .status = r->status,
        .body_bytes = body_bytes,
        .outcome = outcome_row(r->outcome)->word,
        .duration_us = monotonic_us() - r->started_us,
        .user_agent = r->user_agent,
        .reference = hide_id(r, hidden),
    };

    if (r->has_target) {
        line.door = door_name(t->door);
        line.registry = t->name.registry;
        line.repository = t->name.repository;
        if (t->by_digest)
            line.reference = digest_text(&t->digest, digest);
        else if (t->endpoint == ENDPOINT_MANIFEST)
            line.reference = t->tag;
    }
    log_access(r->worker->access, &line);
}

static void count_request(struct request *r, uint64_t body_bytes)
{
    struct stats *s = r->worker->parts.stats;

    atomic_fetch_add_explicit(&s->requests[r->outcome], 1, memory_order_relaxed);
    if (r->is_reader) {
        STATS_SUB(s, readers, 1);
        fetch_drop_reader(r->fetch);
    }
    if (!r->registry)
        return;
    STATS_ADD(s, client_bytes, body_bytes);
    atomic_fetch_add_explicit(&r->registry->lan_bytes, body_bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&r->registry->lan_requests, 1, memory_order_relaxed);
    if (r->outcome == OUT_HIT || r->outcome == OUT_REVALIDATED || r->outcome == OUT_STALE)
        atomic_fetch_add_explicit(&r->registry->hits, 1, memory_order_relaxed);
}

static void request_end(struct request *r, enum outcome why, uint64_t body_bytes)
{
    if (why != OUT_LOCAL)
        r->outcome = why;
    if (r->is_relay)
        relay_ended(r);
    local_end(r);
    request_report_end(r);
    request_room_end(r);
    log_request(r, body_bytes);
    if (r->fetch && why == OUT_LOCAL && r->status < 300)
        storage_touch(r->worker->parts.storage, &r->target.digest, conn_address(r->conn), false);
    request_login_end(r);
    count_request(r, body_bytes);
    ask_cancel(&r->asker);
    reader_cancel(&r->reader);
    ask_unref(&r->ask);
    fetch_unref(&r->fetch);
    if (why == OUT_CUT && r->held)
        spoilt_drop(r->worker, r->held);
    shelf_return(&r->held);
    behalf_clear(&r->behalf);
    r->conn = NULL;
    request_enter(r, REQUEST_ENDED);
    if (!r->wake_posted)
        request_free(r);
}

const struct request_calls request_calls = {
    .begin = request_begin,
    .refuse = refuse_head,
    .body = local_body,
    .body_end = local_body_end,
    .more = request_more,
    .check_time = request_check_time,
    .is_too_slow = request_is_too_slow,
    .end = request_end,
};
