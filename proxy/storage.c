/* SPDX-License-Identifier: ISC */
/*
 * The storage thread's loop: take what is queued as one batch, prepare each job,
 * apply all in one transaction, commit, tell each. While a commit waits for the
 * disk the next batch gathers, so its size follows the disk's latency by itself.
 * A slow job makes a detour by way of a slow thread and is taken when it returns. There is
 * one for those that wait for the disk and one for those that compute, so that a queue of
 * the one kind does not hold up the other.
 */
#include "proxy/storage.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache/blob.h"
#include "cache/db.h"
#include "cache/err.h"
#include "cache/layout.h"
#include "cache/ledger.h"
#include "proxy/thread.h"

/* One job that fails makes the others apply again: the limit bounds that work. */
#define BATCH_MAX 256

#define LEDGER_PERIOD_MS (60 * 1000)
#define TOUCH_PERIOD_MS (2 * 60 * 1000)
#define INDEX_PERIOD_MS (5 * 60 * 1000)
#define SECONDS_A_DAY 86400

/* Digests used since the last flush: open addressing, a power of two, filled to
 * three quarters at most. */
#define TOUCH_SLOTS 4096

struct touch_set {
    unsigned count;
    struct digest slots[TOUCH_SLOTS]; /* alg 0: free */
};

STAILQ_HEAD(job_list, storage_job);

/* Work that the thread does on its own account goes the way of all jobs. */
struct own_job {
    struct storage_job job;
    struct storage *st;
    int64_t due_ms;
};

/* A thread that prepares jobs, one after the other. */
struct lane {
    struct storage *st;
    pthread_t thread;
    struct queue *queue;
    struct msg stop;
    bool stopping; /* its thread's */
};

struct storage {
    struct store *store;
    struct db *db;
    struct db_reader *reader;
    struct stats *stats;
    struct log *log;
    struct queue *queue;
    struct job_list waiting; /* taken off the queue, not yet in a batch */
    pthread_t thread;
    struct msg stop;
    bool stopping;
    struct lane disk_lane;    /* of jobs that are slow */
    struct lane compute_lane; /* of those that are heavy */
    unsigned slow_jobs;       /* of the storage thread: in a lane, or on the way back */
    _Atomic bool writable;
    _Atomic bool tags_changed;

    struct own_job ledger;
    struct ledger_record flushed[STATS_REGISTRIES_MAX];
    struct ledger_record flushing[STATS_REGISTRIES_MAX];

    struct own_job touch;
    pthread_mutex_t touch_lock;
    struct touch_set *used;    /* under the lock */
    struct touch_set *touched; /* being written; empty otherwise */

    int64_t index_due_ms;
};

/* --- jobs --- */

static void stop_writing(struct storage *st, const char *what)
{
    if (!atomic_exchange(&st->writable, false))
        return;
    log_event(st->log, LOG_ERROR,
              "%s failed: what is on the disk is not known, so nothing more is written to %s; "
              "what is cached is still served. Check the disk, then restart cachalotd",
              what, store_path(st->store));
}

static void finish_job(struct storage *st, struct storage_job *j, int err)
{
    if (err != 0)
        STATS_ADD(st->stats, store_failures, 1);
    j->done(j, err);
}

static void prepare(struct storage *st, struct storage_job *j)
{
    if (!atomic_load(&st->writable))
        j->err = ERR_IO;
    else if (j->prepare && (j->err = j->prepare(j, st->store)) == ERR_IO)
        stop_writing(st, "writing a file");
    j->is_prepared = true;
}

static void prepare_jobs(struct storage *st, struct job_list *batch)
{
    struct job_list ready = STAILQ_HEAD_INITIALIZER(ready);
    struct storage_job *j;

    while ((j = STAILQ_FIRST(batch))) {
        STAILQ_REMOVE_HEAD(batch, link);
        if (!j->is_prepared)
            prepare(st, j);
        if (j->err == 0)
            STAILQ_INSERT_TAIL(&ready, j, link);
        else
            finish_job(st, j, j->err);
    }
    STAILQ_CONCAT(batch, &ready);
}

/* Apply every job in one transaction. A job that cannot be applied is taken out
 * of the batch and told; then all others are applied anew. */
static int apply_jobs(struct storage *st, struct job_list *batch, struct db_txn **txn)
{
    struct storage_job *j;
    int err;

    do {
        err = db_write(st->db, txn);
        if (err != 0)
            return err;
        STAILQ_FOREACH (j, batch, link) {
            if (!j->apply || (err = j->apply(j, *txn)) == 0)
                continue;
            db_abort(txn);
            if (err == ERR_IO)
                return err;
            STAILQ_REMOVE(batch, j, storage_job, link);
            finish_job(st, j, err);
            break;
        }
    } while (!*txn);
    return 0;
}

static void commit_jobs(struct storage *st, struct job_list *batch)
{
    struct db_txn *txn = NULL;
    struct storage_job *j;

    prepare_jobs(st, batch);
    if (STAILQ_EMPTY(batch))
        return;
    int err = atomic_load(&st->writable) ? apply_jobs(st, batch, &txn) : ERR_IO;
    if (err == 0)
        err = db_commit(&txn);
    if (err == 0)
        STATS_ADD(st->stats, commits, 1);
    else if (err == ERR_NO_SPACE || err == ERR_FULL)
        log_event(st->log, LOG_ERROR, "the index in %s cannot be written: %s",
                  store_path(st->store), err_text(err));
    else
        stop_writing(st, "a commit of the index");
    while ((j = STAILQ_FIRST(batch))) {
        STAILQ_REMOVE_HEAD(batch, link);
        finish_job(st, j, err);
    }
}

/* Do what waits, in batches, until nothing does. */
static void do_jobs(struct storage *st)
{
    while (queue_run(st->queue, st) || !STAILQ_EMPTY(&st->waiting)) {
        struct job_list batch = STAILQ_HEAD_INITIALIZER(batch);

        for (unsigned n = 0; n < BATCH_MAX && !STAILQ_EMPTY(&st->waiting); n++) {
            struct storage_job *j = STAILQ_FIRST(&st->waiting);
            STAILQ_REMOVE_HEAD(&st->waiting, link);
            STAILQ_INSERT_TAIL(&batch, j, link);
        }
        commit_jobs(st, &batch);
    }
}

/* --- the slow threads --- */

static void slow_job_prepared(struct msg *m, void *owner)
{
    struct storage *st = owner;
    struct storage_job *j = (struct storage_job *)m;

    st->slow_jobs--;
    STAILQ_INSERT_TAIL(&st->waiting, j, link);
}

/* In the lane's thread, as are the next two. */
static void slow_job_taken(struct msg *m, void *owner)
{
    struct storage *st = ((struct lane *)owner)->st;

    prepare(st, (struct storage_job *)m);
    m->run = slow_job_prepared;
    queue_post(st->queue, m);
}

static void lane_stop_taken(struct msg *m, void *owner)
{
    (void)m;
    ((struct lane *)owner)->stopping = true;
}

static void *lane_run(void *arg)
{
    struct lane *l = arg;

    while (!l->stopping) {
        queue_wait(l->queue, -1);
        queue_run(l->queue, l);
    }
    return NULL;
}

static void lane_start(struct lane *l, struct storage *st, const char *name)
{
    l->st = st;
    l->queue = queue_new();
    thread_start(&l->thread, name, lane_run, l);
}

static void lane_stop(struct lane *l)
{
    l->stop.run = lane_stop_taken;
    queue_post(l->queue, &l->stop);
    thread_join(l->thread);
    queue_free(&l->queue);
}

static void job_taken(struct msg *m, void *owner)
{
    struct storage *st = owner;
    /* msg is the first member. */
    struct storage_job *j = (struct storage_job *)m;

    j->err = 0;
    j->is_prepared = false;
    if (!j->is_slow && !j->is_heavy) {
        STAILQ_INSERT_TAIL(&st->waiting, j, link);
        return;
    }
    st->slow_jobs++;
    m->run = slow_job_taken;
    queue_post(j->is_heavy ? st->compute_lane.queue : st->disk_lane.queue, m);
}

void storage_post(struct storage *st, struct storage_job *j)
{
    CHECK(j->done);
    j->msg.run = job_taken;
    queue_post(st->queue, &j->msg);
}

bool storage_is_writable(struct storage *st)
{
    return atomic_load(&st->writable);
}

void storage_remove_unrecorded(struct storage *st, const struct digest *d)
{
    char text[DIGEST_TEXT_MAX];
    struct blob_record r;
    struct db_txn *txn;

    if (db_read(st->reader, &txn) != 0)
        return;
    int err = blob_get(txn, d, &r);
    db_read_end(st->reader);
    if (err == ERR_NOT_FOUND && blob_unlink(st->store, d) != 0)
        log_event(st->log, LOG_WARN, "the file of %s is left over", digest_text(d, text));
}

/* --- the ledger --- */

static struct ledger_record ledger_now(const struct registry_stats *r)
{
    return (struct ledger_record){
        .line_bytes = atomic_load_explicit(&r->line_bytes, memory_order_relaxed),
        .lan_bytes = atomic_load_explicit(&r->lan_bytes, memory_order_relaxed),
        .line_requests = atomic_load_explicit(&r->line_requests, memory_order_relaxed),
        .lan_requests = atomic_load_explicit(&r->lan_requests, memory_order_relaxed),
        .hits = atomic_load_explicit(&r->hits, memory_order_relaxed),
    };
}

static struct ledger_record ledger_since(const struct ledger_record *now,
                                         const struct ledger_record *then)
{
    return (struct ledger_record){
        .line_bytes = now->line_bytes - then->line_bytes,
        .lan_bytes = now->lan_bytes - then->lan_bytes,
        .line_requests = now->line_requests - then->line_requests,
        .lan_requests = now->lan_requests - then->lan_requests,
        .hits = now->hits - then->hits,
    };
}

static bool ledger_is_zero(const struct ledger_record *r)
{
    return !r->line_bytes && !r->lan_bytes && !r->line_requests && !r->lan_requests && !r->hits;
}

static int ledger_apply(struct storage_job *j, struct db_txn *txn)
{
    struct storage *st = ((struct own_job *)j)->st;
    unsigned count = atomic_load(&st->stats->registry_count);
    uint32_t day = (uint32_t)(time(NULL) / SECONDS_A_DAY);

    for (unsigned i = 0; i < count; i++) {
        const struct registry_stats *r = &st->stats->registries[i];
        st->flushing[i] = ledger_now(r);
        struct ledger_record add = ledger_since(&st->flushing[i], &st->flushed[i]);
        if (ledger_is_zero(&add))
            continue;
        int err = ledger_add(txn, day, r->registry, &add);
        if (err != 0)
            return err;
    }
    return 0;
}

static void ledger_done(struct storage_job *j, int err)
{
    struct storage *st = ((struct own_job *)j)->st;

    /* What could not be written is written with the next delta. */
    if (err == 0)
        memcpy(st->flushed, st->flushing, sizeof st->flushed);
    else
        log_event(st->log, LOG_WARN, "the ledger was not written: %s", err_text(err));
}

static bool ledger_is_due(const struct storage *st)
{
    unsigned count = atomic_load(&st->stats->registry_count);

    for (unsigned i = 0; i < count; i++) {
        struct ledger_record now = ledger_now(&st->stats->registries[i]);
        struct ledger_record add = ledger_since(&now, &st->flushed[i]);
        if (!ledger_is_zero(&add))
            return true;
    }
    return false;
}

/* --- use of blobs --- */

void storage_touch(struct storage *st, const struct digest *d)
{
    uint32_t start;

    memcpy(&start, d->bytes, sizeof start);
    pthread_mutex_lock(&st->touch_lock);
    struct touch_set *set = st->used;
    for (unsigned i = 0; i < TOUCH_SLOTS; i++) {
        struct digest *slot = &set->slots[(start + i) % TOUCH_SLOTS];
        if (slot->alg == 0) {
            if (set->count < TOUCH_SLOTS / 4 * 3) {
                *slot = *d;
                set->count++;
            }
            break;
        }
        if (digest_equal(slot, d))
            break;
    }
    pthread_mutex_unlock(&st->touch_lock);
}

static int touch_apply(struct storage_job *j, struct db_txn *txn)
{
    struct storage *st = ((struct own_job *)j)->st;
    int64_t now_s = time(NULL);

    for (unsigned i = 0; i < TOUCH_SLOTS; i++) {
        const struct digest *d = &st->touched->slots[i];
        if (d->alg == 0)
            continue;
        int err = blob_touch(txn, d, now_s);
        if (err != 0)
            return err;
    }
    return 0;
}

static void touch_done(struct storage_job *j, int err)
{
    struct storage *st = ((struct own_job *)j)->st;

    (void)err; /* A use that was not noted is noted at the next one. */
    memset(st->touched, 0, sizeof *st->touched);
}

static bool touch_is_due(struct storage *st)
{
    pthread_mutex_lock(&st->touch_lock);
    bool due = st->used->count > 0;
    if (due) {
        struct touch_set *set = st->used;
        st->used = st->touched;
        st->touched = set;
    }
    pthread_mutex_unlock(&st->touch_lock);
    return due;
}

/* --- index.json --- */

void storage_tags_changed(struct storage *st)
{
    atomic_store(&st->tags_changed, true);
}

static void write_index(struct storage *st)
{
    struct db_txn *txn;

    if (!atomic_load(&st->writable) || !atomic_exchange(&st->tags_changed, false))
        return;
    int err = db_read(st->reader, &txn);
    if (err == 0) {
        err = layout_write_index(st->store, txn);
        db_read_end(st->reader);
    }
    if (err == 0)
        return;
    atomic_store(&st->tags_changed, true);
    log_event(st->log, LOG_WARN, "index.json was not written: %s", err_text(err));
    if (err == ERR_IO)
        stop_writing(st, "writing index.json");
}

/* --- the thread --- */

/* Do what is due by the clock, or `all` at the end. */
static void do_due(struct storage *st, bool all)
{
    int64_t now_ms = clock_now_ms();

    if (all || now_ms >= st->ledger.due_ms) {
        st->ledger.due_ms = now_ms + LEDGER_PERIOD_MS;
        if (ledger_is_due(st))
            storage_post(st, &st->ledger.job);
    }
    if (all || now_ms >= st->touch.due_ms) {
        st->touch.due_ms = now_ms + TOUCH_PERIOD_MS;
        if (touch_is_due(st))
            storage_post(st, &st->touch.job);
    }
    do_jobs(st);
    if (all || now_ms >= st->index_due_ms) {
        st->index_due_ms = now_ms + INDEX_PERIOD_MS;
        write_index(st);
    }
}

static int wait_ms(const struct storage *st)
{
    int64_t due_ms = st->ledger.due_ms;

    if (st->touch.due_ms < due_ms)
        due_ms = st->touch.due_ms;
    if (st->index_due_ms < due_ms)
        due_ms = st->index_due_ms;
    int64_t left_ms = due_ms - clock_now_ms();
    return left_ms > 0 ? (int)left_ms : 0;
}

static void *storage_run(void *arg)
{
    struct storage *st = arg;

    while (!st->stopping || st->slow_jobs > 0) {
        queue_wait(st->queue, wait_ms(st));
        do_due(st, false);
    }
    do_due(st, true);
    return NULL;
}

static void own_job_init(struct own_job *o, struct storage *st, int64_t period_ms,
                         int (*apply)(struct storage_job *, struct db_txn *),
                         void (*done)(struct storage_job *, int))
{
    o->job.apply = apply;
    o->job.done = done;
    o->st = st;
    o->due_ms = clock_now_ms() + period_ms;
}

struct storage *storage_start(struct store *s, struct stats *stats, struct log *log)
{
    struct storage *st = mem_new(sizeof *st);

    st->store = s;
    st->db = store_db(s);
    st->stats = stats;
    st->log = log;
    st->queue = queue_new();
    STAILQ_INIT(&st->waiting);
    atomic_store(&st->writable, true);
    st->used = mem_new(sizeof *st->used);
    st->touched = mem_new(sizeof *st->touched);
    own_job_init(&st->ledger, st, LEDGER_PERIOD_MS, ledger_apply, ledger_done);
    own_job_init(&st->touch, st, TOUCH_PERIOD_MS, touch_apply, touch_done);
    st->index_due_ms = clock_now_ms() + INDEX_PERIOD_MS;
    CHECK(pthread_mutex_init(&st->touch_lock, NULL) == 0);
    CHECK(db_reader_new(st->db, &st->reader) == 0);
    lane_start(&st->disk_lane, st, "storage-slow");
    lane_start(&st->compute_lane, st, "storage-heavy");
    thread_start(&st->thread, "storage", storage_run, st);
    return st;
}

static void stop_taken(struct msg *m, void *owner)
{
    struct storage *st = owner;

    (void)m;
    st->stopping = true;
}

void storage_stop(struct storage **stp)
{
    struct storage *st = *stp;

    if (!st)
        return;
    *stp = NULL;
    st->stop.run = stop_taken;
    queue_post(st->queue, &st->stop);
    thread_join(st->thread);
    lane_stop(&st->disk_lane);
    lane_stop(&st->compute_lane);
    db_reader_free(&st->reader);
    queue_free(&st->queue);
    pthread_mutex_destroy(&st->touch_lock);
    free(st->used);
    free(st->touched);
    free(st);
}
