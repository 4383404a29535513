/* SPDX-License-Identifier: ISC */
/* The engine of uploads: its threads, its beginning and its end. */
#include "proxy/upload_private.h"

#include <stdlib.h>

#include "cache/lock.h"
#include "proxy/thread.h"

/* Sweeps are so far apart: a share of how long sessions live, within these bounds. */
#define SWEEPS_A_LIFE 4
#define SWEEP_PERIOD_MIN_MS 1000
#define SWEEP_PERIOD_MAX_MS (10 * 60 * 1000)

bool uploads_are_busy(const struct uploads *up)
{
    return up->busy_count > 0 || up->sweep.is_pending;
}

void uploads_forget(struct uploads *up, uint64_t count)
{
    up->record_count -= count;
    STATS_SUB(up->stats, uploads, count);
}

/* --- from time to time --- */

static int64_t sweep_period_ms(struct uploads *up)
{
    int64_t ttl_s = atomic_load(&up->ttl_s);

    if (ttl_s >= SWEEP_PERIOD_MAX_MS / 1000 * SWEEPS_A_LIFE)
        return SWEEP_PERIOD_MAX_MS;
    int64_t period_ms = ttl_s * 1000 / SWEEPS_A_LIFE;
    return period_ms > SWEEP_PERIOD_MIN_MS ? period_ms : SWEEP_PERIOD_MIN_MS;
}

/* One that was not used since then, which need not be in memory. */
static struct session *take_idle_since(struct uploads *up, int64_t then_ms)
{
    pthread_mutex_lock(&up->lock);
    struct session *s = TAILQ_FIRST(&up->idle);
    if (s && s->idle_since_ms <= then_ms)
        session_forget(s);
    else
        s = NULL;
    pthread_mutex_unlock(&up->lock);
    return s;
}

static void forget_idle_since(struct uploads *up, int64_t then_ms)
{
    struct session *s;

    while ((s = take_idle_since(up, then_ms)))
        session_free(s);
    pthread_mutex_lock(&up->lock);
    if (up->staged_bytes == 0)
        upload_blocks_free_spare(up);
    pthread_mutex_unlock(&up->lock);
}

/* In the first thread; returns how long to wait for the next time. */
static int keep_house(struct uploads *up)
{
    int64_t period_ms = sweep_period_ms(up);
    int64_t now_ms = clock_now_ms();

    if (now_ms >= up->sweep_due_ms) {
        up->sweep_due_ms = now_ms + period_ms;
        forget_idle_since(up, now_ms - period_ms);
        uploads_sweep(up);
    }
    return (int)(up->sweep_due_ms - now_ms);
}

/* --- the threads --- */

static void stop_taken(struct msg *m, void *owner)
{
    struct upload_thread *t = owner;

    (void)m;
    t->stops = true;
}

static void *thread_run(void *arg)
{
    struct upload_thread *t = arg;
    struct uploads *up = t->uploads;
    bool is_first = t == &up->threads[0];

    while (!t->stops) {
        queue_wait(t->queue, is_first ? keep_house(up) : -1);
        queue_run(t->queue, t);
    }
    return NULL;
}

static void start_thread(struct uploads *up, struct upload_thread *t)
{
    t->uploads = up;
    t->queue = queue_new();
    CHECK(db_reader_new(store_db(up->store), &t->reader) == 0);
    thread_start(&t->thread, "upload", thread_run, t);
}

static void stop_thread(struct upload_thread *t)
{
    t->stop.run = stop_taken;
    queue_post(t->queue, &t->stop);
    thread_join(t->thread);
    queue_free(&t->queue);
    db_reader_free(&t->reader);
}

/* What earlier runs have left; none, when that cannot be read. */
static void count_records(struct uploads *up)
{
    struct db_reader *reader;
    struct db_txn *txn;

    CHECK(db_reader_new(store_db(up->store), &reader) == 0);
    if (db_read(reader, &txn) == 0) {
        if (db_count(txn, DB_UPLOADS, &up->record_count) != 0)
            up->record_count = 0;
        db_read_end(reader);
    }
    db_reader_free(&reader);
    STATS_ADD(up->stats, uploads, up->record_count);
}

struct uploads *uploads_start(struct store *s, struct storage *st, struct stats *stats,
                              struct log *log, unsigned threads, int64_t ttl_s)
{
    struct uploads *up = mem_new(sizeof *up);

    CHECK(threads > 0 && threads <= UPLOAD_THREADS_MAX);
    up->store = s;
    up->storage = st;
    up->stats = stats;
    up->log = log;
    atomic_store(&up->ttl_s, ttl_s);
    lock_init(&up->lock);
    CHECK(pthread_cond_init(&up->quiet, NULL) == 0);
    TAILQ_INIT(&up->idle);
    STAILQ_INIT(&up->spare);
    up->owners = upload_owners_new();
    count_records(up);
    uploads_sweep(up);
    up->sweep_due_ms = clock_now_ms() + sweep_period_ms(up);
    up->thread_count = threads;
    for (unsigned i = 0; i < threads; i++)
        start_thread(up, &up->threads[i]);
    return up;
}

void uploads_set_ttl(struct uploads *up, int64_t ttl_s)
{
    atomic_store(&up->ttl_s, ttl_s);
}

/* Nothing new begins; have those that wait for more see that they need not. */
static void wait_until_quiet(struct uploads *up)
{
    struct session *s;

    pthread_mutex_lock(&up->lock);
    up->is_stopping = true;
    for (s = up->sessions; s; s = s->hh.next) {
        CHECK(!s->user);
        if (s->state != SESSION_IDLE)
            session_schedule(s);
    }
    while (uploads_are_busy(up))
        pthread_cond_wait(&up->quiet, &up->lock);
    pthread_mutex_unlock(&up->lock);
}

void uploads_stop(struct uploads **upp)
{
    struct uploads *up = *upp;

    if (!up)
        return;
    *upp = NULL;
    wait_until_quiet(up);
    for (unsigned i = 0; i < up->thread_count; i++)
        stop_thread(&up->threads[i]);
    forget_idle_since(up, INT64_MAX);
    CHECK(!up->sessions && up->staged_bytes == 0);
    upload_owners_free(&up->owners);
    pthread_cond_destroy(&up->quiet);
    pthread_mutex_destroy(&up->lock);
    free(up);
}
