/* SPDX-License-Identifier: ISC */
/*
 * The records of referrers: what the index keeps of a manifest that names another one
 * as its subject, so that its descriptor can be listed (cache/referrer.h) without
 * reading it.
 */
#ifndef CACHE_MANIFEST_REFERRER_H
#define CACHE_MANIFEST_REFERRER_H

#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"
#include "cache/manifest.h"
#include "cache/name.h"

/* Record that the manifest `d` of repository `n` refers to its subject, which it must
 * have: its descriptor, with artifactType and annotations. Called by manifest_put. */
MUST_CHECK int referrer_put(struct db_txn *txn, const struct name *n, const struct digest *d,
                            const struct manifest *m, uint64_t size_bytes);
/* ERR_NOT_FOUND when there was none. */
MUST_CHECK int referrer_forget(struct db_txn *txn, const struct name *n,
                               const struct digest *subject, const struct digest *d);

/* --- for who lists them --- */

/* Valid until the transaction ends. */
struct referrer_record {
    uint64_t size_bytes;
    const char *media_type;
    const char *artifact_type; /* or "" */
    const char *annotations;   /* JSON without a NUL at its end; length 0: none */
    size_t annotations_len;
};

/* Keys are the name, a NUL, the subject's key form: this writes, and returns its length;
 * then the referrer's key form. */
#define REFERRER_KEY_MAX (NAME_MAX_SIZE + 2 * DIGEST_KEY_MAX)
size_t referrer_key(const struct name *n, const struct digest *subject,
                    uint8_t out[REFERRER_KEY_MAX]);
MUST_CHECK int referrer_read(struct db_value value, struct referrer_record *r);

/* The artifact type as it is kept: "" when there is none or it is absurdly long. */
const char *referrer_type(const char *artifact_type);

#endif
