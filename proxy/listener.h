/* SPDX-License-Identifier: ISC */
/* Listening sockets: TCP over IPv4 and IPv6, Unix. They live in the main thread's
 * event loop and hand accepted connections on. */
#ifndef PROXY_LISTENER_H
#define PROXY_LISTENER_H

#include "cache/check.h"
#include "proxy/config.h"
#include "proxy/load.h"
#include "proxy/log.h"
#include "proxy/sd.h"

struct event_base;
struct listeners;

struct listeners_calls {
    /* A connection: `fd` is non-blocking and now the callee's; the load was entered for
     * it and is to be left when it closes. */
    void (*accepted)(void *arg, int fd, struct config *c, const struct config_listener *l,
                     struct load *load, const char *peer);
    /* Connections of all listeners open now, to hold against the limit of open files. */
    unsigned (*open_connections)(void *arg);
};

struct listeners *listeners_new(struct event_base *base, struct log *log,
                                const struct listeners_calls *calls, void *arg);
/* Closes them all. NULL is legal. */
void listeners_free(struct listeners **ls);

/* Listen as the config says: addresses that are listened on already are kept, new
 * ones are bound, others are closed. Sockets passed in by the service manager (may
 * be none) stand in for the addresses of the listener that has their name, else for
 * the address with their port. On failure nothing has changed and `why` says what
 * could not be bound. */
MUST_CHECK int listeners_open(struct listeners *ls, struct config *c,
                              const struct sd_socket *passed, unsigned passed_count, char *why,
                              size_t why_size);
/* Accept no more: for a drain. */
void listeners_close(struct listeners *ls);

#endif
