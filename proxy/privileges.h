/* SPDX-License-Identifier: ISC */
/* Whom the daemon runs as, and with what rights: less at each step, never more again. All
 * by the main thread, while there is no other: a thread keeps the rights it began with. */
#ifndef PROXY_PRIVILEGES_H
#define PROXY_PRIVILEGES_H

#include <stdbool.h>
#include <stddef.h>

#include "cache/check.h"

struct privileges {
    bool began_as_root;
    bool changed_user; /* what was read before may be closed to us now */
};

/* What a daemon that root started becomes: `user`, or when that is NULL the owner of the
 * cache directory; of one that is missing, or root's and empty, the user "cachalot" if
 * there is one. Such a directory is made his. Of root's rights only those that opening
 * addresses needs stay, until privileges_drop. HOME becomes that of the user.
 * Started by another it stays that one; ERR_DENIED when `user` is somebody else.
 * On failure `why` has a sentence for a person. */
MUST_CHECK int privileges_take(struct privileges *p, const char *user, const char *cache_path,
                               char *why, size_t why_size);

/* The addresses are open: root's last rights go (but those to get at files, where it is
 * root that this runs as), no program that is executed gets any, capabilities(7), and
 * nobody but root can look into our memory. `*is_root`: whether we are still root. ERR_DENIED
 * when the kernel refuses it, with a sentence in `why`. */
MUST_CHECK int privileges_drop(const struct privileges *p, bool *is_root, char *why,
                               size_t why_size);

#endif
