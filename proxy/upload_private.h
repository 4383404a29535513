/* SPDX-License-Identifier: ISC */
/*
 * The engine of uploads. upload.c is the side of those that use one, upload_session.c the
 * side of the threads, upload_job.c the storage thread's part of both.
 */
#ifndef PROXY_UPLOAD_PRIVATE_H
#define PROXY_UPLOAD_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "proxy/upload.h"
#include "proxy/upload_owner.h"
#include "proxy/upload_session.h"

/* Sessions that nobody uses and that stay in memory, with their file and their hash, so
 * that the next request needs not read again what the last ones brought. */
#define SESSIONS_KEPT_MAX 64

struct upload {
    struct uploads *uploads;
    struct queue *answers;
    const struct upload_calls *calls;
    void *arg;
    char id[UPLOAD_ID_SIZE];
    uint64_t size_bytes;
    enum upload_task asked; /* and not yet answered */
    bool is_left;

    /* Under the lock, until it is left. */
    struct session *session; /* NULL: none, or it has ended */
    bool is_paused;
    bool is_answer_posted, is_room_posted;
    struct msg answer, room;
    int answer_err;
    uint64_t answer_size_bytes;
};

/* With the lock held, by the session's thread: answer what was asked, if somebody waits. */
void upload_answer(struct session *s, int err);
/* With the lock held: less is staged than before. */
void upload_drained(struct session *s);

struct upload_thread {
    struct uploads *uploads;
    struct queue *queue;
    struct db_reader *reader;
    pthread_t thread;
    struct msg stop;
    bool stops;
    unsigned session_count; /* under the lock */
};

struct sweep {
    struct storage_job job;
    struct uploads *uploads;
    bool is_pending; /* under the lock */
    unsigned removed;
    uint64_t records_before, records_after;
};

struct uploads {
    struct store *store;
    struct storage *storage;
    struct stats *stats;
    struct log *log;
    _Atomic int64_t ttl_s;
    struct sweep sweep;
    unsigned thread_count;
    struct upload_thread threads[UPLOAD_THREADS_MAX];
    int64_t sweep_due_ms; /* of the first thread */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t quiet; /* nothing is under way */
    bool is_stopping;
    struct session *sessions;           /* in memory, by id */
    struct upload_owners *owners;       /* of sessions in memory or not */
    unsigned busy_count;                /* of them, not idle */
    uint64_t record_count;              /* of all on disk, or about to be */
    TAILQ_HEAD(sessions, session) idle; /* the longest first */
    unsigned idle_count;
    struct upload_blocks spare;
    unsigned spare_count;
    uint64_t staged_bytes;
};

/* upload_job.c: remove the sessions that nobody has used for too long, soon. */
void uploads_sweep(struct uploads *up);
/* With the lock held: so many sessions are gone from the disk. */
void uploads_forget(struct uploads *up, uint64_t count);
/* With the lock held: whether a sweep or a session is under way. */
bool uploads_are_busy(const struct uploads *up);

#endif
