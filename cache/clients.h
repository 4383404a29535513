/* SPDX-License-Identifier: ISC */
/*
 * Who used a blob: the addresses of its latest clients, kept as long as its record is.
 * blob_forget takes them away.
 */
#ifndef CACHE_CLIENTS_H
#define CACHE_CLIENTS_H

#include <arpa/inet.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"

#define CLIENTS_MAX 8

struct client {
    struct in6_addr address; /* IPv4 is mapped */
    int64_t used_at_s;       /* Unix time, coarse as that of the blob */
};

struct clients {
    size_t count;
    struct client list[CLIENTS_MAX]; /* the latest first, each address once */
};

MUST_CHECK int clients_get(struct db_txn *txn, const struct digest *d, struct clients *c);
/* These have used it now; those who did so longest ago give way. 0 also when the blob is
 * unknown: then nothing is noted. */
MUST_CHECK int clients_note(struct db_txn *txn, const struct digest *d,
                            const struct in6_addr *addresses, size_t count, int64_t now_s);
/* 0 also when there was none. */
MUST_CHECK int clients_forget(struct db_txn *txn, const struct digest *d);

/* The address as text, an IPv4 one in its own notation; returns `out`. */
const char *client_text(const struct client *c, char out[INET6_ADDRSTRLEN]);

#endif
