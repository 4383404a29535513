/* SPDX-License-Identifier: ISC */
/* Files with secrets, or with what is trusted: opened when not every user gets at them. */
#ifndef PROXY_GUARDED_H
#define PROXY_GUARDED_H

#include <stddef.h>

#include "cache/check.h"

enum guard {
    GUARD_SECRET,  /* others than its owner and group can neither read nor write it */
    GUARD_TRUSTED, /* they cannot write it */
};

/* Open a regular file to read it. The descriptor is the caller's in `*fd`; -1 and ERR_* with
 * a sentence in `why` when it is none, or is not guarded. */
MUST_CHECK int guarded_open(const char *path, enum guard guard, int *fd, char *why,
                            size_t why_size);

#endif
