/* SPDX-License-Identifier: ISC */
#include "cache/fetch.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/err.h"
#include "cache/fetch_private.h"
#include "cache/lock.h"

struct fetch_table *fetch_table_new(void)
{
    struct fetch_table *t = mem_new(sizeof *t);

    lock_init(&t->lock);
    return t;
}

void fetch_table_free(struct fetch_table **tp)
{
    struct fetch_table *t = *tp;

    if (!t)
        return;
    *tp = NULL;
    CHECK(!t->fetches);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

unsigned fetch_table_count(struct fetch_table *t)
{
    pthread_mutex_lock(&t->lock);
    unsigned count = HASH_COUNT(t->fetches);
    pthread_mutex_unlock(&t->lock);
    return count;
}

static void look_at_progress(struct fetch *f, struct fetch_progress *p)
{
    pthread_mutex_lock(&f->lock);
    *p = (struct fetch_progress){
        .digest = f->digest,
        .name = f->name,
        .started_ms = f->started_ms,
        .state = f->state,
        .size_bytes = f->size_bytes,
        .kept_bytes = f->kept_bytes,
        .avail_bytes = f->avail_bytes,
        .reader_count = atomic_load_explicit(&f->served, memory_order_relaxed),
    };
    pthread_mutex_unlock(&f->lock);
}

void fetch_table_walk(struct fetch_table *t, fetch_visit *visit, void *arg)
{
    struct fetch_progress progress;

    pthread_mutex_lock(&t->lock);
    for (struct fetch *f = t->fetches; f; f = f->hh.next) {
        look_at_progress(f, &progress);
        visit(arg, &progress);
    }
    pthread_mutex_unlock(&t->lock);
}

static struct fetch *join(struct fetch_table *t, const struct digest *d,
                          const struct name *only_for, bool is_background, bool *created)
{
    struct fetch *f;

    pthread_mutex_lock(&t->lock);
    HASH_FIND(hh, t->fetches, d, sizeof *d, f);
    *created = !f;
    if (!f) {
        f = mem_new(sizeof *f);
        f->digest = *d;
        f->is_private = only_for != NULL;
        if (only_for)
            f->only_for = *only_for;
        f->fd = -1;
        f->table = t;
        f->refs = 1; /* the table's, until fetch_retire */
        f->is_in_table = true;
        lock_init(&f->lock);
        atomic_init(&f->is_background, is_background);
        HASH_ADD(hh, t->fetches, digest, sizeof f->digest, f);
    }
    if (!is_background)
        atomic_store_explicit(&f->is_background, false, memory_order_relaxed);
    f->refs++;
    pthread_mutex_unlock(&t->lock);
    return f;
}

struct fetch *fetch_join(struct fetch_table *t, const struct digest *d, const struct name *only_for,
                         bool *created)
{
    return join(t, d, only_for, false, created);
}

struct fetch *fetch_join_background(struct fetch_table *t, const struct digest *d,
                                    const struct name *only_for, bool *created)
{
    return join(t, d, only_for, true, created);
}

bool fetch_is_background(const struct fetch *f)
{
    return atomic_load_explicit(&f->is_background, memory_order_relaxed);
}

struct fetch *fetch_find(struct fetch_table *t, const struct digest *d)
{
    struct fetch *f;

    pthread_mutex_lock(&t->lock);
    HASH_FIND(hh, t->fetches, d, sizeof *d, f);
    if (f)
        f->refs++;
    pthread_mutex_unlock(&t->lock);
    return f;
}

struct fetch *fetch_ref(struct fetch *f)
{
    pthread_mutex_lock(&f->table->lock);
    f->refs++;
    pthread_mutex_unlock(&f->table->lock);
    return f;
}

void fetch_unref(struct fetch **fp)
{
    struct fetch *f = *fp;

    if (!f)
        return;
    *fp = NULL;
    struct fetch_table *t = f->table;
    pthread_mutex_lock(&t->lock);
    bool last = --f->refs == 0;
    pthread_mutex_unlock(&t->lock);
    if (!last)
        return;
    CHECK(!f->is_in_table && LIST_EMPTY(&f->readers) && LIST_EMPTY(&f->reading));
    if (f->fd >= 0)
        close(f->fd);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

const struct digest *fetch_digest(const struct fetch *f)
{
    return &f->digest;
}

bool fetch_is_private(const struct fetch *f)
{
    return f->is_private;
}

bool fetch_admits(const struct fetch *f, const struct name *n)
{
    return !f->is_private || name_equal(&f->only_for, n);
}

static uint64_t sendable_bytes(const struct fetch *f)
{
    if (f->state == FETCH_VERIFIED)
        return f->size_bytes;
    if (f->state == FETCH_ASKING)
        return 0;
    uint64_t limit = f->size_bytes > FETCH_HOLD_BYTES ? f->size_bytes - FETCH_HOLD_BYTES : 0;
    return f->avail_bytes < limit ? f->avail_bytes : limit;
}

/* The only writer of the state. */
static void fetch_enter(struct fetch *f, enum fetch_state next)
{
    CHECK(next > f->state && f->state < FETCH_VERIFIED);
    f->state = next;
}

/* Wake those whose wait is over; with the lock held. Asked for by every writer's
 * call, as each can end a wait. */
static void wake_readers(struct fetch *f, bool all)
{
    uint64_t sendable = sendable_bytes(f);
    struct reader *r, *next;

    for (r = LIST_FIRST(&f->readers); r; r = next) {
        next = LIST_NEXT(r, link);
        if (r->until_retired ? !f->is_retired : !all && r->want_bytes >= sendable)
            continue;
        LIST_REMOVE(r, link);
        f->reader_count--;
        r->waiting = false;
        r->wake(r);
    }
}

void fetch_describe(struct fetch *f, const struct name *n, int64_t now_ms)
{
    pthread_mutex_lock(&f->lock);
    f->name = *n;
    f->started_ms = now_ms;
    pthread_mutex_unlock(&f->lock);
}

int fetch_begin(struct fetch *f, int fd, uint64_t size_bytes, uint64_t avail_bytes)
{
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    if (own < 0)
        return ERR_IO;
    CHECK(avail_bytes <= size_bytes);
    pthread_mutex_lock(&f->lock);
    f->fd = own;
    f->size_bytes = size_bytes;
    f->kept_bytes = avail_bytes;
    f->avail_bytes = avail_bytes;
    fetch_enter(f, FETCH_STREAMING);
    wake_readers(f, true);
    pthread_mutex_unlock(&f->lock);
    return 0;
}

void fetch_advance(struct fetch *f, uint64_t avail_bytes)
{
    pthread_mutex_lock(&f->lock);
    CHECK(f->state == FETCH_STREAMING);
    CHECK(avail_bytes >= f->avail_bytes && avail_bytes <= f->size_bytes);
    f->avail_bytes = avail_bytes;
    wake_readers(f, false);
    pthread_mutex_unlock(&f->lock);
}

void fetch_verify(struct fetch *f)
{
    pthread_mutex_lock(&f->lock);
    CHECK(f->state == FETCH_STREAMING && f->avail_bytes == f->size_bytes);
    fetch_enter(f, FETCH_VERIFIED);
    wake_readers(f, true);
    pthread_mutex_unlock(&f->lock);
}

void fetch_fail(struct fetch *f, const struct fetch_failure *why)
{
    pthread_mutex_lock(&f->lock);
    f->why = *why;
    fetch_enter(f, FETCH_FAILED);
    wake_readers(f, true);
    pthread_mutex_unlock(&f->lock);
}

void fetch_leave(struct fetch *f)
{
    struct fetch_table *t = f->table;

    pthread_mutex_lock(&t->lock);
    if (f->is_in_table)
        HASH_DEL(t->fetches, f);
    f->is_in_table = false;
    pthread_mutex_unlock(&t->lock);
}

void fetch_retire(const struct fetch_table *t, struct fetch *f)
{
    CHECK(f->table == t);
    fetch_leave(f);
    pthread_mutex_lock(&f->lock);
    f->is_retired = true;
    wake_readers(f, false);
    pthread_mutex_unlock(&f->lock);
    fetch_unref(&f);
}

void fetch_look(struct fetch *f, struct fetch_view *view)
{
    pthread_mutex_lock(&f->lock);
    view->state = f->state;
    view->fd = f->fd;
    view->size_bytes = f->size_bytes;
    view->sendable_bytes = sendable_bytes(f);
    pthread_mutex_unlock(&f->lock);
}

void fetch_why(struct fetch *f, struct fetch_failure *why)
{
    pthread_mutex_lock(&f->lock);
    CHECK(f->state == FETCH_FAILED);
    *why = f->why;
    pthread_mutex_unlock(&f->lock);
}

/* With the lock held. */
static void add_reader(struct reader *r, struct fetch *f)
{
    r->fetch = f;
    r->waiting = true;
    LIST_INSERT_HEAD(&f->readers, r, link);
    f->reader_count++;
}

bool reader_wait(struct reader *r, struct fetch *f, enum fetch_state have_state,
                 uint64_t have_bytes)
{
    pthread_mutex_lock(&f->lock);
    CHECK(!r->waiting);
    bool wait = f->state == have_state && sendable_bytes(f) <= have_bytes;
    r->want_bytes = have_bytes;
    r->until_retired = false;
    if (wait)
        add_reader(r, f);
    pthread_mutex_unlock(&f->lock);
    return wait;
}

bool reader_wait_retired(struct reader *r, struct fetch *f)
{
    pthread_mutex_lock(&f->lock);
    CHECK(!r->waiting && f->state == FETCH_VERIFIED);
    bool wait = !f->is_retired;
    r->until_retired = true;
    if (wait)
        add_reader(r, f);
    pthread_mutex_unlock(&f->lock);
    return wait;
}

void reader_cancel(struct reader *r)
{
    struct fetch *f = r->fetch;

    if (!f)
        return;
    pthread_mutex_lock(&f->lock);
    if (r->waiting) {
        LIST_REMOVE(r, link);
        f->reader_count--;
        r->waiting = false;
    }
    if (r->is_reading) {
        LIST_REMOVE(r, reading);
        r->is_reading = false;
        /* Who is the slowest now has his own time. */
        f->slow_since_ms = 0;
        if (f->moved != NULL)
            f->moved(f->moved_arg);
    }
    r->fetch = NULL;
    pthread_mutex_unlock(&f->lock);
}

void fetch_add_reader(struct fetch *f)
{
    atomic_fetch_add_explicit(&f->served, 1, memory_order_relaxed);
}

void fetch_drop_reader(struct fetch *f)
{
    atomic_fetch_sub_explicit(&f->served, 1, memory_order_relaxed);
}

unsigned fetch_reader_count(struct fetch *f)
{
    pthread_mutex_lock(&f->lock);
    unsigned count = f->reader_count;
    pthread_mutex_unlock(&f->lock);
    return count;
}
