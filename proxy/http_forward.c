/* SPDX-License-Identifier: ISC */
/* A request head on its way to an origin server, RFC 9110 section 7.6. */
#include "proxy/http_forward.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Of this connection, or written anew. What frames the body stays as it is. */
static const char *const own_fields[] = {
    "connection",         "keep-alive", "proxy-connection", "proxy-authorization",
    "proxy-authenticate", "te",         "upgrade",          "host",
    "cdn-loop",
};

struct out {
    char *p;
    size_t size, len;
    bool is_full;
};

static void put(struct out *o, const char *p, size_t len)
{
    if (o->is_full || len > o->size - o->len) {
        o->is_full = true;
        return;
    }
    if (len > 0)
        memcpy(o->p + o->len, p, len);
    o->len += len;
}

static void put_text(struct out *o, const char *text)
{
    put(o, text, strlen(text));
}

static struct span trim(struct span s)
{
    while (s.len > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
        s = span_from(s, 1);
    while (s.len > 0 && strchr(" \t\r\n", s.p[s.len - 1]))
        s.len--;
    return s;
}

/* The next line with its end, and the name of its field; false at the empty line. */
static bool next_field(struct span *rest, struct span *line, struct span *name)
{
    const char *end = memchr(rest->p, '\n', rest->len);

    if (!end)
        return false;
    *line = (struct span){rest->p, (size_t)(end + 1 - rest->p)};
    *rest = span_from(*rest, line->len);
    const char *colon = memchr(line->p, ':', line->len);
    if (!colon)
        return false;
    *name = (struct span){line->p, (size_t)(colon - line->p)};
    return true;
}

static bool same(struct span a, struct span b)
{
    return a.len == b.len && strncasecmp(a.p, b.p, a.len) == 0;
}

/* Whether a Connection field names it. */
static bool is_named(struct span fields, struct span wanted)
{
    struct span line, name;

    while (next_field(&fields, &line, &name)) {
        if (!span_equal_fold(name, "connection"))
            continue;
        struct span list = trim(span_from(line, name.len + 1));
        while (list.p) {
            if (same(trim(span_cut(&list, ',')), wanted))
                return true;
        }
    }
    return false;
}

/* Without what frames the body it would be another request. */
static bool frames_body(struct span name)
{
    return span_equal_fold(name, "content-length") || span_equal_fold(name, "transfer-encoding");
}

static bool is_own(struct span fields, struct span name)
{
    for (size_t i = 0; i < sizeof own_fields / sizeof own_fields[0]; i++) {
        if (span_equal_fold(name, own_fields[i]))
            return true;
    }
    return !frames_body(name) && is_named(fields, name);
}

static void put_fields(struct out *o, struct span fields)
{
    struct span rest = fields, line, name;

    while (next_field(&rest, &line, &name)) {
        if (!is_own(fields, name))
            put(o, line.p, line.len);
    }
}

size_t http_forward_head(const struct http_head *h, const char *host, const char *prefix,
                         const char *loop, char *out, size_t size)
{
    struct out o = {.p = out, .size = size};
    struct span target = http_target_origin(h->target);

    put(&o, h->method_text.p, h->method_text.len);
    put_text(&o, " ");
    if (!span_equal(target, "*"))
        put_text(&o, prefix);
    if (target.len == 0 || target.p[0] == '?')
        put_text(&o, "/");
    put(&o, target.p, target.len);
    /* A client of HTTP/1.0 knows no chunks, RFC 9112 section 6.1. */
    put_text(&o, h->minor_version == 0 ? " HTTP/1.0\r\nHost: " : " HTTP/1.1\r\nHost: ");
    put_text(&o, host);
    put_text(&o, "\r\n");
    put_fields(&o, h->fields);
    put_text(&o, "CDN-Loop: ");
    if (h->cdn_loop.p) {
        put(&o, h->cdn_loop.p, h->cdn_loop.len);
        put_text(&o, ", ");
    }
    put_text(&o, loop);
    put_text(&o, "\r\nConnection: close\r\n\r\n");
    return o.is_full ? 0 : o.len;
}
