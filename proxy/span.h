/* SPDX-License-Identifier: ISC */
/* Bytes that belong to somebody else's buffer; not NUL-terminated. */
#ifndef PROXY_SPAN_H
#define PROXY_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct span {
    const char *p; /* NULL: not there at all */
    size_t len;
};

static inline bool span_equal(struct span s, const char *text)
{
    return strlen(text) == s.len && (s.len == 0 || memcmp(s.p, text, s.len) == 0);
}

/* ASCII case is ignored. */
bool span_equal_fold(struct span s, const char *text);

/* Without its first `at` bytes, of which it has so many. */
static inline struct span span_from(struct span s, size_t at)
{
    return (struct span){s.p + at, s.len - at};
}

/* Cut at the first such byte: what is before it is returned, what is after it is left
 * in `*s`, whose p is NULL when there is no such byte. `s->p` must not be NULL. */
struct span span_cut(struct span *s, char at);

#endif
