/* SPDX-License-Identifier: ISC */
#include "proxy/http.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* etagc of RFC 9110 section 8.8.3. */
static bool is_etag_char(unsigned char c)
{
    return c >= 0x21 && c != '"' && c != 0x7f;
}

/* Take one entity tag, without a weakness mark, off the front: the length of its opaque tag
 * with the quotes, 0 when there is none. */
static size_t etag_len(const char *p, const char *end)
{
    if (p == end || *p != '"')
        return 0;
    const char *q = p + 1;
    while (q < end && is_etag_char((unsigned char)*q))
        q++;
    return q < end && *q == '"' ? (size_t)(q + 1 - p) : 0;
}

static bool is_list_space(char c)
{
    return c == ' ' || c == '\t' || c == ',';
}

bool http_etag_matches(struct span list, const char *etag)
{
    if (span_equal(list, "*"))
        return true;
    const char *p = list.p;
    const char *end = p + list.len;
    for (;;) {
        while (p < end && is_list_space(*p))
            p++;
        if (end - p > 2 && p[0] == 'W' && p[1] == '/')
            p += 2;
        size_t len = etag_len(p, end);
        if (len == 0)
            return false;
        if (span_equal((struct span){p, len}, etag))
            return true;
        p += len;
        if (p < end && !is_list_space(*p))
            return false;
    }
}

bool http_etag_equal(struct span value, const char *etag)
{
    return etag[0] == '"' && span_equal(value, etag);
}

void http_date(char out[HTTP_DATE_SIZE], int64_t time_s)
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    const int64_t last_s = 253402300799; /* 9999-12-31 23:59:59: the form has four digits */
    time_t t = (time_t)(time_s < 0 ? 0 : time_s > last_s ? last_s : time_s);
    struct tm tm;
    CHECK(gmtime_r(&t, &tm) != NULL);
    int n = snprintf(out, HTTP_DATE_SIZE, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday],
                     tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
                     tm.tm_sec);
    CHECK(n == HTTP_DATE_SIZE - 1);
}
