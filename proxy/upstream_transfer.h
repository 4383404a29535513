/* SPDX-License-Identifier: ISC */
/* Inside the upstream thread: one HTTP exchange, and what it is made of. */
#ifndef PROXY_UPSTREAM_TRANSFER_H
#define PROXY_UPSTREAM_TRANSFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/digest.h"
#include "cache/manifest.h"
#include "proxy/ask.h"
#include "proxy/config.h"
#include "proxy/log.h"
#include "proxy/outcome.h"
#include "proxy/stats.h"

struct challenges;
struct event_base;
struct upstream;

/* Why an exchange, or all of them, came to nothing. */
struct failure {
    enum outcome outcome;
    bool may_pass;     /* the same request may fare better later */
    bool is_elsewhere; /* not the registry's fault: of where it redirected to */
    int retry_after_s;
    char why[256];
    char challenge[ASK_CHALLENGE_MAX]; /* of a 401, for a client to meet; or empty */
};

__attribute__((format(printf, 4, 5))) void failure_set(struct failure *f, enum outcome o,
                                                       bool may_pass, const char *format, ...);

/* From a CURLcode; `detail` is what curl said of it, or empty. */
void failure_of_code(struct failure *f, int code, const char *host, const char *detail);

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
    bool accepts_ranges;
    int64_t retry_after_s;   /* 0: not said */
    int64_t ratelimit_limit; /* as Docker Hub says it; -1: not said */
    int64_t ratelimit_remaining;
    int64_t ratelimit_window_s;
    char ratelimit_source[64];         /* whom it counts; empty: not said */
    char content_type[MEDIA_TYPE_MAX]; /* without parameters; empty: not said */
    char digest[DIGEST_TEXT_MAX];      /* Docker-Content-Digest; empty: not said */
    char *location;                    /* owned; NULL: not said */
    char filters[64];                  /* OCI-Filters-Applied; empty: not said */
    char *link;                        /* owned; NULL: not said */
    struct challenges *challenges;     /* WWW-Authenticate; owned; NULL: not said */
};

void head_init(struct head *h);
void head_clear(struct head *h);
/* Take a header line with its line end. False when the head is too large. */
bool head_take(struct head *h, const char *line, size_t len, int64_t now_s);
bool head_is_redirect(const struct head *h);
/* Keep what it says of request limits, and tell when few are left. `log` may be NULL. */
void head_note_limits(const struct head *h, struct registry_stats *r, struct log *log,
                      int64_t now_s);

/* From a status that is no success. */
void failure_of_status(struct failure *f, const struct head *h, const char *host,
                       enum outcome not_found);

/* Of a 401: OUT_UNAUTHORIZED with its challenge, for a client to meet. */
void failure_pass_challenge(struct failure *f, const struct head *h);

/* --- transfers --- */

struct transfer;

struct transfer_order {
    const struct config_upstream *to;
    const char *registry;
    const char *url;
    const struct behalf *behalf; /* NULL: nobody's; copied */
    const char *repository;      /* NULL: it is not to be told who we are */
    int64_t timeout_ms;          /* of each hop; 0: none */
    bool head_only;
    bool accept_manifests;
    uint64_t range_start;   /* both 0: no Range field */
    uint64_t range_end;     /* after its last byte; 0: to the end of the content */
    enum outcome not_found; /* the row of a 404 */
    bool is_ping;           /* a 401 with its challenge is passed on, as OUT_UNAUTHORIZED */
    bool is_foreign;        /* the url is a manifest's: none of our credentials, hop_policy */
    bool is_token;          /* of a token server: redirects are not followed */
    bool is_guarded;        /* it must be at a public address */
    const char *form;       /* the body of a POST, or NULL; copied */
};

/* The callbacks run in the upstream thread. head and body may refuse: they set
 * `f` and return false. None of them may cancel the transfer. */
struct transfer_calls {
    /* The head of the last hop: 200, or 206 and 416 when a Range was asked for. */
    bool (*head)(void *arg, const struct head *h, struct failure *f);
    /* Whether so many bytes are welcome now; if not, transfer_resume must follow. NULL: always. */
    bool (*room)(void *arg, size_t len);
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

/* --- libcurl's handles, as void *, and its loop --- */

/* One that speaks to this upstream, to be set up further. */
void *easy_new(const struct config_upstream *to);
/* Go by way of the upstream's proxy, if it has one. False, with the reason, when we
 * cannot say there who we are. */
bool easy_use_proxy(void *easy, const struct config_upstream *to, struct failure *f);
/* Show our certificate to whom the next request goes, if there is one and he asks. */
void easy_use_certificate(void *easy, const struct config_upstream *to, bool is_shown);
/* Whether what failed with this CURLcode is the proxy; if so, how. */
bool easy_failed_at_proxy(void *easy, int code, const struct config_upstream *to,
                          struct failure *f);

struct loop *loop_new(struct event_base *base);
void loop_free(struct loop **l);
void loop_add(struct loop *l, void *easy);
void loop_remove(struct loop *l, void *easy);
/* The exchange on this handle has ended; called by the loop with the handle removed. */
void transfer_ended(void *easy, int code);

#endif
