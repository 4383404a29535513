/* SPDX-License-Identifier: ISC */
/* Asking a running cachalotd through its Unix socket. */
#ifndef TOOLS_DAEMON_H
#define TOOLS_DAEMON_H

#include <stddef.h>

#include "cache/check.h"
#include "tools/command.h"

/* GET the path; the body, NUL-terminated and owned by the caller, in `*body`.
 * ERR_NOT_FOUND when nobody listens, ERR_DENIED when the socket may not be used,
 * ERR_MISMATCH when it does not have that, else ERR_IO or ERR_INVALID; `why` has a sentence with
 * what to do. */
MUST_CHECK int daemon_get(const struct options *o, const char *path, char **body, char *why,
                          size_t why_size);

/* POST without a body, in the same way. */
MUST_CHECK int daemon_post(const struct options *o, const char *path, char **body, char *why,
                           size_t why_size);

#endif
