/* SPDX-License-Identifier: ISC */
/* The hosts that cachalotd serves by TLS, according to its settings. */
#ifndef TOOLS_HOSTS_H
#define TOOLS_HOSTS_H

#include <stddef.h>

#include "cache/check.h"
#include "tools/command.h"

struct hosts {
    char *text;
    char **names; /* in `text` */
    size_t count;
};

/* Ask "cachalotd -H": the one beside this program, in sbin beside its bin, or in $PATH.
 * EXIT_DONE, or the code of a failure that was complained of; then `h` is empty. */
MUST_CHECK enum exit_code hosts_read(struct hosts *h, const struct options *o);
void hosts_free(struct hosts *h);

#endif
