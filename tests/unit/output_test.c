/* SPDX-License-Identifier: ISC */
/* What the command prints: sizes, ages, bars, tables that fit, screens, downloads. */
#include "tools/output.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tools/downloads.h"
#include "tools/screen.h"

static void test_sizes(void **state)
{
    static const struct {
        uint64_t size_bytes;
        const char *text;
        const char *shortly;
    } rows[] = {
        {0, "0 B", "0B"},
        {999, "999 B", "999B"},
        {1000, "1000 B", "1.0K"},
        {1024, "1.0 KiB", "1.0K"},
        {102400, "100.0 KiB", "100K"},
        {1023 * 1024, "1023.0 KiB", "1.0M"},
        {1500000000, "1.4 GiB", "1.4G"},
        {UINT64_MAX, "16.0 EiB", "16.0E"},
    };
    char out[TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_string_equal(size_text(out, rows[i].size_bytes), rows[i].text);
        assert_string_equal(short_size_text(out, rows[i].size_bytes), rows[i].shortly);
    }
    for (uint64_t size = 1; size < UINT64_MAX / 2; size += size / 20 + 1)
        assert_true(strlen(short_size_text(out, size)) <= 5);
}

static void test_ages(void **state)
{
    char out[TEXT_MAX];

    (void)state;
    assert_string_equal(age_text(out, -5), "0s");
    assert_string_equal(age_text(out, 59), "59s");
    assert_string_equal(age_text(out, 60), "1m");
    assert_string_equal(age_text(out, 3600 * 23), "23h");
    assert_string_equal(age_text(out, 86400 * 400), "400d");
}

static void test_some_of_a_list(void **state)
{
    static const char *const texts[] = {"nothing", "a", "a, b", "a, b, c", "a, b, c and 1 more"};
    json_t *list = json_array();

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char *text = json_text_of_some(list, "nothing");

        assert_string_equal(text, texts[i]);
        free(text);
        json_array_append_new(list, json_stringn(&"abcd"[i], 1));
    }
    json_decref(list);
}

static void test_bars(void **state)
{
    char out[BAR_MAX];

    (void)state;
    assert_string_equal(bar_text(out, 12, 0, 100), "[----------]");
    assert_string_equal(bar_text(out, 12, 55, 100), "[#####-----]");
    assert_string_equal(bar_text(out, 12, 99, 100), "[#########-]");
    assert_string_equal(bar_text(out, 12, 100, 100), "[##########]");
    assert_string_equal(bar_text(out, 12, 200, 100), "[##########]");
    assert_string_equal(bar_text(out, 3, 0, 0), "[#]");
    assert_string_equal(bar_text(out, 2, 1, 2), "");
    assert_string_equal(bar_text(out, BAR_MAX, 1, 2), "");
    assert_int_equal(strlen(bar_text(out, BAR_MAX - 1, 1, 2)), BAR_MAX - 1);
}

static void test_printable(void **state)
{
    char *text = printable("a\033[2Jb\n\xc3\xa9 \x7f~");

    (void)state;
    assert_string_equal(text, "a?[2Jb??? ?~");
    free(text);
}

/* --- tables --- */

static struct table *make(const char *sides, const char *const *cells, size_t count)
{
    struct table *t = table_new(sides);

    for (size_t i = 0; i < count; i++)
        table_add(t, "%s", cells[i]);
    return t;
}

#define MAKE(sides, ...)                                                                           \
    make(sides, (const char *const[]){__VA_ARGS__},                                                \
         sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void expect(struct table *t, unsigned columns, bool has_style, const char *text)
{
    char *got = table_text(t, columns, has_style);

    assert_string_equal(got, text);
    free(got);
    table_free(&t);
    assert_null(t);
}

static void test_table(void **state)
{
    (void)state;
    expect(MAKE("lrl", "NAME", "SIZE", "X", "a", "1", "", "bcdefg", "1000", "yz"), 0, false,
           "NAME    SIZE  X\n"
           "a          1  \n"
           "bcdefg  1000  yz\n");
    expect(MAKE("lr", "N", "S", "a", "1"), 80, true,
           "\033[1mN  S\033[0m\n"
           "a  1\n");
    expect(make("l", NULL, 0), 80, true, "");
}

static void test_table_is_cut(void **state)
{
    (void)state;
    /* Cut where it matters least; numbers never. */
    expect(MAKE("mrl", "REFERENCE", "SIZE", "WHAT", "mcr.microsoft.com/windows/servercore:ltsc2022",
                "1234567", "the end is lost of this one"),
           50, false,
           "REFERENCE                SIZE  WHAT\n"
           "mcr.mi..ore:ltsc2022  1234567  the end is lost o..\n");
}

static void test_table_wraps(void **state)
{
    (void)state;
    expect(MAKE("lw", "A", "WHY", "x",
                "one two three four five six seven eight nine ten eleven twelve", "y", "short"),
           24, false,
           "A  WHY\n"
           "x  one two three four\n"
           "   five six seven eight\n"
           "   nine ten eleven\n"
           "   twelve\n"
           "y  short\n");
    /* A word that is too long is broken. */
    expect(MAKE("lw", "A", "W", "x", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa b"), 23, false,
           "A  W\n"
           "x  aaaaaaaaaaaaaaaaaaaa\n"
           "   aaaaaaaaaaaaaaaa b\n");
}

/* However narrow: every line fits, as long as headings and numbers do. */
static void test_tables_fit(void **state)
{
    (void)state;
    for (unsigned columns = 68; columns < 140; columns++) {
        struct table *t =
            MAKE("mlrrw", "REFERENCE", "DIGEST", "SIZE", "AGE", "HELD",
                 "registry.example.com:5000/very/long/repository/name/indeed:2024.10.1-rc.1",
                 "0123456789ab", "1023.9 MiB", "400d",
                 "linux/amd64, linux/arm64 (1 of 3 blobs), windows/amd64:10.0.17763.1");
        char *text = table_text(t, columns, false), *rest;

        for (char *line = strtok_r(text, "\n", &rest); line != NULL;
             line = strtok_r(NULL, "\n", &rest))
            assert_true(strlen(line) <= columns);
        free(text);
        table_free(&t);
    }
}

/* --- the screen --- */

static void test_frames(void **state)
{
    struct terminal_size size = {.columns = 5, .lines = 3};
    char *frame = screen_frame("one\ntwo and\n\033[1mthree and\033[0m\nfour\n", &size);

    (void)state;
    assert_string_equal(frame, "\033[Hone\033[K\r\ntwo a\033[0m\033[K\r\n"
                               "\033[1mthree\033[0m\033[K\033[J");
    free(frame);
    frame = screen_frame("", &size);
    assert_string_equal(frame, "\033[H\033[J");
    free(frame);
    /* Escapes take no room. */
    frame = screen_frame("\033[1mthree\033[0m", &size);
    assert_string_equal(frame, "\033[H\033[1mthree\033[0m\033[K\033[J");
    free(frame);
    /* One that was cut off in the middle is passed over. */
    frame = screen_frame("a\033[1", &size);
    assert_string_equal(frame, "\033[Ha\033[1\033[K\033[J");
    free(frame);
}

/* --- downloads --- */

#define DIGEST(c) "sha256:" c "123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const char answer[] =
    "{\"fetches\":["
    "{\"digest\":\"" DIGEST(
        "a") "\",\"name\":\"docker.io/library/big\",\"state\":\"streaming\","
             "\"size_bytes\":100000000,\"done_bytes\":50000000,\"kept_bytes\":10000000,"
             "\"elapsed_ms\":4000},"
             "{\"digest\":\"" DIGEST(
                 "b") "\",\"name\":\"quay.io/a/b\",\"state\":\"asking\","
                      "\"size_bytes\":null,\"done_bytes\":0,\"kept_bytes\":0,\"elapsed_ms\":3},"
                      "{\"digest\":\"" DIGEST(
                          "c") "\",\"name\":\"quay.io/a/b\",\"state\":\"streaming\","
                               "\"size_bytes\":1000,\"done_bytes\":1000,\"kept_bytes\":1000,"
                               "\"elapsed_ms\":0},"
                               "{\"digest\":\"" DIGEST(
                                   "d") "\",\"name\":\"x\",\"state\":\"failed\",\"size_bytes\":1},"
                                        "{\"digest\":7},5,{}]}";

static void test_downloads(void **state)
{
    struct downloads now = {0}, before = {0};

    (void)state;
    downloads_take(&now, answer);
    assert_int_equal(now.count, 3);
    assert_string_equal(now.list[0].digest, DIGEST("c"));
    assert_int_equal(now.list[0].rate, -1);
    assert_string_equal(now.list[1].name, "docker.io/library/big");
    assert_int_equal(now.list[1].rate, 10000000);
    assert_string_equal(now.list[2].digest, DIGEST("b"));
    assert_int_equal(now.list[2].size_bytes, -1);

    downloads_take(&before, answer);
    before.list[1].done_bytes = 48000000;
    downloads_compare(&now, &before, 1000);
    assert_int_equal(now.list[1].rate, 2000000);
    /* It began anew. */
    before.list[1].done_bytes = 60000000;
    downloads_compare(&now, &before, 1000);
    assert_int_equal(now.list[1].rate, 2000000);
    json_t *json = downloads_json(&now);

    assert_int_equal(json_array_size(json), 3);
    assert_true(json_is_null(json_object_get(json_array_get(json, 2), "size_bytes")));
    json_decref(json);
    downloads_clear(&now);
    downloads_clear(&before);
    assert_int_equal(now.count, 0);
}

static void test_downloads_that_are_none(void **state)
{
    static const char *const answers[] = {
        "", "[]", "{}", "{\"fetches\":5}", "{\"fetches\":[[]]}", "{\"fetches\":[", "nonsense"};
    struct downloads d = {0};

    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        downloads_take(&d, answers[i]);
        assert_int_equal(d.count, 0);
    }
}

static char *written(const struct downloads *d, unsigned columns, size_t max)
{
    struct terminal_size size = {.columns = columns, .lines = 24};
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    downloads_write(out, d, &size, max, false);
    fclose(out);
    return text;
}

static void test_downloads_written(void **state)
{
    struct downloads d = {0};
    char *text = written(&d, 80, 10);

    (void)state;
    assert_string_equal(text, "");
    free(text);
    downloads_take(&d, answer);
    text = written(&d, 80, 2);
    assert_string_equal(
        text, "\n"
              "DOWNLOAD               DIGEST                       DONE     OF    RATE  LEFT\n"
              "quay.io/a/b            c123456789ab  [############] 100%   1.0K       -     -\n"
              "docker.io/library/big  a123456789ab   [######------] 50%  95.4M  9.5M/s    5s\n"
              "and 1 more\n");
    free(text);
    downloads_clear(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_ages),
        cmocka_unit_test(test_some_of_a_list),
        cmocka_unit_test(test_bars),
        cmocka_unit_test(test_printable),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_table_is_cut),
        cmocka_unit_test(test_table_wraps),
        cmocka_unit_test(test_tables_fit),
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_downloads),
        cmocka_unit_test(test_downloads_that_are_none),
        cmocka_unit_test(test_downloads_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
