/* SPDX-License-Identifier: ISC */
#include "proxy/twice.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <unistd.h>

#include "cache/blob.h"
#include "cache/db.h"
#include "cache/diff.h"
#include "cache/err.h"
#include "cache/image.h"
#include "cache/inflate.h"
#include "cache/lock.h"
#include "cache/manifest.h"
#include "cache/parent.h"
#include "proxy/thread.h"

#define WAITING_MAX 1024

/* Not SCHED_IDLE: the thread takes locks that workers take too, and must get on with
 * what it does under them. */
#define NICE_VALUE 19

struct item {
    STAILQ_ENTRY(item) link;
    void (*look)(struct twice *t, const struct item *item);
    struct name name;
    struct digest digest;
};

struct twice {
    struct store *store;
    struct storage *storage;
    struct stats *stats;
    struct log *log;
    struct db_reader *reader; /* the thread's */
    pthread_t thread;
    bool has_ended; /* the thread; of who ends it */
    _Atomic bool stopping;
    sem_t recorded; /* the record of the item at hand is committed, or not */

    pthread_mutex_t lock;
    pthread_cond_t added;
    /* Under the lock. */
    STAILQ_HEAD(, item) waiting;
    unsigned waiting_count;
};

/* --- what is recorded --- */

struct record {
    struct storage_job job;
    struct twice *t;
    const struct digest *digest;
    const struct digest *diff_id; /* of a layer */
    const struct image *image;    /* of a config */
    int err;
};

static int record_apply(struct storage_job *j, struct db_txn *txn)
{
    const struct record *r = (struct record *)j;

    if (r->image != NULL)
        return diff_index_config(txn, r->digest, r->image);
    return diff_put(txn, r->diff_id, r->digest, DIFF_HASHED);
}

static void record_done(struct storage_job *j, int err)
{
    struct record *r = (struct record *)j;

    r->err = err;
    sem_post(&r->t->recorded);
}

/* The record is the caller's, which waits for it: one thing at a time. */
static int record(struct twice *t, struct record *r)
{
    r->t = t;
    r->job.apply = record_apply;
    r->job.done = record_done;
    storage_post(t->storage, &r->job);
    int result;
    do
        result = sem_wait(&t->recorded);
    while (result != 0);
    return r->err;
}

/* --- layers --- */

/* Another blob of the same content. */
struct twin {
    const struct digest *digest; /* of the one that has been inflated */
    bool is_found;
    struct diff_blob blob;
};

static int visit_twin(void *arg, const struct diff_blob *b)
{
    struct twin *twin = arg;

    if (digest_equal(&b->digest, twin->digest))
        return 0;
    if (!twin->is_found || b->record.origin < twin->blob.record.origin)
        twin->blob = *b;
    twin->is_found = true;
    return 0;
}

static void find_twin(struct twice *t, const struct digest *diff_id, struct twin *twin)
{
    struct db_txn *txn;

    if (db_read(t->reader, &txn) != 0)
        return;
    int err = diff_walk(txn, diff_id, visit_twin, twin);

    db_read_end(t->reader);
    if (err != 0)
        twin->is_found = false;
}

static void note_duplicate(struct twice *t, const struct item *item, uint64_t size_bytes,
                           const struct twin *twin)
{
    char digest[DIGEST_TEXT_MAX], other[DIGEST_TEXT_MAX], name[NAME_MAX_SIZE];

    name_text(&item->name, name);
    log_event(t->log, LOG_INFO,
              "%s, pushed to %s, is held already as %s, compressed differently: its %llu bytes are "
              "kept twice. An image that is pulled through cachalot, then tagged and pushed keeps "
              "its digests, and is kept once",
              digest_text(&item->digest, digest), name, digest_text(&twin->blob.digest, other),
              (unsigned long long)size_bytes);
    STATS_ADD(t->stats, duplicate_bytes, size_bytes);
    STATS_ADD(t->stats, duplicate_blobs, 1);
}

/* ERR_NOT_FOUND when it is not held, or was inflated before. */
static int find_layer(struct twice *t, const struct digest *d, struct blob_record *r)
{
    struct db_txn *txn;
    struct digest known;
    int err = db_read(t->reader, &txn);

    if (err != 0)
        return err;
    err = blob_get(txn, d, r);
    if (err == 0 && diff_get(txn, d, &known) == 0)
        err = ERR_NOT_FOUND;
    db_read_end(t->reader);
    return err;
}

static bool is_wanted(void *arg)
{
    return !atomic_load_explicit(&((struct twice *)arg)->stopping, memory_order_relaxed);
}

/* What does not inflate is no layer, and of no interest. */
static void look_at_layer(struct twice *t, const struct item *item)
{
    struct blob_record blob;
    struct digest diff_id;
    uint64_t content_bytes;
    int fd;

    if (find_layer(t, &item->digest, &blob) != 0 ||
        blob_open(t->store, &item->digest, blob.size_bytes, &fd) != 0)
        return;
    int err = inflate_digest(fd, DIGEST_SHA256, is_wanted, t, &diff_id, &content_bytes);

    close(fd);
    if (err != 0)
        return;
    struct record r = {.digest = &item->digest, .diff_id = &diff_id};
    struct twin twin = {.digest = &item->digest};

    if (record(t, &r) == 0)
        find_twin(t, &diff_id, &twin);
    if (twin.is_found)
        note_duplicate(t, item, blob.size_bytes, &twin);
}

/* --- configs --- */

/* Owned by the caller; NULL when it cannot be had whole. */
static char *read_file(struct twice *t, const struct digest *d, size_t size)
{
    char *data = NULL;
    size_t got = 0;
    ssize_t n;
    int fd;

    if (size > IMAGE_CONFIG_MAX || blob_open(t->store, d, size, &fd) != 0)
        return NULL;
    data = mem_new(size + 1);
    while (got < size && (n = read(fd, data + got, size - got)) > 0)
        got += (size_t)n;
    close(fd);
    if (got == size)
        return data;
    free(data);
    return NULL;
}

static void index_config(struct twice *t, const struct digest *config, uint64_t size_bytes)
{
    struct image *image;
    char *data = read_file(t, config, size_bytes);

    if (data == NULL)
        return;
    int err = image_parse(&image, data, size_bytes);

    free(data);
    if (err != 0)
        return;
    struct record r = {.digest = config, .image = image};

    err = record(t, &r);
    if (err != 0)
        log_event_about(t->log, LOG_WARN, NULL,
                        "the index did not take what an image config says: %s", err_text(err));
    free(image);
}

static int take_config(void *arg, const struct manifest_child *child)
{
    if (child->role != CHILD_CONFIG)
        return 0;
    *(struct digest *)arg = child->digest;
    return 1;
}

static void look_at_manifest(struct twice *t, const struct item *item)
{
    struct digest config;
    struct blob_record blob = {0};
    struct db_txn *txn;
    bool is_held = false;

    if (db_read(t->reader, &txn) != 0)
        return;
    if (manifest_walk(txn, &item->digest, take_config, &config) == 1)
        is_held = blob_get(txn, &config, &blob) == 0;
    db_read_end(t->reader);
    if (is_held)
        index_config(t, &config, blob.size_bytes);
}

static int find_config_role(void *arg, const struct digest *parent, int role)
{
    (void)arg, (void)parent;
    return role == CHILD_CONFIG ? 1 : 0;
}

static void look_at_fetched(struct twice *t, const struct item *item)
{
    struct blob_record blob = {0};
    struct db_txn *txn;
    bool is_config = false;

    if (db_read(t->reader, &txn) != 0)
        return;
    if (blob_get(txn, &item->digest, &blob) == 0)
        is_config = parent_walk(txn, &item->digest, find_config_role, NULL) == 1;
    db_read_end(t->reader);
    if (is_config)
        index_config(t, &item->digest, blob.size_bytes);
}

/* --- the thread --- */

/* NULL at the end. */
static struct item *take(struct twice *t)
{
    pthread_mutex_lock(&t->lock);
    while (STAILQ_EMPTY(&t->waiting) && is_wanted(t))
        pthread_cond_wait(&t->added, &t->lock);
    struct item *item = is_wanted(t) ? STAILQ_FIRST(&t->waiting) : NULL;
    if (item != NULL) {
        STAILQ_REMOVE_HEAD(&t->waiting, link);
        t->waiting_count--;
    }
    pthread_mutex_unlock(&t->lock);
    return item;
}

static void *twice_run(void *arg)
{
    struct twice *t = arg;
    struct item *item;

    thread_yield_to_others(NICE_VALUE);
    while ((item = take(t)) != NULL) {
        item->look(t, item);
        free(item);
    }
    return NULL;
}

static void add(struct twice *t, const struct name *n, const struct digest *d,
                void (*look)(struct twice *t, const struct item *item))
{
    struct item *dropped = NULL;

    if (t == NULL || !is_wanted(t))
        return;
    struct item *item = mem_new(sizeof *item);

    item->look = look;
    item->name = *n;
    item->digest = *d;
    pthread_mutex_lock(&t->lock);
    if (t->waiting_count == WAITING_MAX) {
        dropped = STAILQ_FIRST(&t->waiting);
        STAILQ_REMOVE_HEAD(&t->waiting, link);
        t->waiting_count--;
    }
    STAILQ_INSERT_TAIL(&t->waiting, item, link);
    t->waiting_count++;
    pthread_cond_signal(&t->added);
    pthread_mutex_unlock(&t->lock);
    if (dropped != NULL)
        STATS_ADD(t->stats, unchecked_blobs, 1);
    free(dropped);
}

void twice_add_blob(struct twice *t, const struct name *n, const struct digest *d)
{
    add(t, n, d, look_at_layer);
}

void twice_add_manifest(struct twice *t, const struct name *n, const struct digest *d)
{
    add(t, n, d, look_at_manifest);
}

void twice_add_fetched(struct twice *t, const struct name *n, const struct digest *d,
                       uint64_t size_bytes)
{
    if (size_bytes <= IMAGE_CONFIG_MAX)
        add(t, n, d, look_at_fetched);
}

struct twice *twice_start(struct store *s, struct storage *storage, struct stats *stats,
                          struct log *log)
{
    struct twice *t = mem_new(sizeof *t);

    t->store = s;
    t->storage = storage;
    t->stats = stats;
    t->log = log;
    STAILQ_INIT(&t->waiting);
    lock_init(&t->lock);
    CHECK(pthread_cond_init(&t->added, NULL) == 0);
    CHECK(sem_init(&t->recorded, 0, 0) == 0);
    CHECK(db_reader_new(store_db(s), &t->reader) == 0);
    thread_start(&t->thread, "twice", twice_run, t);
    return t;
}

void twice_stop(struct twice *t)
{
    if (t->has_ended)
        return;
    t->has_ended = true;
    pthread_mutex_lock(&t->lock);
    atomic_store(&t->stopping, true);
    pthread_cond_signal(&t->added);
    pthread_mutex_unlock(&t->lock);
    thread_join(t->thread);
    db_reader_free(&t->reader);
}

void twice_free(struct twice **tp)
{
    struct twice *t = *tp;
    struct item *item;

    if (t == NULL)
        return;
    *tp = NULL;
    twice_stop(t);
    while ((item = STAILQ_FIRST(&t->waiting)) != NULL) {
        STAILQ_REMOVE_HEAD(&t->waiting, link);
        free(item);
    }
    sem_destroy(&t->recorded);
    pthread_cond_destroy(&t->added);
    pthread_mutex_destroy(&t->lock);
    free(t);
}
