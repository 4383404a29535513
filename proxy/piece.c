/* SPDX-License-Identifier: ISC */
#include "proxy/piece.h"

/* So many pieces a connection: enough that a slow one leaves its share to the others,
 * few enough that the round trip before each does not count. */
#define PIECES_A_CONNECTION 8

uint64_t piece_size(uint64_t size_bytes, unsigned connections)
{
    uint64_t share = size_bytes / connections / PIECES_A_CONNECTION;
    uint64_t piece = PIECE_MIN_BYTES;

    /* The power of two that is nearest by ratio, near enough. */
    while (piece < PIECE_MAX_BYTES && share >= piece + piece / 2)
        piece *= 2;
    return piece;
}

/* Past the taken range that holds the offset, or the offset itself. */
static uint64_t past_taken(const struct extent *taken, unsigned count, uint64_t offset)
{
    for (unsigned i = 0; i < count; i++) {
        if (taken[i].start <= offset && offset < taken[i].end)
            return taken[i].end;
    }
    return offset;
}

bool piece_next(const struct extents *have, const struct extent *taken, unsigned taken_count,
                uint64_t size_bytes, uint64_t piece_bytes, struct extent *piece)
{
    uint64_t start = 0, end, past = 0;

    do {
        start = extents_gap(have, past, &end);
        past = past_taken(taken, taken_count, start);
    } while (past != start && past < size_bytes);
    if (past >= size_bytes)
        return false;
    for (unsigned i = 0; i < taken_count; i++) {
        if (taken[i].start > start && taken[i].start < end)
            end = taken[i].start;
    }
    if (end > size_bytes)
        end = size_bytes;
    if (end - start > piece_bytes)
        end = start + piece_bytes;
    *piece = (struct extent){start, end};
    return true;
}
