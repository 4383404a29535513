/* SPDX-License-Identifier: ISC */
/* Who clients are by their tokens, what they may do then, and how they are told to say so. */
#include "proxy/login.h"

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "proxy/bearer.h"
#include "tests/unit/login_bed.h"

/* --- a clock of this program's own --- */

static time_t ahead_s; /* of the true one that counts from the start of the machine */

int clock_gettime(clockid_t id, struct timespec *t)
{
    long err = syscall(SYS_clock_gettime, id, t);

    if (id == CLOCK_MONOTONIC)
        t->tv_sec += ahead_s;
    return (int)err;
}

/* --- tokens --- */

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

/* What is asked about many repositories is what is asked about one, while the token is good. */
static void all_that_a_token_grants(void **state)
{
    struct bed *b = *state;
    const struct name other = {"", "team/other"};
    char *field = bearer_field(b, 60, "\"pull\"");
    struct login_order o = {.config = b->config, .authorization = field};

    /* There is no token server, or not yet. */
    assert_null(login_grants(&o));
    config_unref(&b->config);
    o.config = b->config = load_tokens(b);
    struct bearer_grants *grants = login_grants(&o);
    assert_non_null(grants);
    assert_int_equal(bearer_grants_for(grants, &app), RIGHT_PULL);
    assert_int_equal(bearer_grants_for(grants, &other), 0);
    bearer_grants_free(&grants);
    free(field);
}

static void what_is_no_token_grants_nothing(void **state)
{
    struct bed *b = *state;
    const char *fields[] = {"Bearer x", "Basic YTpi", "Bearer", ""};
    char *field = bearer_field(b, -3600, "\"pull\"");

    config_unref(&b->config);
    b->config = load_tokens(b);
    struct login_order o = {.config = b->config, .authorization = field};
    assert_null(login_grants(&o));
    free(field);
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        o.authorization = fields[i];
        assert_null(login_grants(&o));
    }
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

/* --- passes --- */

/* A request with a pass for him, which is changed at one character when `at` says so. */
static struct login with_pass(struct bed *b, const struct login *who, int at)
{
    char pass[PASS_TEXT_SIZE];

    login_give_pass(b->logins, who, pass);
    if (at >= 0)
        pass[at] = pass[at] == '0' ? '1' : '0';
    char *field = mem_format("bearer %s", pass);
    struct login l = try_field(b, field);
    free(field);
    return l;
}

static void passes_say_who_it_is(void **state)
{
    struct bed *b = *state;
    const struct login nobody = {.result = LOGIN_ANONYMOUS};
    struct login alice = try(b, "10.0.0.1", "alice", "sesame");

    assert_int_equal(alice.result, LOGIN_KNOWN);
    struct login l = with_pass(b, &alice, -1);
    assert_int_equal(l.result, LOGIN_KNOWN);
    assert_true(l.is_pass && !l.is_token);
    assert_string_equal(l.user, "alice");
    assert_true(login_allows(&l, b->config, "10.0.0.1", &app, RIGHT_PUSH));
    l = with_pass(b, &nobody, -1);
    assert_int_equal(l.result, LOGIN_ANONYMOUS);
    assert_true(l.is_pass);
    assert_true(login_allows(&l, b->config, "10.0.0.1", &app, RIGHT_PULL));
    assert_false(login_allows(&l, b->config, "10.0.0.1", &app, RIGHT_PUSH));
    for (int at = 0; at < 16 + 1 + 10; at++) {
        if (at != 16)
            assert_int_equal(with_pass(b, &alice, at).result, LOGIN_WRONG);
    }
    /* A pass needs no look at a password. */
    assert_int_equal(try(b, "10.0.0.1", "alice", "sesame").result, LOGIN_KNOWN);
}

static void another_password_ends_a_pass(void **state)
{
    struct bed *b = *state;
    struct login alice = try(b, "10.0.0.1", "alice", "sesame");
    struct login bob = try(b, "10.0.0.1", "bob", "b:o b");

    write_users(b, "open", 4);
    config_unref(&b->config);
    b->config = load_passwords(b);
    struct login l = with_pass(b, &alice, -1);
    assert_int_equal(l.result, LOGIN_WRONG);
    assert_string_equal(l.user, "");
    assert_false(l.is_pass);
    scratch_file(b->dir, "htpasswd", "", 0);
    char *of_alice = hash_of("sesame", 4);
    char *line = mem_format("bobby:%s\n", of_alice);
    scratch_file(b->dir, "htpasswd", line, strlen(line));
    config_unref(&b->config);
    b->config = load_passwords(b);
    assert_int_equal(with_pass(b, &bob, -1).result, LOGIN_WRONG);
    free(line);
    free(of_alice);
}

/* It is good for longer than clients are told, and not for ever. */
static void a_pass_expires(void **state)
{
    struct bed *b = *state;
    const struct login nobody = {.result = LOGIN_ANONYMOUS};
    char pass[PASS_TEXT_SIZE];

    login_give_pass(b->logins, &nobody, pass);
    char *field = mem_format("Bearer %s", pass);
    ahead_s = PASS_GOOD_S - 60;
    struct login l = try_field(b, field);
    assert_true(l.result == LOGIN_ANONYMOUS && l.is_pass);
    ahead_s = PASS_GOOD_S + 1;
    l = try_field(b, field);
    assert_int_equal(l.result, LOGIN_WRONG);
    assert_string_equal(l.why, "the token has expired");
    assert_false(l.is_pass);
    ahead_s = 0;
    free(field);
}

/* Those of another run, with another key. */
static void a_pass_ends_with_the_daemon(void **state)
{
    struct bed *b = *state;
    struct login alice = try(b, "10.0.0.1", "alice", "sesame");
    char pass[PASS_TEXT_SIZE];

    login_give_pass(b->logins, &alice, pass);
    char *field = mem_format("Bearer %s", pass);
    assert_int_equal(try_field(b, field).result, LOGIN_KNOWN);
    logins_stop(&b->logins);
    b->logins = logins_start(THREADS);
    assert_int_equal(try_field(b, field).result, LOGIN_WRONG);
    free(field);
}

/* --- challenges --- */

static void check_challenge(const struct config *c, const char *origin, const struct name *n,
                            const char *expected)
{
    char field[LOGIN_CHALLENGE_SIZE];

    login_challenge(c, origin, n, "pull,push", field, sizeof field);
    assert_string_equal(field, expected);
    login_challenge(c, origin, n, "pull,push", field, 10);
    assert_string_equal(field, "");
}

static void challenges_say_what_is_taken(void **state)
{
    struct bed *b = *state;

    check_challenge(b->config, "", &app, "Basic realm=\"cachalot\"");
    check_challenge(b->config, "", NULL, "Basic realm=\"cachalot\"");
    check_challenge(b->config, "https://[::1]:5000", &app,
                    "Bearer realm=\"https://[::1]:5000/-/token\",service=\"cachalot\","
                    "scope=\"repository:team/app:pull,push\"");
    check_challenge(b->config, "http://c.lan", NULL,
                    "Bearer realm=\"http://c.lan/-/token\",service=\"cachalot\"");
    config_unref(&b->config);
    b->config = load_tokens(b);
    check_challenge(b->config, "http://c.lan", &app,
                    "Bearer realm=\"https://t.example/token\",service=\"here\","
                    "scope=\"repository:team/app:pull,push\"");
    check_challenge(b->config, "", NULL,
                    "Bearer realm=\"https://t.example/token\",service=\"here\"");
    config_unref(&b->config);
    b->config = bed_load(b, "[auth]\nrealm = the \"house\"\n");
    check_challenge(b->config, "http://c.lan", &app, "");
    char *text = mem_format("[auth]\nrealm = the \"house\"\npassword-file = %s/htpasswd\n", b->dir);
    config_unref(&b->config);
    b->config = bed_load(b, text);
    check_challenge(b->config, "", &app, "Basic realm=\"the \\\"house\\\"\"");
    free(text);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, bed_setup, bed_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(tokens_are_checked_at_once),
        TEST(all_that_a_token_grants),
        TEST(what_is_no_token_grants_nothing),
        TEST(tokens_and_rules_do_not_mix),
        TEST(passes_say_who_it_is),
        TEST(another_password_ends_a_pass),
        TEST(a_pass_expires),
        TEST(a_pass_ends_with_the_daemon),
        TEST(challenges_say_what_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
