/* SPDX-License-Identifier: ISC */
#include "proxy/upload_block.h"

#include <stdlib.h>
#include <string.h>

#include "proxy/upload_private.h"

/* Empty blocks kept for the next bytes: fresh memory costs page faults. */
#define SPARE_MAX 32

static struct upload_block *take_spare(struct uploads *up)
{
    struct upload_block *b = STAILQ_FIRST(&up->spare);

    if (!b)
        return NULL;
    STAILQ_REMOVE_HEAD(&up->spare, link);
    up->spare_count--;
    return b;
}

/* A block ends at a multiple of its size in the file: the page cache then holds that in
 * large folios, which is felt in each later hit too. Once the limit of all is reached,
 * what one call brings must be taken still, but no more room than that. */
struct upload_block *upload_block_take(struct session *s, uint64_t offset, size_t len)
{
    struct uploads *up = s->uploads;
    struct upload_block *b = NULL;
    size_t limit = UPLOAD_BLOCK_BYTES - (size_t)(offset % UPLOAD_BLOCK_BYTES);
    size_t size = UPLOAD_BLOCK_BYTES;

    if (up->staged_bytes + UPLOAD_BLOCK_BYTES > UPLOADS_STAGED_MAX) {
        limit = len < limit ? len : limit;
        size = limit;
    } else {
        b = take_spare(up);
    }
    if (!b)
        b = mem_new(sizeof *b);
    b->size_bytes = size;
    b->limit_bytes = limit;
    b->len = 0;
    up->staged_bytes += size;
    s->staged_bytes += size;
    return b;
}

size_t upload_block_fill(struct upload_block *b, const void *data, size_t len)
{
    size_t room = b->limit_bytes - b->len;
    size_t part = len < room ? len : room;

    if (!b->memory)
        b->memory = mem_resize(NULL, b->size_bytes);
    memcpy(b->memory + b->len, data, part);
    b->len += part;
    return part;
}

static void block_free(struct upload_block *b)
{
    free(b->memory);
    free(b);
}

void upload_block_drop(struct uploads *up, struct session *s, struct upload_block *b)
{
    up->staged_bytes -= b->size_bytes;
    if (s)
        s->staged_bytes -= b->size_bytes;
    if (b->size_bytes < UPLOAD_BLOCK_BYTES || up->spare_count == SPARE_MAX) {
        block_free(b);
        return;
    }
    STAILQ_INSERT_HEAD(&up->spare, b, link);
    up->spare_count++;
}

bool upload_blocks_are_full(const struct session *s)
{
    return s->staged_bytes >= UPLOAD_STAGED_MAX ||
           (s->staged_bytes > 0 && s->uploads->staged_bytes >= UPLOADS_STAGED_MAX);
}

bool upload_blocks_have_room(const struct session *s)
{
    return s->staged_bytes == 0 || (s->staged_bytes <= UPLOAD_STAGED_MAX / 2 &&
                                    s->uploads->staged_bytes < UPLOADS_STAGED_MAX);
}

void upload_blocks_free_spare(struct uploads *up)
{
    struct upload_block *b;

    while ((b = take_spare(up)))
        block_free(b);
}
