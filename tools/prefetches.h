/* SPDX-License-Identifier: ISC */
/* What a running daemon fetches by the clock: when next, and how it went last. */
#ifndef TOOLS_PREFETCHES_H
#define TOOLS_PREFETCHES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "tools/command.h"
#include "tools/terminal.h"

/* The daemon's own words: an array with an object each, to be released; it is empty when the
 * daemon does not tell. */
json_t *prefetches_ask(const struct options *o);

/* A table after an empty line; nothing when there are none. 0 columns: no limit. */
void prefetches_write(FILE *out, const json_t *prefetches, int64_t now_s,
                      const struct terminal_size *size, bool has_style);

#endif
