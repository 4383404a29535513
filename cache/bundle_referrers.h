/* SPDX-License-Identifier: ISC */
/* What goes along with the images of a bundle because it refers to them. */
#ifndef CACHE_BUNDLE_REFERRERS_H
#define CACHE_BUNDLE_REFERRERS_H

#include <stdbool.h>

#include "cache/bundle.h"
#include "cache/check.h"

/* Whether a tag says of itself that it names what refers to another manifest: "sha256-<hex>"
 * and, of cosign, "sha256-<hex>.sig" and the like. */
bool bundle_is_attached(const struct reference *r);
/* False when it was noted before. */
bool bundle_note_reference(struct bundle *b, const struct reference *r);

/* Add what the repository of `r` has that refers to one of the subjects, or to what was
 * added so. */
MUST_CHECK int bundle_add_referrers(struct bundle *b, struct store *s, struct db_txn *txn,
                                    const struct reference *r, const struct bundle_wish *wish);

#endif
