/* SPDX-License-Identifier: ISC */
/*
 * What the index says of a partial, so that a later run can go on with it: extents,
 * recorded after an fdatasync while the fetch goes on, and once more at its end.
 */
#include "proxy/intake_write.h"

#include <stdlib.h>

/* Each also makes the disk begin with what the fsync at the end would find. */
#define CHECKPOINT_PERIOD_MS 2000
/* Of the blob, so that a fast line does not lose much more than a slow one. */
#define CHECKPOINT_SHARE 16
/* Smaller ones are not worth a record: they start anew after a restart. */
#define RECORD_MIN_BYTES (1024u * 1024)
/* What a fetch adds of itself, a gap before each lane, must fit too. */
#define EXTENTS_KEPT_MAX (EXTENTS_MAX - 4 * INTAKE_LANES_MAX)

void checkpoint_load(struct intake *i, uint64_t file_bytes)
{
    struct partial_record *r = &i->checkpoint.record;
    struct db_txn *txn;

    if (db_read(i->hasher->reader, &txn) != 0)
        return;
    int err = partial_get(txn, fetch_digest(i->fetch), r);
    db_read_end(i->hasher->reader);
    if (err != 0)
        return;
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
    if (c->pending || i->size_bytes < RECORD_MIN_BYTES)
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
