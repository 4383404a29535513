/* SPDX-License-Identifier: ISC */
/*
 * The order: a heap of the units that go first, the last of them on top, so that most blobs
 * are passed over by a look at when they were used.
 */
#include "cache/evict_plan.h"

#include <stdlib.h>

#include "cache/evict_private.h"
#include "cache/usage.h"

struct evict_plan {
    size_t count;
    size_t taken;
    bool is_sorted;
    int64_t due_at_s;
    uint64_t bytes, enough_bytes;
    struct digest after; /* where the next look begins; alg 0: at the beginning */
    struct evict_unit units[EVICT_PLAN_MAX];
};

struct evict_plan *evict_plan_new(void)
{
    return mem_new(sizeof(struct evict_plan));
}

void evict_plan_free(struct evict_plan **p)
{
    free(*p);
    *p = NULL;
}

void evict_plan_clear(struct evict_plan *p, uint64_t enough_bytes)
{
    p->count = 0;
    p->taken = 0;
    p->is_sorted = false;
    p->after.alg = 0;
    p->due_at_s = 0;
    p->bytes = 0;
    p->enough_bytes = enough_bytes;
}

/* Garbage goes first; of what was used at the same time, indexes, then their platforms. */
static int compare(const struct evict_unit *a, const struct evict_unit *b)
{
    bool a_garbage = evict_why_is_garbage(a->why);
    bool b_garbage = evict_why_is_garbage(b->why);

    if (a_garbage != b_garbage)
        return a_garbage ? -1 : 1;
    if (a->used_at_s != b->used_at_s)
        return a->used_at_s < b->used_at_s ? -1 : 1;
    return (int)b->is_index - (int)a->is_index;
}

static int compare_units(const void *a, const void *b)
{
    return compare(a, b);
}

static void swap(struct evict_unit *a, struct evict_unit *b)
{
    struct evict_unit t = *a;

    *a = *b;
    *b = t;
}

/* From the last place. */
static void sift_up(struct evict_plan *p)
{
    size_t i = p->count - 1;

    while (i > 0) {
        size_t parent = (i - 1) / 2;

        if (compare(&p->units[parent], &p->units[i]) >= 0)
            return;
        swap(&p->units[parent], &p->units[i]);
        i = parent;
    }
}

static void sift_down(struct evict_plan *p, size_t i)
{
    for (;;) {
        size_t last = i;

        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < p->count; child++)
            if (compare(&p->units[last], &p->units[child]) < 0)
                last = child;
        if (last == i)
            return;
        swap(&p->units[i], &p->units[last]);
        i = last;
    }
}

static void add(struct evict_plan *p, const struct evict_unit *u)
{
    if (p->count < EVICT_PLAN_MAX) {
        p->units[p->count++] = *u;
        sift_up(p);
    } else if (compare(u, &p->units[0]) < 0) {
        p->units[0] = *u;
        sift_down(p, 0);
    }
}

/* Whether one that was used then, or later, has no place. */
static bool is_too_late(const struct evict_plan *p, int64_t used_at_s)
{
    return p->count == EVICT_PLAN_MAX &&
           (evict_why_is_garbage(p->units[0].why) || used_at_s >= p->units[0].used_at_s);
}

static void wait_for(struct evict_plan *p, int64_t due_at_s)
{
    if (p->due_at_s == 0 || due_at_s < p->due_at_s)
        p->due_at_s = due_at_s;
}

struct look {
    struct evict_plan *plan;
    struct db_txn *txn;
    const struct evict_rules *rules;
    const struct evict_guard *guard;
    unsigned left;
};

/* Add what the blob takes, if it may go; a part, as the last of those that name it goes. */
static int sum(struct look *l, const struct blob_record *r, struct evict_unit *u)
{
    if (u->why == EVICT_PART) {
        int err = evict_judge_part(l->txn, l->rules, l->guard, r, u);

        if (err != 0)
            return err;
    }
    if (evict_rules_take(l->rules, u->why))
        l->plan->bytes += usage_of(r->size_bytes);
    return 0;
}

static int look_at(void *arg, const struct digest *d, const struct blob_record *r)
{
    struct look *l = arg;
    struct evict_plan *p = l->plan;
    struct evict_unit u;
    bool sums = p->bytes < p->enough_bytes;

    p->after = *d;
    /* What may be garbage, or wait, is always looked at. */
    if (sums || r->origin == BLOB_PUSHED || !is_too_late(p, r->used_at_s)) {
        int err = evict_judge_record(l->txn, l->rules, l->guard, d, r, &u);

        if (err != 0)
            return err;
        if (evict_rules_take(l->rules, u.why))
            add(p, &u);
        if (u.why == EVICT_WAITS)
            wait_for(p, u.used_at_s + l->rules->grace_s);
        err = sums ? sum(l, r, &u) : 0;
        if (err != 0)
            return err;
    }
    return --l->left > 0 ? 0 : 1;
}

int evict_plan_look(struct evict_plan *p, struct db_txn *txn, const struct evict_rules *rules,
                    const struct evict_guard *g, unsigned count)
{
    struct look l = {p, txn, rules, g, count};

    CHECK(!p->is_sorted && count > 0);
    int result = blob_walk(txn, p->after.alg != 0 ? &p->after : NULL, look_at, &l);

    if (result == 0) {
        qsort(p->units, p->count, sizeof p->units[0], compare_units);
        p->is_sorted = true;
    }
    return result;
}

uint64_t evict_plan_bytes(const struct evict_plan *p)
{
    return p->bytes;
}

int64_t evict_plan_due(const struct evict_plan *p)
{
    return p->due_at_s;
}

bool evict_plan_next(struct evict_plan *p, struct evict_unit *u)
{
    CHECK(p->is_sorted);
    if (p->taken == p->count)
        return false;
    *u = p->units[p->taken++];
    return true;
}
