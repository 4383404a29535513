/* SPDX-License-Identifier: ISC */
/*
 * How many connections bring a blob: twice as many at each look, up to what is
 * configured, as long as what they bring is taken at once. One that brings more than
 * that is enough: over a fast network the others would only cost.
 */
#include "proxy/piece.h"
#include "proxy/thread.h"
#include "proxy/upstream_download.h"

#define LOOK_MS 20
/* After a transfer had to pause for the intake, no lane is added for so long. */
#define SWAMPED_MS 100

bool download_is_large(const struct download *d)
{
    return d->to->connections > 1 && d->size_bytes != SIZE_UNKNOWN &&
           d->size_bytes > INTAKE_IN_ORDER_MAX && d->size_bytes <= SIZE_LIMIT_BYTES &&
           !d->without_range;
}

static bool is_swamped(const struct download *d)
{
    return d->full_at_ms > 0 && clock_now_ms() - d->full_at_ms < SWAMPED_MS;
}

static unsigned busy_count(const struct download *d)
{
    unsigned count = 0;

    for (unsigned i = 0; i < d->lane_count; i++)
        count += lane_is_busy(d->lanes[i]);
    return count;
}

static void go_if_idle(struct lane *l, unsigned *wanted)
{
    if (l->state != LANE_IDLE || *wanted == 0)
        return;
    lane_go(l);
    *wanted -= lane_is_busy(l);
}

bool download_needs_lane(const struct download *d)
{
    return !is_swamped(d) || busy_count(d) == 0;
}

/* As many more lanes as are at work. */
static void add_lanes(struct download *d)
{
    unsigned wanted = busy_count(d);

    for (unsigned i = 0; i < d->lane_count; i++)
        go_if_idle(d->lanes[i], &wanted);
    while (wanted > 0 && d->lane_count < (unsigned)d->to->connections) {
        struct lane *l = lane_new(d);
        go_if_idle(l, &wanted);
        if (!lane_is_busy(l))
            break;
    }
}

/* What lane 0 receives, to the end of the blob, is but its piece from now on. */
static void split(struct download *d)
{
    struct lane *first = d->lanes[0];

    if (first->state != LANE_RECEIVING)
        return;
    d->in_pieces = true;
    d->is_proven = true;
    d->piece_bytes = piece_size(d->size_bytes, (unsigned)d->to->connections);
    if (d->size_bytes - first->at > d->piece_bytes)
        first->end = first->at + d->piece_bytes;
    else
        first->end = d->size_bytes;
}

void download_look_soon(struct download *d)
{
    struct timeval t = {.tv_usec = LOOK_MS * 1000};

    if (d->is_sized && download_is_large(d) && !event_pending(d->look, EV_TIMEOUT, NULL))
        CHECK(event_add(d->look, &t) == 0);
}

void download_look(struct download *d)
{
    if (d->state != DOWNLOAD_GOING || d->without_range)
        return;
    if (!is_swamped(d)) {
        if (!d->in_pieces && d->may_split)
            split(d);
        if (d->in_pieces && d->is_proven)
            add_lanes(d);
    }
    if (d->state == DOWNLOAD_GOING)
        download_look_soon(d);
}
