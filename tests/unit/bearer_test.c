/* SPDX-License-Identifier: ISC */
/* Tokens of a token server: which are taken, and what they grant. */
#include "proxy/bearer.h"

#include "tests/unit/jwt_bed.h"

#include "cache/err.h"
#include "cache/signature.h"
#include "proxy/right.h"

#define NOW 1800000000
#define TIMES "\"exp\":1800000300,\"nbf\":1799999990,\"iat\":1800000000"
#define WHO "\"iss\":\"me\",\"aud\":\"here\",\"sub\":\"alice\""
#define GOOD                                                                                       \
    "{" WHO "," TIMES ",\"access\":[{\"type\":\"repository\",\"name\":\"team/app\",\"actions\":["  \
    "\"pull\",\"push\"]}]}"

static const struct name app = {"", "team/app"};
static const struct name hub = {"docker.io", "acme/app"};

struct bed {
    EVP_PKEY *pair;
    struct signature_key *key;
    struct bearer_policy policy;
    const char *head;
};

static struct bed *bed_new(EVP_PKEY *pair, const char *head)
{
    struct bed *b = mem_new(sizeof *b);
    char *pem = jwt_public_pem(pair), why[128];

    assert_int_equal(signature_key_parse(&b->key, pem, strlen(pem), why, sizeof why), 0);
    free(pem);
    b->pair = pair;
    b->head = head;
    b->policy = (struct bearer_policy){.key = b->key, .issuer = "me", .service = "here"};
    return b;
}

static void bed_free(struct bed *b)
{
    signature_key_free(&b->key);
    EVP_PKEY_free(b->pair);
    free(b);
}

static struct bed *bed_ec(void)
{
    return bed_new(EVP_EC_gen("P-256"), "{\"typ\":\"JWT\",\"alg\":\"ES256\",\"kid\":\"AAAA\"}");
}

static int check(const struct bed *b, const char *token, struct bearer *got, const char **why)
{
    *why = NULL;
    int err = bearer_check(&b->policy, token, strlen(token), NOW, &app, got, why);
    assert_int_equal(err == 0, *why == NULL);
    if (err != 0)
        assert_int_equal(got->grants, 0);
    return err;
}

static void check_good(const struct bed *b, const char *token)
{
    struct bearer got;
    const char *why;

    if (check(b, token, &got, &why) != 0)
        fail_msg("%s: %s", token, why);
    assert_string_equal(got.subject, "alice");
    assert_int_equal(got.grants, RIGHT_PULL | RIGHT_PUSH);
}

static void check_bad(const struct bed *b, char *token, const char *expected)
{
    struct bearer got;
    const char *why;

    if (check(b, token, &got, &why) == 0)
        fail_msg("taken: %s", token);
    if (strstr(why, expected) == NULL)
        fail_msg("no \"%s\" in: %s", expected, why);
    free(token);
}

static void signed_tokens_are_taken(void **state)
{
    (void)state;
    struct bed *ec = bed_ec();
    struct bed *rsa = bed_new(EVP_RSA_gen(2048), "{\"alg\":\"RS256\",\"typ\":\"JWT\"}");
    char *token = jwt_sign(ec->pair, ec->head, GOOD);

    check_good(ec, token);
    check_bad(rsa, token, "algorithm of the key");
    token = jwt_sign(rsa->pair, rsa->head, GOOD);
    check_good(rsa, token);
    check_bad(ec, token, "algorithm of the key");
    bed_free(ec);
    bed_free(rsa);
}

/* Every bit of a token is signed, but for none. */
static void a_changed_token_is_refused(void **state)
{
    (void)state;
    struct bed *b = bed_ec();
    char *token = jwt_sign(b->pair, b->head, GOOD);
    size_t len = strlen(token);
    struct bearer got;
    const char *why;

    for (size_t i = 0; i < len; i++) {
        char was = token[i];
        token[i] = was == 'A' ? 'B' : 'A';
        assert_int_equal(check(b, token, &got, &why), ERR_INVALID);
        token[i] = was;
    }
    for (size_t i = 0; i < len; i++)
        assert_int_equal(bearer_check(&b->policy, token, i, NOW, &app, &got, &why), ERR_INVALID);
    check_bad(b, mem_format("%s.", token), "signature");
    check_bad(b, mem_format("%s=", token), "signature");
    check_bad(b, mem_format(" %s", token), "not a JSON Web Token");
    check_good(b, token);
    free(token);
    bed_free(b);
}

/* Who has the key only to check must not be able to sign: by "none", or by the text of the
 * public key as a shared secret. */
static void the_token_does_not_choose_how_it_is_checked(void **state)
{
    (void)state;
    static const char *const heads[] = {
        "{\"alg\":\"none\"}",
        "{\"alg\":\"HS256\"}",
        "{\"alg\":\"RS256\"}",
        "{\"alg\":\"ES384\"}",
        "{\"alg\":\"es256\"}",
        "{\"alg\":[\"ES256\"]}",
        "{\"typ\":\"JWT\"}",
        "{\"alg\":\"ES256\",\"alg\":\"ES256\"}",
        "{\"alg\":\"ES256\",\"crit\":[\"exp\"],\"exp\":1}",
        "[]",
        "",
    };
    struct bed *b = bed_ec();

    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        check_bad(b, jwt_sign(b->pair, heads[i], GOOD), "");
    char *a = jwt_base64("{\"alg\":\"none\"}", 14), *c = jwt_base64(GOOD, strlen(GOOD));
    check_bad(b, mem_format("%s.%s.", a, c), "algorithm");
    free(a);
    a = jwt_base64(b->head, strlen(b->head));
    check_bad(b, mem_format("%s.%s.", a, c), "signature");
    check_bad(b, mem_format("%s.%s", a, c), "not a JSON Web Token");
    check_bad(b, mem_format("%s", ""), "not a JSON Web Token");
    check_bad(b, mem_format("%s", ".."), "not a JSON Web Token");
    free(a);
    free(c);
    /* A key of the token's own is no key of ours. */
    EVP_PKEY *other = EVP_EC_gen("P-256");
    check_bad(b,
              jwt_sign(other,
                       "{\"alg\":\"ES256\",\"jwk\":{\"kty\":\"EC\"},\"x5c\":[\"MIIB\"],"
                       "\"jku\":\"https://evil.example/\"}",
                       GOOD),
              "signature");
    EVP_PKEY_free(other);
    bed_free(b);
}

static void a_token_has_a_limit(void **state)
{
    (void)state;
    struct bed *b = bed_ec();
    char *claims = mem_format("{\"x\":\"%*s\"," WHO "," TIMES "}", BEARER_TEXT_MAX, "x");

    check_bad(b, jwt_sign(b->pair, b->head, claims), "longer than 16 KiB");
    free(claims);
    bed_free(b);
}

struct claims_row {
    const char *json;
    const char *why; /* NULL: taken */
};

#define A "\"access\":[]"

static const struct claims_row claims_rows[] = {
    {"{" WHO "," TIMES "," A "}", NULL},
    {"{" WHO "," TIMES "}", NULL},
    {"{\"iss\":\"me\",\"aud\":[\"there\",\"here\"]," TIMES "}", NULL},
    {"{" WHO ",\"exp\":1799999941}", NULL},
    {"{" WHO ",\"exp\":1800000300.75}", NULL},
    {"{" WHO ",\"exp\":1800000300,\"nbf\":1800000060,\"iat\":1800000060}", NULL},
    {"{" WHO ",\"exp\":1799999940}", "has expired"},
    {"{" WHO ",\"exp\":0}", "has expired"},
    {"{" WHO ",\"exp\":1800000300,\"nbf\":1800000061}", "not valid yet"},
    {"{" WHO ",\"exp\":1800000300,\"iat\":1800000061}", "not valid yet"},
    {"{" WHO "}", "does not say when it expires"},
    {"{" WHO ",\"exp\":\"1800000300\"}", "does not say when it expires"},
    {"{" WHO ",\"exp\":-1}", "does not say when it expires"},
    {"{" WHO ",\"exp\":1e300}", "does not say when it expires"},
    {"{" WHO ",\"exp\":9223372036854775807}", "does not say when it expires"},
    {"{" WHO ",\"exp\":null}", "does not say when it expires"},
    {"{" WHO ",\"exp\":1800000300,\"nbf\":\"x\"}", "a time that is none"},
    {"{" WHO ",\"exp\":1800000300,\"iat\":[]}", "a time that is none"},
    {"{\"iss\":\"you\",\"aud\":\"here\"," TIMES "}", "another issuer"},
    {"{\"iss\":[\"me\"],\"aud\":\"here\"," TIMES "}", "another issuer"},
    {"{\"aud\":\"here\"," TIMES "}", "another issuer"},
    {"{\"iss\":\"me\",\"aud\":\"her\"," TIMES "}", "another service"},
    {"{\"iss\":\"me\",\"aud\":[]," TIMES "}", "another service"},
    {"{\"iss\":\"me\",\"aud\":{\"here\":1}," TIMES "}", "another service"},
    {"{\"iss\":\"me\"," TIMES "}", "another service"},
    {"{\"iss\":\"me\",\"iss\":\"me\",\"aud\":\"here\"," TIMES "}", "not a JSON object"},
    {"[]", "not a JSON object"},
    {"", "not a JSON object"},
    {"{", "not a JSON object"},
};

static void claims_are_checked(void **state)
{
    (void)state;
    const struct bearer_policy policy = {.issuer = "me", .service = "here"};

    for (size_t i = 0; i < sizeof claims_rows / sizeof claims_rows[0]; i++) {
        const struct claims_row *r = &claims_rows[i];
        struct bearer b;
        const char *why = "none";
        int err = bearer_read_claims(&policy, r->json, strlen(r->json), NOW, &app, &b, &why);
        if (err != (r->why != NULL ? ERR_INVALID : 0) || (err && !strstr(why, r->why)))
            fail_msg("%s: %s", r->json, why);
        assert_int_equal(b.grants, 0);
    }
}

struct access_row {
    const char *access; /* the value of the claim */
    const struct name *name;
    unsigned grants;
};

#define REPOSITORY(name, actions)                                                                  \
    "{\"type\":\"repository\",\"name\":\"" name "\",\"actions\":" actions "}"

static const struct access_row access_rows[] = {
    {"[]", &app, 0},
    {"null", &app, 0},
    {REPOSITORY("team/app", "[\"pull\"]"), &app, 0}, /* no list */
    {"[" REPOSITORY("team/app", "[\"pull\"]") "]", &app, RIGHT_PULL},
    {"[" REPOSITORY("team/app", "[\"delete\"]") "]", &app, RIGHT_DELETE},
    {"[" REPOSITORY("team/app", "[\"*\"]") "]", &app, RIGHTS_ALL},
    {"[" REPOSITORY("team/app", "\"push\"") "]", &app, RIGHT_PUSH},
    {"[" REPOSITORY("team/app", "[\"Pull\",\"pulls\",7,null]") "]", &app, 0},
    {"[" REPOSITORY("team/app", "[]") "]", &app, 0},
    {"[" REPOSITORY("team/app", "[\"pull\"]") "," REPOSITORY("team/app", "[\"push\"]") "]", &app,
     RIGHT_PULL | RIGHT_PUSH},
    {"[" REPOSITORY("team/ap", "[\"pull\"]") "," REPOSITORY("team/apps", "[\"push\"]") "]", &app,
     0},
    {"[" REPOSITORY("*", "[\"*\"]") "," REPOSITORY("team/*", "[\"*\"]") "]", &app, 0},
    {"[{\"type\":\"repository(plugin)\",\"name\":\"team/app\",\"actions\":[\"pull\"]}]", &app, 0},
    {"[{\"name\":\"team/app\",\"actions\":[\"pull\"]}]", &app, 0},
    {"[{\"type\":\"repository\",\"actions\":[\"pull\"]}]", &app, 0},
    {"[{\"type\":\"repository\",\"name\":\"team/app\"}]", &app, 0},
    {"[7,[],\"x\"," REPOSITORY("team/app", "[\"pull\"]") "]", &app, RIGHT_PULL},
    {"[" REPOSITORY("docker.io/acme/app", "[\"*\"]") "]", &hub, RIGHT_PULL},
    {"[" REPOSITORY("acme/app", "[\"*\"]") "]", &hub, 0},
    {"[{\"type\":\"registry\",\"name\":\"catalog\",\"actions\":[\"*\"]}]", NULL, RIGHT_PULL},
    {"[{\"type\":\"registry\",\"name\":\"catalog\",\"actions\":[\"*\"]}]", &app, 0},
    {"[" REPOSITORY("catalog", "[\"*\"]") "]", NULL, 0},
};

static void access_is_for_one_repository(void **state)
{
    (void)state;
    const struct bearer_policy policy = {.issuer = "me", .service = "here"};

    for (size_t i = 0; i < sizeof access_rows / sizeof access_rows[0]; i++) {
        const struct access_row *r = &access_rows[i];
        char *json = mem_format("{" WHO "," TIMES ",\"access\":%s}", r->access);
        struct bearer b;
        const char *why;
        assert_int_equal(bearer_read_claims(&policy, json, strlen(json), NOW, r->name, &b, &why),
                         0);
        if (b.grants != r->grants)
            fail_msg("%s: %u", r->access, b.grants);
        free(json);
    }
}

/* Of a token that is read once, each name has what it has when the token is read for it. */
static void all_grants_are_those_of_each(void **state)
{
    (void)state;
    struct bed *b = bed_ec();

    for (size_t i = 0; i < sizeof access_rows / sizeof access_rows[0]; i++) {
        const struct access_row *r = &access_rows[i];
        char *json = mem_format("{" WHO "," TIMES ",\"access\":%s}", r->access);
        char *token = jwt_sign(b->pair, b->head, json);
        struct bearer_grants *grants;
        const char *why;

        assert_int_equal(bearer_grants_read(&b->policy, token, strlen(token), NOW, &grants, &why),
                         0);
        if (r->name != NULL && bearer_grants_for(grants, r->name) != r->grants)
            fail_msg("%s: %u", r->access, bearer_grants_for(grants, r->name));
        bearer_grants_free(&grants);
        assert_null(grants);
        free(token);
        free(json);
    }
    bed_free(b);
}

static void grants_are_found_among_many(void **state)
{
    (void)state;
    struct bed *b = bed_ec();
    char *list = mem_format(REPOSITORY("r/50", "[\"push\"]"));

    for (unsigned i = 0; i < 100; i++) {
        char *longer = mem_format("%s," REPOSITORY("r/%u", "[\"pull\"]"), list, i * 37 % 100);
        free(list);
        list = longer;
    }
    char *json = mem_format("{" WHO "," TIMES ",\"access\":[%s]}", list);
    char *token = jwt_sign(b->pair, b->head, json);
    struct bearer_grants *grants = NULL;
    const char *why;
    assert_int_equal(bearer_grants_read(&b->policy, token, strlen(token), NOW, &grants, &why), 0);
    for (unsigned i = 0; i < 101; i++) {
        struct name n = {"", ""};

        snprintf(n.repository, sizeof n.repository, "r/%u", i);
        unsigned expected = i == 50 ? RIGHT_PULL | RIGHT_PUSH : i < 100 ? RIGHT_PULL : 0;
        assert_int_equal(bearer_grants_for(grants, &n), expected);
    }
    bearer_grants_free(&grants);

    token[strlen(token) - 3] ^= 1;
    assert_int_equal(bearer_grants_read(&b->policy, token, strlen(token), NOW, &grants, &why),
                     ERR_INVALID);
    assert_non_null(strstr(why, "signature"));
    assert_null(grants);
    free(token);
    free(json);
    free(list);
    bed_free(b);
}

static void check_subject(const char *subject, const char *expected)
{
    const struct bearer_policy policy = {.issuer = "me", .service = "here"};
    char *json = mem_format("{\"iss\":\"me\",\"aud\":\"here\",\"sub\":%s," TIMES "}", subject);
    struct bearer b;
    const char *why;

    assert_int_equal(bearer_read_claims(&policy, json, strlen(json), NOW, &app, &b, &why), 0);
    assert_string_equal(b.subject, expected);
    free(json);
}

static void a_subject_can_be_shown(void **state)
{
    (void)state;
    check_subject("\"\"", "");
    check_subject("7", "");
    check_subject("\"a\\nb\\u001b[31m\\u00e9\"", "a?b?[31m??");
    char *long_one = mem_format("\"%0200d\"", 1);
    char cut[BEARER_SUBJECT_SIZE] = "";
    memset(cut, '0', sizeof cut - 1);
    check_subject(long_one, cut);
    free(long_one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signed_tokens_are_taken),
        cmocka_unit_test(a_changed_token_is_refused),
        cmocka_unit_test(the_token_does_not_choose_how_it_is_checked),
        cmocka_unit_test(a_token_has_a_limit),
        cmocka_unit_test(claims_are_checked),
        cmocka_unit_test(access_is_for_one_repository),
        cmocka_unit_test(all_grants_are_those_of_each),
        cmocka_unit_test(grants_are_found_among_many),
        cmocka_unit_test(a_subject_can_be_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
