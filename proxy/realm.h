/* SPDX-License-Identifier: ISC */
/*
 * Which realm of a challenge may be asked for a token: a registry that could name any
 * would have our credentials sent, or our network asked, wherever it likes. Pure.
 */
#ifndef PROXY_REALM_H
#define PROXY_REALM_H

#include <stdbool.h>
#include <stddef.h>

#include "cache/check.h"
#include "proxy/span.h"

struct realm_policy {
    const char *registry; /* canonical: for messages */
    const char *url;      /* that was asked: http:// or https:// */
    char *const *hosts;   /* of the option realm-hosts, as for config_host_matches */
    unsigned host_count;
};

/* 0 when the realm may be asked: a plain url without user and fragment, https (or
 * http, when the registry itself is asked by http at the same host), at the
 * host and port of `url` or at one of `hosts`.
 * ERR_INVALID when it is no such url, ERR_DENIED when it is elsewhere; then a
 * sentence in `why` names the option that would allow it. */
MUST_CHECK int realm_check(const struct realm_policy *p, const char *realm, char *why,
                           size_t why_size);

/* Whether a realm that may be asked may even be at an address that is not public: at the
 * host of `url`, whatever the port, or at one that is named in full among `hosts`. */
bool realm_may_be_inside(const struct realm_policy *p, const char *realm);

/* "host" or "host:port" of a url that begins with http:// or https://. */
struct span realm_authority(const char *url);

#endif
