/* SPDX-License-Identifier: ISC */
/*
 * Uploads, as those see them who use them. What follows is the life of a session in
 * memory; each arrow is taken by its thread, but that from IDLE to TAKING.
 *
 *   CREATING    its file is made            OPENING    its record is looked up, its file opened
 *      |                                       |
 *   RECORDING   its record is committed        |
 *       \                                     /
 *        TAKING    blocks are appended and hashed; with none staged, what the user asked is
 *          |  |    done; with no user, it rests
 *          |  |                                  <-->  IDLE  or forgotten: on disk only
 *          |   \  finish, and the digest agrees
 *          |   PUBLISHING   file, blob and record are committed
 *          |  cancel, or it does not agree
 *       REMOVING   the file is removed, that the record is gone is committed
 *
 *   ENDED     out of any of them: not in memory any more, freed by its thread
 *
 * A user is with its session from CREATING, OPENING or TAKING on until it leaves or the
 * session has ended. What it asked to be ended goes on without it.
 */
#include "proxy/upload.h"

#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "proxy/thread.h"
#include "proxy/upload_private.h"

void session_enter(struct session *s, enum session_state next)
{
    static const bool allowed[SESSION_STATES][SESSION_STATES] = {
        [SESSION_CREATING] = {[SESSION_RECORDING] = true, [SESSION_ENDED] = true},
        [SESSION_RECORDING] = {[SESSION_TAKING] = true, [SESSION_ENDED] = true},
        [SESSION_OPENING] = {[SESSION_TAKING] = true, [SESSION_ENDED] = true},
        [SESSION_TAKING] = {[SESSION_IDLE] = true,
                            [SESSION_PUBLISHING] = true,
                            [SESSION_REMOVING] = true,
                            [SESSION_ENDED] = true},
        [SESSION_IDLE] = {[SESSION_TAKING] = true, [SESSION_ENDED] = true},
        [SESSION_PUBLISHING] = {[SESSION_ENDED] = true},
        [SESSION_REMOVING] = {[SESSION_ENDED] = true},
    };

    CHECK(allowed[s->state][next]);
    s->state = next;
}

void session_schedule(struct session *s)
{
    if (s->is_scheduled)
        return;
    s->is_scheduled = true;
    queue_post(s->thread->queue, &s->work);
}

/* Give it to the thread that has the fewest. */
static void assign(struct session *s)
{
    struct uploads *up = s->uploads;
    struct upload_thread *least = &up->threads[0];

    for (unsigned i = 1; i < up->thread_count; i++)
        if (up->threads[i].session_count < least->session_count)
            least = &up->threads[i];
    least->session_count++;
    s->thread = least;
    up->busy_count++;
    session_schedule(s);
}

/* --- answers --- */

static void free_if_unposted(struct upload *u)
{
    if (!u->is_answer_posted && !u->is_room_posted)
        free(u);
}

static void answer_run(struct msg *m, void *owner)
{
    struct upload *u = CONTAINER_OF(m, struct upload, answer);

    (void)owner;
    u->is_answer_posted = false;
    if (u->is_left) {
        free_if_unposted(u);
        return;
    }
    /* Bytes may have come before the answer to a begin, but to no other. */
    if (u->asked != TASK_BEGIN)
        u->size_bytes = u->answer_size_bytes;
    u->asked = TASK_NONE;
    u->calls->answered(u->arg, u->answer_err);
}

static void room_run(struct msg *m, void *owner)
{
    struct upload *u = CONTAINER_OF(m, struct upload, room);

    (void)owner;
    if (u->is_left) {
        u->is_room_posted = false;
        free_if_unposted(u);
        return;
    }
    pthread_mutex_lock(&u->uploads->lock);
    u->is_room_posted = false;
    pthread_mutex_unlock(&u->uploads->lock);
    u->calls->has_room(u->arg);
}

static void post_answer(struct upload *u, int err)
{
    u->answer_err = err;
    u->is_answer_posted = true;
    queue_post(u->answers, &u->answer);
}

void upload_answer(struct session *s, int err)
{
    struct upload *u = s->user;

    s->task = TASK_NONE;
    if (!u)
        return;
    u->answer_size_bytes = s->written_bytes;
    post_answer(u, err);
}

void upload_drained(struct session *s)
{
    struct upload *u = s->user;

    if (!u || !u->is_paused || u->is_room_posted || !upload_blocks_have_room(s))
        return;
    u->is_paused = false;
    u->is_room_posted = true;
    queue_post(u->answers, &u->room);
}

/* --- begin and open --- */

static struct upload *upload_new(struct uploads *up, const struct upload_order *o,
                                 enum upload_task asked)
{
    struct upload *u = mem_new(sizeof *u);

    u->uploads = up;
    u->answers = o->answers;
    u->calls = o->calls;
    u->arg = o->arg;
    u->asked = asked;
    u->answer.run = answer_run;
    u->room.run = room_run;
    return u;
}

/* Into memory, and to its thread. Its user and its name are the caller's to set. */
static struct session *session_new(struct uploads *up, const char *id, enum session_state state,
                                   enum upload_task task)
{
    struct session *s = mem_new(sizeof *s);

    s->uploads = up;
    s->work.run = session_work;
    memcpy(s->id, id, sizeof s->id);
    s->state = state;
    s->task = task;
    STAILQ_INIT(&s->blocks);
    HASH_ADD(hh, up->sessions, id, UPLOAD_ID_SIZE, s);
    assign(s);
    return s;
}

static void session_new_for(struct upload *u, const struct name *n, enum session_state state)
{
    struct session *s = session_new(u->uploads, u->id, state, u->asked);

    s->name = *n;
    s->user = u;
    u->session = s;
}

/* From IDLE to its thread, with something to do. */
static void wake_idle(struct session *s)
{
    struct uploads *up = s->uploads;

    TAILQ_REMOVE(&up->idle, s, link);
    up->idle_count--;
    session_enter(s, SESSION_TAKING);
    assign(s);
}

/* With the lock held: end a session of that owner (NULL: of any) that has no bytes. It still
 * counts until it has ended, which is not waited for. */
static bool evict(struct uploads *up, const char *owner)
{
    char id[UPLOAD_ID_SIZE];
    struct session *s;

    if (!upload_owners_take_empty(up->owners, owner, id))
        return false;
    HASH_FIND(hh, up->sessions, id, UPLOAD_ID_SIZE, s);
    if (!s) {
        session_new(up, id, SESSION_OPENING, TASK_CANCEL);
        return true;
    }
    CHECK(!s->user && s->task == TASK_NONE);
    s->task = TASK_CANCEL;
    wake_idle(s);
    return true;
}

/* With the lock held. */
static bool has_room(struct uploads *up, const char *owner)
{
    if (upload_owners_resting(up->owners, owner) >= UPLOADS_RESTING_MAX)
        return evict(up, owner);
    return up->record_count < UPLOADS_MAX || evict(up, NULL);
}

struct upload *upload_begin(struct uploads *up, const struct upload_order *o, enum digest_alg alg)
{
    struct upload *u = upload_new(up, o, TASK_BEGIN);
    const char *owner = o->owner ? o->owner : "";

    upload_id_make(u->id);
    pthread_mutex_lock(&up->lock);
    CHECK(!up->is_stopping);
    if (has_room(up, owner)) {
        up->record_count++;
        STATS_ADD(up->stats, uploads, 1);
        upload_owners_begin(up->owners, owner, u->id);
        session_new_for(u, &o->name, SESSION_CREATING);
        u->session->alg = alg;
    } else {
        post_answer(u, ERR_BUSY);
    }
    pthread_mutex_unlock(&up->lock);
    return u;
}

/* Whether the session in memory may have a user of this repository. */
static int may_join(const struct session *s, const struct name *n)
{
    if (s->state == SESSION_REMOVING || s->task == TASK_CANCEL)
        return ERR_NOT_FOUND;
    /* Whether the name is the session's is not known yet. */
    if (s->state == SESSION_OPENING)
        return ERR_BUSY;
    if (!name_equal(&s->name, n))
        return ERR_NOT_FOUND;
    if (s->user || s->task != TASK_NONE || s->state == SESSION_PUBLISHING)
        return ERR_BUSY;
    return 0;
}

static void join(struct upload *u, struct session *s)
{
    CHECK(s->state == SESSION_TAKING || s->state == SESSION_IDLE);
    s->user = u;
    s->task = TASK_OPEN;
    u->session = s;
    upload_owners_use(s->uploads->owners, s->id);
    if (s->state == SESSION_TAKING)
        session_schedule(s);
    else
        wake_idle(s);
}

/* With the lock held. */
static int open_session(struct upload *u, const struct name *n)
{
    struct session *s;

    HASH_FIND(hh, u->uploads->sessions, u->id, UPLOAD_ID_SIZE, s);
    if (!s) {
        upload_owners_use(u->uploads->owners, u->id);
        session_new_for(u, n, SESSION_OPENING);
        return 0;
    }
    int err = may_join(s, n);
    if (err == 0)
        join(u, s);
    return err;
}

struct upload *upload_open(struct uploads *up, const struct upload_order *o, const char *id)
{
    struct upload *u = upload_new(up, o, TASK_OPEN);
    int err = ERR_NOT_FOUND;

    pthread_mutex_lock(&up->lock);
    CHECK(!up->is_stopping);
    if (upload_id_is_valid(id, strlen(id))) {
        memcpy(u->id, id, UPLOAD_ID_SIZE);
        err = open_session(u, &o->name);
    }
    if (err != 0)
        post_answer(u, err);
    pthread_mutex_unlock(&up->lock);
    return u;
}

const char *upload_id(const struct upload *u)
{
    return u->id;
}

uint64_t upload_size(const struct upload *u)
{
    return u->size_bytes;
}

/* --- bytes --- */

/* The block to go on with: its thread takes those that are full, and this one too when it
 * has no other, but not while it is filled. */
static struct upload_block *take_filling(struct upload *u, size_t len)
{
    struct session *s = u->session;
    struct upload_block *b = s->filling;

    s->filling = NULL;
    return b ? b : upload_block_take(s, u->size_bytes, len);
}

static void put_filling(struct upload *u, struct upload_block *b)
{
    struct session *s = u->session;

    if (!s) {
        upload_block_drop(u->uploads, NULL, b);
        return;
    }
    if (b->len == b->limit_bytes)
        STAILQ_INSERT_TAIL(&s->blocks, b, link);
    else
        s->filling = b;
    session_schedule(s);
}

void upload_expect(struct upload *u, uint64_t bytes)
{
    uint64_t whole_bytes;

    if (__builtin_add_overflow(u->size_bytes, bytes, &whole_bytes))
        whole_bytes = UINT64_MAX;
    pthread_mutex_lock(&u->uploads->lock);
    if (u->session)
        u->session->expected_bytes = whole_bytes;
    pthread_mutex_unlock(&u->uploads->lock);
}

bool upload_write(struct upload *u, const void *data, size_t len)
{
    pthread_mutex_t *lock = &u->uploads->lock;
    const uint8_t *from = data;

    CHECK(u->asked == TASK_NONE || u->asked == TASK_BEGIN);
    pthread_mutex_lock(lock);
    while (len > 0 && u->session && u->session->err == 0) {
        struct upload_block *b = take_filling(u, len);

        pthread_mutex_unlock(lock);
        size_t part = upload_block_fill(b, from, len);
        from += part;
        len -= part;
        u->size_bytes += part;
        pthread_mutex_lock(lock);
        put_filling(u, b);
    }
    u->is_paused = u->session && upload_blocks_are_full(u->session);
    bool goes_on = !u->is_paused;
    pthread_mutex_unlock(lock);
    u->size_bytes += len;
    return goes_on;
}

bool upload_has_failed(const struct upload *u)
{
    pthread_mutex_lock(&u->uploads->lock);
    bool has = u->session && u->session->err != 0;
    pthread_mutex_unlock(&u->uploads->lock);
    return has;
}

/* --- what can be asked --- */

static void ask(struct upload *u, enum upload_task task, const struct digest *want)
{
    CHECK(u->asked == TASK_NONE);
    u->asked = task;
    pthread_mutex_lock(&u->uploads->lock);
    struct session *s = u->session;
    if (s) {
        s->task = task;
        if (want)
            s->want = *want;
        session_schedule(s);
    } else {
        post_answer(u, ERR_NOT_FOUND);
    }
    pthread_mutex_unlock(&u->uploads->lock);
}

void upload_settle(struct upload *u)
{
    ask(u, TASK_SETTLE, NULL);
}

void upload_finish(struct upload *u, const struct digest *d)
{
    ask(u, TASK_FINISH, d);
}

void upload_cancel(struct upload *u)
{
    ask(u, TASK_CANCEL, NULL);
}

/* What the session does without its user. */
static void let_go(struct upload *u, struct session *s)
{
    s->user = NULL;
    u->session = NULL;
    switch (u->asked) {
    case TASK_BEGIN: /* Nobody knows its id. */
        s->task = TASK_CANCEL;
        break;
    case TASK_NONE:
    case TASK_OPEN:
    case TASK_SETTLE:
        s->task = TASK_NONE;
        break;
    case TASK_FINISH:
    case TASK_CANCEL:
        break;
    }
    session_schedule(s);
}

void upload_leave(struct upload **up)
{
    struct upload *u = *up;

    if (!u)
        return;
    *up = NULL;
    pthread_mutex_lock(&u->uploads->lock);
    u->is_left = true;
    if (u->session)
        let_go(u, u->session);
    pthread_mutex_unlock(&u->uploads->lock);
    free_if_unposted(u);
}
