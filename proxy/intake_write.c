/* SPDX-License-Identifier: ISC */
/*
 * The write thread's side of an intake: the partial file and what the readers are told.
 *
 *   INTAKE_OPEN       blocks are written, orders are done
 *      |  the digest agrees    \  a write failed, the digest differs, or abandoned
 *   INTAKE_VERIFIED             INTAKE_FAILED   blocks pass unwritten
 *
 * A block goes on to the hash thread when it is written: its readers wait for the
 * file, and what they may have of an unverified blob is bounded by FETCH_HOLD_BYTES
 * anyway. An end goes there too, behind the blocks, and comes back with the digest.
 */
#include "proxy/intake_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cache/err.h"
#include "proxy/intake_hash.h"
#include "proxy/outcome.h"

/* Readers are told of new bytes when there are so many, or after so long: each
 * telling costs a wake-up of every reader. */
#define TELL_BYTES (1024u * 1024)
#define TELL_MS 4

static void hasher_post(struct intake *i, struct msg *m, void (*run)(struct msg *, void *))
{
    m->run = run;
    queue_post(i->hasher->to_hash, m);
}

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

void intake_tell(struct intake *i)
{
    tell_in_time(i, clock_now_ms());
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

/* The only writer of the state. */
static void intake_enter(struct intake *i, enum intake_state next)
{
    CHECK(i->state == INTAKE_OPEN && next != INTAKE_OPEN);
    i->state = next;
}

static void fail(struct intake *i, const struct fetch_failure *why)
{
    if (i->state == INTAKE_FAILED)
        return;
    intake_enter(i, INTAKE_FAILED);
    not_lagging(i);
    i->why = *why;
    STATS_ADD(i->hasher->stats, fetch_failures, 1);
}

static void fail_store(struct intake *i, int err)
{
    /* Not for want of anything here: those who were to read it have left. */
    static const struct fetch_failure unread = {.code = OUT_CLIENT_LEFT, .text = "nobody reads it"};
    struct fetch_failure why = {
        .code = err == ERR_NO_SPACE ? OUT_NO_SPACE : OUT_STORE_FAILED,
    };

    i->discard = true;
    if (err == ERR_NOT_FOUND) {
        fail(i, &unread);
        return;
    }
    snprintf(why.text, sizeof why.text, "writing to the cache directory: %s", err_text(err));
    log_event_about(i->hasher->log, LOG_ERROR, NULL, "a fetch was given up: %s", why.text);
    STATS_ADD(i->hasher->stats, store_failures, 1);
    fail(i, &why);
}

/* The cache directory could not be written, or read back: tell the upstream thread. */
void intake_break_off(struct intake *i, int err)
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

static void close_passed(struct intake *i)
{
    struct hasher *h = i->hasher;

    STATS_SUB(h->stats, fetches, 1);
    fetch_retire(h->fetches, i->fetch);
    fetch_unref(&i->fetch);
}

void intake_settle(struct intake *i)
{
    struct order *o = i->end;

    if (!o || i->checkpoint.pending)
        return;
    if (i->state == INTAKE_FAILED && checkpoint_last(i))
        return;
    bool is_stored = !i->pass.is_passing;
    if (!intake_stop_passing(i))
        return;
    if (i->state == INTAKE_VERIFIED && !is_stored) {
        close_passed(i);
    } else if (i->state == INTAKE_VERIFIED) {
        publish_post(i->hasher, i->partial, i->fetch, &i->owner.name, i->size_bytes);
        i->partial = NULL;
        i->fetch = NULL;
    } else {
        close_failed(i);
    }
    o->msg.run = intake_ended;
    queue_post(i->hasher->answers, &o->msg);
}

static void verify(struct intake *i, const struct digest *got)
{
    const struct digest *want = fetch_digest(i->fetch);
    char want_text[DIGEST_TEXT_MAX], got_text[DIGEST_TEXT_MAX];
    struct fetch_failure why = {.code = OUT_BAD_CONTENT};

    CHECK(i->is_begun && extents_front(&i->extents) == i->size_bytes);
    if (digest_equal(got, want)) {
        if (i->told_bytes < i->size_bytes)
            tell(i, clock_now_ms());
        fetch_verify(i->fetch);
        intake_enter(i, INTAKE_VERIFIED);
        return;
    }
    STATS_ADD(i->hasher->stats, verify_failures, 1);
    log_event_about(i->hasher->log, LOG_ERROR, &i->owner.name,
                    "%s sent wrong content for %s of %s: its digest is %s", i->owner.name.registry,
                    digest_text(want, want_text), i->owner.name.repository,
                    digest_text(got, got_text));
    snprintf(why.text, sizeof why.text, "%.80s sent content whose digest is %s",
             i->owner.name.registry, got_text);
    i->discard = true;
    fail(i, &why);
}

void intake_post_block(struct intake *i, struct block *b)
{
    hasher_post(i, &b->msg, hasher_block);
}

void intake_post_end(struct intake *i, struct order *o)
{
    if (i->state == INTAKE_FAILED)
        o->verify = false;
    hasher_post(i, &o->msg, hasher_end);
}

void writer_end(struct msg *m, void *owner)
{
    struct order *o = (struct order *)m;
    struct intake *i = o->intake;

    (void)owner;
    if (intake_hold_back(i, m))
        return;
    if (i->pass.is_passing)
        intake_pass_end(i, o);
    else
        intake_post_end(i, o);
}

void writer_conclude(struct msg *m, void *owner)
{
    struct order *o = (struct order *)m;
    struct intake *i = o->intake;

    (void)owner;
    i->discard |= o->discard;
    if (o->verify && i->state == INTAKE_OPEN)
        verify(i, &o->digest);
    else
        fail(i, &o->why);
    if (i->state == INTAKE_VERIFIED)
        o->err = 0;
    else
        o->err = i->why.code == OUT_BAD_CONTENT ? ERR_MISMATCH : ERR_IO;
    i->end = o;
    intake_settle(i);
}

void writer_unread(struct msg *m, void *owner)
{
    struct intake *i = CONTAINER_OF(m, struct intake, unread);

    (void)owner;
    intake_break_off(i, ERR_IO);
}

/* --- opening --- */

static int open_partial(struct intake *i, bool *must_claim)
{
    const struct digest *d = fetch_digest(i->fetch);
    uint64_t file_bytes;

    if (!storage_is_writable(i->hasher->storage))
        return ERR_IO;
    int err = partial_open(i->hasher->store, d, &i->partial, &file_bytes);
    if (err != 0)
        return err;
    i->started_at_s = time(NULL);
    *must_claim = checkpoint_load(i, file_bytes);
    uint64_t end = extents_end(&i->extents);
    return end < file_bytes ? partial_truncate(i->partial, end) : 0;
}

void intake_answer_opening(struct intake *i, struct order *o, int err)
{
    o->err = err;
    if (err != 0)
        fail_store(i, err);
    o->kept = mem_new(sizeof *o->kept);
    *o->kept = i->extents;
    o->kept_elsewhere = i->kept_elsewhere;
    o->msg.run = intake_opened;
    queue_post(i->hasher->answers, &o->msg);
}

void writer_open(struct msg *m, void *owner)
{
    struct order *o = (struct order *)m;
    struct intake *i = o->intake;
    bool must_claim = false;
    int err = open_partial(i, &must_claim);

    (void)owner;
    if (err == ERR_NO_SPACE && intake_wait_to_open(i, o))
        return;
    if (err == 0 && must_claim)
        checkpoint_claim(i, o);
    else
        intake_answer_opening(i, o, err);
}

void writer_go_elsewhere(struct msg *m, void *owner)
{
    struct order *o = (struct order *)m;
    struct intake *i = o->intake;

    (void)owner;
    if (intake_hold_back(i, m))
        return;
    CHECK(i->state != INTAKE_OPEN || i->is_begun || i->kept_elsewhere || i->extents.count == 0);
    i->kept_elsewhere = false;
    i->owner.is_elsewhere = true;
    i->discard |= i->is_begun;
    free(o);
}

void writer_reset(struct msg *m, void *owner)
{
    struct intake *i = ((struct order *)m)->intake;

    (void)owner;
    if (intake_hold_back(i, m))
        return;
    CHECK(!i->is_begun);
    if (i->state == INTAKE_OPEN) {
        i->extents.count = 0;
        i->kept_elsewhere = false;
        i->checkpoint.record.extents.count = 0;
        int err = partial_truncate(i->partial, 0);
        if (err != 0)
            intake_break_off(i, err);
    }
    hasher_post(i, m, hasher_reset);
}

/* --- bytes --- */

/* In the file, or in memory when there is no room for one. */
static int begin(struct intake *i, int err)
{
    if (err == ERR_NO_SPACE)
        return intake_begin_passing(i);
    if (err != 0)
        return err;

    err = fetch_begin(i->fetch, partial_fd(i->partial), i->size_bytes, i->told_bytes);
    if (err == 0)
        checkpoint_first(i);
    return err;
}

void writer_sized(struct intake *i, struct order *o, int err)
{
    if (i->state == INTAKE_OPEN) {
        i->size_bytes = o->bytes;
        i->is_begun = true;
        i->told_bytes = extents_front(&i->extents);
        err = begin(i, err);
        if (err != 0)
            intake_break_off(i, err);
    }
    o->bytes = i->told_bytes;
    o->is_passing = i->pass.is_passing;
    hasher_post(i, &o->msg, hasher_size);
}

void writer_size(struct msg *m, void *owner)
{
    struct order *o = (struct order *)m;
    struct intake *i = o->intake;
    int err = 0;

    (void)owner;
    if (intake_hold_back(i, m))
        return;
    CHECK(!i->is_begun);
    if (i->state == INTAKE_OPEN) {
        CHECK(extents_end(&i->extents) <= o->bytes && !i->kept_elsewhere);
        err = partial_reserve(i->partial, o->bytes);
        if (err == ERR_NO_SPACE) {
            intake_wait_for_room(i, o);
            return;
        }
    }
    writer_sized(i, o, err);
}

static int take_block(struct intake *i, const struct block *b)
{
    uint64_t end = b->offset + b->len;
    uint64_t gap_end;

    /* Readers may have had what was there: it stays as it is. */
    CHECK(extents_gap(&i->extents, b->offset, &gap_end) == b->offset && end <= gap_end);
    CHECK(!i->is_begun || end <= i->size_bytes);
    int err = partial_write(i->partial, b->data, b->len, b->offset);
    if (err != 0)
        return err;
    CHECK(extents_add(&i->extents, b->offset, end));
    if (i->is_begun) {
        int64_t now_ms = clock_now_ms();
        tell_in_time(i, now_ms);
        checkpoint_in_time(i, b->len, now_ms);
    }
    return 0;
}

static void pass_block_on(struct intake *i, struct block *b, int err)
{
    if (err != 0)
        intake_break_off(i, err);
    b->is_written = i->state == INTAKE_OPEN;
    b->front_bytes = extents_front(&i->extents);
    intake_post_block(i, b);
}

void writer_took(struct intake *i, struct block *b, int err)
{
    if (err == 0 && i->state == INTAKE_OPEN)
        err = take_block(i, b);
    pass_block_on(i, b, err);
}

void writer_block(struct msg *m, void *owner)
{
    struct block *b = (struct block *)m;
    struct intake *i = b->intake;

    (void)owner;
    if (intake_hold_back(i, m))
        return;
    if (i->pass.is_passing) {
        intake_pass_block(i, b);
        return;
    }
    int err = i->state == INTAKE_OPEN ? take_block(i, b) : 0;

    if (err == ERR_NO_SPACE && !i->is_begun)
        intake_wait_to_write(i, b);
    else
        pass_block_on(i, b, err);
}

/* --- the thread --- */

void writer_stop(struct msg *m, void *owner)
{
    struct hasher *h = owner;

    h->writer_stops = true;
    m->run = hasher_stopped;
    queue_post(h->to_hash, m);
}

void *writer_run(void *arg)
{
    struct hasher *h = arg;

    while (!h->writer_stops) {
        queue_wait(h->to_write, tell_lagging(h));
        queue_run(h->to_write, h);
    }
    CHECK(LIST_EMPTY(&h->lagging));
    return NULL;
}
