/* SPDX-License-Identifier: ISC */
/* What requests are answered with: texts, errors, content and parts of it. Each call is the
 * last thing that its caller does with the request. */
#ifndef PROXY_REQUEST_ANSWER_H
#define PROXY_REQUEST_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/digest.h"
#include "proxy/outcome.h"

struct request;

/* A field beside the usual ones; a list of them ends with a NULL name, and those without a
 * value are left out. */
struct reply_extra {
    const char *name;
    const char *value;
};

/* An error row, with what is wrong in this case (may be NULL). */
void request_refuse(struct request *r, enum outcome o, const char *detail,
                    const struct reply_extra *fields);
void request_error(struct request *r, enum outcome o, const char *detail, int retry_after_s);
/* A 401 row with a challenge for the client to answer, perhaps the upstream's own. */
void request_challenge(struct request *r, enum outcome o, const char *challenge,
                       const char *detail);
/* Something was done, and there is no body. */
void request_done(struct request *r, enum outcome o, int status, const struct reply_extra *fields);
/* The answer to a CONNECT. */
void request_established(struct request *r);
/* A text of our own; with more fields. */
void request_text(struct request *r, const char *media_type, const void *text, size_t len);
void request_text_with(struct request *r, const char *media_type, const void *text, size_t len,
                       const struct reply_extra *fields);

/* Content: a manifest or a list in memory, or a blob in a file. */
struct content {
    const char *media_type;
    const struct digest *digest; /* NULL for lists */
    const char *etag;            /* the digest in quotes if it is at hand, or NULL */
    const char *link;            /* Link field, or NULL */
    const char *filters;         /* OCI-Filters-Applied, or NULL */
    uint64_t size_bytes;
    const void *memory;      /* either this or fd; neither for an answer to HEAD */
    int fd;                  /* -1: none */
    uint64_t sendable_bytes; /* of the file, now */
    bool has_ranges;
};
void request_content(struct request *r, enum outcome o, const struct content *c);
/* What r->held is. */
void request_held(struct request *r, enum outcome o, const char *media_type, const struct digest *d,
                  bool has_ranges);

#endif
