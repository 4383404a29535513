/* SPDX-License-Identifier: ISC */
/* The files in a folder. */
#ifndef CACHE_FOLDER_H
#define CACHE_FOLDER_H

#include "cache/check.h"

/* Visit the name of each entry, which may be removed by the visit. A result other than 0
 * ends the walk and is returned. The descriptor stays the caller's. */
typedef int folder_visit(void *arg, const char *name);
MUST_CHECK int folder_walk(int dir_fd, folder_visit *visit, void *arg);

#endif
