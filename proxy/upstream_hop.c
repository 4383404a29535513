/* SPDX-License-Identifier: ISC */
/*
 * Where an exchange may lead: each hop is judged before it is taken.
 *
 *   its own host        anywhere that it is
 *   a redirect          to a host of redirect-hosts, or any when there are none
 *   a layer's own url   to a host of foreign-hosts, its redirects too
 *
 * A host that is listed by its name may have any address, as the operator chose it; one
 * that a pattern lets in, or that nobody named, only a public one.
 */
#include "proxy/upstream_hop.h"
#include "proxy/config_match.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>

enum reach { REACH_NOWHERE, REACH_PUBLIC, REACH_ANYWHERE };

struct hop_parts {
    char *scheme;
    char *host;
    char *port;      /* in effect */
    char *host_port; /* "host:port" */
};

static char *part(CURLU *url, CURLUPart what, unsigned flags)
{
    char *text = NULL;

    return curl_url_get(url, what, &text, flags) == CURLUE_OK ? text : NULL;
}

static void parts_clear(struct hop_parts *p)
{
    curl_free(p->scheme);
    curl_free(p->host);
    curl_free(p->port);
    free(p->host_port);
}

/* curl_url_get changes nothing, whatever its prototype in older releases. */
static bool parts_of(const void *const_url, struct hop_parts *p)
{
    CURLU *url = (CURLU *)(uintptr_t)const_url;

    *p = (struct hop_parts){
        .scheme = part(url, CURLUPART_SCHEME, 0),
        .host = part(url, CURLUPART_HOST, 0),
        .port = part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT),
    };
    if (p->host && p->port)
        p->host_port = mem_format("%s:%s", p->host, p->port);
    return p->scheme && p->host && p->host[0];
}

char *hop_origin(const void *url, char *host, size_t host_size)
{
    struct hop_parts p;

    (void)parts_of(url, &p);
    snprintf(host, host_size, "%s", p.host);
    char *text = mem_format("%s://%s", p.scheme, p.host_port);
    parts_clear(&p);
    return text;
}

/* Whether it leads to the host of the configured url, by name or by the address that
 * it was reached at. */
static bool is_own_host(const struct hop_policy *p, const char *host)
{
    size_t len = strlen(host);

    if (strcasecmp(host, p->own_host) == 0)
        return true;
    if (host[0] == '[' && len > 2)
        return strlen(p->own_address) == len - 2 &&
               strncasecmp(host + 1, p->own_address, len - 2) == 0;
    return p->own_address[0] && strcmp(host, p->own_address) == 0;
}

static enum reach reach_of(char *const *hosts, unsigned count, const char *host_port)
{
    enum reach reach = REACH_NOWHERE;

    for (unsigned i = 0; i < count; i++) {
        if (!config_host_matches(&hosts[i], 1, host_port))
            continue;
        if (hosts[i][0] != '*')
            return REACH_ANYWHERE;
        reach = REACH_PUBLIC;
    }
    return reach;
}

bool host_is_inside(const char *host)
{
    static const char local[] = "localhost";
    size_t len = strlen(host);
    char address[64];
    char rooted[256];

    /* "localhost." is the same host. */
    if (len > 1 && len < sizeof rooted && host[len - 1] == '.') {
        memcpy(rooted, host, --len);
        rooted[len] = '\0';
        host = rooted;
    }

    if (host[0] == '[' && len > 2 && len - 2 < sizeof address) {
        memcpy(address, host + 1, len - 2);
        address[len - 2] = '\0';
        return !address_text_is_public(address);
    }
    if (strspn(host, "0123456789.") == len)
        return !address_text_is_public(host);
    return strcasecmp(host, local) == 0 ||
           (len > sizeof local && strcasecmp(host + len - sizeof local, ".localhost") == 0);
}

/* A manifest's url is no better than http only where the registry itself is asked so,
 * and the operator named the host. */
static bool is_foreign_scheme(const struct hop_policy *p, const char *scheme, enum reach reach)
{
    return strcmp(scheme, "https") == 0 ||
           (reach == REACH_ANYWHERE && strncmp(p->to->urls[0], "http://", 7) == 0);
}

static bool judge(const struct hop_policy *p, const struct hop_parts *to, bool *is_guarded,
                  struct failure *f)
{
    const struct config_upstream *u = p->to;
    enum reach reach = REACH_PUBLIC;

    if (p->is_foreign)
        reach = reach_of(u->foreign_hosts, u->foreign_host_count, to->host_port);
    else if (is_own_host(p, to->host))
        reach = REACH_ANYWHERE;
    else if (u->redirect_host_count > 0)
        reach = reach_of(u->redirect_hosts, u->redirect_host_count, to->host_port);
    *is_guarded = reach != REACH_ANYWHERE;
    if (reach == REACH_NOWHERE)
        failure_set(f, OUT_UPSTREAM_BROKEN, false,
                    "%.80s leads to %.80s, which %s of [upstream %.60s] does not allow", p->from,
                    to->host_port, p->is_foreign ? "foreign-hosts" : "redirect-hosts", u->registry);
    else if (p->is_foreign && !is_foreign_scheme(p, to->scheme, reach))
        failure_set(f, OUT_UPSTREAM_BROKEN, false, "%.100s leads to %.100s, and not by https",
                    p->from, to->host_port);
    else if (*is_guarded && u->proxy && host_is_inside(to->host))
        failure_set(f, OUT_UPSTREAM_BROKEN, false,
                    "%s: a redirect leads to an address that is not public", to->host);
    else
        return true;
    return false;
}

bool hop_judge(const struct hop_policy *p, const void *url, bool *is_guarded, struct failure *f)
{
    struct hop_parts to;
    bool taken = false;

    if (!parts_of(url, &to))
        failure_set(f, OUT_UPSTREAM_BROKEN, false, "%s: redirects to an invalid url", p->from);
    else if (strcmp(to.scheme, "https") != 0 && strcmp(to.scheme, "http") != 0)
        failure_set(f, OUT_UPSTREAM_BROKEN, false, "%s: redirects to %.20s:", p->from, to.scheme);
    else
        taken = judge(p, &to, is_guarded, f);
    parts_clear(&to);
    return taken;
}

bool hop_take(const struct hop_policy *p, void *url, const char *location, bool *is_guarded,
              struct failure *f)
{
    char *before = part(url, CURLUPART_SCHEME, 0);
    CURLUcode code = curl_url_set(url, CURLUPART_URL, location, CURLU_DISALLOW_USER);
    char *after = part(url, CURLUPART_SCHEME, 0);
    bool taken = false;

    if (code != CURLUE_OK)
        failure_set(f, OUT_UPSTREAM_BROKEN, false, "%s: redirects to an invalid url", p->from);
    else if (before && after && strcmp(before, "https") == 0 && strcmp(after, "http") == 0)
        failure_set(f, OUT_UPSTREAM_BROKEN, false, "%s: redirects from https to http", p->from);
    else
        taken = hop_judge(p, url, is_guarded, f);
    curl_free(before);
    curl_free(after);
    return taken;
}
