/* SPDX-License-Identifier: ISC */
/* Which images an export is to hold, and what of them is missing. */
#ifndef TOOLS_WANTED_H
#define TOOLS_WANTED_H

#include "cache/bundle.h"
#include "tools/command.h"

struct wanted {
    const struct options *options;
    struct cache *cache;
    struct bundle bundle;
    struct bundle_wish wish;
    const char *list; /* the text of the file of -f, or NULL; the caller's */
    size_t list_len;
    struct digest_map *references; /* hashes of those that were named, each once */
    unsigned absent;               /* references of which nothing is held, complained of */
    /* Only list the references that upstreams have: what a tag leads to they say anew. */
    bool wants_fetch;
    char **to_fetch;
    size_t to_fetch_count;
};

void wanted_init(struct wanted *w, const struct options *o, struct cache *c);
void wanted_clear(struct wanted *w);

/* The platforms of --platform. */
MUST_CHECK enum exit_code wanted_set_platforms(struct wanted *w);
/* Add the references: arguments, those of the file of -f, or all tags with --all. */
MUST_CHECK enum exit_code wanted_add(struct wanted *w, int argc, char **argv);
/* Complain of what is missing, and say how to get it: EXIT_ABSENT; EXIT_DONE when all is
 * there. */
MUST_CHECK enum exit_code wanted_check(const struct wanted *w);

#endif
