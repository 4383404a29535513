/* SPDX-License-Identifier: ISC */
/*
 * Images that somebody told us to fetch: one thread, one after the other. An order goes on
 * when who gave it has left, and how it ended is remembered for a while.
 */
#ifndef PROXY_ORDERS_H
#define PROXY_ORDERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/platform.h"
#include "cache/reference.h"
#include "proxy/config.h"
#include "proxy/courier.h"

#define ORDER_PLATFORMS_MAX 16

struct orders;

/* Start the thread. */
struct orders *orders_start(const struct courier_parts *parts, struct config *c);
void orders_set_config(struct orders *o, struct config *c);
/* Give up what is under way, end the thread, free. */
void orders_stop(struct orders **o);

/* Any thread. Take an order for these platforms, or all when `count` is 0: its number; 0
 * when too many wait. */
uint64_t orders_add(struct orders *o, const struct reference *r, const struct platform *platforms,
                    unsigned count);

/* Any thread. Cancel it, unless it has ended: what is brought for it at this moment is brought
 * to its end, and nothing after that. False when there is no such order, or no more. */
bool orders_cancel(struct orders *o, uint64_t id);

/* Any thread. How it fares, as JSON, owned by the caller; its length in `*len`. NULL when
 * there is no such order, or no more. */
char *orders_format(struct orders *o, uint64_t id, size_t *len);

#endif
