/* SPDX-License-Identifier: ISC */
#include "proxy/http.h"

#include <string.h>

#include "proxy/http_forward.h"

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static const bool name_chars[256] = {
    ['0' ... '9'] = true, ['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['-'] = true,
    ['.'] = true,         ['_'] = true,         ['~'] = true,
};

static const bool address_chars[256] = {
    ['0' ... '9'] = true, ['a' ... 'f'] = true, ['A' ... 'F'] = true, [':'] = true, ['.'] = true,
};

/* What follows the host: nothing, or a colon and a port. */
static bool is_port_part(const char *p, const char *end, bool required)
{
    if (p == end)
        return !required;
    const int digits_max = 5;
    if (*p != ':' || end - p > 1 + digits_max || (required && end - p == 1))
        return false;
    unsigned port = 0;
    for (p++; p < end; p++) {
        if (!is_digit(*p))
            return false;
        port = port * 10 + (unsigned)(*p - '0');
    }
    return port <= UINT16_MAX;
}

bool http_is_authority(struct span s, bool port_required)
{
    const char *p = s.p;
    const char *end = s.p + s.len;
    bool bracketed = p < end && *p == '[';
    p += bracketed;
    const char *host = p;
    const bool *host_chars = bracketed ? address_chars : name_chars;
    while (p < end && host_chars[(unsigned char)*p])
        p++;
    if (p == host || (bracketed && (p == end || *p != ']')))
        return false;
    return is_port_part(p + bracketed, end, port_required);
}

struct span http_target_origin(struct span target)
{
    static const char *const schemes[] = {"http://", "https://"};
    if (target.len > 0 && target.p[0] == '/')
        return target;
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        size_t len = strlen(schemes[i]);
        if (target.len > len && span_equal_fold((struct span){target.p, len}, schemes[i])) {
            const char *p = target.p + len;
            const char *end = target.p + target.len;
            while (p < end && *p != '/' && *p != '?')
                p++;
            return (struct span){p, (size_t)(end - p)};
        }
    }
    return target;
}

struct span http_target_authority(struct span target)
{
    struct span origin = http_target_origin(target);
    if (target.len == 0 || target.p[0] == '/' || span_equal(target, "*"))
        return (struct span){NULL, 0};
    if (origin.p == target.p)
        return target;
    const char *authority = (const char *)memchr(target.p, '/', target.len) + 2;
    return (struct span){authority, (size_t)(origin.p - authority)};
}

static bool is_absolute_form(struct span target)
{
    struct span origin = http_target_origin(target);
    if (origin.p == target.p)
        return false;
    const char *authority = (const char *)memchr(target.p, '/', target.len) + 2;
    return http_is_authority((struct span){authority, (size_t)(origin.p - authority)}, false);
}

bool http_is_target(enum http_method method, struct span target)
{
    if (target.len == 0 || memchr(target.p, '#', target.len) != NULL)
        return false;
    if (method == HTTP_CONNECT)
        return http_is_authority(target, true);
    return target.p[0] == '/' || (method == HTTP_OPTIONS && span_equal(target, "*")) ||
           is_absolute_form(target);
}
