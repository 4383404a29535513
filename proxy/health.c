/* SPDX-License-Identifier: ISC */
#include "proxy/health.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include "cache/check.h"

#define PAUSE_FIRST_MS 1000
#define PAUSE_MAX_MS (30 * 1000)
/* A probe of which nothing was heard for so long is lost. */
#define PROBE_MAX_MS (60 * 1000)
#define LIMIT_DEFAULT_S 10
#define LIMIT_MAX_S 300

struct state {
    char registry[NAME_MAX_SIZE];
    bool is_down;
    bool is_probed;
    int64_t pause_ms;
    int64_t probe_at_ms;
    int64_t limited_until_ms[HEALTH_BLOBS + 1];
    SLIST_ENTRY(state) link;
};

struct health {
    pthread_mutex_t lock;
    struct stats *stats;
    SLIST_HEAD(, state) states; /* of those with which something is or was wrong: a few */
};

struct health *health_new(struct stats *s)
{
    struct health *h = mem_new(sizeof *h);

    CHECK(pthread_mutex_init(&h->lock, NULL) == 0);
    h->stats = s;
    return h;
}

static void set_gauge(_Atomic uint64_t *gauge, uint64_t value)
{
    atomic_store_explicit(gauge, value, memory_order_relaxed);
}

static void show(struct health *h, const char *registry, bool is_up)
{
    struct registry_stats *r = stats_find_registry(h->stats, registry);

    if (r && atomic_load_explicit(&r->up, memory_order_relaxed) != is_up) {
        set_gauge(&r->up, is_up);
        set_gauge(&r->changed_at, (uint64_t)time(NULL));
    }
}

static void show_limit(struct health *h, const char *registry, uint64_t until)
{
    struct registry_stats *r = stats_find_registry(h->stats, registry);

    if (r)
        set_gauge(&r->limited_until, until);
}

void health_forget(struct health *h)
{
    struct state *s;

    pthread_mutex_lock(&h->lock);
    SLIST_FOREACH (s, &h->states, link) {
        s->is_down = s->is_probed = false;
        memset(s->limited_until_ms, 0, sizeof s->limited_until_ms);
        show(h, s->registry, true);
        show_limit(h, s->registry, STATS_UNKNOWN);
    }
    pthread_mutex_unlock(&h->lock);
}

void health_free(struct health **hp)
{
    struct health *h = *hp;
    struct state *s;

    if (!h)
        return;
    *hp = NULL;
    while ((s = SLIST_FIRST(&h->states))) {
        SLIST_REMOVE_HEAD(&h->states, link);
        free(s);
    }
    pthread_mutex_destroy(&h->lock);
    free(h);
}

/* NULL when nothing was ever wrong. */
static struct state *find(struct health *h, const char *registry)
{
    struct state *s;

    SLIST_FOREACH (s, &h->states, link) {
        if (strcmp(s->registry, registry) == 0)
            break;
    }
    return s;
}

static struct state *find_or_add(struct health *h, const char *registry)
{
    struct state *s = find(h, registry);

    if (s)
        return s;
    s = mem_new(sizeof *s);
    snprintf(s->registry, sizeof s->registry, "%s", registry);
    SLIST_INSERT_HEAD(&h->states, s, link);
    return s;
}

/* --- reached or not --- */

void health_answered(struct health *h, const char *registry)
{
    struct registry_stats *r = stats_find_registry(h->stats, registry);

    if (r)
        set_gauge(&r->answered_at, (uint64_t)time(NULL));
    pthread_mutex_lock(&h->lock);
    struct state *s = find(h, registry);
    if (s && s->is_down) {
        s->is_down = s->is_probed = false;
        s->pause_ms = 0;
        show(h, registry, true);
    }
    pthread_mutex_unlock(&h->lock);
}

void health_failed(struct health *h, const char *registry, enum outcome why)
{
    struct registry_stats *r = stats_find_registry(h->stats, registry);

    if (r)
        stats_note_failure(r, why, time(NULL));
}

void health_unreachable(struct health *h, const char *registry, int64_t now_ms)
{
    pthread_mutex_lock(&h->lock);
    struct state *s = find_or_add(h, registry);
    /* Of many who failed together, one makes the pause longer. */
    if (!s->is_down || s->is_probed) {
        s->pause_ms = s->is_down ? s->pause_ms * 2 : PAUSE_FIRST_MS;
        if (s->pause_ms > PAUSE_MAX_MS)
            s->pause_ms = PAUSE_MAX_MS;
        s->probe_at_ms = now_ms + s->pause_ms;
        s->is_down = true;
        s->is_probed = false;
        show(h, registry, false);
    }
    pthread_mutex_unlock(&h->lock);
}

bool health_is_down(struct health *h, const char *registry)
{
    pthread_mutex_lock(&h->lock);
    const struct state *s = find(h, registry);
    bool is_down = s && s->is_down;
    pthread_mutex_unlock(&h->lock);
    return is_down;
}

bool health_take_probe(struct health *h, const char *registry, int64_t now_ms)
{
    pthread_mutex_lock(&h->lock);
    struct state *s = find(h, registry);
    bool taken = s && s->is_down && now_ms >= s->probe_at_ms;
    if (taken) {
        s->is_probed = true;
        s->probe_at_ms = now_ms + PROBE_MAX_MS;
    }
    pthread_mutex_unlock(&h->lock);
    return taken;
}

/* --- limited --- */

int health_limited(struct health *h, const char *registry, enum health_kind kind,
                   int64_t retry_after_s, int64_t now_ms)
{
    int64_t wait_s = retry_after_s > 0 ? retry_after_s : LIMIT_DEFAULT_S;

    if (wait_s > LIMIT_MAX_S)
        wait_s = LIMIT_MAX_S;
    pthread_mutex_lock(&h->lock);
    struct state *s = find_or_add(h, registry);
    /* Where blobs are limited, so is all else. */
    for (int k = HEALTH_ASKS; k <= (int)kind; k++)
        s->limited_until_ms[k] = now_ms + wait_s * 1000;
    show_limit(h, registry, (uint64_t)(time(NULL) + wait_s));
    pthread_mutex_unlock(&h->lock);
    return (int)wait_s;
}

int health_limit_left(struct health *h, const char *registry, enum health_kind kind, int64_t now_ms)
{
    pthread_mutex_lock(&h->lock);
    const struct state *s = find(h, registry);
    int64_t left_ms = s ? s->limited_until_ms[kind] - now_ms : 0;
    pthread_mutex_unlock(&h->lock);
    return left_ms > 0 ? (int)((left_ms + 999) / 1000) : 0;
}
