/* SPDX-License-Identifier: ISC */
/* A request on its way to an origin server. Pure. */
#ifndef PROXY_HTTP_FORWARD_H
#define PROXY_HTTP_FORWARD_H

#include "proxy/http.h"

/* Write the head of the same request as it goes on to an origin server (RFC 9110 section
 * 7.6): its target in origin-form behind `prefix`, this Host, each field as it came but those that
 * concern this connection alone; the connection is to be closed after the answer. `loop` is
 * appended to CDN-Loop (RFC 8586). Returns its length; 0 when `size` does not hold it. */
size_t http_forward_head(const struct http_head *h, const char *host, const char *prefix,
                         const char *loop, char *out, size_t size);
/* The host and port of a target in absolute-form or authority-form; p is NULL of others. */
struct span http_target_authority(struct span target);

#endif
