/* SPDX-License-Identifier: ISC */
/* How many connections of one listener are open: counted by the main thread as they
 * are accepted, by the workers as they close, perhaps after the listener is gone. */
#ifndef PROXY_LOAD_H
#define PROXY_LOAD_H

struct load;

struct load *load_new(void);
/* Let go of it; it lives on while connections are counted. NULL is legal. */
void load_release(struct load **l);

void load_enter(struct load *l);
/* Any thread; once for each load_enter. */
void load_leave(struct load *l);
unsigned load_count(const struct load *l);

#endif
