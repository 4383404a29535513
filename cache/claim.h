/* SPDX-License-Identifier: ISC */
/*
 * What manifests say of urls: that this layer is to be had there. Turned round, so that
 * a client that asks for the url can be given the layer by its digest.
 *
 * Whoever may push to a registry can say anything of any url, and a digest that he names
 * himself proves nothing of the url: the caller says whose manifests are believed. Of a
 * url of which two things are believed nothing is.
 */
#ifndef CACHE_CLAIM_H
#define CACHE_CLAIM_H

#include <stdbool.h>
#include <stddef.h>

#include "cache/db.h"
#include "cache/digest.h"
#include "cache/name.h"

/* A manifest of the repository `n` says that the blob is at the url (http or https; others
 * are no claim, nor is what a local repository says). */
MUST_CHECK int claim_put(struct db_txn *txn, const char *url, const struct digest *d,
                         const struct name *n);

/* Whether what manifests of this registry say of urls is believed. */
typedef bool claim_judge(const void *arg, const char *registry);

/* What is said, and believed, of the url with this host (without the port of its scheme)
 * and this target (path and query, from its slash on). ERR_NOT_FOUND when nothing is,
 * ERR_MISMATCH when more than one digest is. */
MUST_CHECK int claim_get(struct db_txn *txn, const char *host, const char *target,
                         size_t target_len, claim_judge *judge, const void *arg, struct digest *d,
                         struct name *n);

#endif
