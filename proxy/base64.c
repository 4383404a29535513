/* SPDX-License-Identifier: ISC */
#include "proxy/base64.h"

#include <stdbool.h>

#include "cache/err.h"

/* The value of a digit, or -1. */
static int digit_value(enum base64_alphabet alphabet, char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == (alphabet == BASE64_URL ? '-' : '+'))
        return 62;
    return c == (alphabet == BASE64_URL ? '_' : '/') ? 63 : -1;
}

int base64_decode(enum base64_alphabet alphabet, const char *text, size_t len, uint8_t *out,
                  size_t *out_len)
{
    size_t digits = len, n = 0;
    uint32_t bits = 0;

    if (alphabet == BASE64_PLAIN) {
        if (len % 4 != 0)
            return ERR_INVALID;
        while (digits > 0 && len - digits < 2 && text[digits - 1] == '=')
            digits--;
    }
    if (digits % 4 == 1)
        return ERR_INVALID;
    for (size_t i = 0; i < digits; i++) {
        int value = digit_value(alphabet, text[i]);
        if (value < 0)
            return ERR_INVALID;
        bits = bits << 6 | (uint32_t)value;
        /* Each digit but the first of four completes a byte. */
        unsigned left = 6 - 2 * (unsigned)(i % 4);
        if (i % 4 != 0)
            out[n++] = (uint8_t)(bits >> left);
    }
    unsigned unused = digits % 4 == 2 ? 4 : digits % 4 == 3 ? 2 : 0;
    *out_len = n;
    return (bits & ((1u << unused) - 1)) == 0 ? 0 : ERR_INVALID;
}
