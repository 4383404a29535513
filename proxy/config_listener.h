/* SPDX-License-Identifier: ISC */
/* A section [listener NAME]. */
#ifndef PROXY_CONFIG_LISTENER_H
#define PROXY_CONFIG_LISTENER_H

#include <stdbool.h>
#include <stdint.h>

#include "proxy/route.h"

#define CONFIG_ADDRESSES_MAX 8
#define CONFIG_HOSTS_MAX 16
#define CONFIG_RANGES_MAX 16

struct tls_server;

struct config_listener {
    char *name;
    enum role role;
    char *mirror_of;                       /* canonical registry; ROLE_MIRROR only */
    char *addresses[CONFIG_ADDRESSES_MAX]; /* for socket_listen */
    unsigned address_count;
    int64_t head_timeout_ms;  /* a request head must be whole within this time */
    int64_t idle_timeout_ms;  /* a connection without a request */
    int64_t stall_timeout_ms; /* a client that takes no bytes of a body */
    int64_t max_connections;
    char *allow[CONFIG_RANGES_MAX]; /* for config_address_matches */
    unsigned allow_count;
    bool tls;
    char *certificate; /* with its key; both NULL: one of our own for `names` */
    char *key;
    char *names[CONFIG_HOSTS_MAX];
    unsigned name_count;
    bool is_admin;               /* the Unix socket of the cachalot command */
    struct tls_server *identity; /* set by identity_prepare; NULL: no TLS */
};

#endif
