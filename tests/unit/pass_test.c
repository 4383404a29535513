/* SPDX-License-Identifier: ISC */
#include "proxy/pass.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cache/err.h"

static const uint8_t key[PASS_KEY_BYTES] = {1, 2, 3, 250, 251, 252};
static const char hash[] = "$2y$05$0123456789";

static struct pass pass_of(const char *user, uint64_t until_s)
{
    struct pass p = {.until_s = until_s};

    snprintf(p.user, sizeof p.user, "%s", user);
    return p;
}

static bool is_genuine(const char *text, const uint8_t *with, const char *of)
{
    struct pass p;

    return pass_read(&p, text, strlen(text)) == 0 &&
           pass_is_genuine(&p, text, strlen(text), with, of);
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    char longest[CONFIG_USER_SIZE], text[PASS_TEXT_SIZE];
    const char *const users[] = {"", "alice", "\x01\xff \"\\.\n", longest};

    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    for (size_t i = 0; i < sizeof users / sizeof users[0]; i++) {
        struct pass p = pass_of(users[i], i == 0 ? UINT64_MAX : i), read;
        pass_write(&p, key, hash, text);
        assert_int_equal(pass_read(&read, text, strlen(text)), 0);
        assert_string_equal(read.user, users[i]);
        assert_int_equal(read.until_s, p.until_s);
        assert_true(is_genuine(text, key, hash));
        assert_int_equal(strspn(text, "0123456789abcdef."), strlen(text));
    }
    assert_int_equal(strlen(text), PASS_TEXT_SIZE - 1);
}

/* The seal is HMAC's, of what is before the last dot, a NUL and the hash. */
static void the_seal_is_a_known_one(void **state)
{
    (void)state;
    const struct pass p = pass_of("ann", 0x1f);
    static const char said[] = "000000000000001f.616e6e\0$2y$05$0123456789";
    char text[PASS_TEXT_SIZE], expected[65];
    uint8_t mac[32];
    unsigned mac_len;

    assert_non_null(
        HMAC(EVP_sha256(), key, sizeof key, (const uint8_t *)said, sizeof said - 1, mac, &mac_len));
    for (size_t i = 0; i < sizeof mac; i++)
        snprintf(expected + 2 * i, 3, "%02x", mac[i]);
    pass_write(&p, key, hash, text);
    assert_string_equal(strrchr(text, '.') + 1, expected);
}

static void another_key_hash_or_byte_breaks_it(void **state)
{
    (void)state;
    const struct pass p = pass_of("alice", 1000);
    uint8_t other[PASS_KEY_BYTES];
    char text[PASS_TEXT_SIZE];

    pass_write(&p, key, hash, text);
    memcpy(other, key, sizeof other);
    other[PASS_KEY_BYTES - 1] ^= 1;
    assert_false(is_genuine(text, other, hash));
    assert_false(is_genuine(text, key, "$2y$05$0123456788"));
    assert_false(is_genuine(text, key, ""));
    for (size_t i = 0; text[i] != '\0'; i++) {
        for (int bit = 0; bit < 8; bit++) {
            text[i] ^= (char)(1 << bit);
            assert_false(is_genuine(text, key, hash));
            text[i] ^= (char)(1 << bit);
        }
    }
    assert_true(is_genuine(text, key, hash));
}

static void what_is_none_is_refused(void **state)
{
    (void)state;
#define SEAL "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    static const char *const texts[] = {
        "",
        "x",
        "000000000000001f.." SEAL "0",
        "00000000000001f.." SEAL,
        "000000000000001F.." SEAL,
        "000000000000001f.6." SEAL,
        "000000000000001f.6A." SEAL,
        "000000000000001f.00." SEAL,
        "000000000000001f.610061." SEAL,
        "000000000000001f:61." SEAL,
        "000000000000001f.61:" SEAL,
        "000000000000001f." SEAL,
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.",
    };
    struct pass p;

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (pass_read(&p, texts[i], strlen(texts[i])) != ERR_INVALID)
            fail_msg("%s", texts[i]);
    }
    char text[1000];
    memset(text, '6', sizeof text);
    text[16] = text[16 + 1 + 2 * CONFIG_USER_SIZE] = '.';
    assert_int_equal(pass_read(&p, text, 16 + 1 + 2 * CONFIG_USER_SIZE + 1 + 64), ERR_INVALID);
    assert_int_equal(pass_read(&p, "000000000000001f.." SEAL, 16 + 2 + 64), 0);
    assert_string_equal(p.user, "");
    assert_false(is_genuine("000000000000001f.." SEAL, key, ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(the_seal_is_a_known_one),
        cmocka_unit_test(another_key_hash_or_byte_breaks_it),
        cmocka_unit_test(what_is_none_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
