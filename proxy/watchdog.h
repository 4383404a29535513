/* SPDX-License-Identifier: ISC */
/*
 * systemd's watchdog, sd_watchdog_enabled(3): the main loop asks threads by way of their queues
 * whether they still take messages, and says that the daemon is alive when all have answered. When
 * one has not, nothing is said, and systemd starts the daemon again in the end. Main thread.
 */
#ifndef PROXY_WATCHDOG_H
#define PROXY_WATCHDOG_H

#include "proxy/log.h"
#include "proxy/queue.h"

struct event_base;
struct watchdog;

/* NULL when nobody waits for a sign of life. */
struct watchdog *watchdog_start(struct event_base *base, struct log *log);
/* Ask this one, too. `name` is for the log and lives longer. With NULL nothing happens. */
void watchdog_ask(struct watchdog *w, const char *name, struct queue *q);
/* After the threads have ended. NULL is legal; leaves NULL. */
void watchdog_free(struct watchdog **w);

#endif
