/* SPDX-License-Identifier: ISC */
/*
 * The bytes of an index record: a version byte, then fields, integers
 * little-endian, strings with their length before them.
 *
 * Both sides latch the first error, so that a record is written or read field by
 * field and asked once at the end. A reader never leaves its bytes, whatever they
 * hold.
 */
#ifndef CACHE_RECORD_H
#define CACHE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"

struct record_out {
    uint8_t *buf;
    size_t size;
    size_t len;
    bool full; /* something did not fit */
};

/* Write into `buf`, which outlives `o`. */
void record_start(struct record_out *o, void *buf, size_t size, uint8_t version);
void record_put_u8(struct record_out *o, uint8_t v);
void record_put_u16(struct record_out *o, uint16_t v);
void record_put_u32(struct record_out *o, uint32_t v);
void record_put_u64(struct record_out *o, uint64_t v);
void record_put_i64(struct record_out *o, int64_t v);
void record_put_bytes(struct record_out *o, const void *p, size_t len);
/* At most 65535 bytes; a NUL follows them, so that it can be read in place. */
void record_put_text(struct record_out *o, const char *text);
void record_put_digest(struct record_out *o, const struct digest *d);
/* ERR_TOO_LARGE when something did not fit. */
MUST_CHECK int record_finish(const struct record_out *o);

struct record_in {
    const uint8_t *at;
    const uint8_t *end;
    bool bad;
};

/* Read a record of this version; any other version is bad. */
void record_open(struct record_in *in, struct db_value value, uint8_t version);
/* 0 once the record is bad. */
uint8_t record_get_u8(struct record_in *in);
uint16_t record_get_u16(struct record_in *in);
uint32_t record_get_u32(struct record_in *in);
uint64_t record_get_u64(struct record_in *in);
int64_t record_get_i64(struct record_in *in);
/* A byte that is 0 or 1; any other is bad. */
bool record_get_flag(struct record_in *in);
/* The next `len` bytes in place, NULL once the record is bad. */
const void *record_get_bytes(struct record_in *in, size_t len);
/* The string in place; "" once the record is bad, also for a NUL within it. */
const char *record_get_text(struct record_in *in);
/* Copy the string; bad when it does not fit. */
void record_copy_text(struct record_in *in, char *out, size_t out_size);
/* `d` is unspecified once the record is bad. */
void record_get_digest(struct record_in *in, struct digest *d);
/* Make it bad unless this holds. */
void record_require(struct record_in *in, bool holds);
/* ERR_DAMAGED when the record is bad. */
MUST_CHECK int record_check(const struct record_in *in);
/* As record_check; bytes that were not read are damage too. */
MUST_CHECK int record_close(const struct record_in *in);

#endif
