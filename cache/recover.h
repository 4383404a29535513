/* SPDX-License-Identifier: ISC */
/*
 * Opening the cache so that a lost or damaged index is no reason not to: it is walked first
 * (db_probe), set aside when it is damaged, and made anew (rebuild_index).
 */
#ifndef CACHE_RECOVER_H
#define CACHE_RECOVER_H

#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/rebuild.h"
#include "cache/store.h"

enum recovery_cause {
    RECOVERY_NONE,    /* the index is well */
    RECOVERY_MISSING, /* there was none, but blobs */
    RECOVERY_DAMAGED,
    RECOVERY_ASKED,
};

struct recovery {
    enum recovery_cause cause;
    char aside[STORE_ASIDE_SIZE]; /* where the old one is, in the cache directory; or "" */
    struct rebuild rebuild;       /* unless the cause is RECOVERY_NONE */
};

/* As store_open in STORE_OWN mode. The caller has no threads yet. */
MUST_CHECK int recover_open(struct store **s, const char *path, size_t map_bytes, int64_t now_s,
                            struct recovery *r, char *why, size_t why_size);
/* The same, whether or not the index is well. */
MUST_CHECK int recover_rebuild(struct store **s, const char *path, size_t map_bytes, int64_t now_s,
                               struct recovery *r, char *why, size_t why_size);

#endif
