/* SPDX-License-Identifier: ISC */
/* Requests that are passed on as they are, and tunnels: a connection is made for the
 * client, and what answers is told apart from what cachalot answers by nothing. */
#include "proxy/request_intercept.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proxy/http_forward.h"
#include "proxy/intercept.h"
#include "proxy/upstream_dial.h"

static const char established[] = "HTTP/1.1 200 Connection established\r\n\r\n";

/* The scheme and authority of a url, and the path behind them. */
static void split_url(const char *url, char **origin, struct span *authority, const char **path)
{
    const char *host = strstr(url, "://") + 3;
    size_t len = strcspn(host, "/");

    *authority = (struct span){host, len};
    *path = host + len;
    *origin = mem_copy(url, (size_t)(host - url) + len);
}

struct expiry {
    struct storage_job job;
    struct name name;
    char tag[NAME_TAG_MAX_SIZE];
};

static int expiry_apply(struct storage_job *j, struct db_txn *txn)
{
    const struct expiry *e = (const struct expiry *)j;

    return tag_expire(txn, &e->name, e->tag);
}

static void expiry_done(struct storage_job *j, int err)
{
    (void)err;
    free(j);
}

/* Who has pushed a tag and pulls it again wants what he pushed. */
static void expire_tag(struct request *r)
{
    struct expiry *e = mem_new(sizeof *e);

    e->job.apply = expiry_apply;
    e->job.done = expiry_done;
    e->name = r->target.name;
    memcpy(e->tag, r->target.tag, sizeof e->tag);
    storage_post(r->worker->parts.storage, &e->job);
}

static void relay_opened(struct request *r)
{
    struct dial *d = r->dial;
    struct span none = {"", 0};

    r->dial = NULL;
    if (r->writes_tag)
        expire_tag(r);
    r->outcome = OUT_RELAYED;
    r->status = 200;
    request_enter(r, REQUEST_SENDING);
    if (r->up)
        conn_relay(r->conn, d, none, (struct span){r->up, r->up_len});
    else
        conn_relay(r->conn, d, (struct span){established, strlen(established)}, none);
}

static void on_dialled(void *arg, const struct failure *f)
{
    struct request *r = arg;

    worker_clock(r->worker);
    if (!f) {
        relay_opened(r);
        return;
    }
    log_event(r->worker->parts.log, LOG_WARN, "no connection for %s: %s", conn_peer(r->conn),
              f->why);
    conn_forbid_keep_alive(r->conn);
    request_error(r, f->outcome, f->why, f->retry_after_s);
}

/* Segments that lead up and out again: of what the url of an upstream stands for, and of
 * what its rules are about. No client has them. */
static bool has_dots(struct span target)
{
    struct span path = span_cut(&target, '?');

    while (path.p) {
        struct span segment = span_cut(&path, '/');
        bool only_dots = segment.len > 0;

        for (size_t i = 0; i < segment.len && only_dots; i++) {
            bool is_escaped = segment.len - i >= 3 && strncasecmp(segment.p + i, "%2e", 3) == 0;

            only_dots = segment.p[i] == '.' || is_escaped;
            i += is_escaped ? 2 : 0;
        }
        if (only_dots)
            return true;
    }
    return false;
}

static void dial(struct request *r, const struct config_upstream *u, const char *url,
                 enum dial_reach reach)
{
    struct dial_order order = {
        .config = r->worker->config,
        .to = u,
        .url = url,
        .reach = reach,
        .answers = r->worker->queue,
        .done = on_dialled,
        .arg = r,
    };

    request_enter(r, REQUEST_DIALLING);
    r->dial = dial_start(r->worker->parts.dialer, &order);
}

/* Write the head that goes on; false when it is too long, which was answered. */
static bool write_head(struct request *r, const struct http_head *h, struct span authority,
                       const char *path)
{
    char *host = mem_copy(authority.p, authority.len);
    size_t size = 2 * HTTP_HEAD_MAX;

    r->up = mem_resize(NULL, size);
    r->up_len = http_forward_head(h, host, path, r->worker->parts.loop_id, r->up, size);
    free(host);
    if (r->up_len == 0)
        request_error(r, OUT_FIELDS_TOO_LARGE, NULL, 0);
    return r->up_len > 0;
}

static bool has(char *const *list, unsigned count, const char *host)
{
    for (unsigned i = 0; i < count; i++) {
        size_t len = strcspn(list[i], ":");

        if (strlen(host) == len && memcmp(list[i], host, len) == 0)
            return true;
    }
    return false;
}

/* A host that the administrator has named may be anywhere, also in his own network; one
 * that only ends as he said must not lead there. */
static enum dial_reach reach(const struct request *r, const struct config_upstream *u,
                             const char *host)
{
    const struct config *c = r->worker->config;
    bool is_named = has(c->tunnel_hosts, c->tunnel_host_count, host);

    if (u)
        is_named = is_named || has(u->realm_hosts, u->realm_host_count, host) ||
                   has(u->redirect_hosts, u->redirect_host_count, host) ||
                   has(u->foreign_hosts, u->foreign_host_count, host);
    return is_named ? DIAL_ANYWHERE : DIAL_PUBLIC;
}

/* "docker search": another server than the registry that has two names. */
static bool is_search(const char *host, struct span target)
{
    return strcmp(host, "index.docker.io") == 0 &&
           !(target.len >= 4 && memcmp(target.p, "/v2/", 4) == 0);
}

/* The registry is reached by its url, as for pulls; other hosts are where they say. */
static void relay_request(struct request *r, const struct http_head *h, const char *host,
                          const struct config_upstream *u)
{
    bool is_registry = intercept_find(r->worker->config, host, &u) == INTERCEPT_REGISTRY &&
                       !is_search(host, http_target_origin(h->target));
    char *url =
        is_registry ? mem_copy(u->urls[0], strlen(u->urls[0])) : mem_format("https://%s", host);
    struct span authority;
    const char *path;
    char *origin;

    split_url(url, &origin, &authority, &path);
    if (write_head(r, h, authority, path))
        dial(r, u, origin, is_registry ? DIAL_ANYWHERE : reach(r, u, host));
    free(origin);
    free(url);
}

void relay_begin(struct request *r, const struct http_head *h, const char *host,
                 const struct config_upstream *u, bool is_tunnel)
{
    r->is_relay = true;
    if (u) {
        snprintf(r->target.name.registry, sizeof r->target.name.registry, "%s", u->registry);
        r->registry = stats_find_registry(r->worker->parts.stats, u->registry);
    }
    if (r->worker->config->offline || (u && u->offline)) {
        request_error(r, OUT_OFFLINE, host, 0);
    } else if (!is_tunnel && has_dots(http_target_origin(h->target))) {
        request_error(r, OUT_BAD_REQUEST, "the path has segments of dots", 0);
    } else if (!is_tunnel && u && u->visibility == VISIBILITY_PRIVATE) {
        conn_forbid_keep_alive(r->conn);
        request_error(r, OUT_UPSTREAM_DENIED, "this upstream's content is private", 0);
    } else if (!is_tunnel && u && u->parent != PARENT_NO) {
        conn_forbid_keep_alive(r->conn);
        request_error(r, OUT_FORBIDDEN, "the upstream is another cachalot, which is for pulls", 0);
    } else if (!is_tunnel) {
        relay_request(r, h, host, u);
    } else {
        char *url = mem_format("http://%s:443", host);

        dial(r, u, url, reach(r, u, host));
        free(url);
    }
}

void relay_ended(struct request *r)
{
    uint64_t bytes = conn_relay_bytes_down(r->conn);

    if (r->writes_tag)
        expire_tag(r);
    dial_close(&r->dial);
    if (r->up && conn_relay_status(r->conn) > 0)
        r->status = conn_relay_status(r->conn);
    if (r->up)
        explicit_bzero(r->up, r->up_len);
    free(r->up);
    r->up = NULL;
    STATS_ADD(r->worker->parts.stats, upstream_bytes, bytes);
    if (r->registry)
        STATS_ADD(r->registry, line_bytes, bytes);
}
