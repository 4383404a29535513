/* SPDX-License-Identifier: ISC */
/* A head that is passed on is one request of the same meaning, whatever came: the method, the
 * target behind the prefix and what frames the body are the same, the host is the one that was
 * said, and nothing of the connection to us is left in it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cache/check.h"
#include "proxy/http_forward.h"

#define PREFIX "/prefix"
#define ADDED_MAX 512u /* prefix, Host, CDN-Loop, Connection */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool same(struct span a, struct span b)
{
    return (a.p == NULL) == (b.p == NULL) && a.len == b.len &&
           (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

static bool ends_with(struct span s, struct span end)
{
    return s.len >= end.len && (end.len == 0 || memcmp(s.p + s.len - end.len, end.p, end.len) == 0);
}

static void check_target(struct span before, struct span after)
{
    struct span origin = http_target_origin(before);

    if (span_equal(before, "*")) {
        CHECK(span_equal(after, "*"));
        return;
    }
    CHECK(after.len > sizeof PREFIX - 1 && memcmp(after.p, PREFIX "/", sizeof PREFIX) == 0);
    CHECK(ends_with(after, origin));
    CHECK(after.len <= sizeof PREFIX - 1 + origin.len + 1);
    CHECK(http_target_authority(after).p == NULL);
}

static unsigned count_lines(struct span fields, const char *name)
{
    unsigned count = 0;
    size_t len = strlen(name);

    while (fields.len > 0) {
        const char *end = memchr(fields.p, '\n', fields.len);
        size_t line = end ? (size_t)(end + 1 - fields.p) : fields.len;

        count += line > len && fields.p[len] == ':' &&
                 span_equal_fold((struct span){fields.p, len}, name);
        fields = span_from(fields, line);
    }
    return count;
}

static void check_forwarded(const struct http_head *before, const struct http_head *after)
{
    CHECK(same(before->method_text, after->method_text) && before->method == after->method);
    check_target(before->target, after->target);
    CHECK(before->chunked == after->chunked && before->content_length == after->content_length);
    CHECK(span_equal(after->host, "up.test") && !after->keep_alive);
    CHECK(after->minor_version == before->minor_version);
    CHECK(after->authorization.p == NULL || same(before->authorization, after->authorization));
    CHECK(ends_with(after->cdn_loop, (struct span){"loop-id", 7}));
    static const char *const gone[] = {"proxy-authorization", "te", "upgrade", "keep-alive"};
    for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++)
        CHECK(count_lines(after->fields, gone[i]) == 0);
    CHECK(count_lines(after->fields, "connection") == 1);
    CHECK(count_lines(after->fields, "cdn-loop") == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http_head before, after;
    size_t used, again;

    if (http_parse_head(&before, (const char *)data, size, &used) != HTTP_DONE ||
        before.method == HTTP_CONNECT)
        return 0;
    char *out = malloc(used + ADDED_MAX);
    CHECK(out);
    size_t len = http_forward_head(&before, "up.test", PREFIX, "loop-id", out, used + ADDED_MAX);
    CHECK(len > 0 && len <= used + ADDED_MAX);
    CHECK(http_forward_head(&before, "up.test", PREFIX, "loop-id", out, len) == len);
    enum http_result res = http_parse_head(&after, out, len, &again);
    if (res == HTTP_DONE) {
        CHECK(again == len);
        check_forwarded(&before, &after);
    } else {
        /* Only its length may have become too much for ourselves. */
        CHECK(res != HTTP_BAD && res != HTTP_MORE && res != HTTP_BAD_VERSION);
    }
    free(out);
    return 0;
}
