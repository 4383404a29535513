/* SPDX-License-Identifier: ISC */
/*
 * What the cachalot command tells and asks the daemon, by its Unix socket alone.
 *
 *   POST /-/api/fetch?reference=REF[&platform=PLATFORM]...   {"id":N}: fetch it
 *   GET /-/api/fetch?id=N                                    how that fares
 *   POST /-/api/fetch?id=N&cancel                            end it
 *   GET /-/api/prefetch                                      the prefetches of the settings
 *   POST /-/api/collect[?now]                                collect garbage; now: without grace
 *   POST /-/api/room?bytes=N                                 make room for N bytes, or 507
 *
 * `now` and `cancel` count whatever their value is.
 */
#ifndef PROXY_REQUEST_API_H
#define PROXY_REQUEST_API_H

struct http_head;
struct request;

void request_api(struct request *r, const struct http_head *h);

#endif
