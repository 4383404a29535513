/* SPDX-License-Identifier: ISC */
#include "proxy/intake.h"

#include <stdlib.h>
#include <string.h>

#include "proxy/intake_hash.h"
#include "proxy/intake_write.h"

#define PAGE_BYTES 4096u
/* Empty blocks kept for the next bytes, as many as can be under way at once: fresh
 * memory costs page faults. */
#define SPARE_MAX (INTAKE_STAGED_ALL_MAX / INTAKE_BLOCK_BYTES)

static struct block *block_take(struct hasher *h, struct intake *i)
{
    struct block *b = SLIST_FIRST(&h->spare);

    if (b) {
        SLIST_REMOVE_HEAD(&h->spare, link);
        h->spare_count--;
    } else {
        b = mem_new(sizeof *b);
        b->memory = mem_resize(NULL, INTAKE_BLOCK_BYTES + PAGE_BYTES);
    }
    b->intake = i;
    b->len = 0;
    return b;
}

static void block_free(struct block *b)
{
    free(b->memory);
    free(b);
}

static void block_spare(struct hasher *h, struct block *b)
{
    if (h->spare_count == SPARE_MAX) {
        block_free(b);
        return;
    }
    SLIST_INSERT_HEAD(&h->spare, b, link);
    h->spare_count++;
}

static void post_block(struct intake *i, unsigned lane)
{
    struct block *b = i->filling[lane];

    if (!b)
        return;
    i->filling[lane] = NULL;
    i->in_flight_bytes += b->len;
    b->msg.run = writer_block;
    queue_post(i->hasher->to_write, &b->msg);
}

static void post_blocks(struct intake *i)
{
    for (unsigned lane = 0; lane < INTAKE_LANES_MAX; lane++)
        post_block(i, lane);
}

static void post_order(struct intake *i, void (*run)(struct msg *, void *),
                       const struct order *what)
{
    struct order *o = mem_new(sizeof *o);

    *o = *what;
    o->intake = i;
    o->msg.run = run;
    post_blocks(i);
    queue_post(i->hasher->to_write, &o->msg);
}

struct intake *intake_new(struct hasher *h, struct fetch *f, const struct name *n,
                          bool is_elsewhere, const struct intake_calls *calls, void *arg)
{
    struct intake *i = mem_new(sizeof *i);

    i->hasher = h;
    i->fetch = fetch_ref(f);
    i->calls = calls;
    i->arg = arg;
    CHECK(fetch_admits(f, n));
    i->owner = (struct partial_owner){*n, fetch_is_private(f), is_elsewhere};
    i->hash = hash_new((enum digest_alg)fetch_digest(f)->alg);
    h->intake_count++;
    STATS_ADD(h->stats, fetches, 1);
    STATS_ADD(h->stats, fetches_total, 1);
    post_order(i, writer_open, &(struct order){0});
    return i;
}

void intake_reset(struct intake *i)
{
    post_order(i, writer_reset, &(struct order){0});
}

void intake_go_elsewhere(struct intake *i)
{
    post_order(i, writer_go_elsewhere, &(struct order){0});
}

void intake_size(struct intake *i, uint64_t size_bytes)
{
    post_order(i, writer_size, &(struct order){.bytes = size_bytes});
}

/* Where in its memory a block begins, for bytes that come from `from`: not at the same
 * place of a page. Processors take a load for a store that is under way when the low
 * twelve bits of both agree, and the copy then costs three times as much. */
static void place(struct block *b, const uint8_t *from)
{
    uintptr_t shift = ((uintptr_t)from + PAGE_BYTES / 4 - (uintptr_t)b->memory) % PAGE_BYTES;

    b->data = b->memory + shift;
}

/* Fill the lane's block; returns how much of `len` it took. A block ends at a
 * multiple of its size in the blob: the page cache then holds the file in large
 * folios, which is felt in each later hit too. */
static size_t fill(struct intake *i, unsigned lane, uint64_t offset, const uint8_t *from,
                   size_t len)
{
    struct block *b = i->filling[lane];

    if (b && b->offset + b->len != offset) {
        post_block(i, lane);
        b = NULL;
    }
    if (!b) {
        b = i->filling[lane] = block_take(i->hasher, i);
        b->offset = offset;
        place(b, from);
    }
    size_t size = INTAKE_BLOCK_BYTES - (size_t)(b->offset % INTAKE_BLOCK_BYTES);
    size_t room = size - b->len;
    size_t part = len < room ? len : room;
    memcpy(b->data + b->len, from, part);
    b->len += part;
    if (b->len == size)
        post_block(i, lane);
    return part;
}

void intake_write(struct intake *i, unsigned lane, uint64_t offset, const void *data, size_t len)
{
    const uint8_t *from = data;

    CHECK(!i->ending && lane < INTAKE_LANES_MAX);
    i->staged_bytes += len;
    i->hasher->staged_bytes += len;
    while (len > 0) {
        size_t part = fill(i, lane, offset, from, len);
        offset += part;
        from += part;
        len -= part;
    }
    if (i->in_flight_bytes == 0)
        post_block(i, lane);
}

/* Whether more is staged than so many quarters of the limits. */
static bool is_beyond(const struct intake *i, unsigned quarters)
{
    if (i->staged_bytes > INTAKE_STAGED_MAX / 4 * quarters)
        return true;
    return i->staged_bytes > INTAKE_BLOCK_BYTES &&
           i->hasher->staged_bytes > INTAKE_STAGED_ALL_MAX / 4 * quarters;
}

bool intake_is_full(const struct intake *i, bool is_front)
{
    return is_beyond(i, is_front ? 4 : 3);
}

bool intake_has_room(const struct intake *i)
{
    return !is_beyond(i, 2);
}

void intake_end(struct intake *i)
{
    CHECK(!i->ending);
    post_order(i, writer_end, &(struct order){.verify = true});
    i->ending = true;
}

void intake_abandon(struct intake *i, const struct fetch_failure *why, bool discard)
{
    CHECK(!i->ending);
    post_order(i, writer_end, &(struct order){.why = *why, .discard = discard});
    i->ending = true;
}

/* --- answers --- */

void intake_opened(struct msg *m, void *owner)
{
    struct order *o = (struct order *)m;
    struct intake *i = o->intake;

    (void)owner;
    if (!i->ending)
        i->calls->opened(i->arg, o->err, o->kept, o->kept_elsewhere);
    free(o->kept);
    free(o);
}

void intake_sized(struct msg *m, void *owner)
{
    struct order *o = (struct order *)m;
    struct intake *i = o->intake;

    (void)owner;
    if (!i->ending && i->calls->sized)
        i->calls->sized(i->arg, o->is_passing);
    free(o);
}

void intake_drained(struct msg *m, void *owner)
{
    struct block *b = (struct block *)m;
    struct intake *i = b->intake;
    uint64_t len = b->len;

    (void)owner;
    i->in_flight_bytes -= len;
    i->staged_bytes -= len;
    i->hasher->staged_bytes -= len;
    block_spare(i->hasher, b);
    if (i->in_flight_bytes == 0)
        post_blocks(i);
    if (!i->ending)
        i->calls->drained(i->arg, len);
}

void intake_broken(struct msg *m, void *owner)
{
    struct intake *i = CONTAINER_OF(m, struct intake, broken);

    (void)owner;
    if (!i->ending)
        i->calls->broken(i->arg, i->broken_err);
}

void intake_ended(struct msg *m, void *owner)
{
    struct order *o = (struct order *)m;
    struct intake *i = o->intake;

    (void)owner;
    CHECK(i->ending && i->staged_bytes == 0);
    i->calls->ended(i->arg, o->err);
    i->hasher->intake_count--;
    free(i);
    free(o);
}

/* --- the threads --- */

struct hasher *hasher_start(struct store *s, struct storage *st, struct fetch_table *fetches,
                            struct queue *answers, struct twice *twice, struct stats *stats,
                            struct log *log)
{
    struct hasher *h = mem_new(sizeof *h);

    h->store = s;
    h->storage = st;
    h->fetches = fetches;
    h->answers = answers;
    h->twice = twice;
    h->stats = stats;
    h->log = log;
    h->to_write = queue_new();
    h->to_hash = queue_new();
    SLIST_INIT(&h->spare);
    LIST_INIT(&h->lagging);
    CHECK(db_reader_new(store_db(s), &h->reader) == 0);
    thread_start(&h->writing, "write", writer_run, h);
    thread_start(&h->hashing, "hash", hasher_run, h);
    return h;
}

void hasher_stop(struct hasher **hp)
{
    struct hasher *h = *hp;
    struct block *b;

    if (!h)
        return;
    *hp = NULL;
    CHECK(h->intake_count == 0);
    h->stop.run = writer_stop;
    queue_post(h->to_write, &h->stop);
    thread_join(h->writing);
    thread_join(h->hashing);
    while ((b = SLIST_FIRST(&h->spare))) {
        SLIST_REMOVE_HEAD(&h->spare, link);
        block_free(b);
    }
    db_reader_free(&h->reader);
    queue_free(&h->to_write);
    queue_free(&h->to_hash);
    free(h);
}
