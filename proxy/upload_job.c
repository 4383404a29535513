/* SPDX-License-Identifier: ISC */
/*
 * The storage thread's part of uploads. A job is embedded in its session, which waits for
 * it and touches nothing of itself meanwhile but what the lock guards.
 */
#include "proxy/upload_private.h"

#include <time.h>
#include <unistd.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "cache/local.h"
#include "proxy/thread.h"

/* The fsync of a file as large as this is not for others to wait for. */
#define SLOW_BYTES (1024u * 1024)

static void job_done(struct storage_job *j, int err)
{
    struct session *s = (struct session *)j;

    pthread_mutex_lock(&s->uploads->lock);
    s->job_err = err;
    s->is_job_over = true;
    session_schedule(s);
    pthread_mutex_unlock(&s->uploads->lock);
}

static void post(struct session *s, int (*prepare)(struct storage_job *, struct store *),
                 int (*apply)(struct storage_job *, struct db_txn *),
                 void (*done)(struct storage_job *, int))
{
    s->job.is_slow = prepare && s->written_bytes >= SLOW_BYTES;
    s->job.prepare = prepare;
    s->job.apply = apply;
    s->job.done = done;
    storage_post(s->uploads->storage, &s->job);
}

/* --- the record --- */

static int record_apply(struct storage_job *j, struct db_txn *txn)
{
    const struct session *s = (struct session *)j;
    struct upload_record r = {.name = s->name, .alg = s->alg, .started_at_s = time(NULL)};

    return upload_put(txn, s->id, &r);
}

void session_record(struct session *s)
{
    post(s, NULL, record_apply, job_done);
}

/* The sweep may have been here first: then it has counted the record. */
static int forget(struct session *s, struct db_txn *txn)
{
    struct upload_record r;

    int err = upload_get(txn, s->id, &r);
    s->had_record = err == 0 || err == ERR_DAMAGED;
    return s->had_record ? upload_forget(txn, s->id) : 0;
}

static int unrecord_apply(struct storage_job *j, struct db_txn *txn)
{
    return forget((struct session *)j, txn);
}

void session_unrecord(struct session *s)
{
    post(s, NULL, unrecord_apply, job_done);
}

/* --- publishing --- */

static int publish_prepare(struct storage_job *j, struct store *store)
{
    struct session *s = (struct session *)j;

    (void)store;
    int err = upload_file_publish(s->file, &s->want);
    s->is_published = err == 0;
    return err;
}

/* Another that failed to publish the same blob may have removed the file meanwhile. */
static int check_file(const struct session *s)
{
    int err = blob_check(s->uploads->store, &s->want, s->written_bytes);

    return err == ERR_MISMATCH ? ERR_NOT_FOUND : err;
}

static int publish_apply(struct storage_job *j, struct db_txn *txn)
{
    struct session *s = (struct session *)j;

    int err = check_file(s);
    if (err == 0)
        err = local_put_blob(txn, &s->name, &s->want, s->written_bytes, time(NULL));
    return err == 0 ? forget(s, txn) : err;
}

static void publish_done(struct storage_job *j, int err)
{
    const struct session *s = (struct session *)j;
    struct uploads *up = s->uploads;
    char text[DIGEST_TEXT_MAX], name[NAME_MAX_SIZE];

    if (err == 0) {
        name_text(&s->name, name);
        STATS_ADD(up->stats, blobs_stored, 1);
        log_event(up->log, LOG_INFO, "stored %s of %s, %llu bytes", digest_text(&s->want, text),
                  name, (unsigned long long)s->written_bytes);
    } else if (s->is_published) {
        storage_remove_unrecorded(up->storage, &s->want);
    }
    job_done(j, err);
}

void session_publish(struct session *s)
{
    s->job.publishes = &s->want;
    post(s, publish_prepare, publish_apply, publish_done);
}

/* --- sweeping --- */

static int sweep_apply(struct storage_job *j, struct db_txn *txn)
{
    struct sweep *sweep = (struct sweep *)j;
    struct uploads *up = sweep->uploads;

    int err = db_count(txn, DB_UPLOADS, &sweep->records_before);
    if (err == 0)
        err = upload_sweep(up->store, txn, time(NULL), atomic_load(&up->ttl_s), &sweep->removed);
    if (err == 0)
        err = db_count(txn, DB_UPLOADS, &sweep->records_after);
    return err;
}

static void sweep_done(struct storage_job *j, int err)
{
    struct sweep *sweep = (struct sweep *)j;
    struct uploads *up = sweep->uploads;

    if (err != 0)
        log_event_about(up->log, LOG_WARN, NULL, "abandoned uploads were not removed: %s",
                        err_text(err));
    else if (sweep->removed > 0)
        log_event(up->log, LOG_INFO, "removed %u abandoned uploads", sweep->removed);
    pthread_mutex_lock(&up->lock);
    if (err == 0) {
        uploads_forget(up, sweep->records_before - sweep->records_after);
        upload_owners_expire(up->owners, clock_now_ms() - atomic_load(&up->ttl_s) * 1000);
    }
    sweep->is_pending = false;
    if (!uploads_are_busy(up))
        pthread_cond_broadcast(&up->quiet);
    pthread_mutex_unlock(&up->lock);
}

void uploads_sweep(struct uploads *up)
{
    struct sweep *sweep = &up->sweep;

    pthread_mutex_lock(&up->lock);
    bool is_due = !sweep->is_pending && !up->is_stopping;
    if (is_due)
        sweep->is_pending = true;
    pthread_mutex_unlock(&up->lock);
    if (!is_due)
        return;
    sweep->uploads = up;
    sweep->job.apply = sweep_apply;
    sweep->job.done = sweep_done;
    storage_post(up->storage, &sweep->job);
}
