/* SPDX-License-Identifier: ISC */
/*
 * An intake that waits for room: the order with its size, or a block that comes before it,
 * is put by, and so is all that comes after it, in order, until the evictor has answered. What
 * the upstream thread stages meanwhile is bounded as ever, so that the transfer pauses by
 * itself.
 */
#include "proxy/intake_write.h"

#include "cache/store.h"

static bool is_waiting(const struct intake *i)
{
    return i->room.sizing || i->room.opening || i->room.block;
}

/* Until one of them has to wait, too. */
static void let_go(struct intake *i)
{
    struct waiting_room *w = &i->room;
    struct msg *m;

    while (!is_waiting(i) && (m = STAILQ_FIRST(&w->held))) {
        STAILQ_REMOVE_HEAD(&w->held, link);
        m->run(m, i->hasher);
    }
}

/* What is held already, when one of those waits, stays. */
static void begin_holding(struct waiting_room *w)
{
    if (STAILQ_EMPTY(&w->held))
        STAILQ_INIT(&w->held);
}

/* In the write thread. */
static void room_answered(struct msg *m, void *owner)
{
    struct intake *i = CONTAINER_OF(m, struct intake, room.want.msg);
    struct waiting_room *w = &i->room;
    struct order *o = w->sizing;

    (void)owner;
    w->sizing = NULL;
    int err = w->want.err;

    if (err == 0 && i->state == INTAKE_OPEN)
        err = partial_reserve(i->partial, o->bytes);
    writer_sized(i, o, err);
    let_go(i);
}

void intake_wait_for_room(struct intake *i, struct order *o)
{
    struct waiting_room *w = &i->room;

    CHECK(!is_waiting(i));
    w->sizing = o;
    begin_holding(w);
    w->want = (struct want){
        .name = store_partial_name(fetch_digest(i->fetch), w->name),
        .bytes = o->bytes,
        .answers = i->hasher->to_write,
        .answered = room_answered,
    };
    storage_want(i->hasher->storage, &w->want);
}

static void block_answered(struct msg *m, void *owner)
{
    struct intake *i = CONTAINER_OF(m, struct intake, room.want.msg);
    struct block *b = i->room.block;

    (void)owner;
    i->room.block = NULL;
    writer_took(i, b, i->room.want.err);
    let_go(i);
}

void intake_wait_to_write(struct intake *i, struct block *b)
{
    struct waiting_room *w = &i->room;

    CHECK(!is_waiting(i));
    w->block = b;
    begin_holding(w);
    w->want = (struct want){
        .name = store_partial_name(fetch_digest(i->fetch), w->name),
        .bytes = partial_claim_for(b->offset + b->len),
        .answers = i->hasher->to_write,
        .answered = block_answered,
    };
    storage_want(i->hasher->storage, &w->want);
}

static void opening_answered(struct msg *m, void *owner)
{
    struct intake *i = CONTAINER_OF(m, struct intake, room.want.msg);

    struct order *o = i->room.opening;

    i->room.opening = NULL;
    /* Whether or not there is room now: writer_open tries again, and refuses itself. */
    writer_open(&o->msg, owner);
    let_go(i);
}

bool intake_wait_to_open(struct intake *i, struct order *o)
{
    struct waiting_room *w = &i->room;

    if (w->has_asked)
        return false;
    w->has_asked = true;
    w->opening = o;
    begin_holding(w);
    w->want = (struct want){
        .bytes = 1,
        .answers = i->hasher->to_write,
        .answered = opening_answered,
    };
    storage_want(i->hasher->storage, &w->want);
    return true;
}

bool intake_hold_back(struct intake *i, struct msg *m)
{
    if (!is_waiting(i))
        return false;
    STAILQ_INSERT_TAIL(&i->room.held, m, link);
    return true;
}
