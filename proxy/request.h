/* SPDX-License-Identifier: ISC */
/* A request, from its parsed head to its access line. Runs in the worker's thread. */
#ifndef PROXY_REQUEST_H
#define PROXY_REQUEST_H

#include "proxy/conn.h"
#include "proxy/http.h"
#include "proxy/outcome.h"

/* --- called by the connection --- */

/* Begin; answers now or later by conn_send. The head's spans are valid during the
 * call only. NULL when it was answered and has ended already. */
void request_begin(struct conn *c, struct request **slot, const struct http_head *h);
/* A head that could not be parsed, or came too slowly: answer it and close. */
void request_refuse(struct conn *c, struct request **slot, enum outcome why);
/* The body was sent up to its limit. */
void request_more(struct request *r);
/* The clock ticked while the request was not answered yet. */
void request_check_time(struct request *r);
/* The response has ended, whole or not (`why` OUT_LOCAL when whole): log it, free. */
void request_end(struct request *r, enum outcome why, uint64_t body_bytes);

#endif
