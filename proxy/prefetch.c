/* SPDX-License-Identifier: ISC */
/*
 * The thread: it looks which plan is due, runs it, and waits for the next. When one is due
 * next is told by its record in the index, so that a time that passed while the daemon did
 * not run is made up for.
 */
#include "proxy/prefetch_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache/err.h"
#include "cache/lock.h"

/* The clock may be set: it is looked at so often. */
#define LOOK_S 30

/* After failures that may pass, in a row: how long until the next try. Then the schedule is
 * waited for. */
static const int64_t retry_after_s[] = {60, 300, 900, 3600, 3600, 3600, 3600, 3600, 3600, 3600};
#define RETRIES_MAX (sizeof retry_after_s / sizeof retry_after_s[0])

/* --- plans --- */

static void describe(const struct config_prefetch *s, char out[PREFETCH_PLAN_MAX])
{
    char schedule[SCHEDULE_TEXT_SIZE];

    schedule_text(&s->schedule, schedule);
    snprintf(out, PREFETCH_PLAN_MAX, "%s %.70s", schedule, s->zone_name ? s->zone_name : "");
}

/* When the schedule says, after the last run or the last change of the schedule. */
static int64_t next_by_schedule(const struct plan *plan, int64_t now_s)
{
    const struct prefetch_record *r = &plan->record;
    int64_t base_s = r->began_at_s > r->planned_at_s ? r->began_at_s : r->planned_at_s;

    /* The clock was wrong then, or is now. */
    if (base_s > now_s)
        base_s = now_s;
    return schedule_next_s(&plan->settings->schedule, plan->settings->zone, base_s,
                           r->unchanged_since_s);
}

static void set_next(struct prefetch *p, struct plan *plan, int64_t next_s)
{
    pthread_mutex_lock(&p->lock);
    plan->next_s = next_s;
    pthread_mutex_unlock(&p->lock);
}

static bool is_section(void *arg, const char *section, const struct reference *r)
{
    const struct config *c = arg;

    (void)r;
    for (unsigned i = 0; i < c->prefetch_count; i++) {
        if (strcmp(c->prefetches[i].name, section) == 0)
            return c->prefetches[i].reference_count > 0;
    }
    return false;
}

struct planning {
    struct config *config;
    struct plan *plans;
    unsigned count;
    int64_t now_s;
};

/* The record of a section; one that was planned otherwise, or is new, counts from now. */
static int load_record(struct db_txn *txn, struct plan *plan, int64_t now_s)
{
    struct prefetch_record *r = &plan->record;
    const char *name = plan->settings->name;
    char text[PREFETCH_PLAN_MAX];
    int err = prefetch_get(txn, name, r);

    describe(plan->settings, text);
    if (err == 0 && strcmp(r->plan, text) == 0)
        return 0;
    if (err != 0)
        *r = (struct prefetch_record){.unchanged_since_s = INT64_MIN};
    memcpy(r->plan, text, sizeof r->plan);
    r->planned_at_s = now_s;
    return err == 0 || err == ERR_NOT_FOUND || err == ERR_DAMAGED ? prefetch_put(txn, name, r)
                                                                  : err;
}

static int apply_planning(void *arg, struct db_txn *txn)
{
    struct planning *x = arg;
    int err = prefetch_prune(txn, NULL, is_section, x->config);

    for (unsigned i = 0; err == 0 && i < x->count; i++)
        err = load_record(txn, &x->plans[i], x->now_s);
    return err;
}

/* A run that was cut short goes on at once. */
static int64_t first_time(const struct plan *plan, int64_t now_s)
{
    const struct prefetch_record *r = &plan->record;
    bool was_cut = r->began_at_s > 0 && r->ended_at_s == 0;

    return was_cut ? now_s : next_by_schedule(plan, now_s);
}

/* Counted from now, whatever may become of the index. */
static struct plan *new_plans(struct config *c, int64_t now_s, unsigned *count)
{
    struct plan *plans = mem_new((c->prefetch_count + 1) * sizeof plans[0]);

    *count = 0;
    for (unsigned i = 0; i < c->prefetch_count; i++) {
        if (c->prefetches[i].reference_count == 0)
            continue;
        plans[(*count)++] = (struct plan){
            .settings = &c->prefetches[i],
            .record = {.planned_at_s = now_s, .unchanged_since_s = INT64_MIN},
        };
    }
    return plans;
}

/* Plan anew by the newest config. */
static void replan(struct prefetch *p)
{
    struct planning x = {.config = config_ref(p->courier.config), .now_s = time(NULL)};
    struct config *old_config = p->config;
    struct plan *old_plans = p->plans;

    x.plans = new_plans(x.config, x.now_s, &x.count);
    int err = courier_write(&p->courier, apply_planning, &x);
    if (err)
        log_event(p->courier.parts.log, LOG_ERROR, "the plans of prefetches were not stored: %s",
                  err_text(err));
    for (unsigned i = 0; i < x.count; i++)
        x.plans[i].next_s = first_time(&x.plans[i], x.now_s);
    pthread_mutex_lock(&p->lock);
    p->config = x.config;
    p->plans = x.plans;
    p->plan_count = x.count;
    pthread_mutex_unlock(&p->lock);
    free(old_plans);
    config_unref(&old_config);
}

/* --- the thread --- */

static struct plan *find_first(struct prefetch *p)
{
    struct plan *first = NULL;

    for (unsigned i = 0; i < p->plan_count; i++) {
        if (!first || p->plans[i].next_s < first->next_s)
            first = &p->plans[i];
    }
    return first;
}

static void set_running(struct prefetch *p, const struct plan *plan)
{
    pthread_mutex_lock(&p->lock);
    p->running = plan;
    p->now = (struct reference){.tag = ""};
    p->progress = (struct errand_progress){0};
    pthread_mutex_unlock(&p->lock);
}

static void run_plan(struct prefetch *p, struct plan *plan)
{
    set_running(p, plan);
    bool may_pass = prefetch_run(p, plan);
    set_running(p, NULL);
    int64_t now_s = time(NULL);
    int64_t next_s = next_by_schedule(plan, now_s);

    plan->failures = may_pass ? plan->failures + 1 : 0;
    if (may_pass && plan->failures <= RETRIES_MAX) {
        int64_t again_s = now_s + retry_after_s[plan->failures - 1];
        next_s = again_s < next_s ? again_s : next_s;
    } else {
        plan->failures = 0;
    }
    set_next(p, plan, next_s);
}

static void *prefetch_main(void *arg)
{
    struct prefetch *p = arg;
    struct courier *c = &p->courier;

    while (!c->stopping) {
        if (p->config != c->config)
            replan(p);
        struct plan *first = find_first(p);
        int64_t left_s = first ? first->next_s - time(NULL) : 0;

        if (first && left_s <= 0)
            run_plan(p, first);
        else
            courier_wait(c, first ? (int)(left_s < LOOK_S ? left_s : LOOK_S) * 1000 : -1);
    }
    return NULL;
}

/* --- from outside --- */

struct prefetch *prefetch_start(const struct courier_parts *parts, struct config *c)
{
    struct prefetch *p = mem_new(sizeof *p);

    lock_init(&p->lock);
    courier_start(&p->courier, parts, c, "prefetch", prefetch_main, p);
    return p;
}

void prefetch_set_config(struct prefetch *p, struct config *c)
{
    courier_set_config(&p->courier, c);
}

void prefetch_stop(struct prefetch **pp)
{
    struct prefetch *p = *pp;

    if (!p)
        return;
    *pp = NULL;
    courier_stop(&p->courier);
    free(p->plans);
    config_unref(&p->config);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
