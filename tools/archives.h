/* SPDX-License-Identifier: ISC */
/* The archives that an import is given: which belong together, and in which order. */
#ifndef TOOLS_ARCHIVES_H
#define TOOLS_ARCHIVES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/bundle_record.h"
#include "cache/check.h"
#include "tools/command.h"

struct archive {
    char *path;
    uint64_t size_bytes; /* 0: not known */
    bool has_record;     /* it is a part of a bundle of cachalot */
    struct bundle_record record;
};

struct archives {
    struct archive *all;
    size_t count;
};

/* Look at the files; of a folder at those whose name ends with ".tar". Parts of one bundle
 * follow each other in their order. What is no file, like "-", is looked at when it is
 * read. */
MUST_CHECK enum exit_code archives_find(struct archives *a, int argc, char **argv);
void archives_clear(struct archives *a);

/* How many from this one on belong together. */
size_t archives_group(const struct archives *a, size_t first);
/* Complain if parts of the group are missing or there twice. */
MUST_CHECK enum exit_code archives_check(const struct archives *a, size_t first, size_t count);

#endif
