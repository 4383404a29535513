/* SPDX-License-Identifier: ISC */
/* Between route.c (the path) and route_query.c. */
#ifndef PROXY_ROUTE_PRIVATE_H
#define PROXY_ROUTE_PRIVATE_H

#include "proxy/route.h"

/* The byte that the %-escape at the start of `s` stands for; -1 when it is broken. */
int route_unescape(struct span s);

/* Read what follows the '?' into `t->ns`, and for the lists into `t->query`;
 * `t->endpoint` is set. The outcome is one of those of route_parse. */
MUST_CHECK enum outcome route_parse_query(struct target *t, struct span query);

#endif
