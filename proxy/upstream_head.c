/* SPDX-License-Identifier: ISC */
/* The fields of a response that cachalot reads. Each value has its limit. */
#include "proxy/upstream_transfer.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>

#include "proxy/challenge.h"
#include "proxy/http.h"

#define RETRY_AFTER_MAX_S (24 * 3600)

void head_init(struct head *h)
{
    *h = (struct head){
        .content_length = -1,
        .ratelimit_limit = -1,
        .ratelimit_remaining = -1,
        .ratelimit_window_s = -1,
    };
}

void head_clear(struct head *h)
{
    free(h->location);
    free(h->link);
    free(h->challenges);
    head_init(h);
}

static struct span trim(struct span s)
{
    while (s.len > 0 && (s.p[0] == ' ' || s.p[0] == '\t')) {
        s.p++;
        s.len--;
    }
    while (s.len > 0 && strchr(" \t\r\n", s.p[s.len - 1]))
        s.len--;
    return s;
}

/* Plain digits at the front of `s`, which moves on past them. */
static bool take_number(struct span *s, uint64_t *value)
{
    size_t n = 0;

    for (*value = 0; n < s->len && s->p[n] >= '0' && s->p[n] <= '9'; n++) {
        uint64_t digit = (uint64_t)(s->p[n] - '0');
        if (*value > ((uint64_t)INT64_MAX - digit) / 10)
            return false;
        *value = *value * 10 + digit;
    }
    s->p += n;
    s->len -= n;
    return n > 0;
}

static bool take_char(struct span *s, char c)
{
    if (s->len == 0 || s->p[0] != c)
        return false;
    s->p++;
    s->len--;
    return true;
}

static void content_length(struct head *h, struct span v, int64_t now_s)
{
    uint64_t n;

    (void)now_s;
    if (!take_number(&v, &n) || v.len > 0 ||
        (h->content_length >= 0 && (uint64_t)h->content_length != n))
        h->bad = true;
    else
        h->content_length = (int64_t)n;
}

/* "bytes first-last/total", RFC 9110 section 14.4. A total that is not known is
 * of no use here. */
static void content_range(struct head *h, struct span v, int64_t now_s)
{
    struct content_range *r = &h->range;

    (void)now_s;
    if (v.len < 6 || strncasecmp(v.p, "bytes ", 6) != 0)
        return;
    v = trim((struct span){v.p + 6, v.len - 6});
    r->given = take_number(&v, &r->first) && take_char(&v, '-') && take_number(&v, &r->last) &&
               take_char(&v, '/') && take_number(&v, &r->total) && v.len == 0;
}

static void transfer_encoding(struct head *h, struct span v, int64_t now_s)
{
    (void)v;
    (void)now_s;
    h->chunked = true;
}

/* Seconds or a date, RFC 9110 section 10.2.3. */
static void retry_after(struct head *h, struct span v, int64_t now_s)
{
    char text[64];
    uint64_t n;

    if (v.len >= sizeof text)
        return;
    memcpy(text, v.p, v.len);
    text[v.len] = '\0';
    if (take_number(&v, &n) && v.len == 0)
        h->retry_after_s = n > RETRY_AFTER_MAX_S ? RETRY_AFTER_MAX_S : (int64_t)n;
    else
        h->retry_after_s = (int64_t)curl_getdate(text, NULL) - now_s;
    if (h->retry_after_s < 0)
        h->retry_after_s = 0;
    if (h->retry_after_s > RETRY_AFTER_MAX_S)
        h->retry_after_s = RETRY_AFTER_MAX_S;
}

/* "100;w=21600": a number of requests and a window in seconds, which may be missing. */
static int64_t limit_number(struct span v, int64_t *window_s)
{
    uint64_t n, window;

    if (!take_number(&v, &n) || (v.len > 0 && v.p[0] != ';'))
        return -1;
    if (take_char(&v, ';') && take_char(&v, 'w') && take_char(&v, '=') && take_number(&v, &window))
        *window_s = (int64_t)window;
    return (int64_t)n;
}

static void ratelimit_limit(struct head *h, struct span v, int64_t now_s)
{
    (void)now_s;
    h->ratelimit_limit = limit_number(v, &h->ratelimit_window_s);
}

static void ratelimit_remaining(struct head *h, struct span v, int64_t now_s)
{
    (void)now_s;
    h->ratelimit_remaining = limit_number(v, &h->ratelimit_window_s);
}

static void copy(char *out, size_t size, struct span v)
{
    size_t len = v.len < size ? v.len : 0;

    memcpy(out, v.p, len);
    out[len] = '\0';
}

static void content_type(struct head *h, struct span v, int64_t now_s)
{
    const char *end = memchr(v.p, ';', v.len);

    (void)now_s;
    if (end)
        v = trim((struct span){v.p, (size_t)(end - v.p)});
    copy(h->content_type, sizeof h->content_type, v);
}

static void accept_ranges(struct head *h, struct span v, int64_t now_s)
{
    (void)now_s;
    h->accepts_ranges = span_equal_fold(v, "bytes");
}

static void docker_content_digest(struct head *h, struct span v, int64_t now_s)
{
    (void)now_s;
    copy(h->digest, sizeof h->digest, v);
}

static void docker_ratelimit_source(struct head *h, struct span v, int64_t now_s)
{
    (void)now_s;
    copy(h->ratelimit_source, sizeof h->ratelimit_source, v);
}

static void filters_applied(struct head *h, struct span v, int64_t now_s)
{
    (void)now_s;
    copy(h->filters, sizeof h->filters, v);
}

static void keep(struct head *h, char **field, struct span v, size_t max)
{
    if (v.len > max || memchr(v.p, '\0', v.len)) {
        h->bad = true;
        return;
    }
    free(*field);
    *field = mem_copy(v.p, v.len);
}

static void location(struct head *h, struct span v, int64_t now_s)
{
    (void)now_s;
    keep(h, &h->location, v, HEAD_LOCATION_MAX);
}

static void link_field(struct head *h, struct span v, int64_t now_s)
{
    (void)now_s;
    keep(h, &h->link, v, HEAD_LINK_MAX);
}

/* One that is not of the grammar is as good as none. */
static void www_authenticate(struct head *h, struct span v, int64_t now_s)
{
    (void)now_s;
    if (!h->challenges)
        h->challenges = mem_new(sizeof *h->challenges);
    (void)!challenge_parse(h->challenges, v.p, v.len);
}

static const struct {
    const char *name;
    void (*take)(struct head *h, struct span value, int64_t now_s);
} fields[] = {
    {"Accept-Ranges", accept_ranges},
    {"Content-Length", content_length},
    {"Content-Range", content_range},
    {"Content-Type", content_type},
    {"Docker-Content-Digest", docker_content_digest},
    {"Docker-RateLimit-Source", docker_ratelimit_source},
    {"Link", link_field},
    {"Location", location},
    {"OCI-Filters-Applied", filters_applied},
    {"RateLimit-Limit", ratelimit_limit},
    {"RateLimit-Remaining", ratelimit_remaining},
    {"Retry-After", retry_after},
    {"Transfer-Encoding", transfer_encoding},
    {"WWW-Authenticate", www_authenticate},
};

/* "HTTP/1.1 200 OK": a new head begins, e.g. after an interim one. */
static bool take_status_line(struct head *h, struct span line)
{
    uint64_t status = 0;

    if (line.len < 12 || strncmp(line.p, "HTTP/", 5) != 0)
        return false;
    size_t bytes = h->bytes;
    head_clear(h);
    h->bytes = bytes;
    const char *space = memchr(line.p, ' ', line.len);
    struct span rest =
        space ? trim((struct span){space, line.len - (size_t)(space - line.p)}) : (struct span){0};
    if (!take_number(&rest, &status) || status < 100 || status > 999)
        h->bad = true;
    h->status = (int)status;
    return true;
}

/* What an upstream says may be said on to clients: control bytes end here. */
static bool is_clean(struct span value)
{
    for (size_t i = 0; i < value.len; i++) {
        if (!http_is_value_char(value.p[i]))
            return false;
    }
    return true;
}

bool head_take(struct head *h, const char *line, size_t len, int64_t now_s)
{
    struct span all = {line, len};
    const char *colon = memchr(line, ':', len);

    h->bytes += len;
    if (h->bytes > HEAD_LINES_MAX)
        return false;
    if (take_status_line(h, all) || !colon)
        return true;
    struct span name = {line, (size_t)(colon - line)};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (span_equal_fold(name, fields[i].name)) {
            struct span value = trim((struct span){colon + 1, len - name.len - 1});
            if (is_clean(value))
                fields[i].take(h, value, now_s);
            else
                h->bad = true;
            break;
        }
    }
    return true;
}

bool head_is_redirect(const struct head *h)
{
    switch (h->status) {
    case 301:
    case 302:
    case 303:
    case 307:
    case 308:
        return h->location != NULL;
    default:
        return false;
    }
}

static uint64_t set_gauge(_Atomic uint64_t *gauge, int64_t value)
{
    return atomic_exchange_explicit(gauge, (uint64_t)value, memory_order_relaxed);
}

void head_note_limits(const struct head *h, struct registry_stats *r, struct log *log,
                      int64_t now_s)
{
    int64_t limit = h->ratelimit_limit, left = h->ratelimit_remaining;

    if (!r || limit < 0 || left < 0)
        return;
    set_gauge(&r->ratelimit_limit, limit);
    if (h->ratelimit_window_s >= 0)
        set_gauge(&r->ratelimit_window_s, h->ratelimit_window_s);
    set_gauge(&r->ratelimit_told_at, now_s);
    uint64_t before = set_gauge(&r->ratelimit_remaining, left);
    if ((uint64_t)left != before && left <= limit / 10)
        log_event(log, LOG_INFO, "%s allows %lld more requests of %lld to %s", r->registry,
                  (long long)left, (long long)limit,
                  h->ratelimit_source[0] ? h->ratelimit_source : "us");
}
