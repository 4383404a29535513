/* SPDX-License-Identifier: ISC */
/* The daemon put together: store, threads, listeners; reload and drain. */
#ifndef PROXY_SERVER_H
#define PROXY_SERVER_H

#include "cache/check.h"
#include "proxy/config.h"
#include "proxy/log.h"
#include "proxy/privileges.h"

struct server;

/* What a server is started with. */
struct server_order {
    struct config *config;   /* will be referenced */
    const char *config_path; /* NULL: the defaults */
    const struct privileges *privileges;
    struct log *log;
};

/* Open the store, listen, drop what is left of privileges, enter the sandbox, start every
 * thread. On failure `why` is a sentence for a person and nothing is left running. */
MUST_CHECK int server_start(struct server **s, const struct server_order *o, char *why,
                            size_t why_size);

/* Serve until SIGTERM or SIGINT and the drain that follows. SIGHUP reads the config
 * again; a bad file keeps the old settings. A second SIGTERM or SIGINT ends the drain at
 * once. */
void server_run(struct server *s);

/* End every thread, free all. */
void server_stop(struct server **s);

#endif
