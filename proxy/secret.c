/* SPDX-License-Identifier: ISC */
#include "proxy/secret.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cache/check.h"

void secret_free(char *text)
{
    if (text != NULL)
        explicit_bzero(text, strlen(text));
    free(text);
}

char *secret_join(const char *a, const char *b)
{
    size_t a_len = strlen(a), b_len = strlen(b);
    char *joined = mem_new(a_len + b_len + 1);

    memcpy(joined, a, a_len);
    memcpy(joined + a_len, b, b_len);
    return joined;
}

/* RFC 4648 section 4; `out` has room for 4 characters for each 3 bytes. */
static void put_base64(char *out, const uint8_t *data, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < len; i += 3) {
        size_t n = len - i < 3 ? len - i : 3;
        uint32_t bits = (uint32_t)data[i] << 16;
        if (n > 1)
            bits |= (uint32_t)data[i + 1] << 8;
        if (n > 2)
            bits |= data[i + 2];
        *out++ = digits[bits >> 18];
        *out++ = digits[bits >> 12 & 63];
        *out++ = n > 1 ? digits[bits >> 6 & 63] : '=';
        *out++ = n > 2 ? digits[bits & 63] : '=';
    }
}

char *secret_basic(const char *username, const char *password)
{
    static const char scheme[] = "Basic ";
    char *user = secret_join(username, ":");
    char *pair = secret_join(user, password);
    size_t len = strlen(pair);
    char *field = mem_new(sizeof scheme + (len + 2) / 3 * 4);
    memcpy(field, scheme, sizeof scheme - 1);
    put_base64(field + sizeof scheme - 1, (const uint8_t *)pair, len);
    secret_free(pair);
    free(user);
    return field;
}
