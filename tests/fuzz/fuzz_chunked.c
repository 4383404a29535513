/* SPDX-License-Identifier: ISC */
/* However the input is cut, the chunked coding gives the same content, verdict and end. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cache/check.h"
#include "proxy/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct decoded {
    enum http_result result;
    char *content;
    size_t content_len;
    size_t used;
};

/* Numbers that depend on nothing but the input. */
static uint32_t next_number(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 16;
}

/* Pieces of 1 to `piece_max` bytes; of one size when `seed` is NULL. */
static struct decoded decode(const char *in, size_t size, size_t piece_max, uint32_t *seed)
{
    struct decoded d = {.result = HTTP_MORE, .content = mem_new(size + 1)};
    struct chunked c;
    chunked_init(&c);
    while (d.used < size && d.result == HTTP_MORE) {
        size_t piece = seed != NULL ? next_number(seed) % piece_max + 1 : piece_max;
        piece = piece < size - d.used ? piece : size - d.used;
        const char *at = in + d.used;
        size_t used;
        struct span out;
        d.result = chunked_decode(&c, at, piece, &used, &out);
        CHECK(used <= piece);
        CHECK(used > 0 || d.result != HTTP_MORE);
        CHECK(out.p >= at && out.p + out.len <= at + used);
        memcpy(d.content + d.content_len, out.p, out.len);
        d.content_len += out.len;
        d.used += used;
    }
    return d;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *in = (const char *)data;
    struct decoded whole = decode(in, size, size + 1, NULL);
    uint32_t seed = (uint32_t)size;
    for (size_t i = 0; i < size; i++) {
        seed = seed * 31 + data[i];
    }
    for (int i = 0; i < 4; i++) {
        struct decoded cut =
            i == 0 ? decode(in, size, 1, NULL) : decode(in, size, (size_t)i * 5, &seed);
        CHECK(cut.result == whole.result);
        CHECK(cut.content_len == whole.content_len);
        CHECK(memcmp(cut.content, whole.content, cut.content_len) == 0);
        CHECK(cut.used == whole.used);
        free(cut.content);
    }
    if (whole.result == HTTP_DONE) {
        CHECK(whole.used >= 5 && memcmp(in + whole.used - 2, "\r\n", 2) == 0);
    }
    free(whole.content);
    return 0;
}
