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
#include "cache/clients.h"
#include "cache/db.h"
#include "cache/err.h"
#include "cache/layout.h"
#include "cache/room.h"
#include "cache/usage.h"
#include "proxy/thread.h"
#include "proxy/touches.h"

/* One job that fails makes the others apply again: the limit bounds that work. */
#define BATCH_MAX 256

#define TOUCH_PERIOD_MS (2 * 60 * 1000)
#define INDEX_PERIOD_MS (5 * 60 * 1000)

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

    LIST_HEAD(, storage_job) publishing; /* from when they are taken to their end */
    struct storage_evictor evictor;      /* `want` is NULL when there is none */

    struct own_job ledger;
    struct tally *tally;

    struct own_job touch;
    struct touches *touches;

    int64_t index_due_ms;
};

/* --- jobs --- */

static void stop_writing(struct storage *st, const char *what)
{
    if (!atomic_exchange(&st->writable, false))
        return;
    log_event_about(
        st->log, LOG_ERROR, NULL,
        "%s failed: what is on the disk is not known, so nothing more is written to %s; "
        "what is cached is still served. Check the disk, then restart cachalotd",
        what, store_path(st->store));
}

static void finish_job(struct storage *st, struct storage_job *j, int err)
{
    if (err != 0)
        STATS_ADD(st->stats, store_failures, 1);
    if (j->publishes)
        LIST_REMOVE(j, publishing);
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

/* Those who claim room go by it; before the jobs' ends, which give back what they claimed. */
static void note_usage(struct storage *st)
{
    struct db_txn *txn;
    struct usage u;

    if (db_read(st->reader, &txn) != 0)
        return;
    int err = usage_get(txn, &u);
    db_read_end(st->reader);
    if (err == 0)
        room_set_usage(store_room(st->store), &u);
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
    if (err == 0) {
        STATS_ADD(st->stats, commits, 1);
        note_usage(st);
    } else if (err == ERR_NO_SPACE || err == ERR_FULL) {
        log_event_about(st->log, LOG_ERROR, NULL, "the index in %s cannot be written: %s%s",
                        store_path(st->store), err_text(err),
                        err == ERR_FULL ? "; make index-size in [cache] larger, and restart" : "");
    } else {
        stop_writing(st, "a commit of the index");
    }
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
    if (j->publishes)
        LIST_INSERT_HEAD(&st->publishing, j, publishing);
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

struct queue *storage_queue(struct storage *st)
{
    return st->queue;
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

bool storage_is_publishing(const struct storage *st, const struct digest *d)
{
    const struct storage_job *j;

    LIST_FOREACH (j, &st->publishing, publishing)
        if (digest_equal(j->publishes, d))
            return true;
    return false;
}

/* --- room --- */

void storage_set_evictor(struct storage *st, const struct storage_evictor *e)
{
    st->evictor = e ? *e : (struct storage_evictor){0};
}

void storage_want(struct storage *st, struct want *w)
{
    if (st->evictor.want) {
        st->evictor.want(st->evictor.arg, w);
        return;
    }
    w->err = ERR_NO_SPACE;
    w->msg.run = w->answered;
    queue_post(w->answers, &w->msg);
}

static void wait_over(struct msg *m, void *owner)
{
    (void)m;
    *(bool *)owner = true;
}

int storage_wait_for_room(struct storage *st, const char *name, uint64_t bytes)
{
    struct queue *answers = queue_new();
    struct want w = {.name = name, .bytes = bytes, .answers = answers, .answered = wait_over};
    bool is_over = false;

    storage_want(st, &w);
    while (!is_over) {
        queue_wait(answers, -1);
        queue_run(answers, &is_over);
    }
    queue_free(&answers);
    return w.err;
}

void storage_collect(struct storage *st, bool at_once)
{
    if (st->evictor.collect)
        st->evictor.collect(st->evictor.arg, at_once);
}

/* --- the ledger --- */

static int ledger_apply(struct storage_job *j, struct db_txn *txn)
{
    return tally_apply(((struct own_job *)j)->st->tally, txn, time(NULL));
}

static void ledger_done(struct storage_job *j, int err)
{
    struct storage *st = ((struct own_job *)j)->st;

    /* What could not be written is written with the next delta. */
    tally_done(st->tally, err);
    if (err != 0)
        log_event_about(st->log, LOG_WARN, NULL, "the ledger was not written: %s", err_text(err));
}

struct tally *storage_tally(struct storage *st)
{
    return st->tally;
}

/* --- use of blobs --- */

void storage_touch(struct storage *st, const struct digest *d, const struct in6_addr *client,
                   bool is_due)
{
    touches_add(st->touches, d, client, is_due);
}

bool storage_is_touched(struct storage *st, const struct digest *d)
{
    return touches_has(st->touches, d);
}

struct touch_walk {
    struct db_txn *txn;
    int64_t now_s;
};

static int touch_one(void *arg, const struct digest *d, const struct in6_addr *clients,
                     size_t count)
{
    const struct touch_walk *w = arg;
    int err = blob_touch(w->txn, d, w->now_s);

    return err != 0 ? err : clients_note(w->txn, d, clients, count, w->now_s);
}

static int touch_apply(struct storage_job *j, struct db_txn *txn)
{
    struct touch_walk w = {txn, time(NULL)};

    return touches_walk(((struct own_job *)j)->st->touches, touch_one, &w);
}

static void touch_done(struct storage_job *j, int err)
{
    (void)err; /* A use that was not noted is noted at the next one. */
    touches_end(((struct own_job *)j)->st->touches);
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
    log_event_about(st->log, LOG_WARN, NULL, "index.json was not written: %s", err_text(err));
    if (err == ERR_IO)
        stop_writing(st, "writing index.json");
}

/* --- the thread --- */

/* Do what is due by the clock, or `all` at the end. */
static void do_due(struct storage *st, bool all)
{
    int64_t now_ms = clock_now_ms();

    if (all || now_ms >= st->ledger.due_ms) {
        st->ledger.due_ms = now_ms + TALLY_PERIOD_MS;
        if (tally_begin(st->tally))
            storage_post(st, &st->ledger.job);
    }
    if (all || now_ms >= st->touch.due_ms) {
        st->touch.due_ms = now_ms + TOUCH_PERIOD_MS;
        if (touches_begin(st->touches))
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
    st->tally = tally_new(stats);
    st->log = log;
    st->queue = queue_new();
    STAILQ_INIT(&st->waiting);
    LIST_INIT(&st->publishing);
    atomic_store(&st->writable, true);
    st->touches = touches_new();
    own_job_init(&st->ledger, st, TALLY_PERIOD_MS, ledger_apply, ledger_done);
    own_job_init(&st->touch, st, TOUCH_PERIOD_MS, touch_apply, touch_done);
    st->index_due_ms = clock_now_ms() + INDEX_PERIOD_MS;
    CHECK(db_reader_new(st->db, &st->reader) == 0);
    lane_start(&st->disk_lane, st, "storage-slow");
    lane_start(&st->compute_lane, st, "storage-heavy");
    note_usage(st);
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
    touches_free(&st->touches);
    tally_free(&st->tally);
    free(st);
}
