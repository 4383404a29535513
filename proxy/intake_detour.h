/* SPDX-License-Identifier: ISC */
/* Where the messages of an intake wait: for room for its blob, or, when there is none, for
 * its readers. Of the write thread, but for what is atomic. */
#ifndef PROXY_INTAKE_DETOUR_H
#define PROXY_INTAKE_DETOUR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "cache/digest.h"
#include "proxy/queue.h"
#include "proxy/storage.h"

struct block;
struct order;

/* intake_room.c */
struct waiting_room {
    struct want want;
    char name[DIGEST_TEXT_MAX];
    struct order *sizing;  /* what waits for room; NULL: nothing does */
    struct order *opening; /* the same, before it */
    struct block *block;   /* the same, while the size is not known */
    bool has_asked;        /* for room to open it */
    STAILQ_HEAD(, msg) held;
};

/* intake_pass.c */
struct passing {
    bool is_passing;
    int fd; /* of the file in memory */
    uint64_t dropped_bytes;
    STAILQ_HEAD(, msg) blocks; /* that wait, in order */
    struct order *end;         /* it came, and is behind them */
    struct msg moved;
    atomic_bool is_moved_posted;
};

#endif
