/* SPDX-License-Identifier: ISC */
#include "cache/digest.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"

static const struct alg {
    enum digest_alg alg;
    const char *name;
    size_t name_len;
    size_t size_bytes;
    const EVP_MD *(*md)(void);
} algs[] = {
    {DIGEST_SHA256, "sha256", 6, 32, EVP_sha256},
    {DIGEST_SHA512, "sha512", 6, 64, EVP_sha512},
};

#define ALG_COUNT (sizeof algs / sizeof algs[0])

static const struct alg *alg_find(unsigned alg)
{
    for (size_t i = 0; i < ALG_COUNT; i++)
        if ((unsigned)algs[i].alg == alg)
            return &algs[i];
    return NULL;
}

static const struct alg *alg_of(const struct digest *d)
{
    const struct alg *a = alg_find(d->alg);

    CHECK(a != NULL);
    return a;
}

/* The value of a lower-case hexadecimal digit plus one; 0 for any other byte. */
static const uint8_t hex_values[256] = {
    ['0'] = 1, ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9, ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
};

static int hex_decode(uint8_t *out, const char *hex, size_t size_bytes)
{
    for (size_t i = 0; i < size_bytes; i++) {
        unsigned high = hex_values[(unsigned char)hex[2 * i]];
        unsigned low = hex_values[(unsigned char)hex[2 * i + 1]];

        if (high == 0 || low == 0)
            return ERR_INVALID;
        out[i] = (uint8_t)((high - 1) << 4 | (low - 1));
    }
    return 0;
}

int digest_parse(struct digest *d, const char *text, size_t len)
{
    for (size_t i = 0; i < ALG_COUNT; i++) {
        const struct alg *a = &algs[i];

        if (len != a->name_len + 1 + 2 * a->size_bytes || text[a->name_len] != ':' ||
            memcmp(text, a->name, a->name_len) != 0)
            continue;
        d->alg = (uint8_t)a->alg;
        memset(d->bytes + a->size_bytes, 0, sizeof d->bytes - a->size_bytes);
        return hex_decode(d->bytes, text + a->name_len + 1, a->size_bytes);
    }
    return ERR_INVALID;
}

static bool is_lower_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alg_separator(char c)
{
    return c == '+' || c == '.' || c == '_' || c == '-';
}

static bool is_encoded_char(char c)
{
    return is_lower_or_digit(c) || (c >= 'A' && c <= 'Z') || c == '=' || c == '_' || c == '-';
}

/* digest ::= algorithm ":" encoded
 * algorithm ::= component (separator component)*, component ::= [a-z0-9]+
 * encoded ::= [a-zA-Z0-9=_-]+ */
bool digest_looks_like(const char *text, size_t len)
{
    size_t i = 0;

    while (i < len && text[i] != ':') {
        bool after_component = i > 0 && is_lower_or_digit(text[i - 1]);

        if (!is_lower_or_digit(text[i]) && !(is_alg_separator(text[i]) && after_component))
            return false;
        i++;
    }
    if (i == 0 || i + 1 >= len || !is_lower_or_digit(text[i - 1]))
        return false;
    for (i++; i < len; i++)
        if (!is_encoded_char(text[i]))
            return false;
    return true;
}

size_t digest_size(const struct digest *d)
{
    return alg_of(d)->size_bytes;
}

const char *digest_alg_name(const struct digest *d)
{
    return alg_of(d)->name;
}

char *digest_text(const struct digest *d, char out[DIGEST_TEXT_MAX])
{
    static const char digits[] = "0123456789abcdef";
    const struct alg *a = alg_of(d);
    char *at = out + a->name_len;

    memcpy(out, a->name, a->name_len);
    *at++ = ':';
    for (size_t i = 0; i < a->size_bytes; i++) {
        *at++ = digits[d->bytes[i] >> 4];
        *at++ = digits[d->bytes[i] & 0xf];
    }
    *at = '\0';
    return out;
}

bool digest_equal(const struct digest *a, const struct digest *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

size_t digest_to_key(const struct digest *d, uint8_t out[DIGEST_KEY_MAX])
{
    size_t size_bytes = digest_size(d);

    out[0] = d->alg;
    memcpy(out + 1, d->bytes, size_bytes);
    return 1 + size_bytes;
}

int digest_from_key(struct digest *d, const uint8_t *key, size_t len)
{
    const struct alg *a = len > 0 ? alg_find(key[0]) : NULL;

    if (a == NULL || len < 1 + a->size_bytes)
        return ERR_INVALID;
    d->alg = key[0];
    memcpy(d->bytes, key + 1, a->size_bytes);
    memset(d->bytes + a->size_bytes, 0, sizeof d->bytes - a->size_bytes);
    return (int)(1 + a->size_bytes);
}

struct hash {
    const struct alg *alg;
    EVP_MD_CTX *ctx;
};

struct hash *hash_new(enum digest_alg alg)
{
    struct hash *h = mem_new(sizeof *h);

    h->alg = alg_find(alg);
    CHECK(h->alg != NULL);
    h->ctx = EVP_MD_CTX_new();
    CHECK(h->ctx != NULL);
    CHECK(EVP_DigestInit_ex(h->ctx, h->alg->md(), NULL) == 1);
    return h;
}

void hash_update(struct hash *h, const void *data, size_t len)
{
    CHECK(EVP_DigestUpdate(h->ctx, data, len) == 1);
}

void hash_final(struct hash **h, struct digest *out)
{
    memset(out, 0, sizeof *out);
    out->alg = (uint8_t)(*h)->alg->alg;
    CHECK(EVP_DigestFinal_ex((*h)->ctx, out->bytes, NULL) == 1);
    hash_free(h);
}

void hash_free(struct hash **h)
{
    if (*h != NULL) {
        EVP_MD_CTX_free((*h)->ctx);
        free(*h);
        *h = NULL;
    }
}

void digest_of(enum digest_alg alg, const void *data, size_t len, struct digest *out)
{
    struct hash *h = hash_new(alg);

    hash_update(h, data, len);
    hash_final(&h, out);
}
