/* SPDX-License-Identifier: ISC */
/*
 * Limits of bandwidth: a rate by day and hour as it is configured, and the bucket
 * that holds a stream of bytes to it. All pure: time is passed in.
 */
#ifndef PROXY_RATE_H
#define PROXY_RATE_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "cache/check.h"

#define RATE_CLAUSES_MAX 8
#define RATE_CLAUSE_SIZE 48 /* of its text, with the NUL */
#define RATE_TEXT_SIZE (RATE_CLAUSES_MAX * RATE_CLAUSE_SIZE)

struct rate_clause {
    uint64_t bytes_per_s; /* 0: unlimited */
    /* On these days, as tm_wday; around the end of the week when first > last. */
    unsigned first_day, last_day;
    /* From so many minutes after midnight until before so many; past midnight, into
     * the day after, when from_min > to_min. */
    unsigned from_min, to_min;
};

/* The first clause whose time it is counts; where none does there is no limit. */
struct rate {
    struct rate_clause clauses[RATE_CLAUSES_MAX];
    unsigned count;
};

/* Add the clauses of a text: "50Mbit/s mon-fri 08:00-18:00, 200Mbit/s". Each is a rate
 * (a whole number of kbit/s, Mbit/s, Gbit/s, B/s, kB/s, MB/s, GB/s, KiB/s, MiB/s or
 * GiB/s; or 0), then maybe a day or days, then maybe hours. An empty text adds none.
 * ERR_INVALID with what is wrong, a string that lives for ever, in `*why`; `r` is then
 * as before. */
MUST_CHECK int rate_add(struct rate *r, const char *text, const char **why);

/* The canonical text of one clause, and of all; rate_add takes both back. Returns the
 * length. */
size_t rate_clause_format(const struct rate_clause *c, char out[RATE_CLAUSE_SIZE]);
size_t rate_format(const struct rate *r, char out[RATE_TEXT_SIZE]);

/* Bytes a second at a local time; 0 is unlimited. */
uint64_t rate_at(const struct rate *r, const struct tm *local);

/* Lets so many bytes a second pass, after a pause at most its burst at once: what
 * passes in 100 ms, but 64 KiB at least. Whoever shares one holds a lock. Times are
 * milliseconds of a clock that does not go back. */
struct bucket {
    uint64_t bytes_per_s; /* 0: unlimited */
    uint64_t burst_bytes;
    uint64_t level; /* thousandths of bytes */
    int64_t at_ms;  /* when the level was right */
};

/* A full bucket. */
void bucket_init(struct bucket *b, uint64_t bytes_per_s, int64_t now_ms);

/* Another rate from now on; no more has passed by then than the old one allowed. */
void bucket_set_rate(struct bucket *b, uint64_t bytes_per_s, int64_t now_ms);

/* Take as much of `want_bytes` as may pass now, maybe nothing; returns it. */
uint64_t bucket_take(struct bucket *b, uint64_t want_bytes, int64_t now_ms);

/* How long until bucket_take gives all of `want_bytes`, or a whole burst if that is
 * less; 0 when it does now. */
int64_t bucket_wait_ms(struct bucket *b, uint64_t want_bytes, int64_t now_ms);

#endif
