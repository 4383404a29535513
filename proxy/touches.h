/* SPDX-License-Identifier: ISC */
/* Blobs that were used, and by whom, until their records say so. Any thread, a lock and no
 * I/O. When more are used than there is room for, some are forgotten; of the clients of each
 * the latest are kept. */
#ifndef PROXY_TOUCHES_H
#define PROXY_TOUCHES_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

#include "cache/check.h"
#include "cache/digest.h"

struct touches;

struct touches *touches_new(void);
/* NULL is legal; leaves NULL. */
void touches_free(struct touches **t);

/* `client` is in6addr_any when it has no address. `is_due`: its record must say so, too; else
 * it is only about the client. */
void touches_add(struct touches *t, const struct digest *d, const struct in6_addr *client,
                 bool is_due);
/* Whether it was added as due, and its record is not written yet. */
bool touches_has(struct touches *t, const struct digest *d);

/* One thread: begin to write what was added since the last begin; false when there is
 * nothing. Then visit it, as often as need be, and end. */
bool touches_begin(struct touches *t);
typedef int touches_visit(void *arg, const struct digest *d, const struct in6_addr *clients,
                          size_t count);
MUST_CHECK int touches_walk(struct touches *t, touches_visit *visit, void *arg);
void touches_end(struct touches *t);

#endif
