/* SPDX-License-Identifier: ISC */
/* What the settings say of the size of the cache, for when it is looked at or written to
 * without asking cachalotd. What is not set, or not well, is what cachalotd has by default. */
#ifndef TOOLS_LIMITS_H
#define TOOLS_LIMITS_H

#include "cache/evict.h"
#include "cache/room.h"
#include "tools/command.h"

/* What may go, by evict-local and push-grace. */
struct evict_rules limits_rules(const struct options *o);
/* size, min-free and evict-to. */
struct room_limits limits_room(const struct options *o);

#endif
