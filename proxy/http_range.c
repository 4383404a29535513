/* SPDX-License-Identifier: ISC */
#include "proxy/http.h"

/* Read digits into `*v`, stopping at UINT64_MAX; what follows them. */
static const char *read_digits(const char *p, const char *end, uint64_t *v)
{
    uint64_t n = 0;
    for (; p < end && *p >= '0' && *p <= '9'; p++) {
        unsigned digit = (unsigned)(*p - '0');
        n = n > (UINT64_MAX - digit) / 10 ? UINT64_MAX : n * 10 + digit;
    }
    *v = n;
    return p;
}

static enum range_result suffix_range(uint64_t suffix, uint64_t size, struct range *r)
{
    if (suffix == 0 || size == 0)
        return RANGE_UNSATISFIABLE;
    *r = (struct range){.start = suffix < size ? size - suffix : 0, .end = size};
    return RANGE_PART;
}

static enum range_result int_range(uint64_t first, uint64_t last, uint64_t size, struct range *r)
{
    if (last < first)
        return RANGE_WHOLE;
    if (first >= size)
        return RANGE_UNSATISFIABLE;
    *r = (struct range){.start = first, .end = last < size ? last + 1 : size};
    return RANGE_PART;
}

enum range_result http_parse_range(struct span value, uint64_t size, struct range *r)
{
    const size_t unit_len = sizeof "bytes=" - 1;
    if (value.len <= unit_len || !span_equal_fold((struct span){value.p, unit_len}, "bytes="))
        return RANGE_WHOLE;
    const char *end = value.p + value.len;
    const char *first_at = value.p + unit_len;
    uint64_t first;
    const char *dash = read_digits(first_at, end, &first);
    if (dash == end || *dash != '-')
        return RANGE_WHOLE;
    const char *last_at = dash + 1;
    uint64_t last;
    if (read_digits(last_at, end, &last) != end)
        return RANGE_WHOLE;
    if (dash == first_at)
        return last_at == end ? RANGE_WHOLE : suffix_range(last, size, r);
    return int_range(first, last_at == end ? UINT64_MAX : last, size, r);
}

bool http_parse_content_range(struct span value, struct range *r)
{
    const size_t unit_len = sizeof "bytes " - 1;
    if (value.len > unit_len && span_equal_fold((struct span){value.p, unit_len}, "bytes "))
        value = span_from(value, unit_len);
    struct span range = span_cut(&value, '/');
    const char *end = range.p + range.len;
    uint64_t first, last;
    const char *dash = read_digits(range.p, end, &first);
    if (dash == range.p || dash == end || *dash != '-' || dash + 1 == end)
        return false;
    if (read_digits(dash + 1, end, &last) != end || last < first || last >= INT64_MAX)
        return false;
    *r = (struct range){.start = first, .end = last + 1};
    return true;
}
