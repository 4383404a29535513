/* SPDX-License-Identifier: ISC */
#include "proxy/route.h"

#include <string.h>

#include "proxy/route_private.h"

/* Digits of `n` that are passed on; more of them ask for no more. */
#define COUNT_DIGITS_MAX 9

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int route_unescape(struct span s)
{
    int high = s.len >= 3 ? hex_value(s.p[1]) : -1;
    int low = s.len >= 3 ? hex_value(s.p[2]) : -1;
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

int route_decode(struct span value, char *out, size_t max)
{
    size_t len = 0;
    for (size_t i = 0; i < value.len; i++) {
        int c = (unsigned char)value.p[i];
        if (c == '%') {
            c = route_unescape(span_from(value, i));
            i += 2;
        }
        if (c < 0 || len == max)
            return -1;
        out[len] = (char)c;
        len++;
    }
    return (int)len;
}

static bool is_unreserved(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

/* Add "key=value" to the query, escaped; false when there is no room. */
static bool add_parameter(struct target *t, const char *key, const char *value, size_t len)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t key_len = strlen(key);
    char *start = t->query + strlen(t->query);
    char *p = start;
    const char *end = t->query + sizeof t->query - 1;
    if ((size_t)(end - p) < 1 + key_len + 1)
        return false;
    if (p > t->query)
        *p++ = '&';
    memcpy(p, key, key_len);
    p += key_len;
    *p++ = '=';
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)value[i];
        if (end - p < 3) {
            *start = '\0';
            return false;
        }
        if (is_unreserved((char)c)) {
            *p++ = (char)c;
        } else {
            *p++ = '%';
            *p++ = digits[c >> 4];
            *p++ = digits[c & 15];
        }
    }
    *p = '\0';
    return true;
}

/* A number of entries: digits, without leading zeros, clamped. */
static bool add_count(struct target *t, const char *key, const char *value, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (value[i] < '0' || value[i] > '9')
            return false;
    while (len > 1 && value[0] == '0') {
        value++;
        len--;
    }
    if (len == 0)
        return false;
    return len > COUNT_DIGITS_MAX ? add_parameter(t, key, "999999999", COUNT_DIGITS_MAX)
                                  : add_parameter(t, key, value, len);
}

enum { PARAMETER_NS, PARAMETER_N, PARAMETER_LAST, PARAMETER_ARTIFACT_TYPE, PARAMETER_COUNT };

/* In the order in which they are written. */
static const struct parameter {
    const char *key;
    bool (*add)(struct target *t, const char *key, const char *value, size_t len);
} parameters[PARAMETER_COUNT] = {
    [PARAMETER_NS] = {"ns", NULL},
    [PARAMETER_N] = {"n", add_count},
    [PARAMETER_LAST] = {"last", add_parameter},
    [PARAMETER_ARTIFACT_TYPE] = {"artifactType", add_parameter},
};

/* Find the parameters that are known; one that comes twice has no meaning. */
static bool find_parameters(struct span query, struct span values[PARAMETER_COUNT])
{
    memset(values, 0, PARAMETER_COUNT * sizeof values[0]);
    while (query.p != NULL) {
        struct span value = span_cut(&query, '&');
        struct span key = span_cut(&value, '=');
        for (size_t i = 0; i < PARAMETER_COUNT; i++) {
            if (span_equal(key, parameters[i].key)) {
                if (values[i].p != NULL)
                    return false;
                values[i] = value.p != NULL ? value : (struct span){key.p + key.len, 0};
            }
        }
    }
    return true;
}

static bool has_broken_escape(struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.p[i] == '%' && route_unescape(span_from(s, i)) < 0)
            return true;
    return false;
}

static enum outcome parse_ns(struct target *t, struct span value)
{
    int len = route_decode(value, t->ns, sizeof t->ns - 1);
    if (len < 0 || !name_is_registry(t->ns, (size_t)len)) {
        t->ns[0] = '\0';
        return OUT_NAME_INVALID;
    }
    t->ns[len] = '\0';
    return OUT_LOCAL;
}

enum outcome route_parse_query(struct target *t, struct span query)
{
    struct span values[PARAMETER_COUNT];
    if (has_broken_escape(query) || !find_parameters(query, values))
        return OUT_BAD_REQUEST;
    if (t->endpoint == ENDPOINT_TAGS || t->endpoint == ENDPOINT_REFERRERS ||
        t->endpoint == ENDPOINT_CATALOG) {
        for (size_t i = PARAMETER_NS + 1; i < PARAMETER_COUNT; i++) {
            char text[TARGET_QUERY_MAX];
            int len = values[i].p != NULL ? route_decode(values[i], text, sizeof text) : 0;
            if (len < 0 || (values[i].p != NULL &&
                            !parameters[i].add(t, parameters[i].key, text, (size_t)len)))
                return OUT_BAD_REQUEST;
        }
    }
    return values[PARAMETER_NS].p != NULL ? parse_ns(t, values[PARAMETER_NS]) : OUT_LOCAL;
}

bool route_query_value(const struct target *t, const char *key, char *out, size_t size)
{
    struct span query = {t->query, strlen(t->query)};

    while (query.p != NULL) {
        struct span value = span_cut(&query, '&');
        struct span name = span_cut(&value, '=');

        if (span_equal(name, key) && value.p != NULL) {
            int len = route_decode(value, out, size - 1);

            out[len > 0 ? len : 0] = '\0';
            return len >= 0;
        }
    }
    return false;
}

/* --- parameters of a push --- */

static enum outcome take_one(struct digest *d, bool *has, const char *text, size_t len)
{
    if (*has)
        return OUT_BAD_REQUEST;
    *has = true;
    return digest_parse(d, text, len) == 0 ? OUT_LOCAL : OUT_DIGEST_INVALID;
}

static enum outcome take_digest(struct push_parameters *p, const char *text, size_t len)
{
    return take_one(&p->digest, &p->has_digest, text, len);
}

static enum outcome take_mount(struct push_parameters *p, const char *text, size_t len)
{
    return take_one(&p->mount, &p->has_mount, text, len);
}

static enum outcome take_tag(struct push_parameters *p, const char *text, size_t len)
{
    if (p->tag_count == ROUTE_TAGS_MAX || !name_is_tag(text, len))
        return OUT_TAG_INVALID;
    memcpy(p->tags[p->tag_count], text, len);
    p->tags[p->tag_count][len] = '\0';
    p->tag_count++;
    return OUT_LOCAL;
}

static enum outcome take_from(struct push_parameters *p, const char *text, size_t len)
{
    if (p->has_from)
        return OUT_BAD_REQUEST;
    if (len >= sizeof p->from || memchr(text, '\0', len))
        return OUT_NAME_INVALID;
    memcpy(p->from, text, len);
    p->from[len] = '\0';
    p->has_from = len > 0;
    return OUT_LOCAL;
}

static enum outcome take_algorithm(struct push_parameters *p, const char *text, size_t len)
{
    struct span word = {text, len};

    p->algorithm = span_equal(word, "sha256")   ? DIGEST_SHA256
                   : span_equal(word, "sha512") ? DIGEST_SHA512
                                                : 0;
    return p->algorithm ? OUT_LOCAL : OUT_DIGEST_INVALID;
}

static const struct {
    const char *key;
    enum outcome (*take)(struct push_parameters *p, const char *text, size_t len);
} push_parameters[] = {
    {"digest", take_digest}, {"mount", take_mount}, {"digest-algorithm", take_algorithm},
    {"from", take_from},     {"tag", take_tag},
};

/* Others are the client's own, whatever they hold. */
static enum outcome take_parameter(struct push_parameters *p, struct span key, struct span value)
{
    char text[DIGEST_TEXT_MAX + NAME_MAX_SIZE];

    for (size_t i = 0; i < sizeof push_parameters / sizeof push_parameters[0]; i++) {
        if (!span_equal(key, push_parameters[i].key))
            continue;
        int len = value.p != NULL ? route_decode(value, text, sizeof text) : 0;
        return len < 0 ? OUT_BAD_REQUEST : push_parameters[i].take(p, text, (size_t)len);
    }
    return OUT_LOCAL;
}

enum outcome route_parse_push(struct push_parameters *p, struct span target)
{
    struct span query = http_target_origin(target);
    enum outcome o = OUT_LOCAL;

    memset(p, 0, offsetof(struct push_parameters, tags));
    span_cut(&query, '?');
    while (o == OUT_LOCAL && query.p != NULL) {
        struct span value = span_cut(&query, '&');
        struct span key = span_cut(&value, '=');

        o = take_parameter(p, key, value);
    }
    return o;
}
