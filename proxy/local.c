/* SPDX-License-Identifier: ISC */
#include "proxy/local_private.h"

#include <stdlib.h>
#include <string.h>

#include "proxy/http.h"

static const struct local_operation operations[] = {
    {ENDPOINT_MANIFEST, HTTP_GET, RIGHT_PULL, local_get_manifest, NULL, NULL},
    {ENDPOINT_MANIFEST, HTTP_HEAD, RIGHT_PULL, local_get_manifest, NULL, NULL},
    {ENDPOINT_MANIFEST, HTTP_PUT, RIGHT_PUSH, local_receive_manifest, local_manifest_body,
     local_manifest_body_end},
    {ENDPOINT_MANIFEST, HTTP_DELETE, RIGHT_DELETE, local_remove_manifest, NULL, NULL},
    {ENDPOINT_BLOB, HTTP_GET, RIGHT_PULL, local_get_blob, NULL, NULL},
    {ENDPOINT_BLOB, HTTP_HEAD, RIGHT_PULL, local_get_blob, NULL, NULL},
    {ENDPOINT_BLOB, HTTP_DELETE, RIGHT_DELETE, local_remove_blob, NULL, NULL},
    {ENDPOINT_TAGS, HTTP_GET, RIGHT_PULL, local_get_tags, NULL, NULL},
    {ENDPOINT_TAGS, HTTP_HEAD, RIGHT_PULL, local_get_tags, NULL, NULL},
    {ENDPOINT_REFERRERS, HTTP_GET, RIGHT_PULL, local_get_referrers, NULL, NULL},
    {ENDPOINT_REFERRERS, HTTP_HEAD, RIGHT_PULL, local_get_referrers, NULL, NULL},
    {ENDPOINT_CATALOG, HTTP_GET, 0, local_get_catalog, NULL, NULL},
    {ENDPOINT_CATALOG, HTTP_HEAD, 0, local_get_catalog, NULL, NULL},
    {ENDPOINT_UPLOADS, HTTP_POST, RIGHT_PUSH, local_post_upload, local_upload_body,
     local_upload_body_end},
    {ENDPOINT_UPLOAD, HTTP_GET, 0, local_get_upload, NULL, NULL},
    {ENDPOINT_UPLOAD, HTTP_PATCH, 0, local_patch_upload, local_upload_body, local_upload_body_end},
    {ENDPOINT_UPLOAD, HTTP_PUT, 0, local_put_upload, local_upload_body, local_upload_body_end},
    {ENDPOINT_UPLOAD, HTTP_DELETE, 0, local_delete_upload, NULL, NULL},
};

#define OPERATION_COUNT (sizeof operations / sizeof operations[0])

static const struct local_operation *find_operation(enum endpoint e, enum http_method m)
{
    for (size_t i = 0; i < OPERATION_COUNT; i++)
        if (operations[i].endpoint == e && operations[i].method == m)
            return &operations[i];
    return NULL;
}

static void refuse_method(struct request *r)
{
    char allow[64] = "";
    struct reply_extra fields[] = {{"Allow", allow}, {NULL, NULL}};

    for (size_t i = 0; i < OPERATION_COUNT; i++) {
        if (operations[i].endpoint != r->target.endpoint)
            continue;
        strcat(allow, allow[0] ? ", " : "");
        strcat(allow, http_method_name(operations[i].method));
    }
    conn_forbid_keep_alive(r->conn);
    request_refuse(r, OUT_METHOD, NULL, fields);
}

/* --- the head --- */

#define TEXT_TYPE "the Content-Type of a manifest cannot be text"

static void keep_content_type(struct local *l, struct span value)
{
    if (!value.p)
        return;
    struct span type = span_cut(&value, ';');

    while (type.len > 0 && (type.p[type.len - 1] == ' ' || type.p[type.len - 1] == '\t'))
        type.len--;
    if (type.len == 0 || type.len >= sizeof l->content_type)
        return;
    memcpy(l->content_type, type.p, type.len);
    l->content_type[type.len] = '\0';
}

/* A manifest is served as what it was pushed as, and to browsers too: as what they would show
 * it is not taken. Whether it is a media type at all is seen when it is read. */
static bool is_text(const char *type)
{
    return strncasecmp(type, "text/", 5) == 0;
}

static bool keep_content_range(struct local *l, struct span value)
{
    l->has_range = value.p != NULL;
    if (!l->has_range)
        return true;
    return http_parse_content_range(value, &l->range) &&
           (l->content_length < 0 || (uint64_t)l->content_length == l->range.end - l->range.start);
}

static enum outcome keep_head(struct request *r, const struct http_head *h)
{
    struct local *l = r->local;
    enum endpoint e = r->target.endpoint;
    bool is_upload = e == ENDPOINT_UPLOADS || e == ENDPOINT_UPLOAD;

    keep_content_type(l, h->content_type);
    l->content_length = h->chunked ? -1 : h->content_length < 0 ? 0 : h->content_length;
    if (is_upload && !keep_content_range(l, h->content_range))
        return OUT_UPLOAD_INVALID;
    if (e == ENDPOINT_MANIFEST && h->method == HTTP_PUT && is_text(l->content_type))
        return OUT_MANIFEST_INVALID;
    return is_upload || h->method == HTTP_PUT ? route_parse_push(&l->push, h->target) : OUT_LOCAL;
}

/* --- life --- */

static void begin_operation(struct request *r)
{
    r->local->operation->begin(r);
}

void local_begin(struct request *r, const struct http_head *h)
{
    const struct local_operation *o = find_operation(r->target.endpoint, r->method);

    if (!o) {
        refuse_method(r);
        return;
    }
    r->local = mem_new(sizeof *r->local);
    r->local->operation = o;
    enum outcome why = keep_head(r, h);
    if (why != OUT_LOCAL)
        request_error(r, why, why == OUT_MANIFEST_INVALID ? TEXT_TYPE : NULL, 0);
    else if (o->endpoint == ENDPOINT_UPLOAD)
        begin_operation(r);
    else
        request_login(r, o->right, begin_operation);
}

bool local_body(struct request *r, const char *p, size_t len)
{
    r->local->body_bytes += len;
    return r->local->operation->body(r, p, len);
}

void local_body_end(struct request *r, enum outcome why)
{
    if (why != OUT_LOCAL)
        request_error(r, why, "the body is not of the coding that it claims", 0);
    else
        r->local->operation->body_end(r);
}

void local_end(struct request *r)
{
    struct local *l = r->local;

    if (!l)
        return;
    local_upload_end(r);
    if (l->job)
        local_job_abandon(l->job);
    STATS_SUB(r->worker->parts.stats, manifest_bytes, l->body_claim);
    free(l->body);
    free(l);
    r->local = NULL;
}
