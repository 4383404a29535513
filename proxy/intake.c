/* SPDX-License-Identifier: ISC */
#include "proxy/intake.h"

#include <stdlib.h>
#include <string.h>

#include "proxy/intake_private.h"

/* Empty pieces kept for the next bytes, as many as can be under way at once: fresh
 * memory costs page faults. */
#define SPARE_MAX (INTAKE_STAGED_ALL_MAX / INTAKE_PIECE_BYTES)

static struct piece *piece_take(struct hasher *h, struct intake *i)
{
    struct piece *p = SLIST_FIRST(&h->spare);

    if (p) {
        SLIST_REMOVE_HEAD(&h->spare, link);
        h->spare_count--;
    } else {
        p = mem_new(sizeof *p);
        p->data = mem_resize(NULL, INTAKE_PIECE_BYTES);
    }
    p->intake = i;
    p->len = 0;
    return p;
}

static void piece_free(struct piece *p)
{
    free(p->data);
    free(p);
}

static void piece_spare(struct hasher *h, struct piece *p)
{
    if (h->spare_count == SPARE_MAX) {
        piece_free(p);
        return;
    }
    SLIST_INSERT_HEAD(&h->spare, p, link);
    h->spare_count++;
}

static void post_piece(struct intake *i)
{
    struct piece *p = i->filling;

    i->filling = NULL;
    i->in_flight_bytes += p->len;
    p->msg.run = hasher_piece;
    queue_post(i->hasher->queue, &p->msg);
}

static struct order *post_order(struct intake *i, void (*run)(struct msg *, void *),
                                const struct order *what)
{
    struct order *o = mem_new(sizeof *o);

    *o = *what;
    o->intake = i;
    o->msg.run = run;
    if (i->filling)
        post_piece(i);
    queue_post(i->hasher->queue, &o->msg);
    return o;
}

struct intake *intake_new(struct hasher *h, struct fetch *f, const struct name *n,
                          const struct intake_calls *calls, void *arg)
{
    struct intake *i = mem_new(sizeof *i);

    i->hasher = h;
    i->fetch = fetch_ref(f);
    i->calls = calls;
    i->arg = arg;
    i->name = *n;
    i->state = INTAKE_OPENING;
    h->intake_count++;
    STATS_ADD(h->stats, fetches, 1);
    STATS_ADD(h->stats, fetches_total, 1);
    post_order(i, hasher_open, &(struct order){0});
    return i;
}

void intake_reset(struct intake *i)
{
    post_order(i, hasher_reset, &(struct order){0});
}

void intake_size(struct intake *i, uint64_t size_bytes)
{
    post_order(i, hasher_size, &(struct order){.bytes = size_bytes});
}

void intake_append(struct intake *i, const void *data, size_t len)
{
    const uint8_t *from = data;

    CHECK(!i->ending);
    i->staged_bytes += len;
    i->hasher->staged_bytes += len;
    while (len > 0) {
        if (!i->filling)
            i->filling = piece_take(i->hasher, i);
        struct piece *p = i->filling;
        size_t room = INTAKE_PIECE_BYTES - p->len;
        size_t part = len < room ? len : room;
        memcpy(p->data + p->len, from, part);
        p->len += part;
        from += part;
        len -= part;
        if (p->len == INTAKE_PIECE_BYTES)
            post_piece(i);
    }
    if (i->filling && i->in_flight_bytes == 0)
        post_piece(i);
}

/* Whether more is staged than 1/`part` of the limits. */
static bool is_beyond(const struct intake *i, unsigned part)
{
    if (i->staged_bytes > INTAKE_STAGED_MAX / part)
        return true;
    return i->staged_bytes > INTAKE_PIECE_BYTES &&
           i->hasher->staged_bytes > INTAKE_STAGED_ALL_MAX / part;
}

bool intake_is_full(const struct intake *i)
{
    return is_beyond(i, 1);
}

bool intake_has_room(const struct intake *i)
{
    return !is_beyond(i, 2);
}

void intake_end(struct intake *i)
{
    CHECK(!i->ending);
    post_order(i, hasher_end, &(struct order){.verify = true});
    i->ending = true;
}

void intake_abandon(struct intake *i, const struct fetch_failure *why, bool discard)
{
    CHECK(!i->ending);
    post_order(i, hasher_end, &(struct order){.why = *why, .discard = discard});
    i->ending = true;
}

/* --- answers --- */

void intake_opened(struct msg *m, void *owner)
{
    struct order *o = (struct order *)m;
    struct intake *i = o->intake;

    (void)owner;
    if (!i->ending)
        i->calls->opened(i->arg, o->err, o->bytes);
    free(o);
}

void intake_drained(struct msg *m, void *owner)
{
    struct piece *p = (struct piece *)m;
    struct intake *i = p->intake;
    uint64_t len = p->len;

    (void)owner;
    i->in_flight_bytes -= len;
    i->staged_bytes -= len;
    i->hasher->staged_bytes -= len;
    piece_spare(i->hasher, p);
    if (i->filling && i->in_flight_bytes == 0)
        post_piece(i);
    if (!i->ending)
        i->calls->drained(i->arg, len);
}

void intake_broken(struct msg *m, void *owner)
{
    struct intake *i = (struct intake *)((char *)m - offsetof(struct intake, broken));

    (void)owner;
    if (!i->ending)
        i->calls->broken(i->arg, i->broken_err);
}

void intake_ended(struct msg *m, void *owner)
{
    struct order *o = (struct order *)m;
    struct intake *i = o->intake;

    (void)owner;
    CHECK(i->ending && !i->filling && i->staged_bytes == 0);
    i->calls->ended(i->arg, o->err);
    i->hasher->intake_count--;
    free(i);
    free(o);
}

/* --- the thread --- */

struct hasher *hasher_start(struct store *s, struct storage *st, struct fetch_table *fetches,
                            struct queue *answers, struct stats *stats, struct log *log)
{
    struct hasher *h = mem_new(sizeof *h);

    h->store = s;
    h->storage = st;
    h->fetches = fetches;
    h->answers = answers;
    h->stats = stats;
    h->log = log;
    h->queue = queue_new();
    SLIST_INIT(&h->spare);
    LIST_INIT(&h->lagging);
    CHECK(db_reader_new(store_db(s), &h->reader) == 0);
    thread_start(&h->thread, "hash", hasher_run, h);
    return h;
}

static void hasher_stopped(struct msg *m, void *owner)
{
    struct hasher *h = owner;

    (void)m;
    h->stopping = true;
}

void hasher_stop(struct hasher **hp)
{
    struct hasher *h = *hp;
    struct piece *p;

    if (!h)
        return;
    *hp = NULL;
    CHECK(h->intake_count == 0);
    h->stop.run = hasher_stopped;
    queue_post(h->queue, &h->stop);
    thread_join(h->thread);
    while ((p = SLIST_FIRST(&h->spare))) {
        SLIST_REMOVE_HEAD(&h->spare, link);
        piece_free(p);
    }
    db_reader_free(&h->reader);
    queue_free(&h->queue);
    free(h);
}
