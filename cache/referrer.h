/* SPDX-License-Identifier: ISC */
/*
 * The pages of the list of referrers, manifests that name another one as their subject
 * (distribution-spec 1.1.1 "Listing Referrers").
 */
#ifndef CACHE_REFERRER_H
#define CACHE_REFERRER_H

#include <stddef.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"
#include "cache/manifest_referrer.h"
#include "cache/name.h"

#define REFERRERS_BODY_MAX (4u * 1024 * 1024)
#define REFERRERS_PAGE_MAX 4096u /* descriptors in one answer */

/* A page of the list, in the order of the digests' texts. Every descriptor that is in it
 * is of a manifest that the repository has. */
struct referrers;

/* Those of this artifact type (NULL: of any) after the digest `last` (exclusive; NULL or
 * "": from the beginning; a text that is no digest counts as its place in the order would
 * be), at most `count` (0, or more than REFERRERS_PAGE_MAX: that many). The strings must
 * outlive it. */
struct referrers *referrers_new(const char *artifact_type, const char *last, unsigned count);
/* NULL is legal. */
void referrers_free(struct referrers **r);

/* Add what the index knows to refer to the subject. */
MUST_CHECK int referrers_add_held(struct referrers *r, struct db_txn *txn, const struct name *n,
                                  const struct digest *subject);
/* Add what the image index under the fallback tag (sha256-<hex>) of the subject lists
 * and the repository has: that is how clients note referrers at registries without this
 * list. ERR_INVALID when it is no image index; then nothing was added. */
MUST_CHECK int referrers_add_fallback(struct referrers *r, struct db_txn *txn, const struct name *n,
                                      const void *index, size_t len);

/* Add what a list says that an upstream gave, whether it is held or not. ERR_INVALID as
 * above. */
MUST_CHECK int referrers_add_listed(struct referrers *r, const void *index, size_t len);
/* How many were added. */
size_t referrers_count(const struct referrers *r);

/* The fallback tag of a subject: distribution-spec 1.1.1 "Referrers Tag Schema",
 * <alg>-<encoded>, each part cut. */
void referrers_fallback_tag(const struct digest *subject, char out[NAME_TAG_MAX_SIZE]);

/* The answer: an image index, NUL-terminated, owned by the caller; each descriptor once.
 * `next` gets the digest to go on after, or "" at the end. Pages may have less than
 * `count`, even nothing, before the end is reached: only `next` tells. */
char *referrers_body(struct referrers *r, size_t *len, char next[DIGEST_TEXT_MAX]);

#endif
