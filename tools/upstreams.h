/* SPDX-License-Identifier: ISC */
/* How each upstream fares, as a daemon that runs says in its metrics. */
#ifndef TOOLS_UPSTREAMS_H
#define TOOLS_UPSTREAMS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "tools/terminal.h"

struct upstream_state;

/* All zero is none. */
struct upstreams {
    struct upstream_state *states;
    size_t count;
};

/* Take what a line of the metrics says of an upstream, if it does. */
void upstreams_take(struct upstreams *u, const char *line);
void upstreams_clear(struct upstreams *u);

/* An array with an object each; null is what is not known. */
json_t *upstreams_json(const struct upstreams *u);
/* A table of those that were asked since the daemon was started, and one of their last
 * failures, each after an empty line; nothing when there are none. For a terminal of that
 * size; 0 columns: no limit. */
void upstreams_write(FILE *out, const struct upstreams *u, int64_t now_s,
                     const struct terminal_size *size, bool has_style);

#endif
