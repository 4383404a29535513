/* SPDX-License-Identifier: ISC */
/* Inside the upstream thread: one HTTP exchange, and what it is made of. */
#ifndef PROXY_UPSTREAM_TRANSFER_H
#define PROXY_UPSTREAM_TRANSFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "cache/digest.h"
#include "cache/manifest.h"
#include "proxy/ask.h"
#include "proxy/config.h"
#include "proxy/outcome.h"

struct event_base;
struct upstream;

/* Why an exchange, or all of them, came to nothing. */
struct failure {
    enum outcome outcome;
    bool may_pass; /* the same request may fare better later */
    int retry_after_s;
    char why[256];
    char challenge[ASK_CHALLENGE_MAX]; /* of a 401 */
};

__attribute__((format(printf, 4, 5))) void failure_set(struct failure *f, enum outcome o,
                                                       bool may_pass, const char *format, ...);

/* --- addresses --- */

/* Whether a redirect to another host may lead there: no loopback, link-local,
 * private, shared, multicast or unspecified address, in IPv6's clothes neither. */
bool address_is_public(const struct sockaddr *sa);
bool address_text_is_public(const char *text);

/* --- heads --- */

#define HEAD_LINES_MAX (64u * 1024) /* bytes of a response head, status lines too */
#define HEAD_LOCATION_MAX 8192
#define HEAD_LINK_MAX 4096

struct content_range {
    bool given;
    uint64_t first;
    uint64_t last;
    uint64_t total;
};

struct head {
    int status;
    bool bad;               /* nonsense in a field that we need */
    size_t bytes;           /* of its lines so far */
    int64_t content_length; /* -1: not said */
    bool chunked;
    struct content_range range;
    int64_t retry_after_s;             /* 0: not said */
    char content_type[MEDIA_TYPE_MAX]; /* without parameters; empty: not said */
    char digest[DIGEST_TEXT_MAX];      /* Docker-Content-Digest; empty: not said */
    char *location;                    /* owned; NULL: not said */
    char filters[64];                  /* OCI-Filters-Applied; empty: not said */
    char *link;                        /* owned; NULL: not said */
    char *challenge;                   /* WWW-Authenticate; owned; NULL: not said */
};

void head_init(struct head *h);
void head_clear(struct head *h);
/* Take a header line with its line end. False when the head is too large. */
bool head_take(struct head *h, const char *line, size_t len, int64_t now_s);

/* --- transfers --- */

struct transfer;

struct transfer_order {
    const struct config_upstream *to;
    const char *registry;
    const char *url;
    const struct behalf *behalf; /* NULL: nobody's; copied */
    bool head_only;
    bool accept_manifests;
    uint64_t range_start;   /* 0: no Range field */
    enum outcome not_found; /* the row of a 404 */
};

/* The callbacks run in the upstream thread. head and body may refuse: they set
 * `f` and return false. None of them may cancel the transfer. */
struct transfer_calls {
    /* The head of the last hop: 200, or 206 and 416 when a Range was asked for. */
    bool (*head)(void *arg, const struct head *h, struct failure *f);
    /* Whether bytes are welcome now; if not, transfer_resume must follow. NULL: always. */
    bool (*room)(void *arg);
    bool (*body)(void *arg, const void *data, size_t len, struct failure *f);
    /* The end; `f` is NULL when the body came whole. The transfer is gone. */
    void (*done)(void *arg, const struct failure *f);
};

/* NULL when the url is not valid. */
struct transfer *transfer_start(struct upstream *u, const struct transfer_order *o,
                                const struct transfer_calls *calls, void *arg);
/* No call follows. NULL is legal; leaves NULL. */
void transfer_cancel(struct transfer **t);
void transfer_resume(struct transfer *t);

/* --- libcurl's loop; `easy` is a CURL *, as is what transfer_ended takes --- */

struct loop *loop_new(struct event_base *base);
void loop_free(struct loop **l);
void loop_add(struct loop *l, void *easy);
void loop_remove(struct loop *l, void *easy);
/* The exchange on this handle has ended; called by the loop with the handle removed. */
void transfer_ended(void *easy, int code);

#endif
