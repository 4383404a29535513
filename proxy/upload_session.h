/* SPDX-License-Identifier: ISC */
/*
 * A session in memory. It does one thing at a time: whoever has something for it leaves
 * that with the session, under the engine's lock, and schedules it. That is a message to
 * its thread, which then takes the next step.
 */
#ifndef PROXY_UPLOAD_SESSION_H
#define PROXY_UPLOAD_SESSION_H

#include <uthash.h>

#include "cache/upload.h"
#include "proxy/storage.h"
#include "proxy/upload_block.h"

struct upload;
struct upload_thread;

/* The map is in upload.c. */
enum session_state {
    SESSION_CREATING,
    SESSION_RECORDING,
    SESSION_OPENING,
    SESSION_TAKING,
    SESSION_IDLE,
    SESSION_PUBLISHING,
    SESSION_REMOVING,
    SESSION_ENDED,
};
#define SESSION_STATES 8

/* What a user has asked for. */
enum upload_task {
    TASK_NONE,
    TASK_BEGIN,
    TASK_OPEN,
    TASK_SETTLE,
    TASK_FINISH,
    TASK_CANCEL,
};

struct session {
    struct storage_job job;
    struct msg work; /* to its thread */
    struct uploads *uploads;
    char id[UPLOAD_ID_SIZE];
    struct name name;

    /* Under the lock. */
    UT_hash_handle hh;
    enum session_state state;
    struct upload_thread *thread; /* NULL: idle */
    bool is_scheduled;
    TAILQ_ENTRY(session) link; /* idle */
    int64_t idle_since_ms;
    struct upload *user;
    enum upload_task task; /* to be done when nothing is staged */
    struct digest want;    /* of TASK_FINISH */
    struct upload_blocks blocks;
    struct upload_block *filling; /* behind them, between two calls of upload_write */
    size_t staged_bytes;
    uint64_t expected_bytes; /* of the whole file, as far as is known */
    int err;                 /* a write failed, and nobody was told yet; set by its thread only */
    bool is_job_over;
    int job_err;

    /* Of its thread; during a job, of the storage thread. */
    struct upload_file *file;
    enum digest_alg alg;
    struct hash *hash;
    uint64_t written_bytes;
    uint64_t hashed_bytes; /* from the front */
    bool is_unreadable;    /* the rest could not be read back */
    uint64_t unflushed_bytes;
    int end_err;       /* of SESSION_REMOVING: the answer */
    bool had_record;   /* which was forgotten */
    bool is_published; /* the file has its name in blobs/ */
};

/* With the lock held: the only writer of the state. */
void session_enter(struct session *s, enum session_state next);
/* With the lock held: have its thread take the next step. */
void session_schedule(struct session *s);
/* That step; `owner` is the thread. */
void session_work(struct msg *m, void *owner);

/* With the lock held: keep this idle one in memory no longer; session_free is left. */
void session_forget(struct session *s);
void session_free(struct session *s);

/* In the session's thread: count and log that its file or record failed. */
void session_note_failure(struct session *s, int err);

/* upload_bytes.c, in the session's thread but for the first */
/* With the lock held: whether bytes wait to be taken. */
bool session_is_staged(const struct session *s);
/* Take one block to the file and the hash. A failure is s->err. */
void session_take_bytes(struct session *s);
/* Whether the file has bytes that are not in the hash yet. */
bool session_is_behind(const struct session *s);
/* Read some of them back, if there are. A failure is s->is_unreadable. */
void session_catch_up(struct session *s);
/* Begin a hash of this algorithm; all that was written is to be read back. */
void session_hash_anew(struct session *s, enum digest_alg alg);

/* upload_job.c: what the storage thread does for a session, which is scheduled when it is
 * over. To commit the record of a new one; to make it a blob, and forget the record; to
 * forget the record. */
void session_record(struct session *s);
void session_publish(struct session *s);
void session_unrecord(struct session *s);

#endif
