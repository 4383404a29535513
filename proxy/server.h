/* SPDX-License-Identifier: ISC */
/* The daemon put together: store, threads, listeners; reload and drain. */
#ifndef PROXY_SERVER_H
#define PROXY_SERVER_H

#include "cache/check.h"
#include "proxy/config.h"
#include "proxy/log.h"
#include "proxy/privileges.h"

struct server;

/* Open the store, listen, drop what is left of privileges, start every thread. The config is
 * referenced. On failure `why` is a sentence for a person and nothing is left running. */
MUST_CHECK int server_start(struct server **s, struct config *c, const struct privileges *p,
                            struct log *log, char *why, size_t why_size);

/* Serve until SIGTERM or SIGINT and the drain that follows. SIGHUP reads
 * `config_path` (NULL: the defaults) again; a bad file keeps the old settings.
 * A second SIGTERM or SIGINT ends the drain at once. */
void server_run(struct server *s, const char *config_path);

/* End every thread, free all. */
void server_stop(struct server **s);

#endif
