/* SPDX-License-Identifier: ISC */
#include "proxy/fetches.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define HEX "0000000000000000000000000000000000000000000000000000000000000000"
#define HEAD "{\"fetches\":["

static void expect(struct fetch_table *t, int64_t now_ms, const char *text)
{
    size_t len;
    char *got = fetches_format(t, now_ms, &len);

    assert_string_equal(got, text);
    assert_int_equal(len, strlen(text));
    free(got);
}

static void test_progress(void **state)
{
    static const struct digest digest = {.alg = DIGEST_SHA256};
    struct fetch_table *t = fetch_table_new();
    struct name n;
    bool created;
    int fd = open("/dev/null", O_RDONLY);

    (void)state;
    assert_int_equal(name_set(&n, "docker.io", 9, "app", 3), 0);
    expect(t, 5, HEAD "]}\n");
    struct fetch *f = fetch_join(t, &digest, NULL, &created);

    fetch_describe(f, &n, 1000);
    expect(t, 1500,
           HEAD "\n{\"digest\":\"sha256:" HEX "\",\"name\":\"docker.io/library/app\","
                "\"state\":\"asking\",\"size_bytes\":null,\"done_bytes\":0,\"kept_bytes\":0,"
                "\"elapsed_ms\":500}]}\n");
    assert_int_equal(fetch_begin(f, fd, 1000000, 200000), 0);
    fetch_advance(f, 700000);
    expect(t, 3000,
           HEAD "\n{\"digest\":\"sha256:" HEX "\",\"name\":\"docker.io/library/app\","
                "\"state\":\"streaming\",\"size_bytes\":1000000,\"done_bytes\":700000,"
                "\"kept_bytes\":200000,\"elapsed_ms\":2000}]}\n");
    fetch_retire(t, f);
    expect(t, 3000, HEAD "]}\n");
    fetch_unref(&f);
    fetch_table_free(&t);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_progress)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
