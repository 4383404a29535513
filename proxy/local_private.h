/* SPDX-License-Identifier: ISC */
/*
 * Local repositories, between local.c (which operation, whether the client may), local_read.c
 * and local_list.c (what is pulled), local_upload.c (blobs that are pushed), local_manifest.c
 * (manifests that are), local_delete.c and local_job.c (what the storage thread does for them).
 */
#ifndef PROXY_LOCAL_PRIVATE_H
#define PROXY_LOCAL_PRIVATE_H

#include "cache/db.h"
#include "cache/manifest.h"
#include "proxy/request_login.h"
#include "proxy/request_private.h"
#include "proxy/route.h"
#include "proxy/upload.h"

struct local_job;

/* What a request keeps beside struct request. */
struct local {
    const struct local_operation *operation;
    /* Of the head. */
    struct push_parameters push;
    char content_type[MEDIA_TYPE_MAX]; /* without parameters; empty when there is none */
    bool has_range;                    /* Content-Range came, and `range` says it */
    struct range range;
    int64_t content_length; /* -1: it is chunked */
    /* What is waited for. */
    struct upload *upload;
    void (*then)(struct request *r, int err); /* of the upload */
    bool awaits;                              /* `then` is still to come */
    bool has_ended;                           /* the upload's session */
    int failure;                              /* of the upload, to be answered */
    struct local_job *job;
    /* The body. */
    uint64_t body_bytes; /* received */
    char *body;          /* of a manifest */
    size_t body_size;    /* what there is room for */
    size_t body_claim;   /* counted in stats->manifest_bytes */
    bool is_crowded;     /* there was no room: the rest is dropped */
};

/* One row an operation: distribution-spec 1.1.1 "Endpoints". */
struct local_operation {
    enum endpoint endpoint;
    enum http_method method;
    /* That it takes. 0: of an upload, its id, which is secret, says that the client was let
     * begin it, even when a token has expired since; the catalog has what the client may pull. */
    enum right right;
    void (*begin)(struct request *r);
    bool (*body)(struct request *r, const char *p, size_t len);
    void (*body_end)(struct request *r);
};

/* --- local_job.c --- */

/* A storage job on behalf of a request. It is done whether or not the request lives on. */
struct local_job {
    struct storage_job job;
    struct msg answer;
    struct worker *worker;
    struct request *request; /* NULL: it has ended */
    void (*done)(struct request *r, struct local_job *j, int err);
    int err;
    struct name name;
    struct digest digest;
    /* local_manifest.c */
    struct manifest *manifest;
    char media_type[MEDIA_TYPE_MAX];
    char *body;
    size_t body_len;
    size_t body_claim; /* as in struct local */
    struct push_parameters push;
    char tag[NAME_TAG_MAX_SIZE]; /* or empty */
    bool is_written;             /* its file */
    enum outcome refusal;        /* 0 (OUT_HIT): none */
    char why[REPLY_ERROR_MAX / 2];
    /* A mount: where it may be taken from. */
    struct name *from;
    unsigned from_count;
    bool is_manifest; /* what is deleted */
    bool is_absent;   /* what was to be mounted or deleted */
};

/* `done` is called in the worker's thread, unless the request has ended; then the job and
 * all that it holds are freed. */
struct local_job *local_job_new(struct request *r);
void local_job_post(struct local_job *j, void (*done)(struct request *, struct local_job *, int));
void local_job_abandon(struct local_job *j);
/* Of one that is not posted. */
void local_job_free(struct local_job *j);

/* Whether a blob that is recorded is there: a record alone is not trusted. */
bool local_has_file(const struct local_job *j, struct db_txn *txn, const struct digest *d);

/* The error row of a failed write, answered. */
void local_send_failure(struct request *r, int err);

/* --- operations --- */

void local_get_manifest(struct request *r);
void local_get_blob(struct request *r);
void local_get_tags(struct request *r);
void local_get_referrers(struct request *r);
void local_get_catalog(struct request *r);

void local_post_upload(struct request *r);
void local_get_upload(struct request *r);
void local_patch_upload(struct request *r);
void local_put_upload(struct request *r);
void local_delete_upload(struct request *r);
bool local_upload_body(struct request *r, const char *p, size_t len);
void local_upload_body_end(struct request *r);
void local_upload_end(struct request *r);

void local_receive_manifest(struct request *r);
bool local_manifest_body(struct request *r, const char *p, size_t len);
void local_manifest_body_end(struct request *r);

void local_remove_manifest(struct request *r);
void local_remove_blob(struct request *r);

#endif
