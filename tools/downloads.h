/* SPDX-License-Identifier: ISC */
/* What a running daemon is downloading, and how far it is. */
#ifndef TOOLS_DOWNLOADS_H
#define TOOLS_DOWNLOADS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "tools/command.h"
#include "tools/terminal.h"

struct download {
    char *digest;
    char *name;         /* of the repository that it was asked for first */
    int64_t size_bytes; /* -1: not known yet */
    int64_t done_bytes;
    int64_t kept_bytes; /* of these, what an earlier run had left */
    int64_t elapsed_ms;
    int64_t rate; /* bytes a second; -1: not known */
};

/* All zero is none. Those that end last come last. */
struct downloads {
    struct download *list;
    size_t count;
};

/* Ask the daemon. On failure, also of an older daemon that does not tell, there are none. */
void downloads_ask(struct downloads *d, const struct options *o);
/* Take the answer of /-/api/fetches; what is not of its form is left out. */
void downloads_take(struct downloads *d, const char *json);
void downloads_clear(struct downloads *d);

/* The rates since an earlier answer, `passed_ms` ago, rather than since each began. */
void downloads_compare(struct downloads *d, const struct downloads *before, int64_t passed_ms);

/* An array with an object each; null is what is not known. */
json_t *downloads_json(const struct downloads *d);
/* A table after an empty line, with bars and at most `max` rows on a terminal; nothing when
 * there are none. 0 columns: no terminal. */
void downloads_write(FILE *out, const struct downloads *d, const struct terminal_size *size,
                     size_t max, bool has_style);

#endif
