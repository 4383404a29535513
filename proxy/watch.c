/* SPDX-License-Identifier: ISC */
#include "proxy/watch.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

#include "proxy/thread.h"

struct watch {
    struct store *store;
    struct tally *tally;
    struct stats *stats;
    struct db_reader *reader;
    struct queue *queue;
    pthread_t thread;
    struct msg stop;
    bool stopping;
    int64_t due_ms;
    atomic_uint jobs;
    struct watch_view view;
};

/* --- looking --- */

static void look_at_index(struct watch *w, struct watch_view *v)
{
    struct tally_sums sums;
    struct db_txn *txn;

    v->err = tally_read(w->tally, w->reader, v->now_s, &sums);
    if (v->err == 0)
        v->sums = sums;
    if (v->err == 0)
        v->err = db_read(w->reader, &txn);
    if (v->err != 0)
        return;
    v->err = db_count(txn, DB_BLOBS, &v->blobs);
    if (v->err == 0)
        v->err = db_count(txn, DB_MANIFESTS, &v->manifests);
    if (v->err == 0)
        v->err = db_count(txn, DB_TAGS, &v->tags);
    if (v->err == 0)
        v->err = db_count(txn, DB_PARTIALS, &v->partials);
    db_read_end(w->reader);
}

static void look_at_disk(struct watch *w, struct watch_view *v)
{
    struct statvfs fs;

    v->has_disk = fstatvfs(store_root_fd(w->store), &fs) == 0;
    if (!v->has_disk)
        return;
    v->disk_bytes = (uint64_t)fs.f_blocks * fs.f_frsize;
    v->disk_free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
}

static void add_sample(struct watch *w, struct watch_view *v, int64_t now_ms)
{
    if (v->sample_count == WATCH_SAMPLES) {
        memmove(&v->samples[0], &v->samples[1], (WATCH_SAMPLES - 1) * sizeof v->samples[0]);
        v->sample_count--;
    }
    v->samples[v->sample_count++] = (struct watch_sample){
        .at_ms = now_ms,
        .line_bytes = atomic_load_explicit(&w->stats->upstream_bytes, memory_order_relaxed),
        .lan_bytes = atomic_load_explicit(&w->stats->sent_bytes, memory_order_relaxed),
    };
}

static void look_again(struct watch *w, int64_t now_ms)
{
    look_at_disk(w, &w->view);
    add_sample(w, &w->view, now_ms);
}

const struct watch_view *watch_look(struct watch *w)
{
    w->view.now_s = time(NULL);
    look_at_index(w, &w->view);
    return &w->view;
}

struct db_reader *watch_reader(struct watch *w)
{
    return w->reader;
}

/* --- jobs --- */

static void job_taken(struct msg *m, void *owner)
{
    struct watch *w = owner;
    /* msg is the first member. */
    struct watch_job *j = (struct watch_job *)m;

    atomic_fetch_sub(&w->jobs, 1);
    j->run(j, w);
}

bool watch_post(struct watch *w, struct watch_job *j)
{
    if (atomic_fetch_add(&w->jobs, 1) >= WATCH_JOBS_MAX) {
        atomic_fetch_sub(&w->jobs, 1);
        return false;
    }
    j->msg.run = job_taken;
    queue_post(w->queue, &j->msg);
    return true;
}

/* --- the thread --- */

static void *watch_run(void *arg)
{
    struct watch *w = arg;

    while (!w->stopping) {
        int64_t now_ms = clock_now_ms();
        if (now_ms >= w->due_ms) {
            look_again(w, now_ms);
            w->due_ms = now_ms + WATCH_PERIOD_MS;
        }
        queue_wait(w->queue, (int)(w->due_ms - now_ms));
        queue_run(w->queue, w);
    }
    return NULL;
}

struct watch *watch_start(struct store *s, struct tally *t, struct stats *stats)
{
    struct watch *w = mem_new(sizeof *w);

    w->store = s;
    w->tally = t;
    w->stats = stats;
    w->queue = queue_new();
    CHECK(db_reader_new(store_db(s), &w->reader) == 0);
    thread_start(&w->thread, "watch", watch_run, w);
    return w;
}

static void stop_taken(struct msg *m, void *owner)
{
    struct watch *w = owner;

    (void)m;
    w->stopping = true;
}

void watch_stop(struct watch **wp)
{
    struct watch *w = *wp;

    if (!w)
        return;
    *wp = NULL;
    w->stop.run = stop_taken;
    queue_post(w->queue, &w->stop);
    thread_join(w->thread);
    db_reader_free(&w->reader);
    queue_free(&w->queue);
    free(w);
}
