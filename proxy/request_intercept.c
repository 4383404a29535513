/* SPDX-License-Identifier: ISC */
/*
 * Requests of clients that take us for a proxy, or for the registry itself:
 *
 *   CONNECT            to a host that is opened: TLS begins, and what comes within it is
 *                      for that host; to one that is tunnelled: a relay; else 403
 *   a pull             as by every other door; but whether the registry has a blob (HEAD)
 *                      only the registry knows
 *   GET /v2/           what the registry says to nobody, remembered for a while
 *   a learned url      the blob that a manifest says is there
 *   anything else      relayed to the host, unchanged, never stored
 */
#include "proxy/request_intercept.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/claim.h"
#include "cache/err.h"
#include "proxy/config_match.h"
#include "proxy/greeting.h"
#include "proxy/http_forward.h"
#include "proxy/intercept.h"
#include "proxy/setup.h"

/* --- the host --- */

/* The host of an authority in lower case, without its port; the port, or `port` when it
 * has none. False when it is too long. */
static bool split_authority(struct span a, char host[TLS_HOST_MAX], long *port)
{
    const char *colon = memrchr(a.p, ':', a.len);
    size_t len = a.len;

    if (colon && !memchr(colon, ']', a.len - (size_t)(colon - a.p))) {
        len = (size_t)(colon - a.p);
        /* "host:" has the port of its scheme, RFC 3986 section 6.2.3. */
        if (colon + 1 < a.p + a.len)
            *port = strtol(colon + 1, NULL, 10);
    }
    if (len == 0 || len >= TLS_HOST_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        host[i] = (char)tolower((unsigned char)a.p[i]);
    host[len] = '\0';
    return true;
}

static void forbid(struct request *r, const char *host, const char *why)
{
    char detail[TLS_HOST_MAX + 256];

    snprintf(detail, sizeof detail, "%s: %s", host, why);
    log_event(r->worker->parts.log, LOG_INFO, "%s was refused %s", conn_peer(r->conn), detail);
    conn_forbid_keep_alive(r->conn);
    request_error(r, OUT_FORBIDDEN, detail, 0);
}

static const char not_configured[] =
    "the host is neither of a configured upstream nor in [intercept] tunnel";

/* --- CONNECT --- */

static void begin_connect(struct request *r, const struct http_head *h)
{
    const struct config_upstream *u;
    char host[TLS_HOST_MAX];
    long port = 0;

    if (conn_host(r->conn) || !split_authority(h->target, host, &port)) {
        request_error(r, OUT_BAD_REQUEST, "a CONNECT within a CONNECT, or to no host", 0);
        return;
    }
    /* RFC 9110 section 9.3.6: it would be read as what is said within the tunnel. */
    if (h->chunked || h->content_length >= 0) {
        conn_forbid_keep_alive(r->conn);
        request_error(r, OUT_BAD_REQUEST, "a CONNECT with a body", 0);
        return;
    }
    enum intercept kind = intercept_find(r->worker->config, host, &u);
    if (kind == INTERCEPT_REFUSED) {
        forbid(r, host, not_configured);
    } else if (port != 443) {
        forbid(r, host, "only port 443 is connected to");
    } else if (kind == INTERCEPT_TUNNEL) {
        relay_begin(r, h, host, u, true);
    } else {
        conn_open_tls(r->conn, host);
        request_established(r);
    }
}

/* --- the ping --- */

static void send_greeting(struct request *r, const char *challenge)
{
    if (challenge[0])
        request_challenge(r, OUT_UNAUTHORIZED, challenge, "the registry wants a token");
    else
        request_text(r, "application/json", "{}", 2);
}

static bool can_be_asked(const struct request *r, const struct config_upstream *u)
{
    const struct worker *w = r->worker;

    return !u->offline && !w->config->offline && !health_is_down(w->parts.health, u->registry);
}

static void begin_ping(struct request *r, const struct config_upstream *u)
{
    struct worker *w = r->worker;
    char challenge[ASK_CHALLENGE_MAX] = "";
    bool created;

    /* A client that is not challenged goes on, to what is held. */
    if (!can_be_asked(r, u) ||
        greeting_get(w->parts.greetings, u->registry, w->now_ms, challenge)) {
        send_greeting(r, challenge);
        return;
    }
    struct behalf b = {.loop = r->behalf.loop ? r->behalf.loop : w->parts.loop_id};
    snprintf(r->target.name.registry, sizeof r->target.name.registry, "%s", u->registry);
    r->target.name.repository[0] = '\0';
    struct ask *a = ask_join(w->parts.asks, ASK_PING, &r->target.name, "", &b, &created);
    if (created)
        upstream_ask(w->parts.upstream, a);
    if (!request_wait_ask(r, a))
        intercept_ping_answered(r);
}

void intercept_ping_answered(struct request *r)
{
    struct worker *w = r->worker;
    const struct ask_result *result = ask_result(r->ask);
    bool is_known = result->outcome == OUT_MISS || result->outcome == OUT_UNAUTHORIZED;

    if (is_known)
        greeting_put(w->parts.greetings, r->target.name.registry, result->challenge, w->now_ms);
    send_greeting(r, is_known ? result->challenge : "");
}

/* --- pulls --- */

static bool is_pull(const struct request *r)
{
    switch (r->target.endpoint) {
    case ENDPOINT_MANIFEST:
    case ENDPOINT_BLOB:
    case ENDPOINT_TAGS:
    case ENDPOINT_REFERRERS:
        return r->method == HTTP_GET || r->method == HTTP_HEAD;
    case ENDPOINT_PING:
    case ENDPOINT_HEALTH:
    case ENDPOINT_METRICS:
    case ENDPOINT_CA:
    case ENDPOINT_SETUP:
    case ENDPOINT_READY:
    case ENDPOINT_PAGE:
    case ENDPOINT_REPORT:
    case ENDPOINT_ORDERS:
    case ENDPOINT_PREFETCH:
    case ENDPOINT_COLLECT:
    case ENDPOINT_ROOM:
    case ENDPOINT_TOKEN:
    case ENDPOINT_UPLOADS:
    case ENDPOINT_UPLOAD:
    case ENDPOINT_CATALOG:
        break;
    }
    return false;
}

static bool is_ping(const struct request *r)
{
    return r->target.endpoint == ENDPOINT_PING && (r->method == HTTP_GET || r->method == HTTP_HEAD);
}

/* What clients ask in order to know what the registry itself has, or whether it takes
 * their credentials: before a push they do not send what is there, and what is held for
 * other repositories is not there. */
static bool is_for_registry(const struct request *r)
{
    if (r->target.endpoint == ENDPOINT_PING)
        return r->behalf.authorization != NULL;
    return r->method == HTTP_HEAD && r->target.by_digest;
}

static bool is_write(const struct request *r)
{
    return r->method != HTTP_GET && r->method != HTTP_HEAD &&
           r->target.endpoint == ENDPOINT_MANIFEST && !r->target.by_digest;
}

/* The one path that is not the registry's: who asks is told that the registry's name leads to
 * cachalot. No registry has anything below "/-/". */
static bool is_doctor(const struct request *r, enum outcome o)
{
    return o == OUT_LOCAL && r->target.endpoint == ENDPOINT_SETUP &&
           setup_is_doctor(r->target.tag) && (r->method == HTTP_GET || r->method == HTTP_HEAD);
}

static void begin_registry(struct request *r, const struct http_head *h, const char *host,
                           const struct config_upstream *u)
{
    enum outcome o = route_parse(&r->target, h->target, ROLE_MIRROR, u->registry);
    bool is_known = o == OUT_LOCAL && r->target.door == DOOR_MIRROR;

    if (is_known && is_for_registry(r) && can_be_asked(r, u))
        is_known = false;
    r->has_target = true;
    if (is_doctor(r, o)) {
        request_setup(r, h);
        return;
    }
    r->target.door = DOOR_INTERCEPT;
    if (is_known && is_pull(r)) {
        request_pull(r);
    } else if (is_known && is_ping(r)) {
        begin_ping(r, u);
    } else {
        r->writes_tag = is_known && is_write(r);
        if (!r->writes_tag)
            route_init(&r->target, DOOR_INTERCEPT);
        relay_begin(r, h, host, u, false);
    }
}

struct claimed {
    const struct config *config;
    const char *host;
};

/* Whether the registry's manifests are believed, and may speak of this host at all. */
static bool is_believed(const void *arg, const char *registry)
{
    const struct claimed *c = arg;
    const struct config_upstream *u = config_find_upstream(c->config, registry);

    return u && u->serve_urls &&
           config_host_matches(u->foreign_hosts, u->foreign_host_count, c->host);
}

/* The blob that manifests say is at this url. */
static bool find_claim(struct request *r, const char *host, struct span target)
{
    struct claimed c = {r->worker->config, host};
    struct db_txn *txn;

    if (db_read(r->worker->reader, &txn) != 0)
        return false;
    int err = claim_get(txn, host, target.p, target.len, is_believed, &c, &r->target.digest,
                        &r->target.name);
    db_read_end(r->worker->reader);
    return err == 0;
}

/* The digest in a path under which registries keep a blob: .../sha256/12/1234.../data.
 * Whoever knows it may have been sent there by a registry, before it was opened. */
static bool find_stored(struct request *r, struct span target)
{
    static const char before[] = "/sha256/12/", after[] = "/data";
    const size_t hex_len = 64, after_len = sizeof after - 1, before_len = sizeof before - 1;
    struct span path = span_cut(&target, '?');
    char text[DIGEST_TEXT_MAX];

    if (path.len < before_len + hex_len + after_len)
        return false;
    const char *hex = path.p + path.len - after_len - hex_len;
    const char *folder = hex - before_len;
    if (memcmp(folder, before, 8) != 0 || memcmp(folder + 8, hex, 2) != 0 || hex[-1] != '/' ||
        memcmp(hex + hex_len, after, after_len) != 0)
        return false;
    int len = snprintf(text, sizeof text, "sha256:%.*s", (int)hex_len, hex);
    return digest_parse(&r->target.digest, text, (size_t)len) == 0;
}

static void begin_content(struct request *r, const struct http_head *h, const char *host,
                          const struct config_upstream *u)
{
    bool is_read = r->method == HTTP_GET || r->method == HTTP_HEAD;
    struct span target = http_target_origin(h->target);

    r->target.endpoint = ENDPOINT_BLOB;
    r->target.by_digest = true;
    if (is_read && find_claim(r, host, target)) {
        /* The client speaks to the url's host, not to the registry. */
        pull_disown(r);
        request_pull(r);
    } else if (!is_read || !find_stored(r, target) || !pull_send_public(r)) {
        route_init(&r->target, DOOR_INTERCEPT);
        relay_begin(r, h, host, u, false);
    }
}

/* --- the beginning --- */

/* Which host the request is for; false when that was answered. `*host` is empty for us. */
static bool find_host(struct request *r, const struct http_head *h, char host[TLS_HOST_MAX])
{
    const char *opened = conn_host(r->conn);
    struct span authority = http_target_authority(h->target);
    long port = opened ? 443 : 80;
    char named[TLS_HOST_MAX];

    snprintf(host, TLS_HOST_MAX, "%s", opened ? opened : "");
    if (!authority.p && opened)
        authority = h->host;
    if (!authority.p)
        return true;
    if (!split_authority(authority, named, &port) || (opened && strcmp(named, opened) != 0) ||
        port != (opened ? 443 : 80)) {
        conn_forbid_keep_alive(r->conn);
        request_error(r, OUT_MISDIRECTED, opened ? opened : "only http and port 80", 0);
        return false;
    }
    memcpy(host, named, TLS_HOST_MAX);
    return true;
}

void intercept_begin(struct request *r, const struct http_head *h)
{
    const struct config_upstream *u;
    char host[TLS_HOST_MAX];

    route_init(&r->target, DOOR_INTERCEPT);
    r->has_target = true;
    if (h->method == HTTP_CONNECT) {
        begin_connect(r, h);
        return;
    }
    if (!find_host(r, h, host))
        return;
    if (!host[0]) {
        request_own(r, h);
        return;
    }
    switch (intercept_find(r->worker->config, host, &u)) {
    case INTERCEPT_REGISTRY:
        begin_registry(r, h, host, u);
        break;
    case INTERCEPT_CONTENT:
        begin_content(r, h, host, u);
        break;
    case INTERCEPT_TUNNEL:
        forbid(r, host, "it is connected to by CONNECT alone");
        break;
    case INTERCEPT_REFUSED:
        forbid(r, host, not_configured);
        break;
    }
}
