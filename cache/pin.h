/* SPDX-License-Identifier: ISC */
/*
 * Pins: references whose images are to be kept whatever room is wanted. The pin of a tag
 * goes with the tag when it moves; that of a digest stays with the manifest. It may be
 * there before what it names is.
 */
#ifndef CACHE_PIN_H
#define CACHE_PIN_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/reference.h"

/* With the NUL. */
#define PIN_OWNER_MAX 64

struct pin {
    struct reference reference;
    int64_t pinned_at_s;
    char owner[PIN_OWNER_MAX]; /* what keeps it, such as a section of the settings; empty: a person
                                */
};

/* ERR_NOT_FOUND when it is not pinned. */
MUST_CHECK int pin_get(struct db_txn *txn, const struct reference *r, struct pin *p);
/* Whether a pin keeps the image `d` of this reference: one of the reference, or of the digest in
 * the same repository. */
bool pin_covers(struct db_txn *txn, const struct reference *r, const struct digest *d);
/* Replaces a pin of the same reference. */
MUST_CHECK int pin_put(struct db_txn *txn, const struct pin *p);
/* ERR_NOT_FOUND when it was not pinned. */
MUST_CHECK int pin_forget(struct db_txn *txn, const struct reference *r);

/* Visit all in order of their references, but for damaged records; a result other than 0
 * ends the walk and is returned. The table must not be written to during it. */
typedef int pin_visit(void *arg, const struct pin *p);
MUST_CHECK int pin_walk(struct db_txn *txn, pin_visit *visit, void *arg);

#endif
