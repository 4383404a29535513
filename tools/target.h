/* SPDX-License-Identifier: ISC */
/* What a command is to look at: an image by its reference, or a content by its digest. */
#ifndef TOOLS_TARGET_H
#define TOOLS_TARGET_H

#include <stdbool.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"
#include "cache/reference.h"
#include "tools/command.h"

struct target {
    bool has_reference; /* else it was named by its digest */
    struct reference reference;
    struct digest digest;
};

/* Find what a person wrote, by what the index knows: a digest, a reference, or the first
 * eight or more hexadecimal digits of a digest, if they fit one alone. EXIT_DONE, or the
 * code of a failure that was complained of. */
MUST_CHECK enum exit_code target_find(struct target *t, const struct options *o, struct db_txn *txn,
                                      const char *text);

/* Whether the index has heard of the content: it is held, or some manifest names it. */
MUST_CHECK int target_is_known(struct db_txn *txn, const struct digest *d, bool *is_known);

#endif
