/* SPDX-License-Identifier: ISC */
/*
 * Shared by intake.c (the upstream thread's side) and the rest (the hash thread's).
 *
 * An order or a block is made in the upstream thread, done in the hash thread, and
 * comes back as its own answer; both queues keep the order, so what was posted
 * last is answered last, and `ended` ends the life of the intake.
 */
#ifndef PROXY_INTAKE_PRIVATE_H
#define PROXY_INTAKE_PRIVATE_H

#include <stddef.h>
#include <sys/queue.h>

#include "cache/digest.h"
#include "cache/partial.h"
#include "proxy/intake.h"
#include "proxy/thread.h"

/* Bytes on their way to the file. */
struct block {
    struct msg msg;
    struct intake *intake;
    SLIST_ENTRY(block) link; /* spare */
    uint64_t offset;
    size_t len;
    uint8_t *data; /* within `memory`; room for INTAKE_BLOCK_BYTES */
    uint8_t *memory;
};

/* A call of intake.h on its way to the hash thread. */
struct order {
    struct msg msg;
    struct intake *intake;
    uint64_t bytes;       /* the size */
    struct extents *kept; /* in the answer of an opening; owned */
    bool verify;          /* of an end: false when abandoned */
    bool discard;
    struct fetch_failure why;
    int err; /* of the answer */
};

struct hasher {
    struct store *store;
    struct storage *storage;
    struct fetch_table *fetches;
    struct queue *answers;
    struct stats *stats;
    struct log *log;
    struct queue *queue;
    pthread_t thread;
    struct msg stop;

    /* Of the upstream thread. */
    SLIST_HEAD(, block) spare;
    unsigned spare_count;
    uint64_t staged_bytes;
    unsigned intake_count;

    /* Of the hash thread. */
    bool stopping;
    struct db_reader *reader;
    LIST_HEAD(, intake) lagging; /* more is written than their readers were told */
};

/* Extents synced and recorded, while the fetch goes on. */
struct checkpoint {
    struct storage_job job;
    struct intake *intake;
    bool pending;
    int64_t at_ms;        /* the last one */
    uint64_t fresh_bytes; /* written since */
    struct partial_record record;
};

/* To the hash thread. Only while OPEN it takes bytes; of a FAILED one they are dropped. */
enum intake_state { INTAKE_OPEN, INTAKE_FAILED, INTAKE_VERIFIED };

struct intake {
    struct hasher *hasher;
    struct fetch *fetch;

    /* Of the upstream thread. */
    const struct intake_calls *calls;
    void *arg;
    struct block *filling[INTAKE_LANES_MAX];
    uint64_t staged_bytes;    /* taken and not drained */
    uint64_t in_flight_bytes; /* of these, posted */
    bool ending;

    /* Of the hash thread. */
    struct name name;
    enum intake_state state;
    struct partial *partial;
    struct hash *hash;
    uint64_t size_bytes;
    bool is_begun;          /* the size is known */
    struct extents extents; /* written */
    uint64_t hashed_bytes;  /* from the front */
    struct msg catch_up;    /* hash what was written early, a step at a time */
    bool is_catching_up;
    uint64_t told_bytes; /* to the readers */
    int64_t told_at_ms;
    bool is_lagging;
    LIST_ENTRY(intake) lagging;
    int64_t started_at_s;
    bool is_recorded, discard;
    struct fetch_failure why; /* of INTAKE_FAILED */
    struct order *end;        /* the end has come */
    bool is_concluded;        /* and it is known how */
    struct checkpoint checkpoint;
    struct msg broken; /* to the upstream thread */
    int broken_err;
};

void *hasher_run(void *arg);
/* What messages to the hash thread do; `owner` is its hasher. */
void hasher_open(struct msg *m, void *owner);
void hasher_reset(struct msg *m, void *owner);
void hasher_size(struct msg *m, void *owner);
void hasher_block(struct msg *m, void *owner);
void hasher_end(struct msg *m, void *owner);
/* The end of an intake, once nothing else works with the partial. */
void intake_settle(struct intake *i);

/* And their answers, in the upstream thread. */
void intake_opened(struct msg *m, void *owner);
void intake_drained(struct msg *m, void *owner);
void intake_broken(struct msg *m, void *owner);
void intake_ended(struct msg *m, void *owner);

/* intake_checkpoint.c */
/* Into i->extents: what an earlier run left in the file, by the index. */
void checkpoint_load(struct intake *i, uint64_t file_bytes);
/* The size is known: the index says from now on that there is a partial. */
void checkpoint_first(struct intake *i);
/* Bytes were written: maybe it is time for one. */
void checkpoint_in_time(struct intake *i, size_t len, int64_t now_ms);
/* Whether one more was needed, and is under way, before the partial is left. */
bool checkpoint_last(struct intake *i);

/* intake_publish.c: the storage thread's part */
/* Hand a verified blob to the storage thread, which owns the partial and the
 * reference of the fetch from now on. */
void publish_post(struct hasher *h, struct partial *p, struct fetch *f, const struct name *n,
                  uint64_t size_bytes);
/* Forget the record of a partial. */
void publish_forget(struct hasher *h, const struct digest *d);

#endif
