/* SPDX-License-Identifier: ISC */
/*
 * What manifests say of urls: that this layer is to be had there. Turned round, so that
 * a client that asks for the url can be given the layer by its digest.
 *
 * Anybody who may push somewhere can say anything of any url. So a claim is only where
 * to look (its digest is verified like all content, for its repository), and of a url
 * of which two things are said nothing is believed.
 */
#ifndef CACHE_CLAIM_H
#define CACHE_CLAIM_H

#include <stddef.h>

#include "cache/db.h"
#include "cache/digest.h"
#include "cache/name.h"

/* A manifest of the repository `n` says that the blob is at the url (http or https; others
 * are no claim). */
MUST_CHECK int claim_put(struct db_txn *txn, const char *url, const struct digest *d,
                         const struct name *n);

/* What is said of the url with this host (without the port of its scheme) and this target
 * (path and query, from its slash on). ERR_NOT_FOUND when nothing is, ERR_MISMATCH when
 * more than one digest is. */
MUST_CHECK int claim_get(struct db_txn *txn, const char *host, const char *target,
                         size_t target_len, struct digest *d, struct name *n);

#endif
