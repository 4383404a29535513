/* SPDX-License-Identifier: ISC */
/* Whose TLS is opened: the policy of the intercepting listeners, from the configuration.
 * Pure: no I/O. */
#ifndef PROXY_INTERCEPT_H
#define PROXY_INTERCEPT_H

#include <stdbool.h>
#include <stdio.h>

#include "proxy/config.h"

enum intercept {
    INTERCEPT_REFUSED,  /* nothing is known of such a host */
    INTERCEPT_REGISTRY, /* opened: an upstream itself */
    INTERCEPT_CONTENT,  /* opened: where upstreams keep their blobs, or manifests their layers */
    INTERCEPT_TUNNEL,   /* connected to without a look inside: token servers, `tunnel` */
};

/* What is done with connections to port 443 of the host, a name without a port; its
 * upstream, or the first that names it, goes to `*u` (NULL: `tunnel` does). Addresses
 * are always refused. */
enum intercept intercept_find(const struct config *c, const char *host,
                              const struct config_upstream **u);

/* Whether connections to it are opened: for tls_server_from_ca_by_host, `arg` is a
 * struct config. */
bool intercept_opens(const void *arg, const char *host);

/* What our own authority must be able to vouch for: hosts that are opened, and the names
 * of our listeners. Each once, owned by the caller, as is the array. */
char **intercept_names(const struct config *c, unsigned *count);
void intercept_names_free(char **names, unsigned count);
/* The same, one a line. */
void intercept_print_names(const struct config *c, FILE *out);

#endif
