/* SPDX-License-Identifier: ISC */
/*
 * A thread that looks at the daemon from outside: every two seconds it takes down what the
 * status page draws, and between that it does what would hold up a worker, such as long walks
 * through the index for somebody who looks.
 */
#ifndef PROXY_WATCH_H
#define PROXY_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/db.h"
#include "cache/store.h"
#include "proxy/queue.h"
#include "proxy/stats.h"
#include "proxy/tally.h"

#define WATCH_PERIOD_MS 2000
#define WATCH_SAMPLES 151 /* five minutes of them */
#define WATCH_JOBS_MAX 32

struct watch;

/* The tally lives longer. */
struct watch *watch_start(struct store *s, struct tally *t, struct stats *stats);
/* Does what is queued, ends the thread, frees. NULL is legal; leaves NULL. */
void watch_stop(struct watch **w);

/* --- what it sees --- */

struct watch_sample {
    int64_t at_ms;       /* monotonic */
    uint64_t line_bytes; /* since the start: from upstreams, */
    uint64_t lan_bytes;  /* and blobs to clients */
};

struct watch_view {
    int64_t now_s; /* Unix time */
    int err;       /* of reading the index; then the sums are those before */
    struct tally_sums sums;
    uint64_t blobs, manifests, tags, partials; /* records */
    bool has_disk;
    uint64_t disk_bytes, disk_free_bytes; /* of the file system of the cache */
    unsigned sample_count;
    struct watch_sample samples[WATCH_SAMPLES]; /* the oldest first */
};

/* --- work that takes long --- */

struct watch_job {
    struct msg msg; /* the watch's */
    /* In its thread; owns the job from then on. */
    void (*run)(struct watch_job *j, struct watch *w);
};

/* Any thread. False, and nothing is taken, when too many wait. */
bool watch_post(struct watch *w, struct watch_job *j);

/* For jobs: a reader, and what there is to see, the sums as of now. */
struct db_reader *watch_reader(struct watch *w);
const struct watch_view *watch_look(struct watch *w);

#endif
