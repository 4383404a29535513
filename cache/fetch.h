/* SPDX-License-Identifier: ISC */
/*
 * Collapsed forwarding: one download of a blob, one writer, many readers, and a
 * partial file between them.
 *
 *   FETCH_ASKING     the upstream was not heard yet; the size is unknown
 *        |  fetch_begin
 *   FETCH_STREAMING  size known, bytes arrive in order; fetch_advance
 *        |  fetch_verify         \  fetch_fail (also from ASKING)
 *   FETCH_VERIFIED                FETCH_FAILED
 *
 * States go forward only. The writer's calls come from one thread at a time; a
 * reader belongs to one thread. Until VERIFIED the last FETCH_HOLD_BYTES are not
 * sendable, so that no client ever has a complete body that fails its digest.
 * After VERIFIED the fetch stays in the table until its record is committed
 * (fetch_retire), so that a client who asks meanwhile still joins it.
 */
#ifndef CACHE_FETCH_H
#define CACHE_FETCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "cache/check.h"
#include "cache/digest.h"
#include "cache/name.h"

#define FETCH_HOLD_BYTES (64u * 1024)

enum fetch_state { FETCH_ASKING, FETCH_STREAMING, FETCH_VERIFIED, FETCH_FAILED };

struct fetch;
struct fetch_table;

/* Why a fetch failed; `code` belongs to the caller of fetch_fail. */
struct fetch_failure {
    int code;
    int retry_after_s;
    char text[256];
    char challenge[512]; /* to pass on with the answer; empty when there is none */
};

struct fetch_table *fetch_table_new(void);
/* Every fetch must have been retired. */
void fetch_table_free(struct fetch_table **t);
/* Fetches under way. */
unsigned fetch_table_count(struct fetch_table *t);

/* How far one is, for people. */
struct fetch_progress {
    struct digest digest;
    struct name name; /* what fetch_describe said; empty before */
    int64_t started_ms;
    enum fetch_state state;
    uint64_t size_bytes;   /* valid from STREAMING on */
    uint64_t kept_bytes;   /* of these, what was there when it began */
    uint64_t avail_bytes;  /* in the file, from the front */
    unsigned reader_count; /* fetch_add_reader */
};
/* Visit all of them, in no order; `visit` runs with the table locked. */
typedef void fetch_visit(void *arg, const struct fetch_progress *p);
void fetch_table_walk(struct fetch_table *t, fetch_visit *visit, void *arg);

/* Join the fetch of a digest, or create it: `*created` says that the caller must
 * set it going. `only_for` makes a new one private: its bytes are for those alone
 * who may read that repository (NULL: for everybody). The caller owns one
 * reference, and asks fetch_admits before it reads. */
struct fetch *fetch_join(struct fetch_table *t, const struct digest *d, const struct name *only_for,
                         bool *created);
/* The same for work that nobody waits for: a fetch that it creates is in the background
 * until somebody joins it by fetch_join. */
struct fetch *fetch_join_background(struct fetch_table *t, const struct digest *d,
                                    const struct name *only_for, bool *created);
bool fetch_is_background(const struct fetch *f);
/* The fetch of a digest if there is one, with a reference for the caller; or NULL. */
struct fetch *fetch_find(struct fetch_table *t, const struct digest *d);
struct fetch *fetch_ref(struct fetch *f);
/* Give the reference back and leave NULL. The last one closes the descriptor. */
void fetch_unref(struct fetch **f);

const struct digest *fetch_digest(const struct fetch *f);
bool fetch_is_private(const struct fetch *f);
/* Whether who may read repository `n` may read it. */
bool fetch_admits(const struct fetch *f, const struct name *n);

/* --- the writer --- */

/* Say for which repository it was asked first, and when (monotonic). */
void fetch_describe(struct fetch *f, const struct name *n, int64_t now_ms);
/* The size is known and the first `avail_bytes` are in the file `fd`, which the
 * fetch duplicates. ERR_IO when it cannot: the caller fails the fetch. */
MUST_CHECK int fetch_begin(struct fetch *f, int fd, uint64_t size_bytes, uint64_t avail_bytes);
/* The first `avail_bytes` are in the file; never less than before. */
void fetch_advance(struct fetch *f, uint64_t avail_bytes);
void fetch_verify(struct fetch *f);
void fetch_fail(struct fetch *f, const struct fetch_failure *why);
/* Take it out of the table; later requests look in the index or start anew. Before
 * fetch_fail: who is told of a failure and asks again must not join it again. */
void fetch_retire(const struct fetch_table *t, struct fetch *f);

/* --- the readers --- */

struct fetch_view {
    enum fetch_state state;
    int fd;                  /* valid while the reader has its reference; -1 before STREAMING */
    uint64_t size_bytes;     /* valid from STREAMING on */
    uint64_t sendable_bytes; /* from the front of the blob */
};

/* One who waits: embedded in the request that waits. `wake` is called once, by
 * the writer's thread with the fetch locked, when a wait is over; it must do no
 * more than post a message. */
struct reader {
    struct fetch *fetch;
    uint64_t want_bytes;
    bool waiting;
    bool until_retired;
    void (*wake)(struct reader *r);
    LIST_ENTRY(reader) link;
    bool is_reading; /* fetch_pass.h */
    uint64_t read_bytes;
    LIST_ENTRY(reader) reading;
};

/* One more is sent its bytes, or one less: for people. */
void fetch_add_reader(struct fetch *f);
void fetch_drop_reader(struct fetch *f);

void fetch_look(struct fetch *f, struct fetch_view *view);
/* The failure of a FETCH_FAILED fetch. */
void fetch_why(struct fetch *f, struct fetch_failure *why);

/* Wait until more than `have_bytes` are sendable or the state is past
 * `have_state`. False, and no wait, when that is so already. */
bool reader_wait(struct reader *r, struct fetch *f, enum fetch_state have_state,
                 uint64_t have_bytes);
/* Wait until a verified fetch is retired, and so its record committed or given up. False,
 * and no wait, when it is. */
bool reader_wait_retired(struct reader *r, struct fetch *f);
/* Stop waiting; after the return `wake` is not called. Legal when not waiting. */
void reader_cancel(struct reader *r);
/* Readers waiting now. */
unsigned fetch_reader_count(struct fetch *f);

#endif
