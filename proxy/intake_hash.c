/* SPDX-License-Identifier: ISC */
/*
 * The hash thread's side of an intake.
 *
 * The hash goes in order: a block that continues it is hashed from memory; one that
 * comes early is read back from the file, and so from memory still as a rule, when
 * what is missing before it has come. How far the file has no gap is known from the
 * write thread only, whose messages arrive behind what they speak of.
 */
#include "proxy/intake_hash.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "cache/err.h"
#include "proxy/intake_write.h"

/* Read back and hashed before other fetches have their turn: more than comes
 * meanwhile, so that it ends. */
#define CATCH_UP_STEP_BYTES (2 * INTAKE_STAGED_MAX)
#define CATCH_UP_READ_BYTES (256u * 1024)

/* --- the end --- */

/* The end has come: back to the write thread when all that is to be hashed is. */
static void conclude(struct intake *i)
{
    struct order *o = i->hash_end;

    if (!o || i->is_catching_up)
        return;
    o->verify = o->verify && !i->is_unread;
    if (o->verify) {
        CHECK(i->hashed_bytes == i->front_bytes);
        hash_final(&i->hash, &o->digest);
    }
    hash_free(&i->hash);
    o->msg.run = writer_conclude;
    queue_post(i->hasher->to_write, &o->msg);
}

void hasher_end(struct msg *m, void *owner)
{
    struct order *o = (struct order *)m;

    (void)owner;
    o->intake->hash_end = o;
    conclude(o->intake);
}

/* --- hashing what was written early, or by an earlier run --- */

static bool is_behind(const struct intake *i)
{
    return i->may_read_back && !i->is_unread && !(i->hash_end && !i->hash_end->verify) &&
           i->hashed_bytes < i->front_bytes;
}

static int catch_up_step(struct intake *i)
{
    uint8_t *buf = mem_new(CATCH_UP_READ_BYTES);
    uint64_t limit = i->hashed_bytes + CATCH_UP_STEP_BYTES;
    int err = 0;

    if (limit > i->front_bytes)
        limit = i->front_bytes;
    while (i->hashed_bytes < limit && err == 0) {
        uint64_t left = limit - i->hashed_bytes;
        size_t want = left < CATCH_UP_READ_BYTES ? (size_t)left : CATCH_UP_READ_BYTES;
        ssize_t got = pread(partial_fd(i->partial), buf, want, (off_t)i->hashed_bytes);
        if (got > 0) {
            hash_update(i->hash, buf, (size_t)got);
            i->hashed_bytes += (uint64_t)got;
        } else if (got == 0 || errno != EINTR) {
            err = ERR_IO;
        }
    }
    free(buf);
    return err;
}

static void catch_up(struct msg *m, void *owner)
{
    struct intake *i = CONTAINER_OF(m, struct intake, catch_up);

    (void)owner;
    if (is_behind(i) && catch_up_step(i) != 0) {
        i->is_unread = true;
        i->unread.run = writer_unread;
        queue_post(i->hasher->to_write, &i->unread);
    }
    if (is_behind(i)) {
        queue_post(i->hasher->to_hash, m);
        return;
    }
    i->is_catching_up = false;
    conclude(i);
}

static void catch_up_soon(struct intake *i)
{
    if (i->is_catching_up || !is_behind(i))
        return;
    i->is_catching_up = true;
    i->catch_up.run = catch_up;
    queue_post(i->hasher->to_hash, &i->catch_up);
}

/* --- bytes --- */

void hasher_reset(struct msg *m, void *owner)
{
    struct order *o = (struct order *)m;
    struct intake *i = o->intake;

    (void)owner;
    CHECK(!i->may_read_back);
    hash_free(&i->hash);
    i->hash = hash_new((enum digest_alg)fetch_digest(i->fetch)->alg);
    i->hashed_bytes = i->front_bytes = 0;
    free(o);
}

void hasher_size(struct msg *m, void *owner)
{
    struct order *o = (struct order *)m;
    struct intake *i = o->intake;

    (void)owner;
    i->front_bytes = o->bytes;
    i->may_read_back = !o->is_passing;
    catch_up_soon(i);
    m->run = intake_sized;
    queue_post(i->hasher->answers, m);
}

static void take_block(struct intake *i, const struct block *b)
{
    if (i->hashed_bytes == b->offset) {
        hash_update(i->hash, b->data, b->len);
        i->hashed_bytes += b->len;
    }
    i->front_bytes = b->front_bytes;
    catch_up_soon(i);
}

void hasher_block(struct msg *m, void *owner)
{
    struct block *b = (struct block *)m;

    (void)owner;
    if (b->is_written)
        take_block(b->intake, b);
    m->run = intake_drained;
    queue_post(b->intake->hasher->answers, m);
}

/* --- the thread --- */

void hasher_stopped(struct msg *m, void *owner)
{
    struct hasher *h = owner;

    (void)m;
    h->hasher_stops = true;
}

void *hasher_run(void *arg)
{
    struct hasher *h = arg;

    while (!h->hasher_stops) {
        queue_wait(h->to_hash, -1);
        queue_run(h->to_hash, h);
    }
    return NULL;
}
