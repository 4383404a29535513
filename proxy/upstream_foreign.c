/* SPDX-License-Identifier: ISC */
/*
 * Foreign layers: a registry may not have them, and its manifests say where they are
 * kept. They are looked for at the registry first; elsewhere nobody is told who we
 * are, and their digest decides.
 */
#include "proxy/upstream_private.h"

#include <stdio.h>
#include <string.h>

#include "cache/err.h"
#include "cache/link.h"
#include "proxy/config_match.h"
#include "proxy/thread.h"

/* So long others are tried before a url that gave something else than the layer. */
#define BLAME_MS (60 * 60 * 1000)

static struct blame *find_blame(struct upstream *u, const struct digest *d, const char *url)
{
    struct digest url_digest;

    digest_of(DIGEST_SHA256, url, strlen(url), &url_digest);
    for (unsigned i = 0; i < BLAMES_MAX; i++) {
        struct blame *b = &u->blames[i];
        if (b->until_ms > 0 && digest_equal(&b->layer, d) && digest_equal(&b->url, &url_digest))
            return b;
    }
    return NULL;
}

void foreign_blame(struct upstream *u, const struct digest *d, const char *url)
{
    struct blame *b = find_blame(u, d, url);

    log_event(u->parts.log, LOG_WARN, "%.200s gave something else than the layer", url);
    if (!b) {
        b = &u->blames[u->next_blame];
        u->next_blame = (u->next_blame + 1) % BLAMES_MAX;
        b->layer = *d;
        digest_of(DIGEST_SHA256, url, strlen(url), &b->url);
    }
    b->until_ms = clock_now_ms() + BLAME_MS;
}

/* Until when the url is to blame; 0: it is not. */
static int64_t blamed_until(struct upstream *u, const struct digest *d, const char *url,
                            int64_t now_ms)
{
    const struct blame *b = find_blame(u, d, url);

    return b && b->until_ms > now_ms ? b->until_ms : 0;
}

/* Those that are to blame come last, the latest last of all; else as manifests say. */
static void put_in_order(struct upstream *u, const struct digest *d, struct foreign_urls *urls)
{
    int64_t now_ms = clock_now_ms();
    int64_t until_ms[DESCRIPTOR_URLS_MAX];

    for (unsigned i = 0; i < urls->count; i++) {
        char *url = urls->urls[i];
        int64_t mine_ms = blamed_until(u, d, url, now_ms);
        unsigned to = i;
        for (; to > 0 && until_ms[to - 1] > mine_ms; to--) {
            urls->urls[to] = urls->urls[to - 1];
            until_ms[to] = until_ms[to - 1];
        }
        urls->urls[to] = url;
        until_ms[to] = mine_ms;
    }
}

int foreign_find(struct upstream *u, const struct name *n, const struct digest *d,
                 struct foreign_urls *urls)
{
    struct db_txn *txn;
    uint64_t size_bytes;
    int err = db_read(u->reader, &txn);

    if (err)
        return err;
    err = source_get(txn, d, n, &size_bytes);
    if (err == 0)
        err = foreign_urls_get(txn, n->registry, d, urls);
    db_read_end(u->reader);
    if (err == 0)
        put_in_order(u, d, urls);
    return err;
}

const struct config_upstream *foreign_way(const struct config *c, const struct foreign_urls *urls)
{
    char host[NAME_MAX_SIZE];

    for (unsigned i = 0; i < urls->count; i++) {
        const char *start = strstr(urls->urls[i], "://");
        size_t len = start ? strcspn(start + 3, "/?#") : 0;

        if (len == 0 || len >= sizeof host)
            continue;
        memcpy(host, start + 3, len);
        host[len] = '\0';
        for (unsigned k = 0; k < c->upstream_count; k++) {
            const struct config_upstream *to = &c->upstreams[k];

            if (config_host_matches(to->foreign_hosts, to->foreign_host_count, host))
                return to;
        }
    }
    return NULL;
}

/* "Not there" and "not for you" add nothing to what the registry said. */
struct failure foreign_failure(const struct failure *own, const struct failure *elsewhere)
{
    int status = outcome_row(elsewhere->outcome)->status;
    bool adds_nothing = status == 401 || status == 403 || status == 404;
    struct failure both = adds_nothing ? *own : *elsewhere;

    snprintf(both.why, sizeof both.why, "%.120s; %.130s", own->why, elsewhere->why);
    return both;
}
