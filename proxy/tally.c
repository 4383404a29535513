/* SPDX-License-Identifier: ISC */
#include "proxy/tally.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "cache/lock.h"

/* What the ledger said at some time, and the counters that were in it by then. */
struct ledger_view {
    bool is_known;
    unsigned generation;
    struct tally_sums sums;
    struct ledger_record counted;
};

struct tally {
    struct stats *stats;
    struct ledger_record flushing[STATS_REGISTRIES_MAX]; /* the storage thread's */
    pthread_mutex_t lock;
    struct ledger_record flushed[STATS_REGISTRIES_MAX];
    bool is_busy;            /* a flush is under way: whether it is in the ledger is not known */
    unsigned generation;     /* of flushes */
    struct ledger_view view; /* of the thread that reads */
};

struct tally *tally_new(struct stats *s)
{
    struct tally *t = mem_new(sizeof *t);

    t->stats = s;
    lock_init(&t->lock);
    return t;
}

void tally_free(struct tally **t)
{
    if (!*t)
        return;
    pthread_mutex_destroy(&(*t)->lock);
    free(*t);
    *t = NULL;
}

/* --- records --- */

static struct ledger_record counted_of(const struct registry_stats *r)
{
    return (struct ledger_record){
        .line_bytes = atomic_load_explicit(&r->line_bytes, memory_order_relaxed),
        .lan_bytes = atomic_load_explicit(&r->lan_bytes, memory_order_relaxed),
        .line_requests = atomic_load_explicit(&r->line_requests, memory_order_relaxed),
        .lan_requests = atomic_load_explicit(&r->lan_requests, memory_order_relaxed),
        .hits = atomic_load_explicit(&r->hits, memory_order_relaxed),
    };
}

static struct ledger_record since(const struct ledger_record *now, const struct ledger_record *then)
{
    return (struct ledger_record){
        .line_bytes = now->line_bytes - then->line_bytes,
        .lan_bytes = now->lan_bytes - then->lan_bytes,
        .line_requests = now->line_requests - then->line_requests,
        .lan_requests = now->lan_requests - then->lan_requests,
        .hits = now->hits - then->hits,
    };
}

static bool is_zero(const struct ledger_record *r)
{
    return !r->line_bytes && !r->lan_bytes && !r->line_requests && !r->lan_requests && !r->hits;
}

static struct ledger_record counted_in_all(const struct tally *t)
{
    unsigned count = atomic_load(&t->stats->registry_count);
    struct ledger_record sum = {0};

    for (unsigned i = 0; i < count; i++) {
        struct ledger_record r = counted_of(&t->stats->registries[i]);
        ledger_sum(&sum, &r);
    }
    return sum;
}

/* --- the storage thread --- */

bool tally_begin(struct tally *t)
{
    unsigned count = atomic_load(&t->stats->registry_count);
    bool due = false;

    for (unsigned i = 0; i < count && !due; i++) {
        struct ledger_record now = counted_of(&t->stats->registries[i]);
        struct ledger_record more = since(&now, &t->flushed[i]);
        due = !is_zero(&more);
    }
    pthread_mutex_lock(&t->lock);
    t->is_busy = due;
    pthread_mutex_unlock(&t->lock);
    return due;
}

int tally_apply(struct tally *t, struct db_txn *txn, int64_t now_s)
{
    unsigned count = atomic_load(&t->stats->registry_count);
    uint32_t day = (uint32_t)(now_s / LEDGER_DAY_S);

    for (unsigned i = 0; i < count; i++) {
        const struct registry_stats *r = &t->stats->registries[i];
        t->flushing[i] = counted_of(r);
        struct ledger_record more = since(&t->flushing[i], &t->flushed[i]);
        if (is_zero(&more))
            continue;
        int err = ledger_add(txn, day, r->registry, &more);
        if (err != 0)
            return err;
    }
    return 0;
}

void tally_done(struct tally *t, int err)
{
    pthread_mutex_lock(&t->lock);
    for (unsigned i = 0; err == 0 && i < STATS_REGISTRIES_MAX; i++)
        t->flushed[i] = t->flushing[i];
    t->generation++;
    t->is_busy = false;
    pthread_mutex_unlock(&t->lock);
}

/* --- reading --- */

static uint32_t month_start(int64_t now_s)
{
    time_t now = (time_t)now_s;
    struct tm tm = {.tm_mday = 1};

    gmtime_r(&now, &tm);
    return (uint32_t)(now_s / LEDGER_DAY_S) - (uint32_t)(tm.tm_mday - 1);
}

struct walk {
    struct tally_sums *sums;
    uint32_t month_start;
};

static int add_record(void *arg, uint32_t day, const char *registry, const struct ledger_record *r)
{
    const struct walk *w = arg;
    struct tally_sums *sums = w->sums;

    (void)registry;
    ledger_sum(&sums->all, r);
    if (day >= w->month_start)
        ledger_sum(&sums->month, r);
    /* A day that is to come is of a clock that was wrong. */
    if (day <= sums->day && sums->day - day < TALLY_DAYS)
        ledger_sum(&sums->days[sums->day - day], r);
    return 0;
}

static int walk_ledger(struct db_reader *reader, int64_t now_s, struct tally_sums *sums)
{
    struct walk w = {sums, month_start(now_s)};
    struct db_txn *txn;
    int err = db_read(reader, &txn);

    *sums = (struct tally_sums){.day = (uint32_t)(now_s / LEDGER_DAY_S)};
    if (err != 0)
        return err;
    err = ledger_walk(txn, add_record, &w);
    db_read_end(reader);
    return err;
}

/* What the counters had when the ledger was as it is now; false while that is not known. */
static bool look(struct tally *t, struct ledger_record *counted, unsigned *generation)
{
    pthread_mutex_lock(&t->lock);
    bool is_busy = t->is_busy;
    *generation = t->generation;
    *counted = (struct ledger_record){0};
    for (unsigned i = 0; i < STATS_REGISTRIES_MAX; i++)
        ledger_sum(counted, &t->flushed[i]);
    pthread_mutex_unlock(&t->lock);
    return !is_busy;
}

/* Bring the view up to date, unless a flush is under way: then the one before is as good,
 * as what it lacks is in the counters. */
static int renew(struct tally *t, struct db_reader *reader, int64_t now_s)
{
    struct ledger_view *view = &t->view;
    struct ledger_view new = {.is_known = true};
    struct ledger_record again;
    unsigned generation;

    bool is_clear = look(t, &new.counted, &new.generation);
    if (view->is_known && view->sums.day == (uint32_t)(now_s / LEDGER_DAY_S) &&
        (!is_clear || view->generation == new.generation))
        return 0;
    int err = walk_ledger(reader, now_s, &new.sums);
    if (err != 0)
        return err;
    if (!view->is_known ||
        (is_clear && look(t, &again, &generation) && generation == new.generation))
        *view = new;
    return 0;
}

int tally_read(struct tally *t, struct db_reader *reader, int64_t now_s, struct tally_sums *sums)
{
    int err = renew(t, reader, now_s);

    if (err != 0)
        return err;
    struct ledger_record run = counted_in_all(t);
    struct ledger_record more = since(&run, &t->view.counted);

    *sums = t->view.sums;
    sums->run = run;
    ledger_sum(&sums->all, &more);
    ledger_sum(&sums->month, &more);
    ledger_sum(&sums->days[0], &more);
    sums->today = sums->days[0];
    return 0;
}
