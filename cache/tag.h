/* SPDX-License-Identifier: ISC */
/*
 * Tags: mutable pointers to manifests, as their upstream last gave them. Those of local
 * repositories, which clients push, are never stale: who reads one asks for no freshness.
 */
#ifndef CACHE_TAG_H
#define CACHE_TAG_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"
#include "cache/link.h"
#include "cache/manifest.h"
#include "cache/name.h"

struct tag_record {
    struct digest digest;
    uint64_t size_bytes;
    char media_type[MEDIA_TYPE_MAX];
    int64_t checked_at_s; /* the upstream last said so, or a client pushed it */
    int64_t changed_at_s; /* it got this digest */
    /* The last digest that was held under this tag, alg 0 when none: served when
     * the tag has moved and the new manifest cannot be had. */
    struct digest previous;
};

MUST_CHECK int tag_get(struct db_txn *txn, const struct name *n, const char *tag,
                       struct tag_record *r);
/* changed_at_s and previous are derived from the record that is there: kept when
 * the digest is the same; else changed_at_s is checked_at_s, and previous is the
 * old digest if its manifest is held, else the old previous. */
MUST_CHECK int tag_put(struct db_txn *txn, const struct name *n, const char *tag,
                       const struct tag_record *r);

/* What the tag shows, and what is served without its upstream: its manifest; or the one
 * before, when only that is held: then true. */
bool tag_shown(struct db_txn *txn, const struct tag_record *r, struct digest *d);

/* ERR_NOT_FOUND when there was none. */
MUST_CHECK int tag_forget(struct db_txn *txn, const struct name *n, const char *tag);

/* The tag may have moved: it is stale from now on. 0 also when there is no such tag. */
MUST_CHECK int tag_expire(struct db_txn *txn, const struct name *n, const char *tag);

/* Freshness lifetime as RFC 9111 section 4.2: checked less than ttl_s ago. A
 * clock that went back makes it stale. */
bool tag_is_fresh(const struct tag_record *r, int64_t now_s, int64_t ttl_s);

/* Read a record of the table. ERR_DAMAGED for what is none. */
MUST_CHECK int tag_read(struct db_value key, struct db_value value, struct name *n,
                        char tag[NAME_TAG_MAX_SIZE], struct tag_record *r);

/* Visit every tag in key order, but for damaged records; `n` and `tag` are valid
 * during the call. */
typedef int tag_visit(void *arg, const struct name *n, const char *tag, const struct tag_record *r);
MUST_CHECK int tag_walk(struct db_txn *txn, tag_visit *visit, void *arg);

/* The same of one repository, in byte order of the tags: those after `after`, which may
 * be any text; NULL or "" for all. */
MUST_CHECK int tag_walk_repository(struct db_txn *txn, const struct name *n, const char *after,
                                   tag_visit *visit, void *arg);

#endif
