/* SPDX-License-Identifier: ISC */
/*
 * Assertions that stay in release builds, and allocation that never fails.
 *
 * CHECK is for our own bugs only. Bytes from a network or a disk are validated
 * and answered with an error; they never reach a CHECK.
 */
#ifndef CACHE_CHECK_H
#define CACHE_CHECK_H

#include <stddef.h>

#define CHECK(x) ((x) ? (void)0 : check_failed(#x, __FILE__, __LINE__))

#define MUST_CHECK __attribute__((warn_unused_result))

/* What the member at `p` is a member of. */
#define CONTAINER_OF(p, type, member) ((type *)((char *)(p)-offsetof(type, member)))

/* Print what did not hold and where on standard error, then abort. */
_Noreturn void check_failed(const char *what, const char *file, int line);

/* Zeroed memory of `size` bytes, owned by the caller (free). Aborts when there
 * is none: only for sizes that we chose, never for one that a peer named. */
void *mem_new(size_t size);

/* As realloc, aborting on failure; the added bytes are not zeroed. */
void *mem_resize(void *p, size_t size);

/* A copy of the `len` bytes at `p` with a NUL after them, owned by the caller. */
char *mem_copy(const void *p, size_t len);

/* A formatted string, owned by the caller. */
char *mem_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
