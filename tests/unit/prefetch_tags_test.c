/* SPDX-License-Identifier: ISC */
/* References of a prefetch, and the pages that a list of tags comes in. */
#include "proxy/prefetch_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache/err.h"

static void test_links(void **state)
{
    static const struct {
        const char *link, *query; /* NULL: none */
    } rows[] = {
        {"</v2/app/tags/list?last=b&n=2>; rel=\"next\"", "last=b&n=2"},
        {"</v2/app/tags/list?last=b&n=2>; rel=next", "last=b&n=2"},
        {"<https://reg.test/v2/app/tags/list?last=b>;rel=\"next\"", "last=b"},
        {"</v2/app/tags/list?last=b>; rel=\"prev\"", NULL},
        {"</v2/app/tags/list?last=b>", NULL},
        {"</v2/app/tags/list>; rel=\"next\"", NULL},
        {"</v2/app/tags/list?>; rel=\"next\"", NULL},
        {"</v2/app/tags/list>; rel=\"next\"; x=\"?y\"", NULL},
        {"/v2/app/tags/list?last=b>; rel=\"next\"", NULL},
        {"</v2/app/tags/list?last=b; rel=\"next\"", NULL},
        {"</v2/app?last=123456789012345678901234567890>; rel=\"next\"", NULL},
        {"", NULL},
        {NULL, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char query[32];
        bool found = link_next_query(rows[i].link, query, sizeof query);

        assert_int_equal(found, rows[i].query != NULL);
        if (found)
            assert_string_equal(query, rows[i].query);
    }
}

static void test_targets(void **state)
{
    struct targets *t = mem_new(sizeof *t);
    struct reference r;

    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < TARGETS_MAX; i++) {
            assert_int_equal(reference_parse(&r, "app:1", "docker.io"), 0);
            snprintf(r.tag, sizeof r.tag, "%u", i);
            assert_true(targets_add(t, &r));
        }
    }
    assert_int_equal(t->count, TARGETS_MAX);
    assert_int_equal(reference_parse(&r, "app:one-too-many", "docker.io"), 0);
    assert_false(targets_add(t, &r));
    free(t);
}

static void test_references(void **state)
{
    static const struct {
        const char *text, *canonical, *tags; /* NULL: refused */
    } rows[] = {
        {"mcr.microsoft.com/windows/servercore:ltsc2022",
         "mcr.microsoft.com/windows/servercore:ltsc2022", ""},
        {"alpine", "docker.io/library/alpine:latest", ""},
        {"alpine:3", "docker.io/library/alpine:3", ""},
        {"alpine:*", "docker.io/library/alpine:", "*"},
        {"reg.test:5000/team/app:v1.?", "reg.test:5000/team/app:", "v1.?"},
        {"MCR.microsoft.com/windows/servercore:ltsc*",
         "mcr.microsoft.com/windows/servercore:", "ltsc*"},
        {"alpine:1:*", NULL, NULL},
        {"alpine*", NULL, NULL},
        {"reg.test:5000/a*", NULL, NULL},
        {"reg.test:5*/app", NULL, NULL},
        {"alpine:[a-z]*", NULL, NULL},
        {"alpine:3@sha256:*", NULL, NULL},
        {"*/app:1", NULL, NULL},
        {":*", NULL, NULL},
        {"", NULL, NULL},
        {"app:", NULL, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[REFERENCE_TEXT_MAX], tags[CONFIG_TAGS_SIZE];
        struct reference r;
        int err = config_reference(rows[i].text, &r, tags);

        if (err != (rows[i].canonical ? 0 : ERR_INVALID))
            fail_msg("\"%s\"", rows[i].text);
        if (err != 0)
            continue;
        reference_text(&r, text);
        assert_string_equal(text, rows[i].canonical);
        assert_string_equal(tags, rows[i].tags);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_links),
        cmocka_unit_test(test_targets),
        cmocka_unit_test(test_references),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
