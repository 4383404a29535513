/* SPDX-License-Identifier: ISC */
#include "proxy/realm.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cache/err.h"
#include "cache/name.h"
#include "proxy/config.h"
#include "proxy/config_match.h"

#define PORT_HTTP 80
#define PORT_HTTPS 443

/* host[:port] */
struct authority {
    struct span host;
    unsigned port;
};

struct parts {
    bool is_https;
    struct authority authority;
};

static bool begins_with(const char *text, const char *prefix)
{
    return strncasecmp(text, prefix, strlen(prefix)) == 0;
}

struct span realm_authority(const char *url)
{
    const char *p = url + (begins_with(url, "https://") ? 8 : 7);

    return (struct span){p, strcspn(p, "/?#")};
}

/* False when it is not of the grammar; a user is not. */
static bool split_authority(struct span text, bool is_https, struct authority *a)
{
    if (!name_is_registry(text.p, text.len))
        return false;
    *a = (struct authority){text, is_https ? PORT_HTTPS : PORT_HTTP};
    const char *colon = memrchr(text.p, ':', text.len);
    /* The colons of IPv6 are in brackets. */
    if (colon == NULL || text.p[text.len - 1] == ']')
        return true;
    a->host.len = (size_t)(colon - text.p);
    a->port = 0;
    for (const char *p = colon + 1; p < text.p + text.len; p++)
        a->port = a->port * 10 + (unsigned)(*p - '0');
    return true;
}

/* RFC 3986, without what is of no use in a realm: a user, a fragment. */
static bool split_url(const char *url, struct parts *u)
{
    if (!begins_with(url, "https://") && !begins_with(url, "http://"))
        return false;
    struct span authority = realm_authority(url);
    u->is_https = begins_with(url, "https://");
    for (const char *p = authority.p + authority.len; *p != '\0'; p++) {
        if (*p <= 0x20 || *p >= 0x7f || strchr("\"#<>\\^`{|}", *p) != NULL)
            return false;
    }
    return split_authority(authority, u->is_https, &u->authority);
}

static bool is_same_name(struct span a, struct span b)
{
    return a.len == b.len && strncasecmp(a.p, b.p, a.len) == 0;
}

static bool is_same(const struct authority *a, const struct authority *b)
{
    return a->port == b->port && is_same_name(a->host, b->host);
}

/* Whether one of the hosts fits; "*.NAME" is not named in full. */
static bool is_listed(const struct realm_policy *p, const struct authority *a, bool in_full)
{
    char host[NAME_MAX_SIZE + sizeof ":65535"];

    snprintf(host, sizeof host, "%.*s:%u", (int)a->host.len, a->host.p, a->port);
    for (unsigned i = 0; i < p->host_count; i++) {
        if (!(in_full && p->hosts[i][0] == '*') && config_host_matches(&p->hosts[i], 1, host))
            return true;
    }
    return false;
}

int realm_check(const struct realm_policy *p, const char *realm, char *why, size_t why_size)
{
    struct parts r, own;

    if (!split_url(realm, &r) || !split_url(p->url, &own)) {
        snprintf(why, why_size, "%s: no credential is sent to a realm that is not a plain url",
                 p->registry);
        return ERR_INVALID;
    }
    struct span host = realm_authority(realm);
    if (!r.is_https && (own.is_https || !is_same_name(r.authority.host, own.authority.host))) {
        snprintf(why, why_size,
                 "%s: no credential is sent to a realm by http, from another host: http://%.*s",
                 p->registry, (int)host.len, host.p);
        return ERR_DENIED;
    }
    if (is_same(&r.authority, &own.authority) || is_listed(p, &r.authority, false))
        return 0;
    snprintf(why, why_size,
             "%s: no credential is sent to a realm that is not allowed; realm-hosts in "
             "[upstream %s] would allow it: %.*s",
             p->registry, p->registry, (int)host.len, host.p);
    return ERR_DENIED;
}

bool realm_may_be_inside(const struct realm_policy *p, const char *realm)
{
    struct parts r, own;

    return split_url(realm, &r) && split_url(p->url, &own) &&
           (is_same_name(r.authority.host, own.authority.host) || is_listed(p, &r.authority, true));
}
