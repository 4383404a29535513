/* SPDX-License-Identifier: ISC */
/*
 * An intake whose blob is not stored, as there is no room for it: its blocks go through a
 * file in memory to those who read the fetch (cache/fetch_pass.h), no further ahead of the
 * slowest than a window, and are dropped behind him. Blocks that are ahead wait here; what
 * they count as staged makes the transfer pause.
 */
#include "proxy/intake_write.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cache/err.h"
#include "cache/fetch_pass.h"
#include "cache/tempfile.h"

/* Each blob that passes takes so much memory, and so many may at once. */
#define WINDOW_BYTES (UINT64_C(4) << 20)
#define PASSING_MAX 16
#define PAGE_BYTES 4096u

/* In any thread, with the fetch locked. */
static void moved(void *arg)
{
    struct intake *i = arg;

    if (!atomic_exchange(&i->pass.is_moved_posted, true))
        queue_post(i->hasher->to_write, &i->pass.moved);
}

static void moved_taken(struct msg *m, void *owner)
{
    struct intake *i = CONTAINER_OF(m, struct intake, pass.moved);

    (void)owner;
    atomic_store(&i->pass.is_moved_posted, false);
    intake_pass_on(i);
    intake_settle(i);
}

int intake_begin_passing(struct intake *i)
{
    struct passing *p = &i->pass;

    /* What an earlier run left is in its file. */
    if (i->extents.count > 0 || i->hasher->passing_count == PASSING_MAX)
        return ERR_NO_SPACE;
    int fd = memfd_create("cachalot-passing", MFD_CLOEXEC);
    if (fd < 0)
        return ERR_NO_SPACE;
    p->moved.run = moved_taken;
    int err = fetch_begin_passing(i->fetch, fd, i->size_bytes, moved, i);
    if (err != 0) {
        close(fd);
        return ERR_NO_SPACE;
    }
    p->fd = fd;
    p->is_passing = true;
    STAILQ_INIT(&p->blocks);
    i->hasher->passing_count++;
    i->discard = true;
    partial_discard(&i->partial);
    if (i->is_recorded)
        publish_forget(i->hasher, fetch_digest(i->fetch));
    i->is_recorded = false;
    STATS_ADD(i->hasher->stats, streamed_unstored, 1);
    return 0;
}

static void drop_to(struct passing *p, uint64_t drop_bytes)
{
    uint64_t to = drop_bytes - drop_bytes % PAGE_BYTES;

    if (to > p->dropped_bytes &&
        fallocate(p->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)p->dropped_bytes,
                  (off_t)(to - p->dropped_bytes)) == 0)
        p->dropped_bytes = to;
}

static void take_first(struct intake *i, bool is_written)
{
    struct msg *m = STAILQ_FIRST(&i->pass.blocks);
    struct block *b = (struct block *)m;

    STAILQ_REMOVE_HEAD(&i->pass.blocks, link);
    b->is_written = is_written;
    b->front_bytes = extents_front(&i->extents);
    intake_post_block(i, b);
}

/* Whether the first block is written; if not, it waits, or the intake has failed. */
static bool write_first(struct intake *i)
{
    struct passing *p = &i->pass;
    const struct block *b = (const struct block *)STAILQ_FIRST(&p->blocks);
    uint64_t front_bytes = extents_front(&i->extents);
    uint64_t drop_bytes;

    if (b->offset > front_bytes)
        return false;
    CHECK(b->offset == front_bytes && b->offset + b->len <= i->size_bytes);
    uint64_t limit =
        fetch_pass_limit(i->fetch, b->offset + b->len, WINDOW_BYTES, clock_now_ms(), &drop_bytes);
    if (limit == 0) {
        intake_break_off(i, ERR_NOT_FOUND);
        return false;
    }
    /* Who wants a part that is far ahead needs nothing below it, but what is dropped before it
     * is written would stay. */
    drop_to(p, drop_bytes < front_bytes ? drop_bytes : front_bytes);
    if (b->offset + b->len > limit)
        return false;
    int err = file_write(p->fd, b->data, b->len, (off_t)b->offset);
    if (err != 0) {
        intake_break_off(i, err);
        return false;
    }
    CHECK(extents_add(&i->extents, b->offset, b->offset + b->len));
    return true;
}

static void end_if_empty(struct intake *i)
{
    struct order *end = i->pass.end;

    if (!end || !STAILQ_EMPTY(&i->pass.blocks))
        return;
    i->pass.end = NULL;
    intake_post_end(i, end);
}

void intake_pass_on(struct intake *i)
{
    struct passing *p = &i->pass;
    bool any = false;

    /* Given up by its giver: nothing waits for readers any more. */
    if (i->state == INTAKE_OPEN && p->end && !p->end->verify)
        while (!STAILQ_EMPTY(&p->blocks))
            take_first(i, false);
    while (i->state == INTAKE_OPEN && !STAILQ_EMPTY(&p->blocks) && write_first(i)) {
        take_first(i, true);
        any = true;
    }
    while (i->state == INTAKE_FAILED && !STAILQ_EMPTY(&p->blocks))
        take_first(i, false);
    if (any && i->state == INTAKE_OPEN)
        intake_tell(i);
    end_if_empty(i);
}

/* In the order of their offsets. */
void intake_pass_block(struct intake *i, struct block *b)
{
    struct passing *p = &i->pass;
    struct msg *after = NULL, *m;

    STAILQ_FOREACH (m, &p->blocks, link) {
        if (((struct block *)m)->offset > b->offset)
            break;
        after = m;
    }
    if (after)
        STAILQ_INSERT_AFTER(&p->blocks, after, &b->msg, link);
    else
        STAILQ_INSERT_HEAD(&p->blocks, &b->msg, link);
    intake_pass_on(i);
}

void intake_pass_end(struct intake *i, struct order *o)
{
    i->pass.end = o;
    intake_pass_on(i);
}

bool intake_stop_passing(struct intake *i)
{
    struct passing *p = &i->pass;

    if (!p->is_passing)
        return true;
    fetch_pass_end(i->fetch);
    /* The message names the intake. */
    if (atomic_load(&p->is_moved_posted))
        return false;
    close(p->fd);
    p->is_passing = false;
    i->hasher->passing_count--;
    return true;
}
