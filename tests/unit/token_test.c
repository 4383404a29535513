/* SPDX-License-Identifier: ISC */
/* Answers of token servers, questions to them, and the tokens that are held. */
#include "proxy/token.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache/err.h"
#include "proxy/secret.h"

#define NOW 1000000
#define HOUR (3600 * INT64_C(1000))

struct answer_row {
    const char *answer;
    const char *text; /* NULL: not valid */
    int64_t life_ms;
};

static const struct answer_row answers[] = {
    /* Docker Hub, GitHub and Quay, Azure */
    {"{\"token\":\"a.b-c_d\",\"access_token\":\"a.b-c_d\",\"expires_in\":300,"
     "\"issued_at\":\"2026-05-20T08:00:00.1Z\"}",
     "a.b-c_d", 300000},
    {"{\"token\":\"djE6dXNlci9pbWFnZQ==\"}", "djE6dXNlci9pbWFnZQ==", 60000},
    {"{\"access_token\":\"x\"}", "x", 60000},
    {"{\"token\":\"x\",\"access_token\":\"y\"}", "x", 60000},
    {"{\"token\":\"\",\"access_token\":\"y\"}", "y", 60000},
    {"{\"token\":null,\"access_token\":\"y\"}", "y", 60000},
    {"{\"access_token\":\"y\",\"refresh_token\":\"z\",\"expires_in\":3600}", "y", HOUR},
    {"{\"token\":\"x\",\"expires_in\":5}", "x", 60000},
    {"{\"token\":\"x\",\"expires_in\":0}", "x", 60000},
    {"{\"token\":\"x\",\"expires_in\":-1}", "x", 60000},
    {"{\"token\":\"x\",\"expires_in\":61}", "x", 61000},
    {"{\"token\":\"x\",\"expires_in\":43200}", "x", 12 * HOUR},
    {"{\"token\":\"x\",\"expires_in\":99999999999}", "x", 12 * HOUR},
    {"{\"token\":\"x\",\"expires_in\":9223372036854775807}", "x", 12 * HOUR},
    {"{\"token\":\"x\",\"expires_in\":\"300\"}", "x", 60000},
    {"{\"token\":\"x\",\"expires_in\":300.5}", "x", 60000},
    /* not valid */
    {"", NULL, 0},
    {"<html>", NULL, 0},
    {"[]", NULL, 0},
    {"\"x\"", NULL, 0},
    {"{}", NULL, 0},
    {"{\"token\":7}", NULL, 0},
    {"{\"token\":{\"token\":\"x\"}}", NULL, 0},
    {"{\"token\":\"x\",\"token\":\"y\"}", NULL, 0},
    {"{\"token\":\"x\",\"expires_in\":99999999999999999999}", NULL, 0},
    {"{\"errors\":[{\"code\":\"DENIED\"}]}", NULL, 0},
    {"{\"token\":\"a b\"}", NULL, 0},
    {"{\"token\":\"a\\r\\nX: y\"}", NULL, 0},
    {"{\"token\":\"a\\u0000b\"}", NULL, 0},
    {"{\"token\":\"\xc3\xa9\"}", NULL, 0},
    {"{\"token\":\"\\u007f\"}", NULL, 0},
};

static void answers_are_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        const struct answer_row *r = &answers[i];
        struct token t = {.text = NULL};
        char why[256] = "";
        int err = token_parse(&t, r->answer, strlen(r->answer), NOW, why, sizeof why);

        if (err != (r->text ? 0 : ERR_INVALID))
            fail_msg("%s: %d, %s", r->answer, err, why);
        assert_int_equal(err == 0, why[0] == '\0');
        if (err == 0) {
            assert_string_equal(t.text, r->text);
            assert_int_equal(t.got_ms, NOW);
            if (t.life_ms != r->life_ms)
                fail_msg("%s: %lld ms", r->answer, (long long)t.life_ms);
        }
        token_clear(&t);
    }
}

static void a_token_has_a_limit(void **state)
{
    (void)state;
    for (size_t len = TOKEN_TEXT_MAX; len <= TOKEN_TEXT_MAX + 1; len++) {
        char *answer = calloc(1, len + 32);
        struct token t = {.text = NULL};
        char why[256];

        assert_non_null(answer);
        memcpy(answer, "{\"token\":\"", 10);
        memset(answer + 10, 'x', len);
        memcpy(answer + 10 + len, "\"}", 2);
        int err = token_parse(&t, answer, 12 + len, NOW, why, sizeof why);
        assert_int_equal(err, len <= TOKEN_TEXT_MAX ? 0 : ERR_INVALID);
        token_clear(&t);
        free(answer);
    }
}

static void an_answer_is_not_repeated(void **state)
{
    (void)state;
    static const char answer[] = "{\"token\":\"hunter2\" hunter2";
    struct token t;
    char why[256];

    assert_int_equal(token_parse(&t, answer, sizeof answer - 1, NOW, why, sizeof why), ERR_INVALID);
    assert_null(strstr(why, "hunter2"));
}

static void check_url(const char *expected, char *url)
{
    assert_string_equal(url, expected);
    free(url);
}

static void questions_are_encoded(void **state)
{
    (void)state;
    check_url("https://auth.docker.io/token?service=registry.docker.io"
              "&scope=repository%3Alibrary%2Falpine%3Apull",
              token_url("https://auth.docker.io/token", "registry.docker.io",
                        "repository:library/alpine:pull", NULL));
    check_url("https://a/t?x=1&service=Container%20Registry&scope=a%3Apull%2Cpush&scope=b%26c"
              "&account=me%40x%3D%23",
              token_url("https://a/t?x=1", "Container Registry", " a:pull,push  b&c ", "me@x=#"));
    check_url("https://a/t", token_url("https://a/t", "", "", NULL));
    check_url("https://a/t?scope=aws", token_url("https://a/t", "", "aws", ""));
    check_url("https://a/t?service=%C3%A9%2500", token_url("https://a/t", "\xc3\xa9%00", "", NULL));
    char *form = token_form("r.azurecr.io", "repository:a:pull", "s3cret&+/=");
    assert_string_equal(form, "grant_type=refresh_token&client_id=cachalot&service=r.azurecr.io"
                              "&scope=repository%3Aa%3Apull&refresh_token=s3cret%26%2B%2F%3D");
    secret_free(form);
}

/* --- those that are held --- */

static const struct token_key key = {"docker.io", 0, "https://auth.docker.io/token",
                                     "registry.docker.io", "repository:library/a:pull"};

static void put(struct token_cache *c, const struct token_key *k, const char *text, int64_t at_ms,
                int64_t life_ms)
{
    struct token t = {strdup(text), at_ms, life_ms};

    token_cache_put(c, k, &t);
    assert_null(t.text);
}

static void a_token_lives_as_long_as_it_says(void **state)
{
    (void)state;
    struct token_cache *c = token_cache_new();
    int64_t life = 300000;

    assert_null(token_cache_find(c, &key, NOW));
    put(c, &key, "x", NOW, life);
    const struct token *t = token_cache_find(c, &key, NOW);
    assert_string_equal(t->text, "x");
    assert_false(token_is_due(t, NOW));
    assert_false(token_is_due(t, NOW + life / 10 * 8 - 1));
    assert_true(token_is_due(t, NOW + life / 10 * 8));
    assert_non_null(token_cache_find(c, &key, NOW + life - 1));
    assert_null(token_cache_find(c, &key, NOW + life));
    assert_null(token_cache_find(c, &key, NOW));
    token_cache_free(&c);
    assert_null(c);
    token_cache_free(&c);
}

static void nobody_gets_the_token_of_another(void **state)
{
    (void)state;
    struct token_cache *c = token_cache_new();
    struct token_key others[] = {key, key, key, key, key, key};

    others[0].registry = "ghcr.io";
    others[1].credential = 1;
    others[2].realm = "https://auth.docker.io/token2";
    others[3].service = "registry.docker.i";
    others[4].scope = "repository:library/a:pull,push";
    others[5].scope = "";
    put(c, &key, "mine", NOW, HOUR);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_null(token_cache_find(c, &others[i], NOW));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        char text[] = {(char)('a' + i), '\0'};
        put(c, &others[i], text, NOW, HOUR);
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_int_equal(token_cache_find(c, &others[i], NOW)->text[0], 'a' + i);
    assert_string_equal(token_cache_find(c, &key, NOW)->text, "mine");
    token_cache_free(&c);
}

static void a_refused_token_is_dropped_and_a_newer_one_is_not(void **state)
{
    (void)state;
    struct token_cache *c = token_cache_new();

    put(c, &key, "old", NOW, HOUR);
    put(c, &key, "new", NOW, HOUR);
    token_cache_drop(c, &key, "old");
    assert_string_equal(token_cache_find(c, &key, NOW)->text, "new");
    token_cache_drop(c, &key, "new");
    assert_null(token_cache_find(c, &key, NOW));
    token_cache_drop(c, &key, "new");
    token_cache_free(&c);
}

static void there_is_an_end_to_what_is_held(void **state)
{
    (void)state;
    struct token_cache *c = token_cache_new();
    struct token_key k = key;
    unsigned held = 0;

    for (unsigned i = 0; i < 2000; i++) {
        k.credential = i;
        put(c, &k, "x", NOW, HOUR);
        assert_non_null(token_cache_find(c, &k, NOW));
    }
    for (unsigned i = 0; i < 2000; i++) {
        k.credential = i;
        held += token_cache_find(c, &k, NOW) != NULL;
    }
    assert_int_equal(held, 512);
    /* The oldest went. */
    k.credential = 1999 - 511;
    assert_non_null(token_cache_find(c, &k, NOW));
    token_cache_free(&c);
}

static void basic_is_base64(void **state)
{
    (void)state;
    static const struct {
        const char *username, *password, *field;
    } rows[] = {
        {"Aladdin", "open sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}, /* RFC 7617 */
        {"", "", "Basic Og=="},
        {"a", "", "Basic YTo="},
        {"a", "b", "Basic YTpi"},
        {"\xfb\xff", "\xbf", "Basic +/86vw=="},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *field = secret_basic(rows[i].username, rows[i].password);
        assert_string_equal(field, rows[i].field);
        secret_free(field);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_read),
        cmocka_unit_test(a_token_has_a_limit),
        cmocka_unit_test(an_answer_is_not_repeated),
        cmocka_unit_test(questions_are_encoded),
        cmocka_unit_test(a_token_lives_as_long_as_it_says),
        cmocka_unit_test(nobody_gets_the_token_of_another),
        cmocka_unit_test(a_refused_token_is_dropped_and_a_newer_one_is_not),
        cmocka_unit_test(there_is_an_end_to_what_is_held),
        cmocka_unit_test(basic_is_base64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
