/* SPDX-License-Identifier: ISC */
/*
 * What cachalot says to those who set up a client, below /-/setup/: the texts of cache/setup.h with
 * this host's names and ports, and a doctor, who tells clients by which door they have come.
 * Pure but for memory.
 */
#ifndef PROXY_SETUP_H
#define PROXY_SETUP_H

#include <stdbool.h>

#include "proxy/config.h"
#include "proxy/outcome.h"
#include "proxy/span.h"

struct setup_visit {
    const char *page; /* what follows "/-/setup/" */
    const struct config *config;
    const struct config_listener *listener; /* that the client came by */
    const char *client;                     /* its address */
    struct span host;                       /* Host as it was sent; p is NULL when it was not */
    const char *opened; /* the host that cachalot opened TLS as; NULL: the client asked cachalot */
    bool is_relayed;    /* the client takes us for a proxy: Host is another's */
};

/* Whether it is for clients of the hosts that are intercepted, too. */
bool setup_is_doctor(const char *page);

struct setup_page {
    enum outcome outcome; /* OUT_LOCAL, or why there is no page, then `why` says more */
    const char *media_type;
    char *text; /* owned by the caller */
    size_t len;
    char why[256];
};

/* Make the page. OUT_NO_ROUTE when there is no such page, or no door of the kind that it is
 * about; OUT_BAD_REQUEST when Host is needed and is no name that clients could be told. */
void setup_make(struct setup_page *p, const struct setup_visit *v);

#endif
