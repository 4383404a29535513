/* SPDX-License-Identifier: ISC */
/*
 * What is known of a repository beside its tags: the content that it was seen to
 * have, or that clients deleted from it (links), where content can be fetched again
 * (sources), and the answers of its upstream that are kept for when it is down
 * (lists).
 */
#ifndef CACHE_LINK_H
#define CACHE_LINK_H

#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"
#include "cache/name.h"

enum link_state {
    LINK_NONE,    /* nothing is known */
    LINK_HAS,     /* the repository was seen to have it */
    LINK_DELETED, /* a client deleted it there, and nobody pushed it since */
};

/* Links: repository `n` was seen to have this content, or got it by a push or a mount. */
MUST_CHECK int link_put(struct db_txn *txn, const struct name *n, const struct digest *d,
                        int64_t now_s);
/* The same of a manifest, with the media type that the repository gave it; link_put leaves
 * that as it is. The bytes alone do not say it, and repositories may disagree. */
MUST_CHECK int link_put_manifest(struct db_txn *txn, const struct name *n, const struct digest *d,
                                 const char *media_type, int64_t now_s);
/* ERR_NOT_FOUND when there is no link, or it says no type. `media_type` is in the map: valid
 * until the next write or the end of the transaction. */
MUST_CHECK int link_get_media_type(struct db_txn *txn, const struct name *n, const struct digest *d,
                                   const char **media_type);
/* A client deleted it there; a later link_put takes that back. */
MUST_CHECK int link_delete(struct db_txn *txn, const struct name *n, const struct digest *d,
                           int64_t now_s);
/* Forget that it has it, as when the content is not held any more; what a client deleted
 * stays deleted. 0 also when there was no link. */
MUST_CHECK int link_forget(struct db_txn *txn, const struct name *n, const struct digest *d);
/* 0 when it has it, ERR_NOT_FOUND when not. */
MUST_CHECK int link_get(struct db_txn *txn, const struct name *n, const struct digest *d);
MUST_CHECK int link_get_state(struct db_txn *txn, const struct name *n, const struct digest *d,
                              enum link_state *state);

/* Visit all that the repository has, but for damaged records; a result other than 0 ends
 * the walk and is returned. */
typedef int link_visit(void *arg, const struct digest *d, int64_t seen_at_s);
MUST_CHECK int link_walk(struct db_txn *txn, const struct name *n, link_visit *visit, void *arg);

/* Visit the local repositories that have this content, in byte order; a result other than
 * 0 ends the walk and is returned. */
typedef int holder_visit(void *arg, const struct name *n);
MUST_CHECK int link_walk_holders(struct db_txn *txn, const struct digest *d, holder_visit *visit,
                                 void *arg);

/* Visit all repositories that were seen to have this content, in byte order; a result other
 * than 0 ends the walk and is returned. Every link there is is looked at. */
MUST_CHECK int link_search(struct db_txn *txn, const struct digest *d, holder_visit *visit,
                           void *arg);

/* Sources: a manifest of repository `n` names this content, with this size. */
MUST_CHECK int source_put(struct db_txn *txn, const struct digest *d, const struct name *n,
                          uint64_t size_bytes);
MUST_CHECK int source_get(struct db_txn *txn, const struct digest *d, const struct name *n,
                          uint64_t *size_bytes);
/* ERR_NOT_FOUND when there was none. */
MUST_CHECK int source_forget(struct db_txn *txn, const struct digest *d, const struct name *n);
/* Visit the repositories whose manifests name it, local ones too, in byte order; a result
 * other than 0 ends the walk and is returned. */
MUST_CHECK int source_walk(struct db_txn *txn, const struct digest *d, holder_visit *visit,
                           void *arg);

#define LIST_BODY_MAX (16u * 1024 * 1024)
/* Of one repository: clients choose the queries. */
#define LISTS_MAX 64

/* Lists: an answer of the upstream, kept whole. The query is what was asked,
 * e.g. "tags?n=10&last=x" or "referrers/sha256:..."; queries too long to be a key
 * and bodies above LIST_BODY_MAX are ERR_TOO_LARGE and are not kept; nor is a new
 * query of a repository that has LISTS_MAX of them. */
struct list_record {
    int64_t fetched_at_s;
    const char *content_type; /* in the map: valid until the transaction ends */
    const char *link;         /* the Link field, or "" */
    const void *body;
    size_t body_len;
};

MUST_CHECK int list_get(struct db_txn *txn, const struct name *n, const char *query,
                        struct list_record *r);
MUST_CHECK int list_put(struct db_txn *txn, const struct name *n, const char *query,
                        const struct list_record *r);

#endif
