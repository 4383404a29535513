/* SPDX-License-Identifier: ISC */
/*
 * Bytes of uploads between the network and the file. All of it with the engine's lock
 * held, but for the filling.
 */
#ifndef PROXY_UPLOAD_BLOCK_H
#define PROXY_UPLOAD_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct session;
struct uploads;

struct upload_block {
    STAILQ_ENTRY(upload_block) link;
    uint8_t *memory;    /* NULL: to be allocated */
    size_t size_bytes;  /* of it: UPLOAD_BLOCK_BYTES, or made for what it holds */
    size_t limit_bytes; /* to be filled so far */
    size_t len;
};

STAILQ_HEAD(upload_blocks, upload_block);

/* One to fill for the session, at this offset of its file, with `len` bytes at first. */
struct upload_block *upload_block_take(struct session *s, uint64_t offset, size_t len);
/* Copy into it; returns how much of `len` it took. Needs no lock. */
size_t upload_block_fill(struct upload_block *b, const void *data, size_t len);
/* It is of no more use; `s` is NULL when its session has ended. */
void upload_block_drop(struct uploads *up, struct session *s, struct upload_block *b);

/* Whether so much is staged that the user should pause; whether one that has may go on. */
bool upload_blocks_are_full(const struct session *s);
bool upload_blocks_have_room(const struct session *s);

/* Free those that are kept for the next bytes. */
void upload_blocks_free_spare(struct uploads *up);

#endif
