/* SPDX-License-Identifier: ISC */
/* Between prefetch.c (what is due), prefetch_run.c (one run), prefetch_tags.c (which tags fit
 * a pattern) and prefetch_format.c (what is told). */
#ifndef PROXY_PREFETCH_PRIVATE_H
#define PROXY_PREFETCH_PRIVATE_H

#include <stdbool.h>

#include "cache/prefetch.h"
#include "proxy/errand.h"
#include "proxy/prefetch.h"

/* Of one section, patterns replaced by what fits them. */
#define TARGETS_MAX 256

/* A section that has references. */
struct plan {
    const struct config_prefetch *settings; /* of the plans' config */
    struct prefetch_record record;
    int64_t next_s;
    unsigned failures; /* in a row, that may pass */
};

struct prefetch {
    struct courier courier;
    struct config *config; /* that the plans are of */
    pthread_mutex_t lock;  /* guards what follows against prefetch_format; one thread writes */
    struct plan *plans;
    unsigned plan_count;
    const struct plan *running;
    struct reference now; /* of it */
    struct errand_progress progress;
};

/* Fetch what the plan says; its record is what is to be told of it. Whether what failed may
 * pass. */
bool prefetch_run(struct prefetch *p, struct plan *plan);

struct targets {
    unsigned count;
    struct reference list[TARGETS_MAX];
};

/* Add a reference that is not there yet; false when there are too many. */
bool targets_add(struct targets *t, const struct reference *r);

/* Add the tags of the repository that fit. An error row with `why`, or OUT_MISS. */
enum outcome targets_find(struct prefetch *p, struct targets *t, const struct name *n,
                          const char *tags, char *why, size_t why_size);

/* The query of the next page that a Link field names, of at most `size` bytes with the NUL;
 * false when it names none. */
bool link_next_query(const char *link, char *out, size_t size);

#endif
