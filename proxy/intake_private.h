/* SPDX-License-Identifier: ISC */
/*
 * What the three threads of an intake share: intake.c is the upstream thread's side,
 * intake_hash.c the hash thread's, the rest the write thread's.
 *
 *   upstream thread  ->  write thread  ->  hash thread  ->  upstream thread
 *
 * A block or an order is made in the upstream thread and goes this way as one message.
 * A block comes back as its own answer, and so does a size. An opening goes no further than the
 * write thread; an end returns there from the hash thread, behind every block, and is answered when
 * all is settled: it is the last answer, and ends the life of the intake.
 */
#ifndef PROXY_INTAKE_PRIVATE_H
#define PROXY_INTAKE_PRIVATE_H

#include <stddef.h>
#include <sys/queue.h>

#include "cache/digest.h"
#include "cache/partial.h"
#include "proxy/intake.h"
#include "proxy/intake_detour.h"
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
    /* Of the write thread, for the hash thread. */
    bool is_written;
    uint64_t front_bytes; /* how far the file has no gap, with this block */
};

/* A call of intake.h on its way. */
struct order {
    struct msg msg;
    struct intake *intake;
    uint64_t bytes;       /* the size; to the hash thread, how far there is no gap */
    struct extents *kept; /* in the answer of an opening; owned */
    bool kept_elsewhere;  /* and whether they wait for intake_go_elsewhere */
    bool is_passing;      /* of a size: it is not stored */
    bool verify;          /* of an end: false when abandoned */
    struct digest digest; /* what the hash thread found, to verify */
    bool discard;
    struct fetch_failure why;
    int err; /* of the answer */
};

struct hasher {
    struct store *store;
    struct storage *storage;
    struct fetch_table *fetches;
    struct queue *answers;
    struct twice *twice;
    struct stats *stats;
    struct log *log;
    struct queue *to_write, *to_hash;
    pthread_t writing, hashing;
    struct msg stop; /* passes both */

    /* Of the upstream thread. */
    SLIST_HEAD(, block) spare;
    unsigned spare_count;
    uint64_t staged_bytes;
    unsigned intake_count;

    /* Of the write thread. */
    bool writer_stops;
    struct db_reader *reader;
    unsigned passing_count;
    LIST_HEAD(, intake) lagging; /* more is written than their readers were told */

    /* Of the hash thread. */
    bool hasher_stops;
};

/* Extents synced and recorded, while the fetch goes on. */
struct checkpoint {
    struct storage_job job;
    struct intake *intake;
    bool pending;
    struct order *opening; /* it waits for this one */
    int err;               /* of that */
    int64_t at_ms;         /* the last one */
    uint64_t fresh_bytes;  /* written since */
    struct partial_record record;
};

/* To the write thread; its map is in intake_write.c. */
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

    /* Of the write thread. */
    struct partial_owner owner;
    enum intake_state state;
    struct partial *partial; /* the hash thread reads it from the size to the end */
    uint64_t size_bytes;
    bool is_begun;          /* the size is known */
    struct extents extents; /* written */
    bool kept_elsewhere;    /* all of them, and the fetch has not gone there */
    uint64_t told_bytes;    /* to the readers */
    int64_t told_at_ms;
    bool is_lagging;
    LIST_ENTRY(intake) lagging;
    int64_t started_at_s;
    bool is_recorded, discard;
    struct fetch_failure why; /* of INTAKE_FAILED */
    struct order *end;        /* it came back from the hash thread */
    struct passing pass;
    struct waiting_room room;
    struct checkpoint checkpoint;
    struct msg broken; /* to the upstream thread */
    int broken_err;

    /* Of the hash thread. */
    struct hash *hash;
    uint64_t hashed_bytes; /* from the front */
    uint64_t front_bytes;  /* written from the front, as the write thread said */
    bool may_read_back;    /* the size is known, so no reset takes the bytes away */
    struct msg catch_up;   /* hash what was written early, a step at a time */
    bool is_catching_up;
    bool is_unread;         /* reading back failed */
    struct msg unread;      /* and the write thread is told */
    struct order *hash_end; /* the end has come */
};

/* Answers, run in the upstream thread. */
void intake_opened(struct msg *m, void *owner);
void intake_drained(struct msg *m, void *owner);
void intake_sized(struct msg *m, void *owner);
void intake_broken(struct msg *m, void *owner);
void intake_ended(struct msg *m, void *owner);

#endif
