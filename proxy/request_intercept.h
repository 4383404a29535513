/* SPDX-License-Identifier: ISC */
/* Between request.c, request_intercept.c (clients that take us for a proxy or for their
 * registry) and request_relay.c (what is passed on). */
#ifndef PROXY_REQUEST_INTERCEPT_H
#define PROXY_REQUEST_INTERCEPT_H

#include "proxy/request_private.h"

/* --- request.c: what a request is about --- */

/* The content that `target` says. */
void request_pull(struct request *r);
/* What cachalot itself has there. */
void request_own(struct request *r, const struct http_head *h);

/* --- request_intercept.c --- */

/* A request of a client that takes us for a proxy, or for its registry. */
void intercept_begin(struct request *r, const struct http_head *h);
/* The ask of a ping has come. */
void intercept_ping_answered(struct request *r);

/* --- request_setup.c --- */

/* What is below /-/setup/: the page `target.tag`. */
void request_setup(struct request *r, const struct http_head *h);

/* --- request_relay.c --- */

/* Pass the request on to port 443 of the host, as the upstream `u` is spoken to (NULL: no
 * upstream's), or with `is_tunnel` connect the client to it. */
void relay_begin(struct request *r, const struct http_head *h, const char *host,
                 const struct config_upstream *u, bool is_tunnel);
/* The end of a request, of whatever kind: what was made for a relay goes. */
void relay_ended(struct request *r);

#endif
