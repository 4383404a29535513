/* SPDX-License-Identifier: ISC */
/*
 * The hash thread's side of an intake.
 *
 * A block is written first and hashed then: its readers wait for the file, and
 * what they may have of an unverified blob is bounded by FETCH_HOLD_BYTES anyway.
 * The hash goes in order: a block that continues it is hashed from memory; one that
 * comes early is read back from the file, and so from memory still as a rule, when
 * what is missing before it has come.
 */
#include "proxy/intake_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cache/err.h"
#include "proxy/outcome.h"

/* Readers are told of new bytes when there are so many, or after so long: each
 * telling costs a wake-up of every reader. */
#define TELL_BYTES (256u * 1024)
#define TELL_MS 4

/* Read back and hashed before other fetches have their turn: more than comes
 * meanwhile, so that it ends. */
#define CATCH_UP_STEP_BYTES (2 * INTAKE_STAGED_MAX)
#define CATCH_UP_READ_BYTES (256u * 1024)

#define WRITE_STEP_BYTES (64u * 1024)

/* --- telling the readers --- */

static void not_lagging(struct intake *i)
{
    if (i->is_lagging)
        LIST_REMOVE(i, lagging);
    i->is_lagging = false;
}

static void tell(struct intake *i, int64_t now_ms)
{
    not_lagging(i);
    i->told_bytes = extents_front(&i->extents);
    i->told_at_ms = now_ms;
    fetch_advance(i->fetch, i->told_bytes);
}

static void tell_in_time(struct intake *i, int64_t now_ms)
{
    uint64_t untold_bytes = extents_front(&i->extents) - i->told_bytes;

    if (untold_bytes == 0)
        return;
    if (untold_bytes >= TELL_BYTES || now_ms - i->told_at_ms >= TELL_MS) {
        tell(i, now_ms);
    } else if (!i->is_lagging) {
        i->is_lagging = true;
        LIST_INSERT_HEAD(&i->hasher->lagging, i, lagging);
    }
}

/* Tell those readers whose time has come; returns how long to wait for the next. */
static int tell_lagging(struct hasher *h)
{
    struct intake *i, *next;
    int wait_ms = -1;

    if (LIST_EMPTY(&h->lagging))
        return wait_ms;
    int64_t now_ms = clock_now_ms();
    for (i = LIST_FIRST(&h->lagging); i; i = next) {
        next = LIST_NEXT(i, lagging);
        int64_t left_ms = TELL_MS - (now_ms - i->told_at_ms);
        if (left_ms <= 0)
            tell(i, now_ms);
        else if (wait_ms < 0 || left_ms < wait_ms)
            wait_ms = (int)left_ms;
    }
    return wait_ms;
}

/* --- ways to end --- */

static void fail(struct intake *i, const struct fetch_failure *why)
{
    if (i->state == INTAKE_FAILED)
        return;
    CHECK(i->state != INTAKE_VERIFIED);
    i->state = INTAKE_FAILED;
    not_lagging(i);
    i->why = *why;
    STATS_ADD(i->hasher->stats, fetch_failures, 1);
}

static void fail_store(struct intake *i, int err)
{
    struct fetch_failure why = {
        .code = err == ERR_NO_SPACE ? OUT_NO_SPACE : OUT_STORE_FAILED,
    };

    snprintf(why.text, sizeof why.text, "writing to the cache directory: %s", err_text(err));
    log_event(i->hasher->log, LOG_ERROR, "a fetch was given up: %s", why.text);
    STATS_ADD(i->hasher->stats, store_failures, 1);
    i->discard = true;
    fail(i, &why);
}

/* The cache directory could not be written: tell the upstream thread. */
static void break_off(struct intake *i, int err)
{
    if (i->state == INTAKE_FAILED)
        return;
    fail_store(i, err);
    i->broken_err = err;
    i->broken.run = intake_broken;
    queue_post(i->hasher->answers, &i->broken);
}

static void close_failed(struct intake *i)
{
    struct hasher *h = i->hasher;

    if (i->discard || !i->is_recorded) {
        partial_discard(&i->partial);
        if (i->is_recorded)
            publish_forget(h, fetch_digest(i->fetch));
    }
    partial_close(&i->partial);
    /* Those who wait are told last: whoever asks again must begin anew, not join this. */
    STATS_SUB(h->stats, fetches, 1);
    fetch_retire(h->fetches, i->fetch);
    fetch_fail(i->fetch, &i->why);
    fetch_unref(&i->fetch);
}

void intake_settle(struct intake *i)
{
    struct order *o = i->end;

    if (!i->is_concluded || i->checkpoint.pending)
        return;
    if (i->state == INTAKE_FAILED && checkpoint_last(i))
        return;
    hash_free(&i->hash);
    if (i->state == INTAKE_VERIFIED) {
        publish_post(i->hasher, i->partial, i->fetch, &i->name, i->size_bytes);
        i->partial = NULL;
        i->fetch = NULL;
    } else {
        close_failed(i);
    }
    o->msg.run = intake_ended;
    queue_post(i->hasher->answers, &o->msg);
}

static void verify(struct intake *i)
{
    const struct digest *want = fetch_digest(i->fetch);
    struct digest got;
    char want_text[DIGEST_TEXT_MAX], got_text[DIGEST_TEXT_MAX];
    struct fetch_failure why = {.code = OUT_BAD_CONTENT};

    CHECK(i->is_begun && i->hashed_bytes == i->size_bytes);
    hash_final(&i->hash, &got);
    if (digest_equal(&got, want)) {
        if (i->told_bytes < i->size_bytes)
            tell(i, clock_now_ms());
        fetch_verify(i->fetch);
        i->state = INTAKE_VERIFIED;
        return;
    }
    STATS_ADD(i->hasher->stats, verify_failures, 1);
    log_event(i->hasher->log, LOG_ERROR, "%s sent wrong content for %s of %s: its digest is %s",
              i->name.registry, digest_text(want, want_text), i->name.repository,
              digest_text(&got, got_text));
    snprintf(why.text, sizeof why.text, "%.80s sent content whose digest is %s", i->name.registry,
             got_text);
    i->discard = true;
    fail(i, &why);
}

/* The end has come, and all that is to be hashed is. */
static void conclude(struct intake *i)
{
    struct order *o = i->end;

    if (!o || i->is_catching_up)
        return;
    if (o->verify && i->state == INTAKE_OPEN)
        verify(i);
    else if (i->state == INTAKE_OPEN)
        fail(i, &o->why);
    o->err = i->state == INTAKE_VERIFIED ? 0 : ERR_MISMATCH;
    i->is_concluded = true;
    intake_settle(i);
}

void hasher_end(struct msg *m, void *owner)
{
    struct order *o = (struct order *)m;
    struct intake *i = o->intake;

    (void)owner;
    i->discard |= o->discard;
    i->end = o;
    conclude(i);
}

/* --- hashing what was written early, or by an earlier run --- */

static bool is_behind(const struct intake *i)
{
    return i->state == INTAKE_OPEN && !(i->end && !i->end->verify) &&
           i->hashed_bytes < extents_front(&i->extents);
}

static int catch_up_step(struct intake *i)
{
    uint8_t *buf = mem_new(CATCH_UP_READ_BYTES);
    uint64_t front = extents_front(&i->extents);
    uint64_t limit = i->hashed_bytes + CATCH_UP_STEP_BYTES;
    int err = 0;

    if (limit > front)
        limit = front;
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
    struct intake *i = (struct intake *)((char *)m - offsetof(struct intake, catch_up));

    (void)owner;
    if (is_behind(i)) {
        int err = catch_up_step(i);
        if (err != 0)
            break_off(i, err);
    }
    if (is_behind(i)) {
        queue_post(i->hasher->queue, m);
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
    queue_post(i->hasher->queue, &i->catch_up);
}

/* --- opening --- */

static int open_partial(struct intake *i)
{
    const struct digest *d = fetch_digest(i->fetch);
    uint64_t file_bytes;

    if (!storage_is_writable(i->hasher->storage))
        return ERR_IO;
    int err = partial_open(i->hasher->store, d, &i->partial, &file_bytes);
    if (err != 0)
        return err;
    i->hash = hash_new((enum digest_alg)d->alg);
    i->started_at_s = time(NULL);
    checkpoint_load(i, file_bytes);
    uint64_t end = extents_end(&i->extents);
    return end < file_bytes ? partial_truncate(i->partial, end) : 0;
}

void hasher_open(struct msg *m, void *owner)
{
    struct order *o = (struct order *)m;
    struct intake *i = o->intake;

    (void)owner;
    o->err = open_partial(i);
    if (o->err != 0)
        fail_store(i, o->err);
    else
        catch_up_soon(i);
    o->kept = mem_new(sizeof *o->kept);
    *o->kept = i->extents;
    o->msg.run = intake_opened;
    queue_post(i->hasher->answers, &o->msg);
}

void hasher_reset(struct msg *m, void *owner)
{
    struct order *o = (struct order *)m;
    struct intake *i = o->intake;

    (void)owner;
    CHECK(!i->is_begun);
    if (i->state == INTAKE_OPEN) {
        hash_free(&i->hash);
        i->hash = hash_new((enum digest_alg)fetch_digest(i->fetch)->alg);
        i->hashed_bytes = 0;
        i->extents.count = 0;
        i->checkpoint.record.extents.count = 0;
        int err = partial_truncate(i->partial, 0);
        if (err != 0)
            break_off(i, err);
    }
    free(o);
}

/* --- bytes --- */

void hasher_size(struct msg *m, void *owner)
{
    struct order *o = (struct order *)m;
    struct intake *i = o->intake;

    (void)owner;
    CHECK(!i->is_begun);
    if (i->state == INTAKE_OPEN) {
        CHECK(extents_end(&i->extents) <= o->bytes);
        i->size_bytes = o->bytes;
        i->is_begun = true;
        i->told_bytes = extents_front(&i->extents);
        int err = partial_reserve(i->partial, i->size_bytes);
        if (err == 0)
            err = fetch_begin(i->fetch, partial_fd(i->partial), i->size_bytes, i->told_bytes);
        if (err == 0)
            checkpoint_first(i);
        else
            break_off(i, err);
    }
    free(o);
}

/* In steps: larger ones make the kernel fetch memory in the largest units, which on a
 * virtual machine may have to come back from its host first. */
static int write_block(struct intake *i, const struct block *b)
{
    int err = 0;

    for (size_t done = 0; done < b->len && err == 0;) {
        size_t left = b->len - done;
        size_t step = left < WRITE_STEP_BYTES ? left : WRITE_STEP_BYTES;
        err = partial_write(i->partial, b->data + done, step, b->offset + done);
        done += step;
    }
    return err;
}

static void take_block(struct intake *i, const struct block *b)
{
    uint64_t end = b->offset + b->len;
    uint64_t gap_end;

    /* Readers may have had what was there: it stays as it is. */
    CHECK(extents_gap(&i->extents, b->offset, &gap_end) == b->offset && end <= gap_end);
    CHECK(!i->is_begun || end <= i->size_bytes);
    int err = write_block(i, b);
    if (err != 0) {
        break_off(i, err);
        return;
    }
    CHECK(extents_add(&i->extents, b->offset, end));
    if (i->is_begun) {
        int64_t now_ms = clock_now_ms();
        tell_in_time(i, now_ms);
        checkpoint_in_time(i, b->len, now_ms);
    }
    if (i->hashed_bytes == b->offset) {
        hash_update(i->hash, b->data, b->len);
        i->hashed_bytes = end;
    }
    catch_up_soon(i);
}

void hasher_block(struct msg *m, void *owner)
{
    struct block *b = (struct block *)m;
    struct intake *i = b->intake;

    (void)owner;
    if (i->state == INTAKE_OPEN)
        take_block(i, b);
    m->run = intake_drained;
    queue_post(i->hasher->answers, m);
}

void *hasher_run(void *arg)
{
    struct hasher *h = arg;

    while (!h->stopping) {
        queue_wait(h->queue, tell_lagging(h));
        queue_run(h->queue, h);
    }
    CHECK(LIST_EMPTY(&h->lagging));
    return NULL;
}
