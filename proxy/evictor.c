/* SPDX-License-Identifier: ISC */
/*
 *   round:  plan -> batch -> batch -> ... until nobody wants more, or nothing more may go
 *
 * A batch is a storage job. In one transaction it removes the files of the batch before it
 * and forgets the next units; so the last one only removes.
 */
#include "proxy/evictor.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "cache/err.h"
#include "cache/evict.h"
#include "cache/quarantine.h"
#include "cache/room.h"
#include "cache/usage.h"
#include "proxy/evictor_private.h"
#include "proxy/thread.h"

/* Blobs looked at in one read transaction. */
#define LOOK_BLOBS 4096
#define TICK_MS 1000
#define COLLECT_MS (10 * 60 * 1000)
#define COLLECT_MIN_MS 3000
/* So much room cannot be made: those who want as much are told so at once for so long. */
#define BARREN_MS 5000

/* --- the messages --- */

static void want_taken(struct msg *m, void *owner)
{
    struct evictor *e = owner;
    struct want *w = (struct want *)m;

    STAILQ_INSERT_TAIL(&e->wants, w, link);
}

void evictor_want(void *arg, struct want *w)
{
    struct evictor *e = arg;

    w->msg.run = want_taken;
    queue_post(e->queue, &w->msg);
}

struct collect_msg {
    struct msg msg;
    bool at_once;
};

static void collect_taken(struct msg *m, void *owner)
{
    struct evictor *e = owner;

    e->collect_due_ms = 0;
    e->collects_at_once |= ((struct collect_msg *)m)->at_once;
    free(m);
}

void evictor_collect(void *arg, bool at_once)
{
    struct evictor *e = arg;
    struct collect_msg *m = mem_new(sizeof *m);

    m->msg.run = collect_taken;
    m->at_once = at_once;
    queue_post(e->queue, &m->msg);
}

static void answer(struct evictor *e, struct want *w, int err)
{
    STAILQ_REMOVE(&e->wants, w, want, link);
    w->err = err;
    w->msg.run = w->answered;
    queue_post(w->answers, &w->msg);
}

/* The first may be waiting for much; who fits beside it need not. */
static void grant(struct evictor *e)
{
    struct room *room = store_room(e->store);
    struct want *w, *next;

    for (w = STAILQ_FIRST(&e->wants); w; w = next) {
        next = STAILQ_NEXT(w, link);
        bool fits = room_excess(room, w->name ? 0 : w->bytes, false) == 0 &&
                    (!w->name || room_claim(room, w->name, w->bytes) == 0);
        if (fits)
            answer(e, w, 0);
        else if (!room_could_hold(room, w->bytes))
            answer(e, w, ERR_NO_SPACE);
    }
}

static void refuse_all(struct evictor *e)
{
    struct want *w;

    while ((w = STAILQ_FIRST(&e->wants)))
        answer(e, w, ERR_NO_SPACE);
}

/* --- what is known of the room --- */

static void refresh(struct evictor *e)
{
    struct db_txn *txn;
    struct usage u;

    if (db_read(e->reader, &txn) != 0)
        return;
    int err = usage_get(txn, &u);
    db_read_end(e->reader);
    if (err == 0)
        room_set_usage(store_room(e->store), &u);
    room_count_files(store_room(e->store));
    evictor_show(e);
}

/* What must go for this one. */
static uint64_t lacking_bytes(struct evictor *e, const struct want *w)
{
    struct room *room = store_room(e->store);

    return room_excess(room, room_added(room, w->name, w->bytes), false);
}

/* How many bytes are to go now. */
static uint64_t due_bytes(struct evictor *e)
{
    struct room *room = store_room(e->store);
    struct want *w = STAILQ_FIRST(&e->wants);
    uint64_t bytes = 0;

    if (w || e->goes_low)
        bytes = room_excess(room, w ? room_added(room, w->name, w->bytes) : 0, e->goes_low);
    return bytes;
}

/* That can go: what is planned, and what goes anyway. */
static uint64_t spare_bytes(struct evictor *e)
{
    return e->planned_bytes + room_going(store_room(e->store));
}

/* --- what was found not to go --- */

static bool is_barren(const struct evictor *e, uint64_t bytes)
{
    return bytes >= e->barren_bytes && clock_now_ms() < e->barren_until_ms;
}

static void note_barren(struct evictor *e, uint64_t bytes)
{
    if (clock_now_ms() >= e->barren_until_ms || bytes < e->barren_bytes)
        e->barren_bytes = bytes;
    e->barren_until_ms = clock_now_ms() + BARREN_MS;
}

static void refuse_barren(struct evictor *e)
{
    struct want *w, *next;

    for (w = STAILQ_FIRST(&e->wants); w; w = next) {
        next = STAILQ_NEXT(w, link);
        if (is_barren(e, lacking_bytes(e, w)))
            answer(e, w, ERR_NO_SPACE);
    }
}

/* By a plan that has looked at all: nothing goes for who would not fit even then. */
static void refuse_hopeless(struct evictor *e)
{
    struct want *w, *next;
    uint64_t bytes, spare = spare_bytes(e);

    for (w = STAILQ_FIRST(&e->wants); w; w = next) {
        next = STAILQ_NEXT(w, link);
        bytes = lacking_bytes(e, w);
        if (bytes > spare) {
            note_barren(e, bytes);
            answer(e, w, ERR_NO_SPACE);
        }
    }
}

/* --- the plan --- */

static int find_guard(struct evictor *e, struct db_txn *txn, struct evict_guard **g)
{
    size_t count;
    struct digest *busy = evictor_busy(e, &count);
    int err = evict_guard_new(g, txn, busy, count);

    free(busy);
    return err;
}

static int look_on(struct evictor *e, const struct evict_rules *rules)
{
    struct evict_guard *g;
    struct db_txn *txn;
    int err = db_read(e->reader, &txn);

    if (err != 0)
        return err;
    err = find_guard(e, txn, &g);
    if (err == 0)
        err = evict_plan_look(e->plan, txn, rules, g, LOOK_BLOBS);
    evict_guard_free(&g);
    db_read_end(e->reader);
    return err;
}

/* What is enough for each of those who wait, one after the other. */
static uint64_t enough_bytes(struct evictor *e)
{
    const struct want *w;
    uint64_t bytes = due_bytes(e);

    STAILQ_FOREACH (w, &e->wants, link)
        if (__builtin_add_overflow(bytes, lacking_bytes(e, w), &bytes))
            return UINT64_MAX;
    return bytes;
}

static int make_plan(struct evictor *e, bool garbage_only)
{
    struct evict_rules rules = evictor_rules(e, garbage_only);
    uint64_t enough = garbage_only ? 0 : enough_bytes(e);
    int err;

    evict_plan_clear(e->plan, enough);
    do {
        err = look_on(e, &rules);
        queue_run(e->queue, e);
    } while (err == 1 && !e->stopping);
    if (err < 0)
        log_event_about(e->log, LOG_ERROR, NULL, "what may be evicted cannot be found: %s",
                        err_text(err));
    e->planned_bytes = err == 0 ? evict_plan_bytes(e->plan) : 0;
    if (err == 0 && e->planned_bytes < enough)
        refuse_hopeless(e);
    return err == 1 ? ERR_BUSY : err;
}

/* Whether the first who waits may lack more than the plan was made for. */
static bool is_beyond_plan(struct evictor *e)
{
    const struct want *w = STAILQ_FIRST(&e->wants);

    return w && lacking_bytes(e, w) > spare_bytes(e);
}

/* --- batches --- */

/* 0, or why the round ends. */
static int run_batch(struct evictor *e, bool garbage_only, bool *has_more)
{
    struct batch *b = &e->batch;
    struct evict_unit u;

    b->count = 0;
    b->rules = evictor_rules(e, garbage_only);
    b->want_bytes = garbage_only ? UINT64_MAX : is_beyond_plan(e) ? 0 : due_bytes(e);
    b->want_bytes = b->want_bytes > b->leaving.bytes ? b->want_bytes - b->leaving.bytes : 0;
    while (b->want_bytes > 0 && b->count < BATCH_UNITS && evict_plan_next(e->plan, &u))
        b->units[b->count++] = u.digest;
    *has_more = b->count > 0;
    if (b->count == 0 && b->leaving.count == 0)
        return 0;
    int err = evictor_run_batch(e);

    e->planned_bytes -= e->planned_bytes < b->leaving.bytes ? e->planned_bytes : b->leaving.bytes;
    if (b->leaving.count > b->waiting.count)
        *has_more = true;
    refresh(e);
    grant(e);
    return err;
}

/* One plan, and what follows from it. `*any`: something went, or a new plan may find more. */
static int run_plan(struct evictor *e, bool garbage_only, bool *any)
{
    bool has_more = true;
    uint64_t evicted = e->evicted_units;
    int err = make_plan(e, garbage_only);

    while (err == 0 && has_more && !e->stopping)
        err = run_batch(e, garbage_only, &has_more);
    *any = e->evicted_units > evicted || (!garbage_only && is_beyond_plan(e));
    return err;
}

static void round_for_room(struct evictor *e)
{
    bool any = true;
    int err = 0;

    if (due_bytes(e) > 0 && quarantine_empty(e->store))
        grant(e);
    if (due_bytes(e) > 0 && store_drop_asides(e->store))
        grant(e);
    while (err == 0 && any && due_bytes(e) > 0 && !e->stopping)
        err = run_plan(e, false, &any);
    /* What fetches have left, to go on with, goes last. */
    while (due_bytes(e) > 0 && !e->stopping && room_drop_idle(store_room(e->store)))
        grant(e);
    if (due_bytes(e) > 0)
        note_barren(e, 1);
    grant(e);
    refuse_all(e);
    e->goes_low = false;
}

/* What is pushed meanwhile is seen by the next round. */
static int64_t collect_period_ms(struct evictor *e)
{
    int64_t grace_ms = evictor_rules(e, false).grace_s * 1000;

    if (grace_ms > COLLECT_MS)
        return COLLECT_MS;
    return grace_ms > COLLECT_MIN_MS ? grace_ms : COLLECT_MIN_MS;
}

static void round_for_garbage(struct evictor *e)
{
    bool any;
    int64_t wait_ms = collect_period_ms(e);

    e->collect_due_ms = INT64_MAX;
    do {
        any = false;
    } while (run_plan(e, true, &any) == 0 && any && !e->stopping);
    e->collects_at_once = false;
    if (!any && evict_plan_due(e->plan) > 0) {
        int64_t due_ms = (evict_plan_due(e->plan) + 1 - time(NULL)) * 1000;
        wait_ms = due_ms < wait_ms ? due_ms : wait_ms;
    }
    /* Unless it was told to do so meanwhile. */
    if (e->collect_due_ms == INT64_MAX)
        e->collect_due_ms = clock_now_ms() + (wait_ms > TICK_MS ? wait_ms : TICK_MS);
}

/* --- the thread --- */

void evictor_do_due(struct evictor *e)
{
    refresh(e);
    grant(e);
    e->goes_low = !is_barren(e, 1) && room_is_short(store_room(e->store));
    if (!storage_is_writable(e->storage)) {
        refuse_all(e);
        return;
    }
    refuse_barren(e);
    if (e->goes_low || !STAILQ_EMPTY(&e->wants))
        round_for_room(e);
    /* Also when that has not helped: more is garbage as time goes by, or by order. */
    if (storage_is_writable(e->storage) && STAILQ_EMPTY(&e->wants) &&
        clock_now_ms() >= e->collect_due_ms)
        round_for_garbage(e);
}

void *evictor_run(void *arg)
{
    struct evictor *e = arg;

    evictor_finish_leaving(e);
    evictor_do_due(e);
    evictor_remove_orphans(e, e->started_at_s);
    while (!e->stopping) {
        queue_wait(e->queue, TICK_MS);
        queue_run(e->queue, e);
        if (!e->stopping)
            evictor_do_due(e);
    }
    refuse_all(e);
    return NULL;
}
