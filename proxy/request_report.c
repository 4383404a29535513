/* SPDX-License-Identifier: ISC */
#include "proxy/request_report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "proxy/config_match.h"
#include "proxy/report.h"
#include "proxy/request_login.h"
#include "proxy/request_private.h"

static const struct reply_extra fields[] = {
    {"Cache-Control", "no-store"},
    {"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"X-Content-Type-Options", "nosniff"},
    {NULL, NULL},
};

/* What the watch makes. It is made whether or not the request lives on. */
struct long_job {
    struct watch_job job;
    struct msg answer;
    struct worker *worker;
    struct request *request; /* NULL: it has ended */
    struct viewer viewer;
    struct report_search search;
    const char *reason; /* request_not_ready */
    int err;
    char *text;
    size_t len;
};

/* What a request keeps beside struct request. */
struct report_visit {
    const struct report_row *row;
    struct report_search search;
    struct long_job *job; /* under way; or NULL */
};

struct report_row {
    const char *word;
    void (*send)(struct request *r);
};

/* --- readiness --- */

const char *request_not_ready(const struct worker *w)
{
    if (w->draining)
        return "cachalotd is shutting down";
    if (!storage_is_writable(w->parts.storage))
        return "the cache directory could not be written: check the disk, then restart cachalotd";
    return NULL;
}

void request_ready(struct request *r)
{
    const char *why = request_not_ready(r->worker);

    if (!why)
        request_text(r, "text/plain; charset=utf-8", "ready\n", 6);
    else
        request_error(r, r->worker->draining ? OUT_DRAINING : OUT_STORE_FAILED, why, 0);
}

/* --- who looks --- */

bool request_may_look(struct request *r)
{
    const struct config_listener *l = conn_listener(r->conn);
    const struct config *c = r->worker->config;

    if (l->role != ROLE_REGISTRY && l->role != ROLE_MIRROR) {
        request_error(r, OUT_NO_ROUTE, "this listener is a proxy, not a registry", 0);
        return false;
    }
    if (l->is_admin || config_address_matches(c->page, c->page_count, conn_peer(r->conn)))
        return true;
    request_error(r, OUT_FORBIDDEN, "the client's address is not in [admin] page", 0);
    return false;
}

/* --- what is sent --- */

static void send_json(struct request *r, char *text, size_t len)
{
    request_text_with(r, "application/json", text, len, fields);
    free(text);
}

static void send_upstreams(struct request *r)
{
    struct viewer v;
    size_t len;

    request_viewer(r, &v);
    char *text = report_upstreams(&v, r->worker->parts.stats, &len);
    viewer_clear(&v);
    send_json(r, text, len);
}

/* What is made with a look into the index. */
static void send_look(struct request *r, char *(*make)(struct worker *w, struct viewer *v,
                                                       struct db_txn *txn, size_t *len))
{
    struct db_txn *txn = pull_begin_read(r);
    struct viewer v;
    size_t len;

    if (!txn)
        return;
    request_viewer(r, &v);
    char *text = make(r->worker, &v, txn, &len);
    viewer_clear(&v);
    db_read_end(r->worker->reader);
    send_json(r, text, len);
}

static char *make_events(struct worker *w, struct viewer *v, struct db_txn *txn, size_t *len)
{
    return report_events(v, txn, log_recent(w->parts.log), len);
}

static char *make_fetches(struct worker *w, struct viewer *v, struct db_txn *txn, size_t *len)
{
    return report_fetches(v, txn, w->parts.fetches, w->now_ms, len);
}

static void send_events(struct request *r)
{
    send_look(r, make_events);
}

static void send_fetches(struct request *r)
{
    send_look(r, make_fetches);
}

/* --- lists that take long --- */

static void on_answer(struct msg *m, void *owner)
{
    struct long_job *j = CONTAINER_OF(m, struct long_job, answer);
    struct request *r = j->request;
    char *text = j->text;
    size_t len = j->len;
    int err = j->err;

    worker_clock(owner);
    j->worker->requests--;
    free(j);
    if (r)
        r->report->job = NULL;
    if (!r)
        free(text);
    else if (err)
        request_error(r, OUT_STORE_FAILED, err_text(err), 0);
    else
        send_json(r, text, len);
}

static void end_job(struct long_job *j)
{
    viewer_clear(&j->viewer);
    queue_post(j->worker->queue, &j->answer);
}

/* In the watch's thread, as is the next. */
static void make_images(struct watch_job *job, struct watch *w)
{
    struct long_job *j = (struct long_job *)job;
    struct db_txn *txn;

    j->err = db_read(watch_reader(w), &txn);
    if (j->err == 0) {
        j->err = report_images(&j->viewer, txn, &j->search, &j->text, &j->len);
        db_read_end(watch_reader(w));
    }
    end_job(j);
}

static void make_status(struct watch_job *job, struct watch *w)
{
    struct long_job *j = (struct long_job *)job;

    j->text = report_status(&j->viewer, watch_look(w), j->worker->parts.stats, j->reason, &j->len);
    end_job(j);
}

static void post_job(struct request *r, void (*run)(struct watch_job *, struct watch *))
{
    struct long_job *j = mem_new(sizeof *j);

    j->job.run = run;
    j->reason = request_not_ready(r->worker);
    j->answer.run = on_answer;
    j->worker = r->worker;
    j->request = r;
    j->search = r->report->search;
    request_viewer(r, &j->viewer);
    r->report->job = j;
    /* As a request does, it keeps the worker until its message has come. */
    r->worker->requests++;
    if (watch_post(r->worker->parts.watch, &j->job)) {
        request_enter(r, REQUEST_WORKING);
        return;
    }
    r->worker->requests--;
    r->report->job = NULL;
    viewer_clear(&j->viewer);
    free(j);
    request_error(r, OUT_OVERLOADED, "too many look at cachalot", 1);
}

static void send_images(struct request *r)
{
    post_job(r, make_images);
}

static void send_status(struct request *r)
{
    post_job(r, make_status);
}

void request_report_end(struct request *r)
{
    if (!r->report)
        return;
    if (r->report->job)
        r->report->job->request = NULL;
    free(r->report);
    r->report = NULL;
}

/* --- requests --- */

static const struct report_row rows[] = {
    {"status", send_status},   {"upstreams", send_upstreams}, {"events", send_events},
    {"fetches", send_fetches}, {"images", send_images},       {"login", request_sign_in},
};

static const struct report_row *find_row(const char *word)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(rows[i].word, word) == 0)
            return &rows[i];
    return NULL;
}

static void who_is_known(struct request *r)
{
    r->report->row->send(r);
}

void request_report(struct request *r, const struct http_head *h)
{
    const struct report_row *row = find_row(r->target.tag);
    struct span query = http_target_origin(h->target);

    span_cut(&query, '?');
    if (!row) {
        request_error(r, OUT_NO_ROUTE, NULL, 0);
        return;
    }
    if (!request_may_look(r))
        return;
    r->report = mem_new(sizeof *r->report);
    r->report->row = row;
    if (report_search_read(&r->report->search, query))
        request_know(r, who_is_known);
    else
        request_error(r, OUT_BAD_REQUEST, "a parameter is broken or too large", 0);
}
