/* SPDX-License-Identifier: ISC */
/* "<size> <Range field>": a part lies inside of the content, and a second reading with the C
 * library's functions agrees. The same bytes as a list of entity tags must only not crash. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cache/check.h"
#include "proxy/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* strtoull gives ULLONG_MAX for what is too large, which is what is wanted. */
static enum range_result expected(const char *value, uint64_t size, struct range *r)
{
    static const char digits[] = "0123456789";
    if (strncasecmp(value, "bytes=", 6) != 0) {
        return RANGE_WHOLE;
    }
    const char *first = value + 6;
    size_t first_len = strspn(first, digits);
    const char *last = first + first_len + 1;
    size_t last_len = first[first_len] == '-' ? strspn(last, digits) : 0;
    if (first[first_len] != '-' || last[last_len] != '\0' || first_len + last_len == 0) {
        return RANGE_WHOLE;
    }
    uint64_t a = first_len > 0 ? strtoull(first, NULL, 10) : 0;
    uint64_t b = last_len > 0 ? strtoull(last, NULL, 10) : UINT64_MAX;
    if (first_len == 0) {
        r->start = b < size ? size - b : 0;
        r->end = size;
        return b > 0 && size > 0 ? RANGE_PART : RANGE_UNSATISFIABLE;
    }
    if (b < a) {
        return RANGE_WHOLE;
    }
    r->start = a;
    r->end = b >= size ? size : b + 1;
    return a < size ? RANGE_PART : RANGE_UNSATISFIABLE;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = mem_copy(data, size);
    char *value;
    uint64_t size_bytes = strtoull(text, &value, 10);
    value += *value == ' ';
    struct range r = {0, 0};
    struct range want = {0, 0};
    enum range_result result =
        http_parse_range((struct span){value, strlen(value)}, size_bytes, &r);
    CHECK(result == expected(value, size_bytes, &want));
    if (result == RANGE_PART) {
        CHECK(r.start < r.end && r.end <= size_bytes);
        CHECK(r.start == want.start && r.end == want.end);
    }
    struct span list = {(const char *)data, size};
    if (http_parse_content_range(list, &r))
        CHECK(r.start < r.end && r.end <= INT64_MAX);
    bool matches = http_etag_matches(list, "\"a\"");
    CHECK(matches || !http_etag_equal(list, "\"a\""));
    free(text);
    return 0;
}
