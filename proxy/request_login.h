/* SPDX-License-Identifier: ISC */
/* Who asks, and what he may do: for requests to local repositories, and to upstreams' that
 * are private. */
#ifndef PROXY_REQUEST_LOGIN_H
#define PROXY_REQUEST_LOGIN_H

#include <stdbool.h>

#include "cache/name.h"
#include "proxy/right.h"

struct http_head;
struct request;

/* Keep what a challenge needs of the head: where the client believes us to be. */
void request_login_begin(struct request *r, const struct http_head *h);
/* Go on with `granted` if the client may do this with the repository of the target, which
 * may be an upstream's; else it is answered. */
void request_login(struct request *r, enum right right, void (*granted)(struct request *r));
/* Answer the ping (GET /v2/). */
void request_greet(struct request *r);
/* Answer who wants a pass (GET /-/token), as a token server answers: distribution, "Token
 * Authentication Specification". */
void request_give_pass(struct request *r);
/* Who he is, for the log; NULL when that is not known, or did not matter. */
/* Find out who the client is, whatever he may do, then go on; who is not whom he says is
 * answered. */
void request_know(struct request *r, void (*known)(struct request *r));
/* Have him say who he is, then send him to the status page: with ENDPOINT_REPORT, when he is
 * known. */
void request_sign_in(struct request *r);
struct viewer;
/* He, who is known, as the one who looks; cleared by the caller. */
void request_viewer(struct request *r, struct viewer *v);
const char *request_user(const struct request *r);
/* Whether he, who was let in, may do this with another repository too. */
bool request_may(struct request *r, const struct name *n, enum right right);
void request_login_end(struct request *r);

#endif
