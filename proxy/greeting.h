/* SPDX-License-Identifier: ISC */
/* What registries say to nobody at GET /v2/: nothing, or how they want to be told who
 * asks. Remembered for a while, for clients that take us for the registry. */
#ifndef PROXY_GREETING_H
#define PROXY_GREETING_H

#include <stdbool.h>
#include <stdint.h>

#include "proxy/ask.h"

struct greetings;

struct greetings *greetings_new(void);
void greetings_free(struct greetings **g);

/* Keep the challenge (empty: there is none). Any thread. */
void greeting_put(struct greetings *g, const char *registry, const char *challenge, int64_t now_ms);
/* Copy what was kept, if that is not long ago. Any thread. */
bool greeting_get(struct greetings *g, const char *registry, int64_t now_ms,
                  char challenge[ASK_CHALLENGE_MAX]);

#endif
