/* SPDX-License-Identifier: ISC */
#include "proxy/orders.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache/json.h"
#include "cache/lock.h"
#include "proxy/errand.h"

/* That wait, and that have ended and are remembered. */
#define WAITING_MAX 1024
#define ENDED_MAX 1024

/* Forward only. */
enum order_state { ORDER_WAITING, ORDER_RUNNING, ORDER_ENDED };

static const char *const state_names[] = {
    [ORDER_WAITING] = "waiting",
    [ORDER_RUNNING] = "running",
    [ORDER_ENDED] = "ended",
};

struct order {
    TAILQ_ENTRY(order) link;
    uint64_t id;
    struct reference reference;
    struct platform platforms[ORDER_PLATFORMS_MAX];
    unsigned platform_count;
    /* Under the lock. */
    enum order_state state;
    struct errand_progress progress;
    struct errand_result result; /* when it has ended */
};

TAILQ_HEAD(order_list, order);

struct orders {
    struct courier courier;
    pthread_mutex_t lock; /* guards what follows */
    struct order_list all;
    unsigned waiting_count;
    unsigned ended_count;
    uint64_t next_id;
    struct order *running; /* of the thread */
};

/* --- the thread --- */

static void take_progress(void *arg, const struct errand_progress *p)
{
    struct orders *o = arg;

    pthread_mutex_lock(&o->lock);
    o->running->progress = *p;
    pthread_mutex_unlock(&o->lock);
}

/* The first that waits is running from now on. */
static struct order *take_next(struct orders *o)
{
    struct order *one;

    pthread_mutex_lock(&o->lock);
    TAILQ_FOREACH (one, &o->all, link) {
        if (one->state == ORDER_WAITING)
            break;
    }
    if (one) {
        one->state = ORDER_RUNNING;
        o->waiting_count--;
    }
    o->running = one;
    pthread_mutex_unlock(&o->lock);
    return one;
}

/* The oldest of those that have ended is the first of the list, but for one that runs. */
static void forget_oldest(struct orders *o)
{
    struct order *one;

    TAILQ_FOREACH (one, &o->all, link) {
        if (one->state == ORDER_ENDED)
            break;
    }
    CHECK(one);
    TAILQ_REMOVE(&o->all, one, link);
    o->ended_count--;
    free(one);
}

/* Under the lock. */
static void set_ended(struct orders *o, struct order *one, const struct errand_result *r)
{
    one->state = ORDER_ENDED;
    one->progress = r->end;
    one->result = *r;
    o->ended_count++;
    if (o->ended_count > ENDED_MAX)
        forget_oldest(o);
}

static void end(struct orders *o, struct order *one, const struct errand_result *r)
{
    pthread_mutex_lock(&o->lock);
    o->running = NULL;
    set_ended(o, one, r);
    pthread_mutex_unlock(&o->lock);
}

static void set_cancelled(struct errand_result *r)
{
    r->outcome = OUT_CANCELLED;
    snprintf(r->why, sizeof r->why, "%s", outcome_row(OUT_CANCELLED)->text);
}

static void run(struct orders *o, struct order *one)
{
    struct courier *c = &o->courier;
    struct errand e = {
        .reference = one->reference,
        .platforms = one->platforms,
        .platform_count = one->platform_count,
        .tell = take_progress,
        .arg = o,
    };
    char text[REFERENCE_TEXT_MAX];
    struct errand_result r;

    errand_run(c, &e, &r);
    reference_text(&one->reference, text);
    if (c->cancelled && !c->stopping && r.outcome == OUT_DRAINING)
        set_cancelled(&r);
    c->cancelled = false;
    if (r.outcome == OUT_CANCELLED) {
        log_event(c->parts.log, LOG_INFO, "%s was not fetched whole: %s", text, r.why);
    } else if (outcome_is_error(r.outcome)) {
        STATS_ADD(c->parts.stats, order_failures, 1);
        log_event_about(c->parts.log, r.outcome == OUT_DRAINING ? LOG_INFO : LOG_WARN,
                        &one->reference.name, "%s was not fetched whole: %s", text, r.why);
    } else {
        log_event(c->parts.log, LOG_INFO, "%s is held whole: %u blobs of %" PRIu64 " bytes", text,
                  r.end.blobs, r.end.bytes);
    }
    end(o, one, &r);
}

static void *orders_main(void *arg)
{
    struct orders *o = arg;

    while (!o->courier.stopping) {
        struct order *one = take_next(o);

        if (one)
            run(o, one);
        else
            courier_wait(&o->courier, -1);
    }
    return NULL;
}

/* --- from outside --- */

struct orders *orders_start(const struct courier_parts *parts, struct config *c)
{
    struct orders *o = mem_new(sizeof *o);

    lock_init(&o->lock);
    TAILQ_INIT(&o->all);
    /* A number of before a restart is nobody's. */
    o->next_id = (uint64_t)time(NULL) * 1000;
    courier_start(&o->courier, parts, c, "orders", orders_main, o);
    return o;
}

void orders_set_config(struct orders *o, struct config *c)
{
    courier_set_config(&o->courier, c);
}

void orders_stop(struct orders **op)
{
    struct orders *o = *op;
    struct order *one;

    if (!o)
        return;
    *op = NULL;
    courier_stop(&o->courier);
    while ((one = TAILQ_FIRST(&o->all))) {
        TAILQ_REMOVE(&o->all, one, link);
        free(one);
    }
    pthread_mutex_destroy(&o->lock);
    free(o);
}

static void nudged(struct msg *m, void *owner)
{
    (void)owner;
    free(m);
}

uint64_t orders_add(struct orders *o, const struct reference *r, const struct platform *platforms,
                    unsigned count)
{
    struct order *one;
    uint64_t id;

    CHECK(count <= ORDER_PLATFORMS_MAX);
    pthread_mutex_lock(&o->lock);
    if (o->waiting_count == WAITING_MAX) {
        pthread_mutex_unlock(&o->lock);
        return 0;
    }
    one = mem_new(sizeof *one);
    id = one->id = o->next_id++;
    one->reference = *r;
    one->platform_count = count;
    if (count > 0)
        memcpy(one->platforms, platforms, count * sizeof one->platforms[0]);
    TAILQ_INSERT_TAIL(&o->all, one, link);
    o->waiting_count++;
    pthread_mutex_unlock(&o->lock);
    STATS_ADD(o->courier.parts.stats, orders, 1);
    struct msg *nudge = mem_new(sizeof *nudge);
    nudge->run = nudged;
    queue_post(o->courier.queue, nudge);
    return id;
}

struct cancel {
    struct msg msg;
    uint64_t id;
};

/* In the thread, which alone knows what it runs. */
static void cancel_came(struct msg *m, void *owner)
{
    /* The courier is its first member. */
    struct orders *o = owner;
    struct cancel *cancel = (struct cancel *)m;

    if (o->running && o->running->id == cancel->id)
        o->courier.cancelled = true;
    free(cancel);
}

bool orders_cancel(struct orders *o, uint64_t id)
{
    struct errand_result r = {0};
    struct order *one;

    pthread_mutex_lock(&o->lock);
    TAILQ_FOREACH (one, &o->all, link) {
        if (one->id == id)
            break;
    }
    bool is_known = one != NULL;
    bool is_running = one && one->state == ORDER_RUNNING;
    if (one && one->state == ORDER_WAITING) {
        o->waiting_count--;
        set_cancelled(&r);
        set_ended(o, one, &r);
    }
    pthread_mutex_unlock(&o->lock);
    if (is_running) {
        struct cancel *cancel = mem_new(sizeof *cancel);

        cancel->msg.run = cancel_came;
        cancel->id = id;
        queue_post(o->courier.queue, &cancel->msg);
    }
    return is_known;
}

/* --- JSON --- */

static void print_result(FILE *out, const struct errand_result *r)
{
    char digest[DIGEST_TEXT_MAX] = "";
    char *why = json_quote(r->why);

    if (r->digest.alg)
        digest_text(&r->digest, digest);
    fprintf(out,
            ",\"digest\":\"%s\",\"result\":\"%s\",\"is_error\":%s,\"not_found\":%s,\"failed\":%u,"
            "\"why\":%s",
            digest, outcome_row(r->outcome)->word,
            outcome_is_error(r->outcome) || r->outcome == OUT_CANCELLED ? "true" : "false",
            outcome_row(r->outcome)->status == 404 ? "true" : "false", r->failed,
            why ? why : "\"\"");
    free(why);
}

char *orders_format(struct orders *o, uint64_t id, size_t *len)
{
    char reference[REFERENCE_TEXT_MAX];
    char *text = NULL;
    struct order *one;

    pthread_mutex_lock(&o->lock);
    TAILQ_FOREACH (one, &o->all, link) {
        if (one->id == id)
            break;
    }
    if (one) {
        const struct errand_progress *p = &one->progress;
        FILE *out = open_memstream(&text, len);

        CHECK(out);
        reference_text(&one->reference, reference);
        fprintf(out,
                "{\"id\":%" PRIu64
                ",\"reference\":\"%s\",\"state\":\"%s\",\"resting_until\":%" PRId64
                ",\"blobs\":%u,\"blobs_done\":%u,\"bytes\":%" PRIu64 ",\"bytes_done\":%" PRIu64
                ",\"fetched_bytes\":%" PRIu64,
                one->id, reference, state_names[one->state], p->resting_until_s, p->blobs,
                p->blobs_done, p->bytes, p->bytes_done, p->fetched_bytes);
        if (one->state == ORDER_ENDED)
            print_result(out, &one->result);
        fputs("}\n", out);
        CHECK(fclose(out) == 0);
    }
    pthread_mutex_unlock(&o->lock);
    return text;
}
