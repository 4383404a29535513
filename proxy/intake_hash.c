/* SPDX-License-Identifier: ISC */
/*
 * The hash thread's side of an intake.
 *
 * A piece is written first and hashed then: its readers wait for the file, and
 * what they may have of an unverified blob is bounded by FETCH_HOLD_BYTES anyway.
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

/* Hashed of a kept partial before other fetches have their turn. */
#define KEPT_STEP_BYTES (8u * 1024 * 1024)
#define KEPT_READ_BYTES (256u * 1024)

/* Each also makes the disk begin with what the fsync at the end would find. */
#define CHECKPOINT_PERIOD_MS 2000
/* Smaller ones are not worth a record: they start anew after a restart. */
#define RECORD_MIN_BYTES (1024u * 1024)

/* --- ways to end --- */

static void not_lagging(struct intake *i)
{
    if (i->is_lagging)
        LIST_REMOVE(i, lagging);
    i->is_lagging = false;
}

static void fail(struct intake *i, const struct fetch_failure *why)
{
    if (i->state == INTAKE_FAILED)
        return;
    CHECK(i->state != INTAKE_VERIFIED);
    i->state = INTAKE_FAILED;
    not_lagging(i);
    fetch_fail(i->fetch, why);
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
    fetch_retire(h->fetches, i->fetch);
    STATS_SUB(h->stats, fetches, 1);
    fetch_unref(&i->fetch);
}

/* The end, once nothing else works with the partial. */
static void settle(struct intake *i)
{
    struct order *o = i->end;

    if (!o || i->state == INTAKE_OPENING || i->checkpoint.pending)
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

/* --- opening --- */

/* How much of the file an earlier run left for us, by its record. */
static uint64_t kept_by_record(struct intake *i, uint64_t file_bytes)
{
    struct partial_record *r = &i->checkpoint.record;
    struct db_txn *txn;

    if (db_read(i->hasher->reader, &txn) != 0)
        return 0;
    int err = partial_get(txn, fetch_digest(i->fetch), r);
    db_read_end(i->hasher->reader);
    if (err != 0)
        return 0;
    i->is_recorded = true;
    i->started_at_s = r->started_at_s;
    return file_bytes < r->size_bytes ? file_bytes : r->size_bytes;
}

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
    i->kept_bytes = kept_by_record(i, file_bytes);
    return i->kept_bytes < file_bytes ? partial_truncate(i->partial, i->kept_bytes) : 0;
}

/* Hash some more of what was kept. What cannot be read is fetched again. */
static int hash_kept(struct intake *i)
{
    uint8_t *buf = mem_new(KEPT_READ_BYTES);
    uint64_t limit = i->written_bytes + KEPT_STEP_BYTES;
    int err = 0;

    while (i->written_bytes < i->kept_bytes && i->written_bytes < limit) {
        uint64_t left = i->kept_bytes - i->written_bytes;
        size_t want = left < KEPT_READ_BYTES ? (size_t)left : KEPT_READ_BYTES;
        ssize_t got = pread(partial_fd(i->partial), buf, want, (off_t)i->written_bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            i->kept_bytes = i->written_bytes;
            err = partial_truncate(i->partial, i->kept_bytes);
            break;
        }
        hash_update(i->hash, buf, (size_t)got);
        i->written_bytes += (uint64_t)got;
    }
    free(buf);
    return err;
}

static void opened(struct intake *i, struct order *o, int err)
{
    i->state = INTAKE_OPEN;
    if (err != 0)
        fail_store(i, err);
    else if (i->end)
        fail(i, &i->end->why);
    o->err = err;
    o->bytes = i->written_bytes;
    o->msg.run = intake_opened;
    queue_post(i->hasher->answers, &o->msg);
    settle(i);
}

static void open_step(struct msg *m, void *owner)
{
    struct order *o = (struct order *)m;
    struct intake *i = o->intake;

    (void)owner;
    int err = i->end ? 0 : hash_kept(i);
    if (err == 0 && !i->end && i->written_bytes < i->kept_bytes)
        queue_post(i->hasher->queue, m);
    else
        opened(i, o, err);
}

void hasher_open(struct msg *m, void *owner)
{
    struct order *o = (struct order *)m;
    int err = open_partial(o->intake);

    if (err != 0) {
        opened(o->intake, o, err);
        return;
    }
    m->run = open_step;
    open_step(m, owner);
}

void hasher_reset(struct msg *m, void *owner)
{
    struct order *o = (struct order *)m;
    struct intake *i = o->intake;

    (void)owner;
    CHECK(i->state != INTAKE_OPENING && !i->is_begun);
    if (i->state == INTAKE_OPEN) {
        hash_free(&i->hash);
        i->hash = hash_new((enum digest_alg)fetch_digest(i->fetch)->alg);
        i->written_bytes = 0;
        int err = partial_truncate(i->partial, 0);
        if (err != 0)
            break_off(i, err);
    }
    free(o);
}

/* --- checkpoints --- */

static int checkpoint_prepare(struct storage_job *j, struct store *s)
{
    (void)s;
    return partial_sync(((struct checkpoint *)j)->intake->partial);
}

static int checkpoint_apply(struct storage_job *j, struct db_txn *txn)
{
    struct checkpoint *c = (struct checkpoint *)j;

    return partial_put(txn, fetch_digest(c->intake->fetch), &c->record);
}

static void checkpoint_over(struct msg *m, void *owner)
{
    struct intake *i = ((struct checkpoint *)m)->intake;

    (void)owner;
    i->checkpoint.pending = false;
    settle(i);
}

/* In the storage thread. An error has been counted; the next one tries again. */
static void checkpoint_done(struct storage_job *j, int err)
{
    struct intake *i = ((struct checkpoint *)j)->intake;

    (void)err;
    j->msg.run = checkpoint_over;
    queue_post(i->hasher->queue, &j->msg);
}

static void checkpoint(struct intake *i, int64_t now_ms)
{
    struct checkpoint *c = &i->checkpoint;

    if (c->pending || i->size_bytes < RECORD_MIN_BYTES)
        return;
    c->pending = true;
    c->at_ms = now_ms;
    c->intake = i;
    c->record.size_bytes = i->size_bytes;
    c->record.started_at_s = i->started_at_s;
    c->record.extent_count = i->written_bytes > 0 ? 1 : 0;
    c->record.extents[0] = (struct extent){.start = 0, .end = i->written_bytes};
    /* The first one says only that there is a partial: nothing to wait for. */
    c->job.prepare = i->is_recorded ? checkpoint_prepare : NULL;
    c->job.is_slow = i->is_recorded;
    c->job.apply = checkpoint_apply;
    c->job.done = checkpoint_done;
    i->is_recorded = true;
    storage_post(i->hasher->storage, &c->job);
}

/* --- bytes --- */

static void tell(struct intake *i, int64_t now_ms)
{
    not_lagging(i);
    i->told_bytes = i->written_bytes;
    i->told_at_ms = now_ms;
    fetch_advance(i->fetch, i->written_bytes);
}

static void tell_in_time(struct intake *i, int64_t now_ms)
{
    if (i->written_bytes - i->told_bytes >= TELL_BYTES || now_ms - i->told_at_ms >= TELL_MS) {
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

void hasher_size(struct msg *m, void *owner)
{
    struct order *o = (struct order *)m;
    struct intake *i = o->intake;

    (void)owner;
    CHECK(i->state != INTAKE_OPENING && !i->is_begun);
    if (i->state == INTAKE_OPEN) {
        CHECK(i->written_bytes <= o->bytes);
        i->size_bytes = o->bytes;
        i->is_begun = true;
        i->told_bytes = i->written_bytes;
        int err = partial_reserve(i->partial, i->size_bytes);
        if (err == 0)
            err = fetch_begin(i->fetch, partial_fd(i->partial), i->size_bytes, i->written_bytes);
        if (err == 0)
            checkpoint(i, clock_now_ms());
        else
            break_off(i, err);
    }
    free(o);
}

static void take_piece(struct intake *i, const struct piece *p)
{
    int err = partial_write(i->partial, p->data, p->len, i->written_bytes);

    if (err != 0) {
        break_off(i, err);
        return;
    }
    i->written_bytes += p->len;
    CHECK(!i->is_begun || i->written_bytes <= i->size_bytes);
    if (i->is_begun) {
        int64_t now_ms = clock_now_ms();
        tell_in_time(i, now_ms);
        if (now_ms - i->checkpoint.at_ms >= CHECKPOINT_PERIOD_MS)
            checkpoint(i, now_ms);
    }
    hash_update(i->hash, p->data, p->len);
}

void hasher_piece(struct msg *m, void *owner)
{
    struct piece *p = (struct piece *)m;
    struct intake *i = p->intake;

    (void)owner;
    CHECK(i->state != INTAKE_OPENING);
    if (i->state == INTAKE_OPEN)
        take_piece(i, p);
    m->run = intake_drained;
    queue_post(i->hasher->answers, m);
}

/* --- the end --- */

static void verify(struct intake *i)
{
    const struct digest *want = fetch_digest(i->fetch);
    struct digest got;
    char want_text[DIGEST_TEXT_MAX], got_text[DIGEST_TEXT_MAX];
    struct fetch_failure why = {.code = OUT_BAD_CONTENT};

    CHECK(i->is_begun && i->written_bytes == i->size_bytes);
    hash_final(&i->hash, &got);
    if (digest_equal(&got, want)) {
        if (i->told_bytes < i->written_bytes)
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

void hasher_end(struct msg *m, void *owner)
{
    struct order *o = (struct order *)m;
    struct intake *i = o->intake;

    (void)owner;
    if (o->verify && i->state == INTAKE_OPEN)
        verify(i);
    else if (i->state == INTAKE_OPEN)
        fail(i, &o->why);
    o->err = i->state == INTAKE_VERIFIED ? 0 : ERR_MISMATCH;
    i->discard |= o->discard;
    i->end = o;
    settle(i);
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
