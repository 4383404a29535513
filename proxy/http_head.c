/* SPDX-License-Identifier: ISC */
/*
 * The request head. One pass from left to right that looks at no byte beyond what
 * it has judged, so a verdict on the start of a head is the verdict on the whole,
 * and reading again after HTTP_MORE costs about two instructions a byte, at most
 * HTTP_HEAD_MAX of them.
 */
#include "proxy/http.h"

#include <endian.h>
#include <string.h>

struct parse {
    struct http_head *h;
    const char *p;
    const char *end;
    bool close;      /* Connection holds "close" */
    bool keep_alive; /* Connection holds "keep-alive" */
};

static const struct span method_names[] = {
#define METHOD(symbol, text) [symbol] = {text, sizeof(text) - 1}
    METHOD(HTTP_GET, "GET"),         METHOD(HTTP_HEAD, "HEAD"),       METHOD(HTTP_POST, "POST"),
    METHOD(HTTP_PUT, "PUT"),         METHOD(HTTP_PATCH, "PATCH"),     METHOD(HTTP_DELETE, "DELETE"),
    METHOD(HTTP_CONNECT, "CONNECT"), METHOD(HTTP_OPTIONS, "OPTIONS"), METHOD(HTTP_OTHER, "-"),
#undef METHOD
};

const char *http_method_name(enum http_method m)
{
    return method_names[m].p;
}

/* tchar of RFC 9110 section 5.6.2. */
static const bool token_chars[256] = {
    ['!'] = true,         ['#'] = true,         ['$'] = true,         ['%'] = true, ['&'] = true,
    ['\''] = true,        ['*'] = true,         ['+'] = true,         ['-'] = true, ['.'] = true,
    ['^'] = true,         ['_'] = true,         ['`'] = true,         ['|'] = true, ['~'] = true,
    ['0' ... '9'] = true, ['a' ... 'z'] = true, ['A' ... 'Z'] = true,
};

bool http_is_token_char(char c)
{
    return token_chars[(unsigned char)c];
}

bool http_is_value_char(char c)
{
    unsigned char b = (unsigned char)c;
    return b == '\t' || (b >= 0x20 && b != 0x7f);
}

static const char *skip_token(const char *p, const char *end)
{
    while (p < end && token_chars[(unsigned char)*p])
        p++;
    return p;
}

#define EACH_BYTE 0x0101010101010101u
#define TOP_BITS (EACH_BYTE * 0x80)

/* Of eight bytes, those to stop at have their top bit set: below `low`, DEL, and from 0x80
 * on if `obs_text` is TOP_BITS rather than 0. Borrows may set bits above the first
 * that is right, never below it. */
static uint64_t stop_bits(uint64_t x, unsigned low, uint64_t obs_text)
{
    uint64_t del = x ^ (EACH_BYTE * 0x7f);
    return (((x - EACH_BYTE * low) & ~x) | ((del - EACH_BYTE) & ~del) | (x & obs_text)) & TOP_BITS;
}

/* The first byte that is one to stop at, or `end`. */
static inline const char *skip_until(const char *p, const char *end, unsigned low,
                                     uint64_t obs_text)
{
    uint64_t x;
    for (; (size_t)(end - p) >= sizeof x; p += sizeof x) {
        memcpy(&x, p, sizeof x);
        x = le64toh(x);
        /* None of them is even suspect, in half of the instructions. */
        if ((((x - EACH_BYTE * low) | (x + EACH_BYTE) | x) & TOP_BITS) == 0)
            continue;
        uint64_t stop = stop_bits(x, low, obs_text);
        if (stop != 0)
            return p + (__builtin_ctzll(stop) >> 3);
    }
    while (p < end && stop_bits((unsigned char)*p, low, obs_text) << 56 == 0)
        p++;
    return p;
}

/* Eight bytes against eight of a name in lower case. Letters alone have 0x40 set, and may
 * differ by 0x20. */
static bool word_is(uint64_t word, uint64_t name)
{
    return (word | (name & (EACH_BYTE * 0x40)) >> 1) == name;
}

static uint64_t word_at(const char *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

/* The first four bytes and the last four of four to eight. */
static uint64_t short_word(const char *p, size_t len)
{
    uint32_t first;
    uint32_t last;
    memcpy(&first, p, sizeof first);
    memcpy(&last, p + len - sizeof last, sizeof last);
    return (uint64_t)last << 32 | first;
}

/* Whether the `len` bytes at `p` are the name, in any case; four at least. */
static bool name_is(const char *p, const char *name, size_t len)
{
    const size_t word = sizeof(uint64_t);
    if (len <= word)
        return word_is(short_word(p, len), short_word(name, len));
    for (size_t at = 0; at + word < len; at += word)
        if (!word_is(word_at(p + at), word_at(name + at)))
            return false;
    return word_is(word_at(p + len - word), word_at(name + len - word));
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

static enum http_result parse_method(struct parse *ps)
{
    const char *start = ps->p;
    ps->p = skip_token(start, ps->end);
    if (ps->p == ps->end)
        return HTTP_MORE;
    size_t len = (size_t)(ps->p - start);
    if (len == 0 || *ps->p != ' ')
        return HTTP_BAD;
    enum http_method m = HTTP_GET;
    while (m < HTTP_OTHER &&
           (method_names[m].len != len || memcmp(method_names[m].p, start, len) != 0))
        m++;
    ps->h->method = m;
    ps->h->method_text = (struct span){start, len};
    ps->p++;
    return HTTP_DONE;
}

static enum http_result parse_target(struct parse *ps)
{
    const char *start = ps->p;
    ps->p = skip_until(start, ps->end, 0x21, TOP_BITS);
    size_t len = (size_t)(ps->p - start);
    if (len > HTTP_TARGET_MAX)
        return HTTP_TARGET_TOO_LONG;
    if (ps->p == ps->end)
        return HTTP_MORE;
    if (len == 0 || *ps->p != ' ')
        return HTTP_BAD;
    ps->h->target = (struct span){start, len};
    ps->p++;
    return HTTP_DONE;
}

static enum http_result parse_version(struct parse *ps)
{
    static const char form[] = "HTTP/0.0\r\n"; /* 0: any digit */
    const size_t form_len = sizeof form - 1;
    size_t have = (size_t)(ps->end - ps->p);
    if (have >= form_len && memcmp(ps->p, "HTTP/1.1\r\n", form_len) == 0) {
        ps->h->minor_version = 1;
        ps->p += form_len;
        return HTTP_DONE;
    }
    for (size_t i = 0; i < form_len && i < have; i++)
        if (form[i] == '0' ? !is_digit(ps->p[i]) : ps->p[i] != form[i])
            return HTTP_BAD;
    if (have < form_len)
        return HTTP_MORE;
    if (ps->p[5] != '1')
        return HTTP_BAD_VERSION;
    ps->h->minor_version = ps->p[7] == '0' ? 0 : 1;
    ps->p += form_len;
    return HTTP_DONE;
}

static enum http_result parse_request_line(struct parse *ps)
{
    enum http_result r = parse_method(ps);
    if (r == HTTP_DONE)
        r = parse_target(ps);
    if (r == HTTP_DONE)
        r = parse_version(ps);
    if (r == HTTP_DONE && !http_is_target(ps->h->method, ps->h->target))
        r = HTTP_BAD;
    return r;
}

static bool take_host(struct parse *ps, struct span value)
{
    (void)ps;
    return http_is_authority(value, false);
}

/* 1*DIGIT, once. */
static bool take_content_length(struct parse *ps, struct span value)
{
    if (ps->h->content_length >= 0 || value.len == 0)
        return false;
    int64_t n = 0;
    for (size_t i = 0; i < value.len; i++) {
        if (!is_digit(value.p[i]))
            return false;
        int digit = value.p[i] - '0';
        if (n > (INT64_MAX - digit) / 10)
            return false;
        n = n * 10 + digit;
    }
    ps->h->content_length = n;
    return true;
}

static bool take_transfer_encoding(struct parse *ps, struct span value)
{
    if (ps->h->chunked || ps->h->minor_version == 0 || !span_equal_fold(value, "chunked"))
        return false;
    ps->h->chunked = true;
    return true;
}

/* A list of tokens, perhaps in several fields. */
static bool take_connection(struct parse *ps, struct span value)
{
    static const char close[] = "close";
    static const char keep_alive[] = "keep-alive";
    const char *p = value.p;
    const char *end = value.p + value.len;
    for (;;) {
        while (p < end && is_space(*p))
            p++;
        const char *token = p;
        p = skip_token(p, end);
        size_t len = (size_t)(p - token);
        ps->close |= len == sizeof close - 1 && name_is(token, close, len);
        ps->keep_alive |= len == sizeof keep_alive - 1 && name_is(token, keep_alive, len);
        while (p < end && is_space(*p))
            p++;
        if (p == end)
            return true;
        if (*p != ',')
            return false;
        p++;
    }
}

/* RFC 9110 section 10.1.1: HTTP/1.0 has no such expectation. */
static bool take_expect(struct parse *ps, struct span value)
{
    ps->h->expect_continue = ps->h->minor_version > 0;
    return span_equal_fold(value, "100-continue");
}

enum field {
    FIELD_NONE,
    FIELD_HOST,
    FIELD_RANGE,
    FIELD_ACCEPT,
    FIELD_EXPECT,
    FIELD_IF_RANGE,
    FIELD_CDN_LOOP,
    FIELD_CONNECTION,
    FIELD_USER_AGENT,
    FIELD_CONTENT_TYPE,
    FIELD_IF_NONE_MATCH,
    FIELD_AUTHORIZATION,
    FIELD_CONTENT_RANGE,
    FIELD_CONTENT_LENGTH,
    FIELD_TRANSFER_ENCODING,
    FIELD_COUNT
};

enum keep {
    KEEP_NOT,   /* `take` makes something else of it */
    KEEP_ONCE,  /* a second one is refused, and so is obs-text */
    KEEP_FIRST, /* a list or a comment: the first one, opaque */
};

struct field_row {
    const char *name; /* in lower case */
    size_t len;
    enum keep keep;
    size_t offset; /* of its span in struct http_head */
    bool (*take)(struct parse *ps, struct span value);
};

/* Sorted by the length of the name. */
static const struct field_row field_rows[FIELD_COUNT + 1] = {
#define NAME(text) text, sizeof(text) - 1
#define AT(member) offsetof(struct http_head, member)
    [FIELD_HOST] = {NAME("host"), KEEP_ONCE, AT(host), take_host},
    [FIELD_RANGE] = {NAME("range"), KEEP_ONCE, AT(range), NULL},
    [FIELD_ACCEPT] = {NAME("accept"), KEEP_FIRST, AT(accept), NULL},
    [FIELD_EXPECT] = {NAME("expect"), KEEP_NOT, 0, take_expect},
    [FIELD_IF_RANGE] = {NAME("if-range"), KEEP_ONCE, AT(if_range), NULL},
    [FIELD_CDN_LOOP] = {NAME("cdn-loop"), KEEP_FIRST, AT(cdn_loop), NULL},
    [FIELD_CONNECTION] = {NAME("connection"), KEEP_NOT, 0, take_connection},
    [FIELD_USER_AGENT] = {NAME("user-agent"), KEEP_FIRST, AT(user_agent), NULL},
    [FIELD_CONTENT_TYPE] = {NAME("content-type"), KEEP_ONCE, AT(content_type), NULL},
    [FIELD_IF_NONE_MATCH] = {NAME("if-none-match"), KEEP_FIRST, AT(if_none_match), NULL},
    [FIELD_AUTHORIZATION] = {NAME("authorization"), KEEP_ONCE, AT(authorization), NULL},
    [FIELD_CONTENT_RANGE] = {NAME("content-range"), KEEP_ONCE, AT(content_range), NULL},
    [FIELD_CONTENT_LENGTH] = {NAME("content-length"), KEEP_NOT, 0, take_content_length},
    [FIELD_TRANSFER_ENCODING] = {NAME("transfer-encoding"), KEEP_NOT, 0, take_transfer_encoding},
#undef AT
#undef NAME
};

static const uint8_t first_of_length[] = {
    [4] = FIELD_HOST,           [5] = FIELD_RANGE,           [6] = FIELD_ACCEPT,
    [8] = FIELD_IF_RANGE,       [10] = FIELD_CONNECTION,     [12] = FIELD_CONTENT_TYPE,
    [13] = FIELD_IF_NONE_MATCH, [14] = FIELD_CONTENT_LENGTH, [17] = FIELD_TRANSFER_ENCODING,
};

static const struct field_row *find_field(const char *name, size_t len)
{
    if (len == 0 || len >= sizeof first_of_length)
        return NULL;
    for (const struct field_row *row = &field_rows[first_of_length[len]]; row->len == len; row++)
        if (name_is(name, row->name, len))
            return row;
    return NULL;
}

static bool take_field(struct parse *ps, const struct field_row *row, struct span value)
{
    if (row->keep != KEEP_NOT) {
        struct span *kept = (struct span *)((char *)ps->h + row->offset);
        if (kept->p == NULL)
            *kept = value;
        else if (row->keep == KEEP_ONCE)
            return false;
    }
    return row->take == NULL || row->take(ps, value);
}

/* What follows the name and the colon; `row` is NULL for a field that is not read. */
static enum http_result parse_value(struct parse *ps, const struct field_row *row)
{
    const char *p = ps->p;
    const char *end = ps->end;
    while (p < end && is_space(*p))
        p++;
    const char *start = p;
    uint64_t obs_text = row != NULL && row->keep == KEEP_ONCE ? TOP_BITS : 0;
    p = skip_until(p, end, 0x20, obs_text);
    while (p < end && *p == '\t')
        p = skip_until(p + 1, end, 0x20, obs_text);
    if (p < end && *p != '\r')
        return HTTP_BAD;
    if (end - p < 2)
        return HTTP_MORE;
    if (p[1] != '\n')
        return HTTP_BAD;
    ps->p = p + 2;
    if (row == NULL)
        return HTTP_DONE;
    while (p > start && is_space(p[-1]))
        p--;
    return take_field(ps, row, (struct span){start, (size_t)(p - start)}) ? HTTP_DONE : HTTP_BAD;
}

static enum http_result parse_field(struct parse *ps)
{
    const char *name = ps->p;
    const char *colon = memchr(name, ':', (size_t)(ps->end - name));
    const char *name_end = colon != NULL ? colon : ps->end;
    const struct field_row *row = find_field(name, (size_t)(name_end - name));
    /* A name that is one of ours is a token. */
    if (row == NULL && (name == colon || skip_token(name, name_end) != name_end))
        return HTTP_BAD;
    if (colon == NULL)
        return HTTP_MORE;
    ps->p = colon + 1;
    return parse_value(ps, row);
}

/* Take a CRLF if there is one: HTTP_DONE; `*absent` when another byte stands there. */
static enum http_result parse_empty_line(struct parse *ps, bool *absent)
{
    size_t have = (size_t)(ps->end - ps->p);
    *absent = have > 0 && ps->p[0] != '\r';
    if (*absent)
        return HTTP_DONE;
    if (have < 2)
        return HTTP_MORE;
    if (ps->p[1] != '\n')
        return HTTP_BAD;
    ps->p += 2;
    return HTTP_DONE;
}

static enum http_result parse_fields(struct parse *ps)
{
    for (unsigned fields = 0;; fields++) {
        bool absent;
        enum http_result r = parse_empty_line(ps, &absent);
        if (r != HTTP_DONE || !absent)
            return r;
        if (fields == HTTP_FIELDS_MAX)
            return HTTP_HEAD_TOO_LARGE;
        r = parse_field(ps);
        if (r != HTTP_DONE)
            return r;
    }
}

/* What only the whole head can tell. */
static enum http_result conclude(struct parse *ps)
{
    struct http_head *h = ps->h;
    if ((h->minor_version > 0 && h->host.p == NULL) || (h->chunked && h->content_length >= 0))
        return HTTP_BAD;
    h->keep_alive = !ps->close && (h->minor_version > 0 || ps->keep_alive);
    return HTTP_DONE;
}

enum http_result http_parse_head(struct http_head *h, const char *buf, size_t len, size_t *used)
{
    struct parse ps = {.h = h, .p = buf, .end = buf + (len < HTTP_HEAD_MAX ? len : HTTP_HEAD_MAX)};
    *h = (struct http_head){.content_length = -1};
    bool absent;
    enum http_result r = parse_empty_line(&ps, &absent);
    if (r == HTTP_DONE)
        r = parse_request_line(&ps);
    const char *fields = ps.p;
    if (r == HTTP_DONE)
        r = parse_fields(&ps);
    h->fields = (struct span){fields, (size_t)(ps.p - fields)};
    if (r == HTTP_DONE)
        r = conclude(&ps);
    if (r == HTTP_MORE && len >= HTTP_HEAD_MAX)
        r = HTTP_HEAD_TOO_LARGE;
    *used = r == HTTP_DONE ? (size_t)(ps.p - buf) : 0;
    return r;
}
