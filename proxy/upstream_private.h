/* SPDX-License-Identifier: ISC */
/*
 * Inside the upstream thread. From below:
 *
 *   upstream_address.c   which addresses are public
 *   upstream_hop.c       where an exchange may lead
 *   upstream_head.c      the head of a response
 *   upstream_failure.c   what a failure means
 *   upstream_easy.c      how an upstream is spoken to
 *   upstream_loop.c      libcurl's multi interface on libevent
 *   upstream_auth.c      who we are to a registry; upstream_grant.c gets its tokens
 *   upstream_transfer.c  one HTTP exchange, with its redirects
 *   upstream_attempts.c  which url next, and when
 *   upstream_foreign.c   urls of layers that manifests keep elsewhere
 *   upstream_rate.c      how fast content may come
 *   upstream_spread.c    how many connections bring a blob
 *   upstream_lane.c      one connection that brings a blob, or pieces of it
 *   upstream_fetch.c     a blob, with resume
 *   upstream_ask.c       small questions; upstream_keep.c stores their answers
 *   upstream.c           the thread
 */
#ifndef PROXY_UPSTREAM_PRIVATE_H
#define PROXY_UPSTREAM_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <event2/event.h>

#include "cache/manifest.h"
#include "proxy/intake.h"
#include "proxy/queue.h"
#include "proxy/upstream.h"
#include "proxy/upstream_transfer.h"

struct authority;
struct download; /* a blob fetch */
struct question; /* an ask */

#define PREFERENCES_MAX 16
#define OFFLINE_TEXT "the upstream is not asked: offline = yes is configured"

/* The url of an upstream that answered when one before it did not. */
struct preference {
    char registry[NAME_MAX_SIZE];
    unsigned url;
    int64_t until_ms;
};

#define BLAMES_MAX 32

/* A url of a foreign layer that gave something else. */
struct blame {
    struct digest layer;
    struct digest url; /* of its text */
    int64_t until_ms;
};

struct upstream {
    struct upstream_parts parts;
    struct db_reader *reader;
    struct config *config;
    struct event_base *base;
    struct event *wakeup; /* the queue has messages */
    struct loop *loop;
    struct authority *authority;
    struct queue *queue;
    struct hasher *hasher;
    struct throttle *throttle;
    pthread_t thread;
    struct msg stop;
    bool stopping;
    LIST_HEAD(, download) downloads;
    LIST_HEAD(, question) questions;
    struct preference preferences[PREFERENCES_MAX];
    unsigned next_preference;
    struct blame blames[BLAMES_MAX];
    unsigned next_blame;
};

/* --- attempts --- */

/* The urls of an upstream are tried in order; when all have failed, the round is
 * over, and another may follow after a while. */
struct attempts {
    const struct config_upstream *to;
    const struct foreign_urls *foreign; /* not its own urls, but these */
    unsigned first;                     /* the url that a round begins with */
    unsigned url;                       /* of the next attempt, counted from there */
    unsigned not_found;                 /* urls of this round that said 404 */
    bool may_pass;                      /* one of this round's failures may */
    int64_t rounds_left;
    unsigned rounds_failed;
    struct failure worst; /* of this round: what to say in the end */
};

enum attempts_next { ATTEMPT_NOW, ATTEMPT_LATER, ATTEMPT_NEVER };

void attempts_init(struct attempts *a, const struct config_upstream *to, int64_t retries);
/* The urls that manifests name for a foreign layer, in place of the upstream's own. */
void attempts_go_elsewhere(struct attempts *a, const struct foreign_urls *urls, int64_t retries);
/* Begin with the url that answered lately, if one before it did not. */
void attempts_prefer(struct attempts *a, struct upstream *u);
/* The attempt brought what was asked for. */
void attempts_succeeded(const struct attempts *a, struct upstream *u);
/* The end of all attempts, for the memory of how the upstream fares: `f` is what it
 * came to. Of a 429 its `retry_after_s` is set to what is kept to. What is said to the
 * credentials of a client is between those two. */
void attempts_report(const struct attempts *a, struct upstream *u, const struct behalf *b,
                     enum health_kind kind, struct failure *f);
/* For how many seconds more the upstream is to be left alone. */
int attempts_limit_left(struct upstream *u, const struct config_upstream *to,
                        const struct behalf *b, enum health_kind kind);
/* What to do after a failure; ATTEMPT_LATER sets `*wait_ms`. */
enum attempts_next attempts_failed(struct attempts *a, const struct failure *f, int *wait_ms);
/* Something useful came: all retries are there again. */
void attempts_progress(struct attempts *a, int64_t retries);
/* The place of the url of the attempt. */
unsigned attempts_url_index(const struct attempts *a);
/* "<url>/v2/<repository>/<rest>" for the attempt, owned by the caller; the registry is
 * named too where the url is another cachalot's. */
char *attempts_url(const struct attempts *a, const struct name *n, const char *rest);

/* --- blobs and questions --- */

/* Go on with every transfer that was paused and has room again. */
void upstream_resume_downloads(struct upstream *u);
/* End all that is under way, at shutdown; each ends later by itself. */
void upstream_drain_downloads(struct upstream *u);
void upstream_drain_questions(struct upstream *u);

/* The urls that manifests of the upstream name for this layer, in the order to try them
 * in, to be cleared by the caller; ERR_NOT_FOUND when there is none, or when no manifest
 * of this repository names the layer. */
MUST_CHECK int foreign_find(struct upstream *u, const struct name *n, const struct digest *d,
                            struct foreign_urls *urls);
/* What came from this url was not the layer: for a while it is tried after others. */
const struct config_upstream *foreign_way(const struct config *c, const struct foreign_urls *urls);
void foreign_blame(struct upstream *u, const struct digest *d, const char *url);
/* What to say when the registry said `own`, and the urls came to `elsewhere`. */
struct failure foreign_failure(const struct failure *own, const struct failure *elsewhere);

/* Whether a Content-Type says nothing of a manifest. */
bool keep_type_is_generic(const char *media_type);
/* Store the answer of an ask and finish it. Takes a reference of its own. */
void keep_answer(const struct upstream_parts *parts, struct ask *a, bool is_restricted);

#endif
