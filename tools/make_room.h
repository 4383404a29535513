/* SPDX-License-Identifier: ISC */
/* Room for what a command writes into the cache. */
#ifndef TOOLS_MAKE_ROOM_H
#define TOOLS_MAKE_ROOM_H

#include <stdint.h>

#include "cache/check.h"
#include "cache/store.h"
#include "tools/command.h"

struct make_room {
    const struct options *options;
    struct store *store;    /* opened with STORE_ADD */
    uint64_t granted_bytes; /* of what was asked for before */
    bool is_alone;          /* no daemon runs */
};

/* So many bytes are about to be written: have images make room for them, by the running
 * daemon, or without it as it would. ERR_NO_SPACE when none may go. */
MUST_CHECK int make_room(struct make_room *m, uint64_t bytes);

#endif
