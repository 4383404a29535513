/* SPDX-License-Identifier: ISC */
/*
 * The thread's side of a session: its steps from one state to the next.
 */
#include "proxy/upload_session.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "cache/err.h"
#include "proxy/thread.h"
#include "proxy/upload_private.h"

/* --- the end --- */

void session_free(struct session *s)
{
    upload_file_close(&s->file);
    hash_free(&s->hash);
    free(s);
}

static void drop_staged(struct session *s)
{
    struct upload_block *b;

    while ((b = STAILQ_FIRST(&s->blocks))) {
        STAILQ_REMOVE_HEAD(&s->blocks, link);
        upload_block_drop(s->uploads, s, b);
    }
    if (s->filling)
        upload_block_drop(s->uploads, s, s->filling);
    s->filling = NULL;
}

/* With the lock held. */
static void not_busy(struct session *s)
{
    struct uploads *up = s->uploads;

    s->thread->session_count--;
    up->busy_count--;
    if (!uploads_are_busy(up))
        pthread_cond_broadcast(&up->quiet);
}

/* With the lock held. One that was opened in vain may be of another repository. */
static void leave_owner(struct session *s, int err, bool is_forgotten)
{
    struct upload_owners *owners = s->uploads->owners;
    bool is_over = err == 0 || err == ERR_NOT_FOUND || err == ERR_MISMATCH;

    if (is_forgotten || (is_over && s->state != SESSION_OPENING))
        upload_owners_end(owners, s->id);
    else
        upload_owners_rest(owners, s->id, s->written_bytes > 0, clock_now_ms());
}

/* It leaves the memory: with its record, or as it is on the disk. */
static void end(struct session *s, int err, bool is_forgotten)
{
    struct uploads *up = s->uploads;

    upload_file_close(&s->file);
    pthread_mutex_lock(&up->lock);
    drop_staged(s);
    leave_owner(s, err, is_forgotten);
    if (is_forgotten)
        uploads_forget(up, 1);
    HASH_DEL(up->sessions, s);
    upload_answer(s, err);
    if (s->user)
        s->user->session = NULL;
    s->user = NULL;
    session_enter(s, SESSION_ENDED);
    bool is_last = !s->is_scheduled;
    not_busy(s);
    pthread_mutex_unlock(&up->lock);
    if (is_last)
        session_free(s);
}

void session_forget(struct session *s)
{
    struct uploads *up = s->uploads;

    TAILQ_REMOVE(&up->idle, s, link);
    up->idle_count--;
    HASH_DEL(up->sessions, s);
    session_enter(s, SESSION_ENDED);
}

static void enter(struct session *s, enum session_state next)
{
    pthread_mutex_lock(&s->uploads->lock);
    session_enter(s, next);
    pthread_mutex_unlock(&s->uploads->lock);
}

static void answer(struct session *s, int err)
{
    pthread_mutex_lock(&s->uploads->lock);
    s->err = 0;
    upload_answer(s, err);
    pthread_mutex_unlock(&s->uploads->lock);
}

void session_note_failure(struct session *s, int err)
{
    struct uploads *up = s->uploads;
    char name[NAME_MAX_SIZE];

    name_text(&s->name, name);
    log_event_about(up->log, LOG_ERROR, &s->name, "an upload to %s failed: %s", name,
                    err_text(err));
    STATS_ADD(up->stats, uploads_failed, 1);
}

/* Whether the storage thread is done with the session. */
static bool is_job_over(struct session *s)
{
    pthread_mutex_lock(&s->uploads->lock);
    bool is = s->is_job_over;
    s->is_job_over = false;
    pthread_mutex_unlock(&s->uploads->lock);
    return is;
}

/* --- the beginning --- */

static void step_creating(struct session *s)
{
    struct uploads *up = s->uploads;
    int err = ERR_IO;

    if (storage_is_writable(up->storage))
        err = upload_file_create(up->store, s->id, &s->file);
    if (err != 0) {
        STATS_ADD(up->stats, store_failures, 1);
        session_note_failure(s, err);
        end(s, err, true);
        return;
    }
    s->hash = hash_new(s->alg);
    enter(s, SESSION_RECORDING);
    session_record(s);
}

static void start_taking(struct session *s)
{
    pthread_mutex_lock(&s->uploads->lock);
    session_enter(s, SESSION_TAKING);
    if (s->task == TASK_BEGIN)
        upload_answer(s, 0);
    session_schedule(s);
    pthread_mutex_unlock(&s->uploads->lock);
}

static void step_recording(struct session *s)
{
    if (!is_job_over(s))
        return;
    if (s->job_err == 0) {
        start_taking(s);
        return;
    }
    session_note_failure(s, s->job_err);
    upload_file_discard(&s->file);
    end(s, s->job_err, true);
}

static int find_record(struct session *s)
{
    struct db_reader *reader = s->thread->reader;
    struct upload_record r;
    struct db_txn *txn;

    int err = db_read(reader, &txn);
    if (err != 0)
        return err;
    err = upload_get(txn, s->id, &r);
    db_read_end(reader);
    /* Without a user it is opened to be removed, whoever's it is. */
    if (err == 0 && !s->name.repository[0])
        s->name = r.name;
    if (err == ERR_DAMAGED || (err == 0 && !name_equal(&r.name, &s->name)))
        return ERR_NOT_FOUND;
    if (err == 0)
        s->alg = r.alg;
    return err;
}

static void step_opening(struct session *s)
{
    int err = find_record(s);

    if (err == 0)
        err = upload_file_open(s->uploads->store, s->id, &s->file, &s->written_bytes);
    if (err != 0) {
        end(s, err, false);
        return;
    }
    s->hash = hash_new(s->alg);
    start_taking(s);
}

/* --- what was asked --- */

/* A session that is used is not idle; one that the sweep has taken is gone. */
static bool open_again(struct session *s)
{
    int fd = upload_file_fd(s->file);
    struct stat st;

    (void)futimens(fd, NULL);
    if (fstat(fd, &st) != 0 || st.st_nlink == 0) {
        end(s, ERR_NOT_FOUND, false);
        return false;
    }
    answer(s, 0);
    return true;
}

static void remove_session(struct session *s, int err)
{
    upload_file_discard(&s->file);
    pthread_mutex_lock(&s->uploads->lock);
    drop_staged(s);
    session_enter(s, SESSION_REMOVING);
    pthread_mutex_unlock(&s->uploads->lock);
    s->end_err = err;
    session_unrecord(s);
}

static bool finish(struct session *s)
{
    struct digest got;

    if (s->err != 0) {
        answer(s, s->err);
        return true;
    }
    if (s->alg != (enum digest_alg)s->want.alg)
        session_hash_anew(s, (enum digest_alg)s->want.alg);
    if (s->is_unreadable) {
        end(s, ERR_IO, false);
        return false;
    }
    if (session_is_behind(s))
        return true;
    hash_final(&s->hash, &got);
    if (digest_equal(&got, &s->want)) {
        enter(s, SESSION_PUBLISHING);
        session_publish(s);
    } else {
        STATS_ADD(s->uploads->stats, uploads_failed, 1);
        remove_session(s, ERR_MISMATCH);
    }
    return false;
}

static void step_publishing(struct session *s)
{
    if (!is_job_over(s))
        return;
    if (s->job_err != 0)
        session_note_failure(s, s->job_err);
    else
        STATS_ADD(s->uploads->stats, uploads_finished, 1);
    end(s, s->job_err, s->job_err == 0 && s->had_record);
}

/* Without its file the session has ended, whether its record is gone yet or not. */
static void step_removing(struct session *s)
{
    if (is_job_over(s))
        end(s, s->end_err, s->job_err == 0 && s->had_record);
}

/* What there is to do, or TASK_NONE: bytes come first, unless nobody wants them. */
static enum upload_task due_task(struct session *s)
{
    pthread_mutex_lock(&s->uploads->lock);
    enum upload_task task = s->task;
    if (task != TASK_CANCEL && session_is_staged(s))
        task = TASK_NONE;
    pthread_mutex_unlock(&s->uploads->lock);
    return task;
}

/* Returns whether the session goes on in its state; if not, it may be gone. */
static bool do_task(struct session *s, enum upload_task task)
{
    switch (task) {
    case TASK_NONE:
    case TASK_BEGIN:
        break;
    case TASK_OPEN:
        return open_again(s);
    case TASK_SETTLE:
        answer(s, s->err);
        break;
    case TASK_FINISH:
        return finish(s);
    case TASK_CANCEL:
        remove_session(s, 0);
        return false;
    }
    return true;
}

/* --- rest --- */

/* With the lock held: a finish that still has to read back is not waited for at the end of
 * the engine, as nobody waits for it. */
static bool has_more(struct session *s)
{
    if (session_is_staged(s))
        return true;
    if (s->uploads->is_stopping) {
        CHECK(!s->user);
        s->task = TASK_NONE;
        return false;
    }
    return session_is_behind(s) && !s->is_unreadable;
}

/* With the lock held. Returns one that is to be freed, for which there is no more room. */
static struct session *rest(struct session *s)
{
    struct uploads *up = s->uploads;
    struct session *oldest = NULL;

    session_enter(s, SESSION_IDLE);
    s->err = 0;
    not_busy(s);
    s->thread = NULL;
    s->idle_since_ms = clock_now_ms();
    upload_owners_rest(up->owners, s->id, s->written_bytes > 0, s->idle_since_ms);
    TAILQ_INSERT_TAIL(&up->idle, s, link);
    if (++up->idle_count > SESSIONS_KEPT_MAX) {
        oldest = TAILQ_FIRST(&up->idle);
        session_forget(oldest);
    }
    return oldest;
}

static void go_on_or_rest(struct session *s)
{
    struct session *oldest = NULL;

    pthread_mutex_lock(&s->uploads->lock);
    if (has_more(s))
        session_schedule(s);
    else if (!s->is_scheduled && !s->user && s->task == TASK_NONE)
        oldest = rest(s);
    pthread_mutex_unlock(&s->uploads->lock);
    if (oldest)
        session_free(oldest);
}

static void step_taking(struct session *s)
{
    enum upload_task task = due_task(s);

    if (task != TASK_CANCEL) {
        session_take_bytes(s);
        session_catch_up(s);
        task = due_task(s);
    }
    if (do_task(s, task))
        go_on_or_rest(s);
}

/* --- the step --- */

void session_work(struct msg *m, void *owner)
{
    struct session *s = CONTAINER_OF(m, struct session, work);

    (void)owner;
    pthread_mutex_lock(&s->uploads->lock);
    s->is_scheduled = false;
    enum session_state state = s->state;
    pthread_mutex_unlock(&s->uploads->lock);
    switch (state) {
    case SESSION_CREATING:
        step_creating(s);
        break;
    case SESSION_RECORDING:
        step_recording(s);
        break;
    case SESSION_OPENING:
        step_opening(s);
        break;
    case SESSION_TAKING:
        step_taking(s);
        break;
    case SESSION_PUBLISHING:
        step_publishing(s);
        break;
    case SESSION_REMOVING:
        step_removing(s);
        break;
    case SESSION_IDLE:
        CHECK(state != SESSION_IDLE);
        break;
    case SESSION_ENDED:
        session_free(s);
        break;
    }
}
