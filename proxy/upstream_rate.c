/* SPDX-License-Identifier: ISC */
/*
 * Every byte of content passes the buckets of its flow (flow_buckets: the one place
 * that says which). A flow that finds one of them empty pauses and waits in the row;
 * so does one that finds others waiting whose bytes are its own to take. At the head
 * of the row it may take what turn_bytes() says, then it is the next one's turn.
 */
#include "proxy/upstream_rate.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <event2/event.h>

#include "proxy/rate.h"
#include "proxy/thread.h"

/* A turn: this part of a burst, but enough to be worth the copy that a pause costs. */
#define TURN_SHARE 8
#define TURN_MIN_BYTES (32u * 1024)
/* What the clock says of the rates is looked up so often. */
#define LOOK_MS 1000
#define BUCKETS_MAX 4

struct meter {
    LIST_ENTRY(meter) link;
    char registry[NAME_MAX_SIZE]; /* empty: all together */
    struct bucket all;
    struct bucket background;
};

struct throttle {
    const struct config *config;
    struct event *timer;
    int64_t looked_at_ms;
    LIST_HEAD(, meter) meters;
    struct meter *whole;
    TAILQ_HEAD(waiters, flow) waiters;
};

/* --- meters --- */

static void set_rates(struct throttle *t, struct meter *m, const struct tm *local, int64_t now_ms)
{
    const struct config_upstream *u = config_find_upstream(t->config, m->registry);
    const struct config *c = t->config;
    static const struct rate none;
    const struct rate *all = m == t->whole ? &c->rate : u ? &u->rate : &none;
    const struct rate *background = m == t->whole ? &c->background_rate
                                    : u           ? &u->background_rate
                                                  : &none;

    bucket_set_rate(&m->all, rate_at(all, local), now_ms);
    bucket_set_rate(&m->background, rate_at(background, local), now_ms);
}

static void look_at_clock(struct throttle *t, int64_t now_ms)
{
    time_t now_s = time(NULL);
    struct tm local;
    struct meter *m;

    t->looked_at_ms = now_ms;
    localtime_r(&now_s, &local);
    LIST_FOREACH (m, &t->meters, link)
        set_rates(t, m, &local, now_ms);
}

static struct meter *meter_new(struct throttle *t, const char *registry)
{
    struct meter *m = mem_new(sizeof *m);
    int64_t now_ms = clock_now_ms();

    CHECK(strlen(registry) < sizeof m->registry);
    memcpy(m->registry, registry, strlen(registry));
    bucket_init(&m->all, 0, now_ms);
    bucket_init(&m->background, 0, now_ms);
    LIST_INSERT_HEAD(&t->meters, m, link);
    return m;
}

static struct meter *find_meter(struct throttle *t, const char *registry)
{
    struct meter *m;

    LIST_FOREACH (m, &t->meters, link) {
        if (strcmp(m->registry, registry) == 0)
            return m;
    }
    m = meter_new(t, registry);
    look_at_clock(t, clock_now_ms());
    return m;
}

/* --- flows --- */

/* The buckets that hold this flow back; returns how many. */
static unsigned flow_buckets(const struct flow *f, struct bucket *out[BUCKETS_MAX])
{
    struct meter *whole = f->throttle->whole;
    bool is_background = f->is_background && f->is_background(f->arg);
    struct bucket *may_be[BUCKETS_MAX] = {
        &f->meter->all,
        &whole->all,
        is_background ? &f->meter->background : NULL,
        is_background ? &whole->background : NULL,
    };
    unsigned count = 0;

    for (unsigned i = 0; i < BUCKETS_MAX; i++) {
        if (may_be[i] && may_be[i]->bytes_per_s > 0)
            out[count++] = may_be[i];
    }
    return count;
}

/* How long until all its buckets give so much. */
static int64_t wait_ms(const struct flow *f, size_t len, int64_t now_ms)
{
    struct bucket *buckets[BUCKETS_MAX];
    unsigned count = flow_buckets(f, buckets);
    int64_t longest_ms = 0;

    for (unsigned i = 0; i < count; i++) {
        int64_t ms = bucket_wait_ms(buckets[i], len, now_ms);
        if (ms > longest_ms)
            longest_ms = ms;
    }
    return longest_ms;
}

static size_t turn_bytes(const struct flow *f)
{
    struct bucket *buckets[BUCKETS_MAX];
    unsigned count = flow_buckets(f, buckets);
    uint64_t turn = SIZE_MAX;

    for (unsigned i = 0; i < count; i++) {
        if (buckets[i]->burst_bytes / TURN_SHARE < turn)
            turn = buckets[i]->burst_bytes / TURN_SHARE;
    }
    return turn > TURN_MIN_BYTES ? (size_t)turn : TURN_MIN_BYTES;
}

/* Whether another that waits wants of the same buckets. */
static bool has_rival(const struct flow *f)
{
    struct flow *w;

    TAILQ_FOREACH (w, &f->throttle->waiters, link) {
        if (w->meter == f->meter || f->throttle->whole->all.bytes_per_s > 0)
            return true;
    }
    return false;
}

static void arm(struct throttle *t, int64_t now_ms)
{
    int64_t soonest_ms = LOOK_MS;
    struct flow *w;

    TAILQ_FOREACH (w, &t->waiters, link) {
        int64_t ms = wait_ms(w, turn_bytes(w), now_ms);
        if (ms < soonest_ms)
            soonest_ms = ms;
    }
    struct timeval tv = {.tv_sec = soonest_ms / 1000, .tv_usec = soonest_ms % 1000 * 1000};
    CHECK(event_add(t->timer, &tv) == 0);
}

static void wait_in_row(struct flow *f, int64_t now_ms)
{
    struct throttle *t = f->throttle;

    f->is_waiting = true;
    f->turn_bytes = 0;
    TAILQ_INSERT_TAIL(&t->waiters, f, link);
    /* Those who wait already may have long to wait. */
    arm(t, now_ms);
}

/* Each that waits and may go on has its turn; who waits again does so at the end. */
static void timer_fired(evutil_socket_t s, short what, void *arg)
{
    struct throttle *t = arg;
    int64_t now_ms = clock_now_ms();
    struct flow *last = TAILQ_LAST(&t->waiters, waiters);
    struct flow *f, *next;
    bool is_last = !last;

    (void)s;
    (void)what;
    if (now_ms - t->looked_at_ms >= LOOK_MS)
        look_at_clock(t, now_ms);
    for (f = TAILQ_FIRST(&t->waiters); f && !is_last; f = next) {
        next = TAILQ_NEXT(f, link);
        is_last = f == last;
        size_t turn = turn_bytes(f);
        if (wait_ms(f, turn, now_ms) > 0)
            continue;
        flow_stop(f);
        f->turn_bytes = turn;
        f->go(f->arg);
    }
    if (!TAILQ_EMPTY(&t->waiters))
        arm(t, now_ms);
}

void flow_init(struct flow *f, struct throttle *t, const char *registry,
               bool (*is_background)(void *arg), void (*go)(void *arg), void *arg)
{
    *f = (struct flow){
        .throttle = t,
        .meter = find_meter(t, registry),
        .is_background = is_background,
        .go = go,
        .arg = arg,
    };
}

bool flow_take(struct flow *f, size_t len)
{
    struct throttle *t = f->throttle;
    struct bucket *buckets[BUCKETS_MAX];
    int64_t now_ms = clock_now_ms();

    if (now_ms - t->looked_at_ms >= LOOK_MS)
        look_at_clock(t, now_ms);
    if (f->is_waiting)
        return false;
    unsigned count = flow_buckets(f, buckets);
    if (count == 0)
        return true;
    if ((f->turn_bytes < len && has_rival(f)) || wait_ms(f, len, now_ms) > 0) {
        wait_in_row(f, now_ms);
        return false;
    }
    for (unsigned i = 0; i < count; i++)
        (void)bucket_take(buckets[i], len, now_ms);
    f->turn_bytes = f->turn_bytes > len ? f->turn_bytes - len : 0;
    return true;
}

void flow_stop(struct flow *f)
{
    if (f->is_waiting)
        TAILQ_REMOVE(&f->throttle->waiters, f, link);
    f->is_waiting = false;
    f->turn_bytes = 0;
}

/* --- all --- */

struct throttle *throttle_new(struct event_base *base, const struct config *c)
{
    struct throttle *t = mem_new(sizeof *t);

    t->config = c;
    t->timer = event_new(base, -1, 0, timer_fired, t);
    CHECK(t->timer);
    LIST_INIT(&t->meters);
    TAILQ_INIT(&t->waiters);
    t->whole = meter_new(t, "");
    look_at_clock(t, clock_now_ms());
    return t;
}

void throttle_free(struct throttle **tp)
{
    struct throttle *t = *tp;
    struct meter *m;

    if (!t)
        return;
    *tp = NULL;
    CHECK(TAILQ_EMPTY(&t->waiters));
    while ((m = LIST_FIRST(&t->meters))) {
        LIST_REMOVE(m, link);
        free(m);
    }
    event_free(t->timer);
    free(t);
}

void throttle_set_config(struct throttle *t, const struct config *c)
{
    t->config = c;
    look_at_clock(t, clock_now_ms());
}
