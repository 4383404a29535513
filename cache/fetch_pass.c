/* SPDX-License-Identifier: ISC */
#include "cache/fetch_pass.h"

#include "cache/err.h"
#include "cache/fetch_private.h"

int fetch_begin_passing(struct fetch *f, int fd, uint64_t size_bytes, void (*moved)(void *arg),
                        void *arg)
{
    pthread_mutex_lock(&f->lock);
    bool has_readers = !LIST_EMPTY(&f->reading);

    if (has_readers) {
        f->moved = moved;
        f->moved_arg = arg;
    }
    pthread_mutex_unlock(&f->lock);
    if (!has_readers)
        return ERR_NOT_FOUND;
    int err = fetch_begin(f, fd, size_bytes, 0);

    if (err != 0)
        fetch_pass_end(f);
    return err;
}

/* With the lock held. What all have read; all of it when nobody is left. */
static uint64_t read_by_all(const struct fetch *f)
{
    uint64_t least = UINT64_MAX;
    const struct reader *r;

    LIST_FOREACH (r, &f->reading, reading)
        if (r->read_bytes < least)
            least = r->read_bytes;
    return least;
}

/* With the lock held. */
static uint64_t find_limit(const struct fetch *f, uint64_t window_bytes)
{
    return LIST_EMPTY(&f->reading) ? 0 : f->dropped_bytes + window_bytes;
}

/* With the lock held. The time of the slowest runs while he is more than half a window behind,
 * and begins anew when he has gone on by as much. */
static void time_slowest(struct fetch *f, uint64_t read_bytes, uint64_t window_bytes,
                         int64_t now_ms)
{
    if (read_bytes >= f->avail_bytes || f->avail_bytes - read_bytes <= window_bytes / 2) {
        f->slow_since_ms = 0;
    } else if (f->slow_since_ms == 0 || read_bytes - f->slow_from >= window_bytes / 2) {
        f->slow_since_ms = now_ms;
        f->slow_from = read_bytes;
    }
}

uint64_t fetch_pass_limit(struct fetch *f, uint64_t end, uint64_t window_bytes, int64_t now_ms,
                          uint64_t *drop_bytes)
{
    pthread_mutex_lock(&f->lock);
    bool fits = end <= find_limit(f, window_bytes);
    pthread_mutex_unlock(&f->lock);
    /* Without the lock, whose place is within that of the table. */
    if (!fits)
        fetch_leave(f);
    pthread_mutex_lock(&f->lock);
    uint64_t read_bytes = read_by_all(f);

    /* When nobody is left, nobody can begin any more. */
    if (!fits && read_bytes > f->dropped_bytes)
        f->dropped_bytes = read_bytes;
    uint64_t limit = find_limit(f, window_bytes);

    time_slowest(f, read_bytes, window_bytes, now_ms);
    f->needed_bytes = end > limit ? end - window_bytes : 0;
    *drop_bytes = f->dropped_bytes;
    pthread_mutex_unlock(&f->lock);
    return limit;
}

void fetch_pass_end(struct fetch *f)
{
    pthread_mutex_lock(&f->lock);
    f->moved = NULL;
    pthread_mutex_unlock(&f->lock);
}

bool reader_begin(struct reader *r, struct fetch *f)
{
    pthread_mutex_lock(&f->lock);
    bool can = f->dropped_bytes == 0;

    CHECK(!r->is_reading && !r->waiting);
    if (can) {
        r->fetch = f;
        r->is_reading = true;
        r->read_bytes = 0;
        LIST_INSERT_HEAD(&f->reading, r, reading);
    }
    pthread_mutex_unlock(&f->lock);
    return can;
}

void reader_move(struct reader *r, uint64_t offset)
{
    struct fetch *f = r->fetch;

    if (f == NULL || !r->is_reading)
        return;
    pthread_mutex_lock(&f->lock);
    if (offset > r->read_bytes) {
        r->read_bytes = offset;
        if (f->moved != NULL)
            f->moved(f->moved_arg);
    }
    pthread_mutex_unlock(&f->lock);
}

/* With the lock held. */
static bool is_waited_for(const struct fetch *f)
{
    const struct reader *r;

    LIST_FOREACH (r, &f->reading, reading)
        if (r->waiting)
            return true;
    return false;
}

bool reader_is_too_slow(struct reader *r, int64_t now_ms)
{
    struct fetch *f = r->fetch;

    if (f == NULL || !r->is_reading)
        return false;
    pthread_mutex_lock(&f->lock);
    bool is = f->slow_since_ms != 0 && now_ms - f->slow_since_ms >= FETCH_PASS_PATIENCE_MS &&
              r->read_bytes < f->needed_bytes && r->read_bytes <= read_by_all(f) &&
              is_waited_for(f);
    pthread_mutex_unlock(&f->lock);
    return is;
}
