/* SPDX-License-Identifier: ISC */
/* Where the daemon keeps things, according to its settings. */
#ifndef TOOLS_SETTINGS_H
#define TOOLS_SETTINGS_H

#include "cache/check.h"

struct settings {
    char *cache_path;      /* [cache] path; NULL when it is not set */
    char *socket_path;     /* [admin] socket; NULL when it is not set, or "none" */
    char *ca_path;         /* [intercept] ca; NULL when it is not set */
    char *import_key_path; /* [cache] require-signature; NULL when it is not set */
    char *size, *min_free; /* of [cache], too, as are the next */
    char *evict_to, *evict_local, *push_grace;
};

/* Read these from the file and from those in conf.d beside it, as cachalot.ini(5)
 * says; whether the files are right in all else is for cachalotd -t to say.
 * ERR_NOT_FOUND, ERR_DENIED or ERR_IO when the file cannot be read. */
MUST_CHECK int settings_read(struct settings *s, const char *path);
void settings_free(struct settings *s);

#endif
