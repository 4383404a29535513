/* SPDX-License-Identifier: ISC */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache/digest.h"
#include "cache/err.h"

#define HEX32 "0123456789abcdef0123456789abcdef"
#define HEX64 HEX32 HEX32
#define HEX128 HEX64 HEX64

/* FIPS 180-4's example, "abc". */
#define ABC_SHA256 "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define ABC_SHA512                                                                                 \
    "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"                      \
    "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"

static void test_round_trip(void **state)
{
    static const char *const texts[] = {"sha256:" HEX64, "sha512:" HEX128, ABC_SHA256, ABC_SHA512};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct digest d;
        struct digest back;
        char text[DIGEST_TEXT_MAX];
        uint8_t key[DIGEST_KEY_MAX];

        memset(&d, 0xff, sizeof d);
        memset(&back, 0xff, sizeof back);
        assert_int_equal(digest_parse(&d, texts[i], strlen(texts[i])), 0);
        assert_string_equal(digest_text(&d, text), texts[i]);
        size_t len = digest_to_key(&d, key);

        assert_int_equal(len, 1 + digest_size(&d));
        assert_int_equal(digest_from_key(&back, key, len), len);
        assert_true(digest_equal(&d, &back));
        assert_memory_equal(&d, &back, sizeof d);
        assert_int_equal(strncmp(texts[i], digest_alg_name(&d), 6), 0);
    }
}

static void test_bad_texts(void **state)
{
    static const struct {
        const char *text;
        size_t len;
    } bad[] = {
#define BAD(text) {text, sizeof text - 1}
        BAD(""),
        BAD(":"),
        BAD("sha256"),
        BAD("sha256:"),
        BAD("sha256:abc"),
        BAD("sha256:" HEX32),
        BAD("sha256:" HEX64 "0"),
        BAD("sha256:" HEX128),
        BAD("sha512:" HEX64),
        BAD("sha256:" HEX32 "0123456789ABCDEF0123456789abcdef"),
        BAD("SHA256:" HEX64),
        BAD("sha256-" HEX64),
        BAD("sha384:" HEX64),
        BAD("md5:" HEX32),
        BAD(" sha256:" HEX64),
        BAD("sha256:" HEX32 "0123456789abcde/0123456789abcdef"),
        BAD("sha256:" HEX32 "0123456789abcdeg0123456789abcdef"),
        BAD("sha256:" HEX32 "0123456789abcde\0"
            "0123456789abcdef"),
        BAD("sha256:../../../../../../../../../../../../../../../../../../etc/passwd"),
#undef BAD
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct digest d;

        assert_int_equal(digest_parse(&d, bad[i].text, bad[i].len), ERR_INVALID);
    }
}

static void test_looks_like(void **state)
{
    static const char *const yes[] = {"sha256:" HEX64, "md5:00", "sha256:short",
                                      "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX",
                                      "a.b_c-d+e:Z=_-"};
    static const char *const no[] = {"",      "latest", ":",     "a:",         ":b",
                                     "A:b",   "a+:b",   "+a:b",  "a++b:c",     "a:b:c",
                                     "a:b/c", "v1.2.3", "a b:c", "sha256:../x"};

    (void)state;
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
        assert_true(digest_looks_like(yes[i], strlen(yes[i])));
    }
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) {
        assert_false(digest_looks_like(no[i], strlen(no[i])));
    }
}

static void test_bad_keys(void **state)
{
    uint8_t key[DIGEST_KEY_MAX] = {DIGEST_SHA256};
    struct digest d;

    (void)state;
    assert_int_equal(digest_from_key(&d, key, 0), ERR_INVALID);
    assert_int_equal(digest_from_key(&d, key, 32), ERR_INVALID);
    assert_int_equal(digest_from_key(&d, key, 33), 33);
    assert_int_equal(digest_from_key(&d, key, sizeof key), 33);
    key[0] = DIGEST_SHA512;
    assert_int_equal(digest_from_key(&d, key, 64), ERR_INVALID);
    assert_int_equal(digest_from_key(&d, key, 65), 65);
    key[0] = 0;
    assert_int_equal(digest_from_key(&d, key, sizeof key), ERR_INVALID);
    key[0] = 3;
    assert_int_equal(digest_from_key(&d, key, sizeof key), ERR_INVALID);
}

static void test_hash(void **state)
{
    char text[DIGEST_TEXT_MAX];
    struct digest whole;
    struct digest pieces;

    (void)state;
    digest_of(DIGEST_SHA256, "abc", 3, &whole);
    assert_string_equal(digest_text(&whole, text), ABC_SHA256);
    digest_of(DIGEST_SHA512, "abc", 3, &whole);
    assert_string_equal(digest_text(&whole, text), ABC_SHA512);

    struct hash *h = hash_new(DIGEST_SHA512);

    hash_update(h, "a", 1);
    hash_update(h, "", 0);
    hash_update(h, "bc", 2);
    hash_final(&h, &pieces);
    assert_null(h);
    assert_true(digest_equal(&whole, &pieces));

    h = hash_new(DIGEST_SHA256);
    hash_free(&h);
    assert_null(h);
    hash_free(&h);
    digest_of(DIGEST_SHA256, "", 0, &pieces);
    assert_false(digest_equal(&whole, &pieces));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_bad_texts),
        cmocka_unit_test(test_looks_like), cmocka_unit_test(test_bad_keys),
        cmocka_unit_test(test_hash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
