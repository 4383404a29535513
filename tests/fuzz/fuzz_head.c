/* SPDX-License-Identifier: ISC */
/* A head that is taken has the framing of RFC 9112 by a second, simpler reading; its spans
 * lie inside of it; and no part of a head has another verdict than the whole. */
#include <stdint.h>
#include <string.h>

#include "cache/check.h"
#include "proxy/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_span(struct span s, const char *buf, size_t used)
{
    if (s.p != NULL) {
        CHECK(s.p >= buf && s.len <= used && s.p + s.len <= buf + used);
        CHECK(memchr(s.p, '\r', s.len) == NULL && memchr(s.p, '\n', s.len) == NULL);
    }
}

static void check_spans(const struct http_head *h, const char *buf, size_t used)
{
    const struct span spans[] = {h->target,       h->host,          h->range,         h->if_range,
                                 h->accept,       h->authorization, h->if_none_match, h->user_agent,
                                 h->content_type, h->content_range};
    for (size_t i = 0; i < sizeof spans / sizeof spans[0]; i++) {
        check_span(spans[i], buf, used);
    }
    CHECK(h->target.len > 0 && h->target.len <= HTTP_TARGET_MAX);
}

/* Lines end in CRLF and nothing else does; the first empty one but the very first line is
 * the end. */
static void check_framing(const char *buf, size_t used)
{
    CHECK(used <= HTTP_HEAD_MAX && used >= 4);
    CHECK(memcmp(buf + used - 4, "\r\n\r\n", 4) == 0);
    size_t start = memcmp(buf, "\r\n", 2) == 0 ? 2 : 0;
    CHECK(memmem(buf + start, used - start, "\r\n\r\n", 4) == buf + used - 4);
    for (size_t i = 0; i < used; i++) {
        unsigned char b = (unsigned char)buf[i];
        CHECK(b >= 0x20 || b == '\t' || b == '\r' || b == '\n');
        CHECK(b != 0x7f);
        CHECK(b != '\r' || (i + 1 < used && buf[i + 1] == '\n'));
        CHECK(b != '\n' || (i > 0 && buf[i - 1] == '\r'));
        CHECK(b != ' ' || i == 0 || buf[i - 1] != '\n');
    }
}

static void check_meaning(const struct http_head *h)
{
    CHECK(h->minor_version == 0 || h->minor_version == 1);
    CHECK(h->content_length >= -1);
    CHECK(!h->chunked || (h->content_length < 0 && h->minor_version == 1));
    CHECK(h->host.p != NULL || h->minor_version == 0);
    CHECK(h->host.p == NULL || http_is_authority(h->host, false));
    CHECK(http_is_target(h->method, h->target));
    CHECK(!h->expect_continue || h->minor_version == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *buf = (const char *)data;
    struct http_head h;
    size_t used;
    enum http_result whole = http_parse_head(&h, buf, size, &used);
    if (whole == HTTP_DONE) {
        CHECK(used <= size);
        check_spans(&h, buf, used);
        check_framing(buf, used);
        check_meaning(&h);
    } else {
        CHECK(used == 0);
        CHECK(whole != HTTP_MORE || size < HTTP_HEAD_MAX);
    }
    size_t step = size / 64 + 1;
    for (size_t n = 0; n < size; n += step) {
        size_t part_used;
        enum http_result part = http_parse_head(&h, buf, n, &part_used);
        CHECK(part == HTTP_MORE || part == whole);
        CHECK(part != HTTP_DONE || (part_used == used && n >= used));
        CHECK(whole != HTTP_DONE || part == (n < used ? HTTP_MORE : HTTP_DONE));
    }
    return 0;
}
