/* SPDX-License-Identifier: ISC */
#include "proxy/base64.h"

#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "cache/err.h"

struct row {
    enum base64_alphabet alphabet;
    const char *text;
    const char *bytes; /* NULL: refused */
};

/* RFC 4648 section 10, and what is not base64. */
static const struct row rows[] = {
    {BASE64_PLAIN, "", ""},
    {BASE64_PLAIN, "Zg==", "f"},
    {BASE64_PLAIN, "Zm8=", "fo"},
    {BASE64_PLAIN, "Zm9v", "foo"},
    {BASE64_PLAIN, "Zm9vYmFy", "foobar"},
    {BASE64_PLAIN, "+/+/", "\xfb\xff\xbf"},
    {BASE64_URL, "", ""},
    {BASE64_URL, "Zg", "f"},
    {BASE64_URL, "Zm8", "fo"},
    {BASE64_URL, "-_-_", "\xfb\xff\xbf"},
    {BASE64_PLAIN, "Zg", NULL},
    {BASE64_PLAIN, "Zg=", NULL},
    {BASE64_PLAIN, "Z===", NULL},
    {BASE64_PLAIN, "====", NULL},
    {BASE64_PLAIN, "Zg==Zg==", NULL},
    {BASE64_PLAIN, "Zh==", NULL}, /* bits that mean nothing */
    {BASE64_PLAIN, "Zm9=", NULL},
    {BASE64_PLAIN, "Zm 9", NULL},
    {BASE64_PLAIN, "Zm9v\n", NULL},
    {BASE64_PLAIN, "-_-_", NULL},
    {BASE64_URL, "+/+/", NULL},
    {BASE64_URL, "Zg==", NULL},
    {BASE64_URL, "Z", NULL},
    {BASE64_URL, "Zh", NULL},
    {BASE64_URL, "Zm9\xe9", NULL},
};

static void texts_are_read_strictly(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *r = &rows[i];
        uint8_t out[64];
        size_t len = 0;
        int err = base64_decode(r->alphabet, r->text, strlen(r->text), out, &len);
        if (err != (r->bytes != NULL ? 0 : ERR_INVALID))
            fail_msg("%s: %d", r->text, err);
        if (r->bytes != NULL) {
            assert_int_equal(len, strlen(r->bytes));
            assert_memory_equal(out, r->bytes, len);
        }
    }
}

/* What another encoder writes is read back, and fits the room that is asked for. */
static void what_is_written_is_read(void **state)
{
    (void)state;
    uint8_t data[100], out[BASE64_BYTES_MAX(140)];
    char text[140];

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 97 + 13);
    for (size_t len = 0; len <= sizeof data; len++) {
        int text_len = EVP_EncodeBlock((unsigned char *)text, data, (int)len);
        size_t got = 0;
        assert_int_equal(base64_decode(BASE64_PLAIN, text, (size_t)text_len, out, &got), 0);
        assert_int_equal(got, len);
        assert_memory_equal(out, data, len);
        assert_true(got <= BASE64_BYTES_MAX((size_t)text_len));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_read_strictly),
        cmocka_unit_test(what_is_written_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
