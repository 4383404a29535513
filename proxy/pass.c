/* SPDX-License-Identifier: ISC */
#include "proxy/pass.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cache/digest.h"
#include "cache/err.h"

#define TIME_DIGITS 16
#define SEAL_DIGITS 64
#define BLOCK_BYTES 64 /* of SHA-256 */

/* --- the seal: HMAC, RFC 2104, with SHA-256 --- */

static void begin_keyed(struct hash **h, const uint8_t key[PASS_KEY_BYTES], uint8_t pad)
{
    uint8_t block[BLOCK_BYTES];

    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (uint8_t)((i < PASS_KEY_BYTES ? key[i] : 0) ^ pad);
    *h = hash_new(DIGEST_SHA256);
    hash_update(*h, block, sizeof block);
    explicit_bzero(block, sizeof block);
}

/* Of what a pass says, and of the hash, which no NUL is in. */
static void seal(const uint8_t key[PASS_KEY_BYTES], const char *said, const char *hash,
                 struct digest *d)
{
    struct hash *h;

    begin_keyed(&h, key, 0x36);
    hash_update(h, said, strlen(said) + 1);
    hash_update(h, hash, strlen(hash));
    hash_final(&h, d);
    struct digest inner = *d;
    begin_keyed(&h, key, 0x5c);
    hash_update(h, inner.bytes, digest_size(&inner));
    hash_final(&h, d);
}

/* --- texts --- */

static char *put_hex(char *out, const void *data, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = data;

    for (size_t i = 0; i < len; i++) {
        *out++ = digits[p[i] >> 4];
        *out++ = digits[p[i] & 15];
    }
    *out = '\0';
    return out;
}

void pass_write(const struct pass *p, const uint8_t key[PASS_KEY_BYTES], const char *hash,
                char out[PASS_TEXT_SIZE])
{
    struct digest d;
    char *end = out + snprintf(out, PASS_TEXT_SIZE, "%016" PRIx64 ".", p->until_s);

    end = put_hex(end, p->user, strlen(p->user));
    seal(key, out, hash, &d);
    *end++ = '.';
    put_hex(end, d.bytes, SEAL_DIGITS / 2);
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A byte of two digits, or -1. */
static int hex_byte(const char *text)
{
    int high = hex_value(text[0]), low = hex_value(text[1]);

    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

int pass_read(struct pass *p, const char *text, size_t len)
{
    const size_t least = TIME_DIGITS + 1 + 1 + SEAL_DIGITS;

    *p = (struct pass){0};
    if (len < least || len >= PASS_TEXT_SIZE || (len - least) % 2 != 0)
        return ERR_INVALID;
    const char *name = text + TIME_DIGITS + 1, *end = text + len - SEAL_DIGITS - 1;
    if (name[-1] != '.' || *end != '.')
        return ERR_INVALID;
    for (size_t i = 0; i < TIME_DIGITS; i++) {
        int digit = hex_value(text[i]);
        if (digit < 0)
            return ERR_INVALID;
        p->until_s = p->until_s << 4 | (uint64_t)digit;
    }
    for (size_t i = 0; name < end; i++, name += 2) {
        int byte = hex_byte(name);
        if (byte <= 0)
            return ERR_INVALID;
        p->user[i] = (char)byte;
    }
    return 0;
}

bool pass_is_genuine(const struct pass *p, const char *text, size_t len,
                     const uint8_t key[PASS_KEY_BYTES], const char *hash)
{
    char genuine[PASS_TEXT_SIZE];
    unsigned differs = 0;

    pass_write(p, key, hash, genuine);
    if (strlen(genuine) != len)
        return false;
    /* All of them, so that the time tells nobody how far he has guessed it. */
    for (size_t i = 0; i < len; i++)
        differs |= (unsigned char)genuine[i] ^ (unsigned char)text[i];
    explicit_bzero(genuine, sizeof genuine);
    return differs == 0;
}
