/* SPDX-License-Identifier: ISC */
/* No token that the key's owner has not signed is taken; claims grant what they may at most,
 * and say who in a way that can be shown. A line before the first newline is a repository. */
#include "proxy/bearer.h"

#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/signature.h"
#include "proxy/base64.h"
#include "proxy/right.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whose private half nobody has. */
static char pem[] = "-----BEGIN PUBLIC KEY-----\n"
                    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEZXCCPd1mdLkO25px7lzEldFGasEA\n"
                    "hDf1oyD1wfYfByJBVX9DCw8lr2WwPUfYI7NNoue24Qnsgqh4AUwJ6hcrgA==\n"
                    "-----END PUBLIC KEY-----\n";

#define NOW 1800000000

static const struct bearer_policy *policy(void)
{
    static struct signature_key *key;
    static struct bearer_policy p = {.issuer = "me", .service = "here"};
    char why[128];

    if (key == NULL) {
        CHECK(signature_key_parse(&key, pem, strlen(pem), why, sizeof why) == 0);
    }
    p.key = key;
    return &p;
}

static void check_claims(const char *json, size_t len, const struct name *repository)
{
    struct bearer b;
    const char *why = NULL;
    int err = bearer_read_claims(policy(), json, len, NOW, repository, &b, &why);

    CHECK((err == 0) == (why == NULL));
    CHECK(err == 0 || err == ERR_INVALID);
    CHECK(err == 0 || (b.grants == 0 && b.subject[0] == '\0'));
    CHECK((b.grants & ~RIGHTS_ALL) == 0);
    CHECK((repository != NULL && name_is_local(repository)) || (b.grants & ~RIGHT_PULL) == 0);
    CHECK(memchr(b.subject, '\0', sizeof b.subject) != NULL);
    for (const char *p = b.subject; *p != '\0'; p++) {
        CHECK(*p >= 0x20 && *p <= 0x7e);
    }
}

static void check_base64(enum base64_alphabet alphabet, const char *text, size_t len)
{
    uint8_t *out = mem_new(BASE64_BYTES_MAX(len));
    size_t out_len = 0;

    if (base64_decode(alphabet, text, len, out, &out_len) == 0) {
        CHECK(out_len <= BASE64_BYTES_MAX(len));
        CHECK(alphabet == BASE64_URL ? out_len == len * 3 / 4 : len == (out_len + 2) / 3 * 4);
    }
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    const char *line = size > 0 ? memchr(text, '\n', size) : NULL;
    struct bearer b;
    struct name name;
    const char *why = NULL;

    if (size == 0) {
        return 0;
    }
    CHECK(bearer_check(policy(), text, size, NOW, NULL, &b, &why) == ERR_INVALID);
    CHECK(why != NULL && b.grants == 0);
    check_base64(BASE64_PLAIN, text, size);
    check_base64(BASE64_URL, text, size);
    if (line == NULL) {
        return 0;
    }
    size_t at = (size_t)(line - text);
    bool is_local = name_set_local(&name, text, at) == 0;

    check_claims(line + 1, size - at - 1, is_local ? &name : NULL);
    name = (struct name){"docker.io", "acme/app"};
    check_claims(line + 1, size - at - 1, &name);
    return 0;
}
