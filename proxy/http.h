/* SPDX-License-Identifier: ISC */
/*
 * HTTP/1.1 as a server reads it: message head, chunked coding, Range, entity
 * tags. Pure functions on buffers, no I/O, strict: what is off the grammar of
 * RFC 9112 is refused, and the caller answers 400 and closes.
 */
#ifndef PROXY_HTTP_H
#define PROXY_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"
#include "proxy/span.h"

/* tchar, and what a field value may hold, of RFC 9110 sections 5.6.2 and 5.5. */
bool http_is_token_char(char c);
bool http_is_value_char(char c);

#define HTTP_HEAD_MAX (16u * 1024) /* bytes of a request head */
#define HTTP_TARGET_MAX 8192u      /* bytes of a request target */
#define HTTP_FIELDS_MAX 100u

enum http_method {
    HTTP_GET,
    HTTP_HEAD,
    HTTP_POST,
    HTTP_PUT,
    HTTP_PATCH,
    HTTP_DELETE,
    HTTP_CONNECT,
    HTTP_OPTIONS,
    HTTP_OTHER,
};

/* "GET", ...; "-" for HTTP_OTHER, a token that we do not know. */
const char *http_method_name(enum http_method m);

struct http_head {
    enum http_method method;
    struct span method_text; /* as sent */
    struct span target;      /* origin-form or absolute-form, as sent */
    int minor_version;       /* of HTTP/1.x: 0 or 1 */
    bool keep_alive;         /* RFC 9112 section 9.3 */
    bool chunked;            /* Transfer-Encoding: chunked */
    bool expect_continue;
    int64_t content_length; /* -1: no such field */
    struct span fields;     /* all of them, each line with its end */
    /* Fields that cachalot reads; p is NULL when absent. Of accept, if_none_match,
     * user_agent and cdn_loop the first one, when they come in several. */
    struct span host, range, if_none_match, if_range, accept, authorization, user_agent,
        content_type, content_range, cdn_loop;
};

enum http_result {
    HTTP_DONE,
    HTTP_MORE,            /* not whole yet */
    HTTP_BAD,             /* 400 */
    HTTP_TARGET_TOO_LONG, /* 414 */
    HTTP_HEAD_TOO_LARGE,  /* 431 */
    HTTP_BAD_VERSION,     /* 505 */
};

/* Parse a request head (RFC 9112 sections 2 to 6) at the start of the buffer.
 * HTTP_DONE sets `*used` to its length; the spans point into the buffer. One
 * empty line before the request line is skipped (section 2.2). A verdict other than
 * HTTP_MORE on the start of a head is the verdict on the whole of it.
 * HTTP_BAD for: bare CR or LF, NUL or control bytes, obs-fold, white space before
 * a colon, an empty or non-token field name, no Host in HTTP/1.1, one that is no host,
 * a second Host, Content-Length, Range, If-Range, Authorization, Content-Type or
 * Content-Range, a Content-Length that is not plain digits below 2^63,
 * Transfer-Encoding that is not exactly "chunked" once, together with Content-Length or
 * in HTTP/1.0, Connection that is no list of tokens, Expect other than 100-continue, a
 * target that is not http_is_target or has bytes outside of visible ASCII. */
MUST_CHECK enum http_result http_parse_head(struct http_head *h, const char *buf, size_t len,
                                            size_t *used);

/* Whether the target has a form that is legal for the method, RFC 9112 section 3.2. */
bool http_is_target(enum http_method method, struct span target);
/* uri-host [ ":" port ]: of a name's characters those that hosts have, so neither
 * escapes nor sub-delims nor user information. */
bool http_is_authority(struct span s, bool port_required);
/* What follows scheme and authority of an absolute-form (may be empty or begin with
 * '?'); any other target as it is. */
struct span http_target_origin(struct span target);

/* Chunked transfer coding, RFC 9112 section 7.1. Chunk extensions are refused,
 * trailers are read and dropped (at most 4 KiB of them). */
enum chunked_state {
    CHUNKED_SIZE,
    CHUNKED_SIZE_LF,
    CHUNKED_DATA,
    CHUNKED_DATA_CR,
    CHUNKED_DATA_LF,
    CHUNKED_TRAILER, /* at the start of a line */
    CHUNKED_TRAILER_NAME,
    CHUNKED_TRAILER_VALUE,
    CHUNKED_TRAILER_LF,
    CHUNKED_END_LF,
    CHUNKED_ENDED,
    CHUNKED_BROKEN,
};

struct chunked {
    enum chunked_state state;
    unsigned line_len; /* digits of the size; bytes of all trailers */
    uint64_t left;     /* of the chunk */
};

void chunked_init(struct chunked *c);
/* Decode some of `in`: `*used` bytes were consumed, `*out` is a span of `in` with
 * content (may be empty). HTTP_MORE: call again with what follows; HTTP_DONE: the
 * body has ended. The result does not depend on how the input is cut. */
MUST_CHECK enum http_result chunked_decode(struct chunked *c, const char *in, size_t len,
                                           size_t *used, struct span *out);

/* Range, RFC 9110 section 14.2: one range of bytes or nothing. */
enum range_result {
    RANGE_WHOLE,         /* no range, several, another unit, or off the grammar: 200 */
    RANGE_PART,          /* 206 */
    RANGE_UNSATISFIABLE, /* 416 */
};

struct range {
    uint64_t start;
    uint64_t end; /* one past the last byte */
};

enum range_result http_parse_range(struct span value, uint64_t size, struct range *r);
/* Content-Range of an upload, "FIRST-LAST" (distribution-spec 1.1.1 "Pushing a blob in
 * chunks"); with "bytes " before it and "/..." behind it too, RFC 9110 section 14.4. */
bool http_parse_content_range(struct span value, struct range *r);

/* Whether a list of entity tags (If-None-Match, RFC 9110 section 13.1.2, weak
 * comparison) is "*" or holds the tag; `etag` is with its quotes. */
bool http_etag_matches(struct span list, const char *etag);
/* Strong comparison of one entity tag (If-Range); a date never matches. */
bool http_etag_equal(struct span value, const char *etag);

/* Write an IMF-fixdate (RFC 9110 section 5.6.7), 29 bytes and a NUL. */
#define HTTP_DATE_SIZE 30
void http_date(char out[HTTP_DATE_SIZE], int64_t time_s);

#endif
