/* SPDX-License-Identifier: ISC */
/*
 * How far long work has come: a bar with rate and remaining time, redrawn in place on
 * standard error, if that is a terminal and nobody asked for quiet or JSON.
 */
#ifndef TOOLS_PROGRESS_H
#define TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "tools/command.h"

struct progress {
    bool is_shown;
    const char *what;
    uint64_t total_bytes; /* 0: not known */
    uint64_t done_bytes;
    int64_t began_ms;
    int64_t drawn_ms;
    int width; /* of what was drawn last */
};

/* `what` is a word or two, and lives as long as the progress. */
void progress_begin(struct progress *p, const struct options *o, const char *what,
                    uint64_t total_bytes);
void progress_add(struct progress *p, uint64_t bytes);
/* Take the bar away: what follows is printed in its place. */
void progress_end(struct progress *p);

/* The bar's line for people, at most `width` columns, NUL-terminated, in `out`; pure. */
#define PROGRESS_LINE_MAX 256
char *progress_line(const struct progress *p, int64_t now_ms, unsigned width,
                    char out[PROGRESS_LINE_MAX]);

#endif
