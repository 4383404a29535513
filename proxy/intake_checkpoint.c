/* SPDX-License-Identifier: ISC */
/*
 * What the index says of a partial, so that a later run can go on with it: extents,
 * recorded after an fdatasync while the fetch goes on, and once more at its end.
 */
#include "proxy/intake_write.h"

#include <stdlib.h>

#include "cache/err.h"

/* Each also makes the disk begin with what the fsync at the end would find. */
#define CHECKPOINT_PERIOD_MS 2000
/* Of the blob, so that a fast line does not lose much more than a slow one. */
#define CHECKPOINT_SHARE 16
/* Smaller ones are not worth a record: they start anew after a restart. */
#define RECORD_MIN_BYTES (1024u * 1024)
/* What a fetch adds of itself, a gap before each lane, must fit too. */
#define EXTENTS_KEPT_MAX (EXTENTS_MAX - 4 * INTAKE_LANES_MAX)

static int get_record(struct intake *i, struct partial_record *r)
{
    struct db_txn *txn;
    int err = db_read(i->hasher->reader, &txn);

    if (err != 0)
        return err;
    err = partial_get(txn, fetch_digest(i->fetch), r);
    db_read_end(i->hasher->reader);
    return err;
}

static void take_extents(struct intake *i, uint64_t file_bytes)
{
    struct partial_record *r = &i->checkpoint.record;

    i->is_recorded = true;
    i->started_at_s = r->started_at_s;
    if (r->size_bytes <= INTAKE_IN_ORDER_MAX) {
        uint64_t end = file_bytes < r->size_bytes ? file_bytes : r->size_bytes;
        CHECK(extents_add(&i->extents, 0, end));
        return;
    }
    i->extents = r->extents;
    if (i->extents.count > EXTENTS_KEPT_MAX)
        i->extents.count = EXTENTS_KEPT_MAX;
    extents_cut(&i->extents, file_bytes);
    r->extents = i->extents;
}

bool checkpoint_load(struct intake *i, uint64_t file_bytes)
{
    struct partial_record *r = &i->checkpoint.record;
    int err = get_record(i, r);

    if (err != 0)
        return err != ERR_NOT_FOUND;
    /* The registry is asked first, as ever. */
    struct partial_owner later = i->owner;
    later.is_elsewhere |= r->owner.is_elsewhere;
    if (!partial_owner_admits(&r->owner, &later))
        return true;
    take_extents(i, file_bytes);
    i->kept_elsewhere = r->owner.is_elsewhere && !i->owner.is_elsewhere;
    return i->owner.is_private && !r->owner.is_private;
}

/* In the storage thread. */
static int claim_apply(struct storage_job *j, struct db_txn *txn)
{
    struct checkpoint *c = (struct checkpoint *)j;
    const struct digest *d = fetch_digest(c->intake->fetch);

    return c->intake->is_recorded ? partial_put(txn, d, &c->record) : partial_forget(txn, d);
}

static void claim_over(struct msg *m, void *owner)
{
    struct checkpoint *c = (struct checkpoint *)m;
    struct order *opening = c->opening;

    (void)owner;
    c->opening = NULL;
    c->pending = false;
    intake_answer_opening(c->intake, opening, c->err);
    intake_settle(c->intake);
}

/* In the storage thread. */
static void claim_done(struct storage_job *j, int err)
{
    struct checkpoint *c = (struct checkpoint *)j;

    c->err = err;
    j->msg.run = claim_over;
    queue_post(c->intake->hasher->to_write, &j->msg);
}

void checkpoint_claim(struct intake *i, struct order *opening)
{
    struct checkpoint *c = &i->checkpoint;

    c->pending = true;
    c->intake = i;
    c->opening = opening;
    c->record.owner.name = i->owner.name;
    c->record.owner.is_private = i->owner.is_private;
    c->job.apply = claim_apply;
    c->job.done = claim_done;
    storage_post(i->hasher->storage, &c->job);
}

/* In the storage thread, or the slow one beside it. */
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
    intake_settle(i);
}

/* In the storage thread. An error has been counted; the next one tries again. */
static void checkpoint_done(struct storage_job *j, int err)
{
    struct intake *i = ((struct checkpoint *)j)->intake;

    (void)err;
    j->msg.run = checkpoint_over;
    queue_post(i->hasher->to_write, &j->msg);
}

static void post(struct intake *i, int64_t now_ms, bool synced)
{
    struct checkpoint *c = &i->checkpoint;

    CHECK(!c->pending);
    c->pending = true;
    c->at_ms = now_ms;
    c->fresh_bytes = 0;
    c->intake = i;
    c->record.owner = i->owner;
    c->record.size_bytes = i->size_bytes;
    c->record.started_at_s = i->started_at_s;
    c->job.prepare = synced ? checkpoint_prepare : NULL;
    c->job.is_slow = synced;
    c->job.apply = checkpoint_apply;
    c->job.done = checkpoint_done;
    i->is_recorded = true;
    storage_post(i->hasher->storage, &c->job);
}

void checkpoint_first(struct intake *i)
{
    if (i->size_bytes < RECORD_MIN_BYTES)
        return;
    /* Nothing new is synced, so nothing new is claimed, and nothing to wait for. */
    if (!i->is_recorded)
        i->checkpoint.record.extents.count = 0;
    post(i, clock_now_ms(), false);
}

static void checkpoint(struct intake *i, int64_t now_ms)
{
    i->checkpoint.record.extents = i->extents;
    post(i, now_ms, true);
}

void checkpoint_in_time(struct intake *i, size_t len, int64_t now_ms)
{
    struct checkpoint *c = &i->checkpoint;
    uint64_t share = i->size_bytes / CHECKPOINT_SHARE;

    c->fresh_bytes += len;
    if (c->pending || i->discard || i->size_bytes < RECORD_MIN_BYTES)
        return;
    if (now_ms - c->at_ms >= CHECKPOINT_PERIOD_MS ||
        (i->size_bytes > INTAKE_IN_ORDER_MAX && c->fresh_bytes >= share))
        checkpoint(i, now_ms);
}

bool checkpoint_last(struct intake *i)
{
    if (i->discard || !i->is_recorded || i->checkpoint.fresh_bytes == 0 ||
        i->size_bytes <= INTAKE_IN_ORDER_MAX || !storage_is_writable(i->hasher->storage))
        return false;
    checkpoint(i, clock_now_ms());
    return true;
}
