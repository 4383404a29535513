/* SPDX-License-Identifier: ISC */
/* Who clients are by their tokens, what they may do then, and how they are told to say so. */
#include "proxy/login.h"

#include <time.h>

#include "tests/unit/login_bed.h"

static struct config *load_tokens(struct bed *b)
{
    char *pem = jwt_public_pem(b->pair);
    char *text = mem_format("[auth]\ntoken-key = %s/key.pem\ntoken-service = here\n"
                            "token-realm = https://t.example/token\ntoken-issuer = me\n",
                            b->dir);

    scratch_file(b->dir, "key.pem", pem, strlen(pem));
    struct config *c = bed_load(b, text);
    free(text);
    free(pem);
    return c;
}

/* "Bearer " and a token for the repository team/app, owned by the caller. */
static char *bearer_field(struct bed *b, int expires_in_s, const char *actions)
{
    char *claims = mem_format("{\"iss\":\"me\",\"aud\":\"here\",\"sub\":\"ci\",\"exp\":%lld,"
                              "\"access\":[{\"type\":\"repository\",\"name\":\"team/app\","
                              "\"actions\":[%s]}]}",
                              (long long)time(NULL) + expires_in_s, actions);
    char *token = jwt_sign(b->pair, "{\"alg\":\"ES256\"}", claims);
    char *field = mem_format("Bearer %s", token);

    free(claims);
    free(token);
    return field;
}

static void tokens_are_checked_at_once(void **state)
{
    struct bed *b = *state;

    config_unref(&b->config);
    b->config = load_tokens(b);
    char *field = bearer_field(b, 300, "\"push\"");
    struct login l = try_field(b, field);
    assert_int_equal(l.result, LOGIN_KNOWN);
    assert_true(l.is_token);
    assert_string_equal(l.user, "ci");
    assert_int_equal(l.grants, RIGHT_PUSH);
    field[strlen(field) - 2] ^= 1;
    l = try_field(b, field);
    assert_int_equal(l.result, LOGIN_WRONG);
    assert_false(l.is_token);
    assert_int_equal(l.grants, 0);
    free(field);
    field = bearer_field(b, -100, "\"push\"");
    l = try_field(b, field);
    assert_int_equal(l.result, LOGIN_WRONG);
    assert_string_equal(l.why, "the token has expired");
    free(field);
    assert_int_equal(try_field(b, "Basic YWxpY2U6c2VzYW1l").result, LOGIN_WRONG);
    assert_int_equal(try_field(b, NULL).result, LOGIN_ANONYMOUS);
}

/* What a token grants counts, and nothing else; else the rules do. */
static void tokens_and_rules_do_not_mix(void **state)
{
    struct bed *b = *state;
    const struct login token = {
        .result = LOGIN_KNOWN, .is_token = true, .user = "alice", .grants = RIGHT_PUSH};
    const struct login alice = {.result = LOGIN_KNOWN, .user = "alice"};
    const struct login bob = {.result = LOGIN_KNOWN, .user = "bob"};
    const struct login nobody = {.result = LOGIN_ANONYMOUS};

    assert_true(login_allows(&token, b->config, "203.0.113.9", &app, RIGHT_PUSH));
    assert_false(login_allows(&token, b->config, "10.0.0.1", &app, RIGHT_PULL));
    assert_true(login_allows(&alice, b->config, "10.0.0.1", &app, RIGHT_PUSH));
    assert_false(login_allows(&alice, b->config, "203.0.113.9", &app, RIGHT_PUSH));
    assert_false(login_allows(&bob, b->config, "10.0.0.1", &app, RIGHT_PUSH));
    assert_true(login_allows(&bob, b->config, "10.0.0.1", &app, RIGHT_PULL));
    assert_true(login_allows(&nobody, b->config, "10.0.0.1", &app, RIGHT_PULL));
    assert_false(login_allows(&nobody, b->config, "10.0.0.1", &app, RIGHT_PUSH));
}

/* --- challenges --- */

static void check_challenge(const struct config *c, const struct name *n, const char *expected)
{
    char field[LOGIN_CHALLENGE_SIZE];

    login_challenge(c, n, "pull,push", field, sizeof field);
    assert_string_equal(field, expected);
    login_challenge(c, n, "pull,push", field, 10);
    assert_string_equal(field, "");
}

static void challenges_say_what_is_taken(void **state)
{
    struct bed *b = *state;

    check_challenge(b->config, &app, "Basic realm=\"cachalot\"");
    check_challenge(b->config, NULL, "Basic realm=\"cachalot\"");
    config_unref(&b->config);
    b->config = load_tokens(b);
    check_challenge(b->config, &app,
                    "Bearer realm=\"https://t.example/token\",service=\"here\","
                    "scope=\"repository:team/app:pull,push\"");
    check_challenge(b->config, NULL, "Bearer realm=\"https://t.example/token\",service=\"here\"");
    config_unref(&b->config);
    b->config = bed_load(b, "[auth]\nrealm = the \"house\"\n");
    check_challenge(b->config, &app, "");
    char *text = mem_format("[auth]\nrealm = the \"house\"\npassword-file = %s/htpasswd\n", b->dir);
    config_unref(&b->config);
    b->config = bed_load(b, text);
    check_challenge(b->config, &app, "Basic realm=\"the \\\"house\\\"\"");
    free(text);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, bed_setup, bed_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(tokens_are_checked_at_once),
        TEST(tokens_and_rules_do_not_mix),
        TEST(challenges_say_what_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
