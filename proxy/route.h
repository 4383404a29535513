/* SPDX-License-Identifier: ISC */
/* From a request target to its meaning. Pure: no I/O, no configuration. */
#ifndef PROXY_ROUTE_H
#define PROXY_ROUTE_H

#include <stdbool.h>

#include "cache/digest.h"
#include "cache/name.h"
#include "proxy/http.h"
#include "proxy/outcome.h"

enum role {
    ROLE_REGISTRY,      /* prefix and ns doors; names without a registry are local */
    ROLE_MIRROR,        /* one upstream, read-only */
    ROLE_INTERCEPT,     /* a proxy: CONNECT, and targets with their host */
    ROLE_TLS_INTERCEPT, /* TLS for any host that is intercepted */
};

enum endpoint {
    ENDPOINT_PING,      /* GET /v2/ */
    ENDPOINT_MANIFEST,  /* /v2/<name>/manifests/<reference> */
    ENDPOINT_BLOB,      /* /v2/<name>/blobs/<digest> */
    ENDPOINT_TAGS,      /* /v2/<name>/tags/list */
    ENDPOINT_REFERRERS, /* /v2/<name>/referrers/<digest> */
    ENDPOINT_UPLOADS,   /* /v2/<name>/blobs/uploads/ */
    ENDPOINT_UPLOAD,    /* /v2/<name>/blobs/uploads/<id> */
    ENDPOINT_CATALOG,   /* /v2/_catalog */
    ENDPOINT_HEALTH,    /* /-/healthz */
    ENDPOINT_METRICS,   /* /-/metrics */
    ENDPOINT_CA,        /* /-/setup/ca.crt */
    ENDPOINT_SETUP,     /* /-/setup/<tag>, empty for the list of what is there */
    ENDPOINT_READY,     /* /-/readyz */
    ENDPOINT_PAGE,      /* / and /-/page/<tag> */
    ENDPOINT_REPORT,    /* /-/api/<tag>, but for the two below */
    ENDPOINT_ORDERS,    /* /-/api/fetch */
    ENDPOINT_PREFETCH,  /* /-/api/prefetch */
    ENDPOINT_COLLECT,   /* /-/api/collect */
    ENDPOINT_ROOM,      /* /-/api/room */
    ENDPOINT_TOKEN,     /* /-/token */
};

enum door {
    DOOR_NONE,
    DOOR_PREFIX,
    DOOR_NS,
    DOOR_MIRROR,
    DOOR_LOCAL,
    DOOR_ADMIN,
    DOOR_INTERCEPT,
};

/* Word for the log. */
const char *door_name(enum door d);

#define TARGET_QUERY_MAX 512

struct target {
    enum endpoint endpoint;
    enum door door;
    struct name name; /* registry is empty for DOOR_LOCAL */
    bool by_digest;   /* the reference is `digest`, else `tag` */
    struct digest digest;
    char tag[NAME_TAG_MAX_SIZE];  /* of ENDPOINT_UPLOAD its id, of that grammar */
    char ns[NAME_MAX_SIZE];       /* as the client sent it; empty without ns */
    char query[TARGET_QUERY_MAX]; /* n, last, artifactType re-encoded in this order; no ns */
};

/* Parse the target of a request (origin-form, or absolute-form whose authority is
 * ignored) for a listener of that role; `mirror_of` is its registry (ROLE_MIRROR).
 *
 * Runs of '/' count as one; %-escapes are decoded once, and what they give must be
 * of the grammar like everything else ("%2f" never is).
 *
 *   /v2/<registry>/<repository>/...   prefix, also /<registry>/v2/<repository>/...
 *   /v2/<repository>/...?ns=<registry>   ns; a leading registry that is the same is
 *                                        dropped; in the other form it must be the same
 *   /v2/<repository>/...              local, on a mirror of its registry (a registry
 *                                     named otherwise must be the same)
 *   /v2, /v2/                         the ping, with or without registry
 *   /v2/_catalog                      of the local repositories
 *
 * Returns OUT_LOCAL when it has a meaning, else the error row: OUT_URI_TOO_LONG,
 * OUT_NO_ROUTE, OUT_NAME_INVALID, OUT_TAG_INVALID, OUT_DIGEST_INVALID,
 * OUT_NAME_UNKNOWN (a mirror asked for another registry), OUT_BAD_REQUEST (broken
 * escape, `n` that is no number, a parameter twice or too long, two registries). */
MUST_CHECK enum outcome route_parse(struct target *t, struct span target, enum role role,
                                    const char *mirror_of);

/* Copy the value of "n", "last" or "artifactType" out of `t->query`; false when it has none
 * or a longer one. */
bool route_query_value(const struct target *t, const char *key, char *out, size_t size);

/* Decode the escapes of a parameter's value into `out` of `max` bytes: its length, or -1 when
 * one is broken or it is too long. A '+' is a '+'. */
int route_decode(struct span value, char *out, size_t max);

/* The parameters of a push, distribution-spec 1.1.1 "Pushing Blobs" and, for `tags` and
 * `algorithm`, of its main branch. */
#define ROUTE_TAGS_MAX 32

struct push_parameters {
    bool has_digest, has_mount;
    struct digest digest, mount;
    enum digest_alg algorithm; /* 0: not said */
    bool has_from;
    char from[NAME_MAX_SIZE]; /* a repository as sent */
    unsigned tag_count;
    char tags[ROUTE_TAGS_MAX][NAME_TAG_MAX_SIZE];
};

/* OUT_LOCAL, OUT_DIGEST_INVALID, OUT_NAME_INVALID, OUT_TAG_INVALID (also: too many), or
 * OUT_BAD_REQUEST as route_parse. Others than these parameters are ignored. */
MUST_CHECK enum outcome route_parse_push(struct push_parameters *p, struct span target);

/* Make it one of no endpoint of ours, to be filled in. */
void route_init(struct target *t, enum door door);

#endif
