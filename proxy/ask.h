/* SPDX-License-Identifier: ISC */
/*
 * Small questions to an upstream, collapsed: one request however many wait.
 *
 *   ask_join (worker) -> upstream_ask -> ... -> ask_finish -> wake -> ask_result
 *
 * An ask is reference-counted. It is in the table from the first ask_join until
 * ask_finish; later questions start anew. The result is written once, before
 * ask_finish, and is immutable after it.
 */
#ifndef PROXY_ASK_H
#define PROXY_ASK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "cache/digest.h"
#include "cache/manifest.h"
#include "cache/name.h"
#include "proxy/behalf.h"
#include "proxy/outcome.h"

enum ask_kind {
    ASK_TAG,      /* what does the tag point to: HEAD, GET when HEAD is no use. The tag record is
                     written before the end; so is the manifest when a GET brought it */
    ASK_MANIFEST, /* a manifest by digest: GET, verified, stored if it can be, body in the result */
    ASK_EXISTS,   /* is there such a blob or manifest, how large: HEAD; kept is only who may read */
    ASK_LIST,     /* tags or referrers: GET; the answer is kept in the lists */
    ASK_PING,     /* what does the registry say to nobody: GET /v2/; OUT_UNAUTHORIZED with its
                     challenge is an answer. Repository and reference are empty */
};

#define ASK_REFERENCE_MAX 768
#define ASK_CHALLENGE_MAX 512
#define ASK_LIST_MAX (8u * 1024 * 1024) /* bytes of a list's body */

struct ask_result {
    enum outcome outcome;              /* OUT_MISS: answered; else an error row */
    int retry_after_s;                 /* of a 429 or 503; 0 when not said */
    char why[256];                     /* of an error: names host and cause */
    char challenge[ASK_CHALLENGE_MAX]; /* WWW-Authenticate of a 401, to pass on; or empty */
    struct digest digest;              /* ASK_TAG, ASK_MANIFEST */
    uint64_t size_bytes;
    char media_type[MEDIA_TYPE_MAX];
    char filters[64]; /* ASK_LIST: OCI-Filters-Applied, or empty */
    char *link;       /* ASK_LIST: the Link field or NULL; owned by the ask */
    void *body;       /* owned by the ask; NULL when there is none */
    size_t body_len;
};

struct ask;
struct ask_table;

/* One who waits: embedded in the request that waits. As `struct reader`: wake is
 * called once, by another thread, and must do no more than post a message. */
struct asker {
    struct ask *ask;
    void (*wake)(struct asker *a);
    LIST_ENTRY(asker) link;
};

struct ask_table *ask_table_new(void);
/* Every ask must have been finished. */
void ask_table_free(struct ask_table **t);

/* Join the ask of this kind about `reference` in `n`, or create it: `*created`
 * says that the caller must hand it to upstream_ask. `reference` is a tag, a
 * digest as text, or for ASK_EXISTS "blobs/<digest>" or "manifests/<digest>", for
 * ASK_LIST "tags/list?n=..." or "referrers/<digest>?...": what follows the name in
 * the path. Questions with different credentials of clients are never one ask;
 * `b` is copied. The caller owns one reference. */
struct ask *ask_join(struct ask_table *t, enum ask_kind kind, const struct name *n,
                     const char *reference, const struct behalf *b, bool *created);
struct ask *ask_ref(struct ask *a);
void ask_unref(struct ask **a);

enum ask_kind ask_kind(const struct ask *a);
const struct name *ask_name(const struct ask *a);
const char *ask_reference(const struct ask *a);
const struct behalf *ask_behalf(const struct ask *a);

/* Wait for the end; false, and no wait, when it has come already. */
bool ask_wait(struct asker *w, struct ask *a);
/* Stop waiting; after the return `wake` is not called. Legal when not waiting. */
void ask_cancel(struct asker *w);

/* To be written by who answers, before ask_finish. */
struct ask_result *ask_answer(struct ask *a);
/* Set an error: the outcome row and a formatted reason. */
void ask_fail(struct ask *a, enum outcome o, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Take it out of the table and wake all who wait. */
void ask_finish(struct ask_table *t, struct ask *a);

/* Legal once ask_wait said false or wake was called. */
const struct ask_result *ask_result(const struct ask *a);

#endif
