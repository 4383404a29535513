/* SPDX-License-Identifier: ISC */
/* Inside the upstream thread: where an exchange may lead. `url` is a CURLU *. */
#ifndef PROXY_UPSTREAM_HOP_H
#define PROXY_UPSTREAM_HOP_H

#include <stdbool.h>
#include <sys/socket.h>

#include "proxy/config.h"
#include "proxy/upstream_transfer.h"

/* What is reached at an address, in IPv6's clothes too. */
enum address_kind {
    ADDRESS_PUBLIC,
    ADDRESS_PRIVATE,  /* networks of one's own, RFC 1918 and 4193 */
    ADDRESS_RESERVED, /* loopback, link-local, shared, multicast, unspecified... */
};

enum address_kind address_kind(const struct sockaddr *sa);
/* Whether a redirect to another host may lead there. */
bool address_is_public(const struct sockaddr *sa);
bool address_text_is_public(const char *text);
/* For a proxy, which connects by name, so that the address is not seen: whether the host
 * says by itself that it is within the network. */
bool host_is_inside(const char *host);

struct hop_policy {
    const struct config_upstream *to;
    const char *from;        /* the host that named the hop: for messages */
    const char *own_host;    /* of the first hop */
    const char *own_address; /* where that was reached, or empty */
    bool is_foreign;         /* the first url was a manifest's */
};

/* "scheme://host:port", owned by the caller; the host alone in `host`, cut. */
char *hop_origin(const void *url, char *host, size_t host_size);
/* Whether a hop may be taken, and whether to public addresses only. If not, why. */
bool hop_judge(const struct hop_policy *p, const void *url, bool *is_guarded, struct failure *f);
/* Resolve a Location (RFC 3986 section 5) into `url`, and judge that. */
bool hop_take(const struct hop_policy *p, void *url, const char *location, bool *is_guarded,
              struct failure *f);

#endif
