/* SPDX-License-Identifier: ISC */
/* The scrubber, between scrubber.c (the thread and its pace) and scrubber_heal.c (what has
 * gone bad). */
#ifndef PROXY_SCRUBBER_PRIVATE_H
#define PROXY_SCRUBBER_PRIVATE_H

#include <pthread.h>

#include "cache/scrub.h"
#include "cache/verify.h"
#include "proxy/scrubber.h"

#define SUSPECTS_MAX 64

struct scrubber {
    struct courier courier;
    struct scrub_state state;
    uint64_t bytes_per_s;   /* of the round under way; 0: not reckoned yet */
    int64_t due_ms;         /* when the next byte may be read */
    int64_t note_ms;        /* when the state is written again */
    int64_t retry_ms;       /* when what is lost is tried again */
    int64_t retry_after_ms; /* how long that takes, the next time */

    pthread_mutex_t lock;
    /* Under the lock. */
    struct digest suspects[SUSPECTS_MAX];
    unsigned suspect_count;
    struct msg woken;
    bool is_woken; /* `woken` is posted */
    bool has_ended;
};

enum look {
    LOOK_STOP,
    LOOK_DONE, /* it is well, or was seen to */
    LOOK_GONE, /* it is not held, or no more */
};

/* Read one blob. When it is bad, drop it and fetch it again. */
enum look scrubber_look_at(struct scrubber *s, const struct digest *d);
/* When it was dropped because it is bad, and nobody brought it again. False: stop. */
bool scrubber_heal_lost(struct scrubber *s, const struct digest *d);
/* Try again what is lost. False: stop. */
bool scrubber_retry_lost(struct scrubber *s);

/* The courier's pace; a positive result ends the reading: stop. */
int scrubber_pace(void *arg, uint64_t bytes);

#endif
