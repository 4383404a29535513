/* SPDX-License-Identifier: ISC */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache/err.h"
#include "cache/record.h"

#define VERSION 7

static size_t write_all(uint8_t *buf, size_t size, int *err)
{
    struct record_out out;
    struct digest d;

    digest_of(DIGEST_SHA512, "x", 1, &d);
    record_start(&out, buf, size, VERSION);
    record_put_u8(&out, 0xfe);
    record_put_u16(&out, 0x1234);
    record_put_u32(&out, 0x12345678);
    record_put_u64(&out, 0x123456789abcdef0);
    record_put_i64(&out, -2);
    record_put_text(&out, "text");
    record_put_text(&out, "");
    record_put_digest(&out, &d);
    record_put_bytes(&out, "tail", 4);
    *err = record_finish(&out);
    return out.len;
}

static int read_all(const uint8_t *buf, size_t len)
{
    struct record_in in;
    struct digest d;
    struct digest expected;
    char copy[5];

    record_open(&in, (struct db_value){buf, len}, VERSION);
    uint8_t u8 = record_get_u8(&in);
    uint16_t u16 = record_get_u16(&in);
    uint32_t u32 = record_get_u32(&in);
    uint64_t u64 = record_get_u64(&in);
    int64_t i64 = record_get_i64(&in);

    record_copy_text(&in, copy, sizeof copy);
    const char *empty = record_get_text(&in);

    record_get_digest(&in, &d);
    const void *tail = record_get_bytes(&in, 4);
    int err = record_close(&in);

    if (err == 0) {
        assert_int_equal(u8, 0xfe);
        assert_int_equal(u16, 0x1234);
        assert_int_equal(u32, 0x12345678);
        assert_true(u64 == 0x123456789abcdef0);
        assert_int_equal(i64, -2);
        assert_string_equal(copy, "text");
        assert_string_equal(empty, "");
        digest_of(DIGEST_SHA512, "x", 1, &expected);
        assert_true(digest_equal(&d, &expected));
        assert_memory_equal(tail, "tail", 4);
    }
    return err;
}

static void test_round_trip(void **state)
{
    uint8_t buf[256];
    int err;
    size_t len = write_all(buf, sizeof buf, &err);

    (void)state;
    assert_int_equal(err, 0);
    assert_int_equal(read_all(buf, len), 0);
    /* The order of bytes on disk is not that of the machine. */
    assert_memory_equal(buf, "\x07\xfe\x34\x12\x78\x56\x34\x12\xf0\xde", 10);
}

static void test_every_cut_is_damage(void **state)
{
    uint8_t buf[256];
    int err;
    size_t len = write_all(buf, sizeof buf, &err);

    (void)state;
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *exact = malloc(cut);

        assert_true(exact != NULL || cut == 0);
        memcpy(exact != NULL ? exact : buf, buf, cut);
        assert_int_equal(read_all(exact, cut), ERR_DAMAGED);
        free(exact);
    }
    buf[len] = 0;
    assert_int_equal(read_all(buf, len + 1), ERR_DAMAGED);
}

static void test_too_small_buffers(void **state)
{
    uint8_t buf[256];
    int err;
    size_t len = write_all(buf, sizeof buf, &err);

    (void)state;
    for (size_t size = 0; size < len; size++) {
        uint8_t *exact = malloc(size + 1);

        assert_non_null(exact);
        write_all(exact, size, &err);
        assert_int_equal(err, ERR_TOO_LARGE);
        free(exact);
    }
}

static void test_version(void **state)
{
    uint8_t buf[256];
    int err;
    size_t len = write_all(buf, sizeof buf, &err);

    (void)state;
    buf[0] = VERSION + 1;
    assert_int_equal(read_all(buf, len), ERR_DAMAGED);
}

static void test_texts(void **state)
{
    static const uint8_t inner_nul[] = {VERSION, 3, 0, 'a', 0, 'b', 0};
    static const uint8_t no_nul[] = {VERSION, 2, 0, 'a', 'b', 'c'};
    static const uint8_t long_text[] = {VERSION, 3, 0, 'a', 'b', 'c', 0};
    static const uint8_t lying[] = {VERSION, 0xff, 0xff, 'a', 0};
    struct record_in in;
    char small[3];

    (void)state;
    record_open(&in, (struct db_value){inner_nul, sizeof inner_nul}, VERSION);
    assert_string_equal(record_get_text(&in), "");
    assert_int_equal(record_check(&in), ERR_DAMAGED);
    record_open(&in, (struct db_value){no_nul, sizeof no_nul}, VERSION);
    assert_string_equal(record_get_text(&in), "");
    assert_int_equal(record_check(&in), ERR_DAMAGED);
    record_open(&in, (struct db_value){long_text, sizeof long_text}, VERSION);
    record_copy_text(&in, small, sizeof small);
    assert_string_equal(small, "");
    assert_int_equal(record_check(&in), ERR_DAMAGED);
    record_open(&in, (struct db_value){lying, sizeof lying}, VERSION);
    assert_string_equal(record_get_text(&in), "");
    assert_int_equal(record_check(&in), ERR_DAMAGED);
}

static void test_long_text_is_refused(void **state)
{
    char *text = malloc(70000);
    uint8_t *buf = malloc(80000);
    struct record_out out;

    (void)state;
    assert_non_null(text);
    memset(text, 'x', 69999);
    text[69999] = '\0';
    record_start(&out, buf, 80000, VERSION);
    record_put_text(&out, text);
    assert_int_equal(record_finish(&out), ERR_TOO_LARGE);
    text[65535] = '\0';
    record_start(&out, buf, 80000, VERSION);
    record_put_text(&out, text);
    assert_int_equal(record_finish(&out), 0);
    free(text);
    free(buf);
}

static void test_flags(void **state)
{
    static const uint8_t buf[] = {VERSION, 0, 1, 2};
    struct record_in in;

    (void)state;
    record_open(&in, (struct db_value){buf, sizeof buf}, VERSION);
    assert_false(record_get_flag(&in));
    assert_true(record_get_flag(&in));
    assert_int_equal(record_check(&in), 0);
    assert_false(record_get_flag(&in));
    assert_int_equal(record_check(&in), ERR_DAMAGED);
}

static void test_require(void **state)
{
    static const uint8_t buf[] = {VERSION};
    struct record_in in;

    (void)state;
    record_open(&in, (struct db_value){buf, sizeof buf}, VERSION);
    record_require(&in, true);
    assert_int_equal(record_close(&in), 0);
    record_require(&in, false);
    record_require(&in, true);
    assert_int_equal(record_close(&in), ERR_DAMAGED);
}

/* A control byte is damage wherever it is in a text of whatever length; others are not. */
static void control_bytes_are_damage(void **state)
{
    (void)state;
    for (size_t len = 1; len < 20; len++) {
        for (size_t at = 0; at < len; at++) {
            for (unsigned byte = 1; byte < 256; byte++) {
                char text[24] = {0}, got[24];
                uint8_t buf[64];
                struct record_out out;
                struct record_in in;

                memset(text, 'a', len);
                text[at] = (char)byte;
                record_start(&out, buf, sizeof buf, 1);
                record_put_text(&out, text);
                assert_int_equal(record_finish(&out), 0);
                record_open(&in, (struct db_value){buf, out.len}, 1);
                record_copy_text(&in, got, sizeof got);
                bool is_bad = byte < 0x20 || byte == 0x7f;
                assert_int_equal(record_close(&in), is_bad ? ERR_DAMAGED : 0);
                assert_string_equal(got, is_bad ? "" : text);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_bytes_are_damage),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_every_cut_is_damage),
        cmocka_unit_test(test_too_small_buffers),
        cmocka_unit_test(test_version),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_long_text_is_refused),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_require),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
