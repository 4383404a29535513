/* SPDX-License-Identifier: ISC */
#include "proxy/report_private.h"

#include <string.h>

#include "proxy/route.h"

#define COUNT_DEFAULT 50
#define DIGITS_MAX 9 /* fit an unsigned */

/* Decimal, at most `max`; false when it is not. */
static bool read_number(struct span value, unsigned max, unsigned *n)
{
    if (value.len == 0 || value.len > DIGITS_MAX)
        return false;
    *n = 0;
    for (size_t i = 0; i < value.len; i++) {
        if (value.p[i] < '0' || value.p[i] > '9')
            return false;
        *n = *n * 10 + (unsigned)(value.p[i] - '0');
    }
    return *n <= max;
}

static bool read_text(struct span value, char out[REPORT_SEARCH_MAX])
{
    int len = value.p ? route_decode(value, out, REPORT_SEARCH_MAX - 1) : 0;

    if (len < 0 || memchr(out, '\0', (size_t)len))
        return false;
    out[len] = '\0';
    return true;
}

static bool read_parameter(struct report_search *q, struct span key, struct span value)
{
    if (span_equal(key, "search"))
        return read_text(value, q->text);
    if (span_equal(key, "offset"))
        return read_number(value, REPORT_OFFSET_MAX, &q->offset);
    if (span_equal(key, "count"))
        return read_number(value, REPORT_IMAGES_MAX, &q->count);
    if (!span_equal(key, "order"))
        return true;
    q->order = span_equal(value, "use") ? REPORT_BY_USE : REPORT_BY_NAME;
    return q->order == REPORT_BY_USE || span_equal(value, "name");
}

bool report_search_read(struct report_search *q, struct span query)
{
    *q = (struct report_search){.count = COUNT_DEFAULT};
    while (query.p) {
        struct span value = span_cut(&query, '&');
        struct span key = span_cut(&value, '=');

        if (!read_parameter(q, key, value))
            return false;
    }
    return true;
}
