/* SPDX-License-Identifier: ISC */
#include "cache/extent.h"

#include <string.h>

/* The first range that ends at `offset` or after it: it contains the byte before
 * the offset or the byte at it, or lies beyond; `count` when there is none. */
static unsigned find(const struct extents *x, uint64_t offset)
{
    unsigned low = 0, high = x->count;

    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (x->list[middle].end < offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool extents_add(struct extents *x, uint64_t start, uint64_t end)
{
    if (start >= end)
        return true;
    unsigned first = find(x, start);
    unsigned after = first;

    while (after < x->count && x->list[after].start <= end)
        after++;
    if (after == first) {
        if (x->count == EXTENTS_MAX)
            return false;
        memmove(&x->list[first + 1], &x->list[first], (x->count - first) * sizeof x->list[0]);
        x->list[first] = (struct extent){start, end};
        x->count++;
        return true;
    }
    struct extent *e = &x->list[first];
    if (start < e->start)
        e->start = start;
    e->end = x->list[after - 1].end > end ? x->list[after - 1].end : end;
    memmove(e + 1, &x->list[after], (x->count - after) * sizeof *e);
    x->count -= after - first - 1;
    return true;
}

void extents_cut(struct extents *x, uint64_t end)
{
    while (x->count > 0 && x->list[x->count - 1].start >= end)
        x->count--;
    if (x->count > 0 && x->list[x->count - 1].end > end)
        x->list[x->count - 1].end = end;
}

uint64_t extents_end(const struct extents *x)
{
    return x->count > 0 ? x->list[x->count - 1].end : 0;
}

uint64_t extents_front(const struct extents *x)
{
    return x->count > 0 && x->list[0].start == 0 ? x->list[0].end : 0;
}

uint64_t extents_gap(const struct extents *x, uint64_t from, uint64_t *end)
{
    unsigned i = find(x, from);

    if (i < x->count && x->list[i].start <= from)
        from = x->list[i++].end;
    *end = i < x->count ? x->list[i].start : UINT64_MAX;
    return from;
}

uint64_t extents_bytes(const struct extents *x)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < x->count; i++)
        sum += x->list[i].end - x->list[i].start;
    return sum;
}
