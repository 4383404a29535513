/* SPDX-License-Identifier: ISC */
/*
 * A request between request.c (its life, what it sends) and pull*.c (what it is
 * answered with). One thread, the worker's; only `wake` is posted by others.
 *
 *   REQUEST_NEW        parsed, nothing decided
 *   REQUEST_ASKING     waits for an ask (tag, manifest, blob or list)
 *   REQUEST_JOINED     waits for the size of a fetch (an empty one: for its digest)
 *   REQUEST_DIALLING   waits for a connection of its own
 *   REQUEST_WORKING    waits for a login, an upload, its own body or the storage thread
 *   REQUEST_SENDING    the connection sends; with a fetch, its bytes as they come
 *   REQUEST_ENDED      logged; lives on only for a wake that is still in the queue
 */
#ifndef PROXY_REQUEST_PRIVATE_H
#define PROXY_REQUEST_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/blob.h"
#include "cache/db.h"
#include "cache/tag.h"
#include "proxy/behalf.h"
#include "proxy/permit.h"
#include "proxy/reply.h"
#include "proxy/request.h"
#include "proxy/request_answer.h"
#include "proxy/route.h"

/* Those between NEW and SENDING may follow each other any number of times. */
enum request_state {
    REQUEST_NEW,
    REQUEST_ASKING,
    REQUEST_JOINED,
    REQUEST_DIALLING,
    REQUEST_WORKING,
    REQUEST_SENDING,
    REQUEST_ENDED,
};

/* What the client may have of the repository. */
enum access {
    ACCESS_UNKNOWN, /* not looked up yet */
    ACCESS_OPEN,    /* what is public; the upstream is asked anonymously */
    ACCESS_PROVE,   /* nothing, until the upstream has accepted the client */
    ACCESS_PROVEN,  /* what the repository has: the upstream accepted the client lately */
};

/* A field that a request keeps: a longer one counts as absent (RFC 9110 lets a
 * server ignore Range and preconditions that it does not want to evaluate; the
 * answer is then whole). */
#define REQUEST_FIELD_MAX 256

struct request {
    struct worker *worker;
    struct conn *conn; /* NULL when ended */
    struct msg wake;
    bool wake_posted; /* written under the lock of what is waited for */
    enum request_state state;
    enum outcome outcome;
    int status;
    enum http_method method;
    int64_t started_ms;  /* Unix time */
    uint64_t started_us; /* monotonic */
    int64_t since_ms;    /* worker's now_ms when the state was entered */
    struct registry_stats *registry;
    struct ask *ask;
    struct asker asker;
    struct fetch *fetch;
    struct reader reader;
    const struct held *held;
    uint64_t send_end; /* SENDING from a fetch: one past the last byte asked for */
    uint64_t send_limit;
    struct dial *dial;           /* DIALLING */
    struct guest *guest;         /* who asks, if that mattered; or NULL */
    struct local *local;         /* what a request to a local repository needs; or NULL */
    struct room_wait *room_wait; /* request_room.c */
    struct report_visit *report; /* what a look at the daemon needs; or NULL */
    char *up;                    /* the head that is passed on; NULL: none */
    size_t up_len;
    bool is_reader; /* counted in the gauge */
    bool has_tag;   /* `tag` is what the index said */
    bool has_target;
    struct behalf behalf; /* authorization (NULL: none came) and loop; our own */
    struct fingerprint credential;
    enum access access;
    bool is_public;     /* ACCESS_OPEN, and the upstream said so */
    bool with_client;   /* asks go with the client's authorization */
    bool is_hidden;     /* held, but not for this client as far as is known */
    bool has_rejoined;  /* another's refusal was followed by a fetch anew */
    bool has_lost;      /* the index had it, but no file that fits */
    bool is_granted;    /* the upstream said that the repository has this content */
    bool is_relay;      /* passed on, or a tunnel */
    bool writes_tag;    /* what is relayed may move the tag of the target */
    bool is_claimed;    /* the target is what manifests say of the url */
    bool is_restricted; /* the upstream's content is for those whom the rules let, as this one */
    bool asks_proof;    /* by other content of the repository */
    int64_t proof_ttl_ms, offline_grace_ms, not_found_ttl_ms;
    int64_t tag_ttl_s;
    /* From here on nothing is zeroed when a request begins: see request_new. */
    struct tag_record tag;
    char range[REQUEST_FIELD_MAX];
    char if_range[REQUEST_FIELD_MAX];
    char if_none_match[REQUEST_FIELD_MAX];
    char user_agent[REQUEST_FIELD_MAX];
    char origin[REQUEST_FIELD_MAX + 16]; /* "https://HOST:PORT"; empty when it is not known */
    char path[REQUEST_FIELD_MAX];        /* as asked, cut: for the log when there is no route */
    struct target target;
};

/* The only writer of the state. */
void request_enter(struct request *r, enum request_state next);

/* Wait for the end of an ask, or until the size of a fetch is known: the request
 * owns the reference from here on. False when there is nothing to wait for. */
bool request_wait_ask(struct request *r, struct ask *a);
bool request_wait_fetch(struct request *r, struct fetch *f);

/* --- local.c: local repositories --- */

void local_begin(struct request *r, const struct http_head *h);
bool local_body(struct request *r, const char *p, size_t len);
void local_body_end(struct request *r, enum outcome why);
/* The end of a request, of whatever kind. */
void local_end(struct request *r);

/* --- pull.c --- */

void pull_begin(struct request *r, const struct config_upstream *u);
/* Before it: what the client says of itself is not for the upstream, nor is the upstream's
 * challenge for it. */
void pull_disown(struct request *r);
/* Send the foreign layer of a local repository, fetched from where its manifests say. */
void pull_fetch_foreign(struct request *r, uint64_t size_bytes);
/* What was waited for has come. */
void pull_answered(struct request *r);
void pull_joined(struct request *r);
/* Send the blob of `target`, of whatever repository, if it is held and public. */
bool pull_send_public(struct request *r);
/* Take a blob into r->held that the client may see. False when its file is not what the
 * record says: then the record goes. */
bool pull_take_visible(struct request *r, const struct digest *d, const struct blob_record *record,
                       bool in_memory);
/* Begin a read of the index; an index that cannot be read is answered: NULL. */
struct db_txn *pull_begin_read(struct request *r);
/* The ask takes long and something stale is at hand: serve that. */
void pull_check_time(struct request *r);

#endif
