/* SPDX-License-Identifier: ISC */
#include "proxy/request_answer.h"

#include <stdio.h>
#include <string.h>

#include "cache/fetch_pass.h"
#include "proxy/request_private.h"

static const char *cache_status(enum outcome o)
{
    switch (o) {
    case OUT_HIT:
        return "cachalot; hit";
    case OUT_MISS:
        return "cachalot; fwd=miss";
    case OUT_COLLAPSED:
        return "cachalot; fwd=miss; collapsed";
    case OUT_REVALIDATED:
        return "cachalot; hit; detail=revalidated";
    case OUT_STALE:
        return "cachalot; hit; detail=stale";
    default:
        return NULL;
    }
}

static void begin_reply(struct request *r, struct reply *reply, int status)
{
    r->status = status;
    reply_begin(reply, status, r->worker->date);
    if (r->has_target && r->target.ns[0])
        reply_field(reply, "OCI-Namespace", r->target.ns);
}

static void send_reply(struct request *r, struct reply *reply, const struct conn_body *body)
{
    reply_end(reply, conn_keeps_alive(r->conn), conn_is_old(r->conn));
    request_enter(r, REQUEST_SENDING);
    conn_send(r->conn, reply->text, reply->len, body);
}

static void send_memory(struct request *r, struct reply *reply, const void *p, size_t len)
{
    struct conn_body body = {.fd = -1};

    reply_length(reply, len);
    if (r->method != HTTP_HEAD) {
        body.memory = p;
        body.memory_len = len;
    }
    send_reply(r, reply, &body);
}

static void add_fields(struct reply *reply, const struct reply_extra *fields)
{
    for (; fields && fields->name; fields++)
        if (fields->value)
            reply_field(reply, fields->name, fields->value);
}

void request_refuse(struct request *r, enum outcome o, const char *detail,
                    const struct reply_extra *fields)
{
    struct reply reply;
    char text[REPLY_ERROR_MAX];
    size_t len = reply_error_body(text, o, detail);

    r->outcome = o;
    begin_reply(r, &reply, outcome_row(o)->status);
    reply_field(&reply, "Content-Type", "application/json");
    add_fields(&reply, fields);
    send_memory(r, &reply, text, len);
}

void request_error(struct request *r, enum outcome o, const char *detail, int retry_after_s)
{
    char seconds[16];
    struct reply_extra fields[] = {
        {"Retry-After", retry_after_s > 0 ? seconds : NULL},
        {"Allow", o == OUT_METHOD || o == OUT_READ_ONLY ? "GET, HEAD" : NULL},
        {NULL, NULL},
    };

    snprintf(seconds, sizeof seconds, "%d", retry_after_s);
    request_refuse(r, o, detail, fields);
}

void request_challenge(struct request *r, enum outcome o, const char *challenge, const char *detail)
{
    struct reply_extra fields[] = {{"WWW-Authenticate", challenge}, {NULL, NULL}};

    request_refuse(r, o, detail, fields);
}

void request_done(struct request *r, enum outcome o, int status, const struct reply_extra *fields)
{
    struct reply reply;
    struct conn_body none = {.fd = -1};

    r->outcome = o;
    begin_reply(r, &reply, status);
    add_fields(&reply, fields);
    /* RFC 9110 section 8.6: 204 has no such field. */
    if (status != 204)
        reply_length(&reply, 0);
    send_reply(r, &reply, &none);
}

void request_established(struct request *r)
{
    static const char head[] = "HTTP/1.1 200 Connection established\r\n\r\n";
    struct conn_body none = {.fd = -1};

    r->outcome = OUT_LOCAL;
    r->status = 200;
    request_enter(r, REQUEST_SENDING);
    conn_send(r->conn, head, strlen(head), &none);
}

void request_text_with(struct request *r, const char *media_type, const void *text, size_t len,
                       const struct reply_extra *fields)
{
    struct reply reply;

    r->outcome = OUT_LOCAL;
    begin_reply(r, &reply, 200);
    reply_field(&reply, "Content-Type", media_type);
    add_fields(&reply, fields);
    send_memory(r, &reply, text, len);
}

void request_text(struct request *r, const char *media_type, const void *text, size_t len)
{
    request_text_with(r, media_type, text, len, NULL);
}

#define ETAG_MAX (DIGEST_TEXT_MAX + 2)

/* The strong validator of content: its digest in quotes. */
static void content_etag(const struct content *c, char out[ETAG_MAX])
{
    size_t len;

    out[0] = '\0';
    if (c->etag) {
        strcpy(out, c->etag);
    } else if (c->digest) {
        out[0] = '"';
        digest_text(c->digest, out + 1);
        len = strlen(out);
        out[len] = '"';
        out[len + 1] = '\0';
    }
}

/* For people who look at their client's log, though RFC 9111 has no Warning any more. */
static void warn_stale(const struct request *r, struct reply *reply)
{
    char text[96] = "299 - \"stale: not confirmed by the upstream\"";
    char date[HTTP_DATE_SIZE];

    if (r->has_tag && r->tag.checked_at_s > 0) {
        http_date(date, r->tag.checked_at_s);
        snprintf(text, sizeof text, "299 - \"stale: not confirmed by the upstream since %s\"",
                 date);
    }
    reply_field(reply, "Warning", text);
}

static void content_fields(struct request *r, struct reply *reply, const struct content *c,
                           char *etag)
{
    const char *status = cache_status(r->outcome);

    if (etag[0]) {
        size_t end = strlen(etag) - 1;

        reply_field(reply, "ETag", etag);
        etag[end] = '\0';
        reply_field(reply, "Docker-Content-Digest", etag + 1);
        etag[end] = '"';
    }
    if (status)
        reply_field(reply, "Cache-Status", status);
    if (r->outcome == OUT_STALE)
        warn_stale(r, reply);
    if (c->has_ranges)
        reply_field(reply, "Accept-Ranges", "bytes");
    /* What was pushed is of the type that its pusher says, and of no other. */
    if (r->local)
        reply_field(reply, "X-Content-Type-Options", "nosniff");
    if (c->link)
        reply_field(reply, "Link", c->link);
    if (c->filters)
        reply_field(reply, "OCI-Filters-Applied", c->filters);
}

static bool is_unmodified(const struct request *r, const char *etag)
{
    struct span list = {r->if_none_match, strlen(r->if_none_match)};

    return etag[0] && list.len > 0 && http_etag_matches(list, etag);
}

/* Which part is asked for: Range counts only for GET, and only when If-Range, if
 * it is there, names this content (RFC 9110 sections 13.1.5 and 14.2). */
static enum range_result wanted_range(const struct request *r, const struct content *c,
                                      const char *etag, struct range *range)
{
    struct span value = {r->range, strlen(r->range)};
    struct span condition = {r->if_range, strlen(r->if_range)};

    if (!c->has_ranges || r->method != HTTP_GET || value.len == 0)
        return RANGE_WHOLE;
    if (condition.len > 0 && !http_etag_equal(condition, etag))
        return RANGE_WHOLE;
    return http_parse_range(value, c->size_bytes, range);
}

static void send_unsatisfiable(struct request *r, const struct content *c)
{
    struct reply reply;
    char text[REPLY_ERROR_MAX];
    char value[48];
    size_t len = reply_error_body(text, OUT_RANGE, NULL);

    r->outcome = OUT_RANGE;
    snprintf(value, sizeof value, "bytes */%llu", (unsigned long long)c->size_bytes);
    begin_reply(r, &reply, 416);
    reply_field(&reply, "Content-Type", "application/json");
    reply_field(&reply, "Content-Range", value);
    send_memory(r, &reply, text, len);
}

static void send_file(struct request *r, struct reply *reply, const struct content *c,
                      struct range range)
{
    struct conn_body body = {.fd = -1};

    reply_length(reply, range.end - range.start);
    if (r->method != HTTP_HEAD && range.end > range.start) {
        uint64_t limit = c->sendable_bytes < range.end ? c->sendable_bytes : range.end;

        body.fd = c->fd;
        body.start = range.start;
        body.end = range.end;
        body.limit = limit > range.start ? limit : range.start;
        r->send_end = range.end;
        r->send_limit = body.limit;
    }
    if (r->fetch && body.fd >= 0) {
        r->is_reader = true;
        fetch_add_reader(r->fetch);
        reader_move(&r->reader, range.start);
        STATS_ADD(r->worker->parts.stats, readers, 1);
    }
    send_reply(r, reply, &body);
}

void request_content(struct request *r, enum outcome o, const struct content *c)
{
    struct reply reply;
    struct range range = {0, c->size_bytes};
    char etag[ETAG_MAX];

    r->outcome = o;
    content_etag(c, etag);
    if (is_unmodified(r, etag)) {
        struct conn_body none = {.fd = -1};

        begin_reply(r, &reply, 304);
        content_fields(r, &reply, c, etag);
        send_reply(r, &reply, &none);
        return;
    }
    enum range_result part = wanted_range(r, c, etag, &range);
    if (part == RANGE_UNSATISFIABLE) {
        send_unsatisfiable(r, c);
        return;
    }
    begin_reply(r, &reply, part == RANGE_PART ? 206 : 200);
    content_fields(r, &reply, c, etag);
    reply_field(&reply, "Content-Type", c->media_type);
    if (part == RANGE_PART) {
        char value[80];

        snprintf(value, sizeof value, "bytes %llu-%llu/%llu", (unsigned long long)range.start,
                 (unsigned long long)range.end - 1, (unsigned long long)c->size_bytes);
        reply_field(&reply, "Content-Range", value);
    }
    if (c->memory)
        send_memory(r, &reply, (const char *)c->memory + range.start,
                    (size_t)(range.end - range.start));
    else
        send_file(r, &reply, c, range);
}

void request_held(struct request *r, enum outcome o, const char *media_type, const struct digest *d,
                  bool has_ranges)
{
    struct content c = {
        .media_type = media_type,
        .digest = d,
        .etag = r->held->etag,
        .size_bytes = r->held->size_bytes,
        .memory = r->held->body,
        .fd = r->held->fd,
        .sendable_bytes = r->held->size_bytes,
        .has_ranges = has_ranges,
    };

    request_content(r, o, &c);
}
