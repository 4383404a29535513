/* SPDX-License-Identifier: ISC */
/* The life of the evictor, and what it asks of others. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache/evict.h"
#include "cache/lock.h"
#include "cache/room.h"
#include "proxy/evictor_private.h"
#include "proxy/thread.h"

static bool is_touched(void *arg, const struct digest *d)
{
    return storage_is_touched(((struct evictor *)arg)->storage, d);
}

struct evict_rules evictor_rules(struct evictor *e, bool garbage_only)
{
    pthread_mutex_lock(&e->lock);
    struct evict_rules rules = {
        .now_s = time(NULL),
        .grace_s = e->collects_at_once && garbage_only ? 0 : e->grace_s,
        .takes_local = e->takes_local,
        .takes_garbage_only = garbage_only,
        .is_busy = is_touched,
        .arg = e,
    };
    pthread_mutex_unlock(&e->lock);
    return rules;
}

struct busy {
    struct digest *list;
    size_t count;
};

static void add_busy(void *arg, const struct fetch_progress *p)
{
    struct busy *b = arg;

    b->list = mem_resize(b->list, (b->count + 1) * sizeof b->list[0]);
    b->list[b->count++] = p->digest;
}

struct digest *evictor_busy(struct evictor *e, size_t *count)
{
    struct busy b = {0};

    fetch_table_walk(e->fetches, add_busy, &b);
    *count = b.count;
    return b.list;
}

void evictor_show(struct evictor *e)
{
    struct room_view v;

    room_look(store_room(e->store), &v);
    STATS_SET(e->stats, cache_bytes, v.held_bytes);
    STATS_SET(e->stats, cache_limit_bytes, v.limit_bytes);
    STATS_SET(e->stats, cache_min_free_bytes, v.min_free_bytes);
    STATS_SET(e->stats, cache_free_bytes, v.free_bytes);
    STATS_SET(e->stats, cache_blobs, v.blobs);
}

void evictor_set_config(struct evictor *e, const struct config *c)
{
    room_set_limits(store_room(e->store), &c->room);
    pthread_mutex_lock(&e->lock);
    e->grace_s = c->push_grace_s;
    e->takes_local = c->evict_local;
    pthread_mutex_unlock(&e->lock);
}

void evictor_set_workers(struct evictor *e, struct worker *const *workers, unsigned count)
{
    CHECK(count <= WORKERS_MAX);
    pthread_mutex_lock(&e->lock);
    for (unsigned i = 0; i < count; i++)
        e->workers[i] = workers[i];
    e->worker_count = count;
    pthread_mutex_unlock(&e->lock);
}

struct evictor *evictor_start(struct store *s, struct storage *storage, struct fetch_table *fetches,
                              struct config *c, struct stats *stats, struct log *log)
{
    struct evictor *e = mem_new(sizeof *e);

    e->store = s;
    e->started_at_s = time(NULL);
    e->storage = storage;
    e->fetches = fetches;
    e->stats = stats;
    e->log = log;
    e->queue = queue_new();
    e->plan = evict_plan_new();
    STAILQ_INIT(&e->wants);
    lock_init(&e->lock);
    evictor_set_config(e, c);
    CHECK(db_reader_new(store_db(s), &e->reader) == 0);
    thread_start(&e->thread, "evict", evictor_run, e);
    storage_set_evictor(storage, &(struct storage_evictor){evictor_want, evictor_collect, e});
    return e;
}

static void stop_taken(struct msg *m, void *owner)
{
    (void)m;
    ((struct evictor *)owner)->stopping = true;
}

static unsigned purges(struct evictor *e)
{
    pthread_mutex_lock(&e->lock);
    unsigned n = e->purges;
    pthread_mutex_unlock(&e->lock);
    return n;
}

void evictor_stop(struct evictor **ep)
{
    struct evictor *e = *ep;

    if (!e)
        return;
    *ep = NULL;
    storage_set_evictor(e->storage, NULL);
    e->stop.run = stop_taken;
    queue_post(e->queue, &e->stop);
    thread_join(e->thread);
    while (purges(e) > 0) {
        queue_wait(e->queue, -1);
        queue_run(e->queue, e);
    }
    queue_run(e->queue, e);
    evicted_clear(&e->batch.leaving);
    evicted_clear(&e->batch.waiting);
    evicted_clear(&e->batch.gone);
    evict_plan_free(&e->plan);
    db_reader_free(&e->reader);
    queue_free(&e->queue);
    pthread_mutex_destroy(&e->lock);
    free(e);
}
