/* SPDX-License-Identifier: ISC */
/*
 * What a worker has at hand: open files of blobs, and the bodies of small
 * manifests, by digest. Belongs to one worker; nothing here is locked.
 *
 * A file is checked again each time it is taken (size and link count), so that a
 * blob which was truncated or removed behind our back is a miss, never a short
 * answer. A body in memory was checked against its digest when it was read.
 */
#ifndef PROXY_SHELF_H
#define PROXY_SHELF_H

#include <netinet/in.h>
#include <stdint.h>

#include "cache/blob.h"
#include "cache/check.h"
#include "cache/digest.h"
#include "cache/store.h"

/* Manifests up to this size are kept in memory. */
#define SHELF_BODY_MAX (64u * 1024)

struct shelf;

/* Immutable while it is held. */
struct held {
    int fd;           /* -1 when the body is in memory */
    const void *body; /* NULL when it is in the file */
    uint64_t size_bytes;
    enum blob_origin origin; /* of the record, when the copy was taken */
    int64_t used_at_s;       /* likewise, or of shelf_used */
    struct in6_addr used_by; /* of shelf_used; in6addr_any: nobody yet */
    struct digest digest;
    char etag[DIGEST_TEXT_MAX + 2]; /* the digest in quotes */
};

/* Keep at most `files` open files (bodies in memory have a limit of their own). */
struct shelf *shelf_new(struct store *s, unsigned files);
/* Nothing may be held. */
void shelf_free(struct shelf **sh);

/* Take the body of a manifest that is on the shelf, or NULL. The index need not be
 * asked for the blob when it knows the manifest. */
const struct held *shelf_take_body(struct shelf *sh, const struct digest *d);

/* Take a blob that the index says is there, with this record. `in_memory` asks for
 * the body of a small manifest. ERR_MISMATCH when the file is not what the index
 * says, or a manifest does not match its digest. */
MUST_CHECK int shelf_take(struct shelf *sh, const struct digest *d,
                          const struct blob_record *record, bool in_memory,
                          const struct held **held);
/* It is evicted: those who hold it keep it, nobody else takes it. */
void shelf_forget(struct shelf *sh, const struct digest *d);
/* Remember the last use that was noted. */
void shelf_used(const struct held *held, const struct in6_addr *client, int64_t used_at_s);
/* Give it back and leave NULL; NULL is legal. */
void shelf_return(const struct held **held);

#endif
