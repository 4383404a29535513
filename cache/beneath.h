/* SPDX-License-Identifier: ISC */
/* Files of a folder, opened by names that cannot lead out of it. */
#ifndef CACHE_BENEATH_H
#define CACHE_BENEATH_H

#include <sys/types.h>

#include "cache/check.h"

/* openat(2), but that no symbolic link is followed on the way and no name gets above the
 * folder, whatever it is: openat2(2) with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS, or
 * O_NOFOLLOW where there is no such call. `mode` counts with O_CREAT. -1 with errno. */
MUST_CHECK int beneath_open(int dir_fd, const char *name, int flags, mode_t mode);

#endif
