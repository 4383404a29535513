/* SPDX-License-Identifier: ISC */
/* How each upstream fares, as a daemon that runs says in its metrics. */
#ifndef TOOLS_UPSTREAMS_H
#define TOOLS_UPSTREAMS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

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
/* A table of those that were asked since the daemon was started, after an empty line;
 * nothing when none was. */
void upstreams_print(const struct upstreams *u, int64_t now_s);

#endif
