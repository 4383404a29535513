/* SPDX-License-Identifier: ISC */
/* What the evictor has the storage thread do, and the files that are closed after it. */
#include "proxy/evictor_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cache/err.h"
#include "cache/usage.h"
#include "proxy/worker.h"

/* --- closing --- */

/* The workers let go of files that are removed; the last of them tells the evictor, who
 * closes his own: so freeing what they took, which can take long, keeps no client waiting. */
struct purge {
    struct evictor *evictor;
    struct digest *list;
    int *fds;
    size_t count;
    atomic_uint left;
    struct msg back;
    struct drop {
        struct msg msg;
        struct purge *purge;
    } drops[WORKERS_MAX];
};

static void purge_over(struct msg *m, void *owner)
{
    struct purge *p = CONTAINER_OF(m, struct purge, back);
    struct evictor *e = owner;

    for (size_t i = 0; i < p->count; i++)
        if (p->fds[i] >= 0)
            close(p->fds[i]);
    pthread_mutex_lock(&e->lock);
    e->purges--;
    pthread_mutex_unlock(&e->lock);
    free(p->list);
    free(p->fds);
    free(p);
}

static void one_less(struct purge *p)
{
    if (atomic_fetch_sub(&p->left, 1) == 1)
        queue_post(p->evictor->queue, &p->back);
}

/* In a worker. */
static void drop_files(struct msg *m, void *owner)
{
    struct purge *p = ((struct drop *)m)->purge;
    struct worker *w = owner;

    for (size_t i = 0; i < p->count; i++)
        shelf_forget(w->shelf, &p->list[i]);
    one_less(p);
}

/* Takes over the list and the descriptors. */
static void purge(struct evictor *e, struct evicted *gone, int *fds)
{
    struct purge *p = mem_new(sizeof *p);

    p->evictor = e;
    p->list = gone->list;
    p->count = gone->count;
    p->fds = fds;
    p->back.run = purge_over;
    gone->list = NULL;
    evicted_clear(gone);
    pthread_mutex_lock(&e->lock);
    e->purges++;
    atomic_store(&p->left, e->worker_count + 1);
    for (unsigned i = 0; i < e->worker_count; i++) {
        p->drops[i].msg.run = drop_files;
        p->drops[i].purge = p;
        queue_post(e->workers[i]->queue, &p->drops[i].msg);
    }
    pthread_mutex_unlock(&e->lock);
    one_less(p);
}

/* --- the job --- */

/* Called again when another job of the same commit fails: a file that went before is as
 * good as removed. */
static int remove_files(struct batch *b, struct db_txn *txn)
{
    struct evictor *e = b->evictor;

    evicted_reset(&b->waiting);
    for (size_t i = 0; i < b->leaving.count; i++) {
        const struct digest *d = &b->leaving.list[i];
        int fd;

        /* It is coming again, and its job may be looking at the file. */
        if (storage_is_publishing(e->storage, d)) {
            evicted_add(&b->waiting, d, 0);
            continue;
        }
        int err = evict_remove(e->store, txn, d, &fd);
        if (fd >= 0) {
            if (b->fds[i] >= 0)
                close(b->fds[i]);
            b->fds[i] = fd;
        }
        if (err != 0)
            return err;
    }
    return 0;
}

static int forget_units(struct batch *b, struct db_txn *txn)
{
    struct evict_guard *g;
    int err = evict_guard_new(&g, txn, b->busy, b->busy_count);

    if (err == 0)
        err = evict_forget_units(txn, &b->rules, g, b->units, b->count, b->want_bytes, &b->gone,
                                 &b->forgotten);
    evict_guard_free(&g);
    return err;
}

static int forget_orphans(struct batch *b, struct db_txn *txn)
{
    struct evictor *e = b->evictor;
    int err = 0;

    for (unsigned i = 0; err == 0 && i < b->count; i++)
        if (!storage_is_publishing(e->storage, &b->units[i]))
            err = evict_forget_file(e->store, txn, &b->units[i], &b->gone);
    return err;
}

static int batch_apply(struct storage_job *j, struct db_txn *txn)
{
    struct batch *b = (struct batch *)j;

    evicted_reset(&b->gone);
    b->forgotten = 0;
    int err = remove_files(b, txn);
    if (err != 0 || b->count == 0)
        return err;
    return b->are_orphans ? forget_orphans(b, txn) : forget_units(b, txn);
}

static void batch_over(struct msg *m, void *owner)
{
    (void)m;
    ((struct evictor *)owner)->batch.is_over = true;
}

static void batch_done(struct storage_job *j, int err)
{
    struct batch *b = (struct batch *)j;

    b->err = err;
    b->over.run = batch_over;
    queue_post(b->evictor->queue, &b->over);
}

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

/* A warning when images went that can be had nowhere else. */
static void say(struct evictor *e, const struct batch *b)
{
    const struct evicted *gone = &b->gone;
    uint64_t others = gone->count - gone->images;
    char names[EVICTED_NAMES_MAX * (NAME_MAX_SIZE + 2)] = "", name[NAME_MAX_SIZE];
    char pushed[64] = "";
    size_t len = 0;

    if (gone->pushed_images > 0)
        (void)snprintf(pushed, sizeof pushed, ", %" PRIu64 " of them pushed here",
                       gone->pushed_images);
    for (unsigned i = 0; i < gone->name_count; i++) {
        name_text(&gone->names[i], name);
        len +=
            (size_t)snprintf(names + len, sizeof names - len, "%s%s", i == 0 ? ": " : ", ", name);
    }
    log_event(e->log, gone->pushed_images > 0 ? LOG_WARN : LOG_INFO,
              "evicted %" PRIu64 " image%s%s, and %" PRIu64 " other blob%s, %s, %" PRIu64
              " bytes on the disk%s",
              gone->images, plural(gone->images), pushed, others, plural(others),
              b->rules.takes_garbage_only ? "as garbage" : "for room", gone->bytes, names);
}

static void note(struct evictor *e, const struct batch *b)
{
    if (b->are_orphans || b->gone.count == 0)
        return;
    STATS_ADD(e->stats, evicted_blobs, b->gone.count);
    STATS_ADD(e->stats, evicted_bytes, b->gone.bytes);
    STATS_ADD(e->stats, evicted_images, b->gone.images);
    e->evicted_units += b->forgotten;
    say(e, b);
}

/* What was forgotten has its files removed by the next. One that was being published is
 * looked at again: it is leaving still when that has failed. */
static void go_on(struct evictor *e)
{
    struct batch *b = &e->batch;

    purge(e, &b->leaving, b->fds);
    b->leaving = b->gone;
    b->gone = (struct evicted){0};
    for (size_t i = 0; i < b->waiting.count; i++)
        evicted_add(&b->leaving, &b->waiting.list[i], 0);
}

/* Nothing is forgotten; the files that were to go are tried again by the next. */
static void take_back(struct batch *b)
{
    for (size_t i = 0; i < b->leaving.count; i++)
        if (b->fds[i] >= 0)
            close(b->fds[i]);
    free(b->fds);
    evicted_reset(&b->gone);
}

int evictor_run_batch(struct evictor *e)
{
    struct batch *b = &e->batch;

    b->evictor = e;
    b->job.apply = batch_apply;
    b->job.done = batch_done;
    b->is_over = false;
    b->busy = evictor_busy(e, &b->busy_count);
    b->fds = mem_new((b->leaving.count + 1) * sizeof *b->fds);
    for (size_t i = 0; i < b->leaving.count; i++)
        b->fds[i] = -1;
    storage_post(e->storage, &b->job);
    while (!b->is_over) {
        queue_wait(e->queue, -1);
        queue_run(e->queue, e);
    }
    free(b->busy);
    b->busy = NULL;
    if (b->err == 0) {
        note(e, b);
        go_on(e);
    } else {
        take_back(b);
        log_event_about(e->log, LOG_ERROR, NULL, "nothing was evicted: %s", err_text(b->err));
    }
    b->fds = NULL;
    return b->err;
}

static int add_leaving(void *arg, const struct digest *d, uint64_t size_bytes)
{
    evicted_add(arg, d, size_bytes);
    return 0;
}

void evictor_finish_leaving(struct evictor *e)
{
    struct batch *b = &e->batch;
    struct db_txn *txn;

    b->count = 0;
    if (db_read(e->reader, &txn) != 0)
        return;
    int err = usage_walk_leaving(txn, add_leaving, &b->leaving);
    db_read_end(e->reader);
    if (err == 0 && b->leaving.count > 0)
        (void)!evictor_run_batch(e);
}
