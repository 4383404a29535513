/* SPDX-License-Identifier: ISC */
/*
 * A fetch that passes: there is no room to store its blob, so its bytes go through a window
 * of memory to those who read them, at the pace of the slowest, and are dropped behind them.
 *
 * What was dropped nobody can read again: from then on the fetch is not in its table, and
 * who asks for the blob makes another. Only who has told that he reads (reader_begin) is
 * waited for; when the last of them has left there is nobody to pass it to. Nor is it in
 * the table while it waits for a slow reader, so that nobody more has to; those who have to
 * do so no longer than he takes, in FETCH_PASS_PATIENCE_MS, half a window.
 */
#ifndef CACHE_FETCH_PASS_H
#define CACHE_FETCH_PASS_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/fetch.h"

#define FETCH_PASS_PATIENCE_MS 10000

/* As fetch_begin, of a file in memory with nothing in it yet. `moved` is called, with the
 * fetch locked, when a reader has moved or left: it must do no more than post a message.
 * ERR_NOT_FOUND when nobody reads it. */
MUST_CHECK int fetch_begin_passing(struct fetch *f, int fd, uint64_t size_bytes,
                                   void (*moved)(void *arg), void *arg);
/* The writer, who wants to write up to `end`, at that time (monotonic): how far it may with a
 * window of so many bytes; what is below `*drop_bytes` is to be dropped: nothing, as long as it
 * need not be, for who comes meanwhile. 0 when nobody reads it any more. */
uint64_t fetch_pass_limit(struct fetch *f, uint64_t end, uint64_t window_bytes, int64_t now_ms,
                          uint64_t *drop_bytes);
/* `moved` is not called any more. */
void fetch_pass_end(struct fetch *f);

/* This one reads it from the front. Until reader_cancel; before anybody waits by it. False
 * when the front is dropped: ask for another fetch. */
bool reader_begin(struct reader *r, struct fetch *f);
/* It wants nothing below that offset any more. Legal for who has not begun. */
void reader_move(struct reader *r, uint64_t offset);
/* Whether the writer and others have waited too long for this one, the slowest: he is to be
 * cut. */
bool reader_is_too_slow(struct reader *r, int64_t now_ms);

#endif
