/* SPDX-License-Identifier: ISC */
/*
 * What is shown of the daemon: the status page with its files, and the JSON that it draws.
 * On listeners of the roles registry and mirror, to the addresses of [admin] page; by the Unix
 * socket all of it. Nothing can be done by it.
 *
 *   GET /                 the page; /-/page/FILE is what it consists of
 *   GET /-/api/status     sums, rates, what is held, the disk, counters
 *   GET /-/api/fetches    the fetches under way
 *   GET /-/api/images     ?search=TEXT&order=name|use&offset=N&count=N: a row each tag
 *   GET /-/api/upstreams  how they fare
 *   GET /-/api/events     the last warnings and errors
 *   GET /-/api/login      asks for a password, then leads to the page
 */
#ifndef PROXY_REQUEST_REPORT_H
#define PROXY_REQUEST_REPORT_H

#include <stdbool.h>

struct http_head;
struct request;
struct worker;

/* Why it should get no more clients: a sentence, or NULL. */
const char *request_not_ready(const struct worker *w);
/* Answer ENDPOINT_READY. */
void request_ready(struct request *r);

/* Answer ENDPOINT_PAGE, request_page.c. */
void request_page(struct request *r);
/* Whether the client may look; else it is answered. */
bool request_may_look(struct request *r);

/* Answer ENDPOINT_REPORT. */
void request_report(struct request *r, const struct http_head *h);
/* The end of a request, of whatever kind. */
void request_report_end(struct request *r);

#endif
