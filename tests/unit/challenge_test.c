/* SPDX-License-Identifier: ISC */
/* Challenges as real registries send them, and what is off the grammar. */
#include "proxy/challenge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cache/err.h"

/* "scheme realm|service|scope|error" of each, joined by " ; ". */
static const char *meaning(const struct challenges *cs, char out[8192])
{
    size_t n = 0;

    out[0] = '\0';
    for (unsigned i = 0; i < cs->count; i++) {
        const struct challenge *c = &cs->list[i];
        n += (size_t)snprintf(out + n, 8192 - n, "%s%s %s|%s|%s|%s", i > 0 ? " ; " : "",
                              c->scheme == CHALLENGE_BASIC ? "basic" : "bearer", c->realm,
                              c->service, c->scope, c->error);
    }
    return out;
}

struct row {
    const char *field;
    const char *meaning; /* NULL: not valid */
};

static const struct row registries[] = {
    /* Docker Hub */
    {"Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\","
     "scope=\"repository:library/alpine:pull\"",
     "bearer https://auth.docker.io/token|registry.docker.io|repository:library/alpine:pull|"},
    {"Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\","
     "scope=\"repository:samalba/my-app:pull,push\",error=\"invalid_token\"",
     "bearer https://auth.docker.io/token|registry.docker.io|repository:samalba/my-app:pull,push|"
     "invalid_token"},
    /* GitHub */
    {"Bearer "
     "realm=\"https://ghcr.io/token\",service=\"ghcr.io\",scope=\"repository:user/image:pull\"",
     "bearer https://ghcr.io/token|ghcr.io|repository:user/image:pull|"},
    /* Quay */
    {"Bearer realm=\"https://quay.io/v2/auth\",service=\"quay.io\"",
     "bearer https://quay.io/v2/auth|quay.io||"},
    {"Bearer "
     "realm=\"https://quay.io/v2/auth\",service=\"quay.io\",scope=\"repository:coreos/etcd:pull\"",
     "bearer https://quay.io/v2/auth|quay.io|repository:coreos/etcd:pull|"},
    /* gcr.io, Google Artifact Registry; its /v2/ names the realm alone */
    {"Bearer realm=\"https://gcr.io/v2/token\",service=\"gcr.io\",scope=\"repository:a/b:pull\"",
     "bearer https://gcr.io/v2/token|gcr.io|repository:a/b:pull|"},
    {"Bearer realm=\"https://europe-docker.pkg.dev/v2/token\"",
     "bearer https://europe-docker.pkg.dev/v2/token|||"},
    /* Amazon ECR and its public gallery */
    {"Basic realm=\"https://1234.dkr.ecr.eu-west-2.amazonaws.com/\",service=\"ecr.amazonaws.com\"",
     "basic https://1234.dkr.ecr.eu-west-2.amazonaws.com/|ecr.amazonaws.com||"},
    {"Bearer realm=\"https://public.ecr.aws/token/\",service=\"public.ecr.aws\",scope=\"aws\"",
     "bearer https://public.ecr.aws/token/|public.ecr.aws|aws|"},
    /* Azure */
    {"Bearer realm=\"https://r.azurecr.io/oauth2/token\",service=\"r.azurecr.io\","
     "scope=\"repository:a:pull\",error=\"invalid_token\"",
     "bearer https://r.azurecr.io/oauth2/token|r.azurecr.io|repository:a:pull|invalid_token"},
    {"Bearer realm=\"https://r.azurecr.io/oauth2/token\",service=\"r.azurecr.io\", "
     "Basic realm=\"r.azurecr.io\"",
     "bearer https://r.azurecr.io/oauth2/token|r.azurecr.io|| ; basic r.azurecr.io|||"},
    /* GitLab */
    {"Bearer realm=\"https://gitlab.com/jwt/auth\",service=\"container_registry\","
     "scope=\"repository:group/project:pull\",error=\"insufficient_scope\"",
     "bearer https://gitlab.com/jwt/auth|container_registry|repository:group/project:pull|"
     "insufficient_scope"},
    /* Harbor */
    {"Bearer realm=\"https://harbor.lan/service/token\",service=\"harbor-registry\"",
     "bearer https://harbor.lan/service/token|harbor-registry||"},
    /* Artifactory */
    {"Bearer "
     "realm=\"https://a.jfrog.io/artifactory/api/docker/images/v2/token\",service=\"a.jfrog.io\"",
     "bearer https://a.jfrog.io/artifactory/api/docker/images/v2/token|a.jfrog.io||"},
    {"Basic realm=\"Artifactory Realm\"", "basic Artifactory Realm|||"},
    /* Nexus */
    {"BASIC realm=\"Sonatype Nexus Repository Manager\"",
     "basic Sonatype Nexus Repository Manager|||"},
    {"Bearer realm=\"https://nexus.lan/repository/docker/v2/token\","
     "service=\"https://nexus.lan/repository/docker/v2/token\"",
     "bearer https://nexus.lan/repository/docker/v2/token|"
     "https://nexus.lan/repository/docker/v2/token||"},
    /* docker-registry with htpasswd and with tokens */
    {"Basic realm=\"Registry Realm\"", "basic Registry Realm|||"},
    {"Bearer "
     "realm=\"http://127.0.0.1:5001/token\",service=\"registry\",scope=\"repository:a:pull\"",
     "bearer http://127.0.0.1:5001/token|registry|repository:a:pull|"},
    /* Gitea and Forgejo */
    {"Bearer realm=\"https://git.lan/v2/token\",service=\"container_registry\",scope=\"*\"",
     "bearer https://git.lan/v2/token|container_registry|*|"},
};

static const struct row grammar[] = {
    {"", ""},
    {" \t ", ""},
    {",, ,", ""},
    {"Basic", "basic |||"},
    {"Basic ", "basic |||"},
    {",Basic,", "basic |||"},
    {"basic, BEARER", "basic ||| ; bearer |||"},
    {"bEaReR rEaLm=a", "bearer a|||"},
    {"Bearer realm = \"a\" , service\t=\tb", "bearer a|b||"},
    {"Bearer ,realm=a,,service=b,", "bearer a|b||"},
    {"Bearer realm=\"a,b \\\"c\\\" \\\\d\",scope=\"\"", "bearer a,b \"c\" \\d|||"},
    {"Bearer realm=\"\\r\\n\"", "bearer rn|||"},
    {"Bearer realm=\"a\tb\"", "bearer a\tb|||"},
    {"Bearer realm=\"\xc3\xa9\"", "bearer \xc3\xa9|||"},
    {"Bearer charset=\"UTF-8\",max=1,realm=a", "bearer a|||"},
    {"Bearer realmx=a,xrealm=b", "bearer |||"},
    {"Negotiate, Bearer realm=a", "bearer a|||"},
    {"Negotiate abc==, Bearer realm=a", "bearer a|||"},
    {"Negotiate a/b+c , Bearer realm=a, Digest realm=\"b\", nonce=c, Basic realm=d",
     "bearer a||| ; basic d|||"},
    {"Bearer YWJj", "bearer |||"},
    {"Bearer realm=", "bearer |||"},
    {"Bearer realm=a, realm, Basic", "bearer a||| ; basic |||"},
    /* not of the grammar */
    {"=", NULL},
    {"\"Bearer\"", NULL},
    {"realm=\"a\"", NULL},
    {"Bearer=a", NULL},
    {"Bearer;realm=a", NULL},
    {"Bearer\nrealm=a", NULL},
    {"Bearer realm=a service=b", NULL},
    {"Bearer realm=\"a\"service=\"b\"", NULL},
    {"Bearer realm=\"a\" Basic", NULL},
    {"Bearer Basic realm=a", NULL},
    {"Bearer realm=https://a/", NULL},
    {"Bearer realm=\"a", NULL},
    {"Bearer realm=\"a\\", NULL},
    {"Bearer realm=\"a\\\"", NULL},
    {"Bearer realm=a, Realm=b", NULL},
    {"Bearer realm=\"a\nb\"", NULL},
    {"Bearer realm=\"a\\\rb\"", NULL},
    {"Bearer realm=\"a\x7f\"", NULL},
    {"Bearer realm=a,=b", NULL},
    {"Bearer abc==, realm=a", NULL},
    {"Basic realm=a, (", NULL},
};

static void check(const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct challenges cs = {.count = 0};
        char got[8192];
        int err = challenge_parse(&cs, rows[i].field, strlen(rows[i].field));

        if (err != (rows[i].meaning ? 0 : ERR_INVALID))
            fail_msg("%s: error %d", rows[i].field, err);
        if (strcmp(meaning(&cs, got), rows[i].meaning ? rows[i].meaning : "") != 0)
            fail_msg("%s: %s", rows[i].field, got);
    }
}

static void real_registries_are_understood(void **state)
{
    (void)state;
    check(registries, sizeof registries / sizeof registries[0]);
}

static void the_grammar_is_kept(void **state)
{
    (void)state;
    check(grammar, sizeof grammar / sizeof grammar[0]);
}

static void nul_is_not_of_the_grammar(void **state)
{
    (void)state;
    static const char fields[][16] = {"Bearer\0", "Bearer realm=a\0", "Bearer r=\"\0\""};
    static const size_t lens[] = {7, 15, 12};
    struct challenges cs = {.count = 0};

    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(challenge_parse(&cs, fields[i], lens[i]), ERR_INVALID);
        assert_int_equal(cs.count, 0);
    }
}

static void several_fields_add_up(void **state)
{
    (void)state;
    struct challenges cs = {.count = 0};
    char got[8192];

    assert_int_equal(challenge_parse(&cs, "Basic realm=a", 13), 0);
    assert_int_equal(challenge_parse(&cs, "Basic, Bearer realm=b, \"", 24), ERR_INVALID);
    assert_int_equal(challenge_parse(&cs, "Bearer realm=c", 14), 0);
    assert_string_equal(meaning(&cs, got), "basic a||| ; bearer c|||");
    assert_string_equal(challenge_find(&cs, CHALLENGE_BEARER)->realm, "c");
    assert_string_equal(challenge_find(&cs, CHALLENGE_BASIC)->realm, "a");
    assert_null(challenge_find(&cs, CHALLENGE_OTHER));
}

static void values_and_their_number_are_limited(void **state)
{
    (void)state;
    struct challenges cs = {.count = 0};
    char field[1200];
    size_t room = sizeof cs.list[0].realm;

    for (size_t len = room - 2; len <= room; len++) {
        memcpy(field, "Bearer realm=\"", 14);
        memset(field + 14, 'x', len);
        field[14 + len] = '"';
        cs.count = 0;
        assert_int_equal(challenge_parse(&cs, field, 15 + len), len < room ? 0 : ERR_INVALID);
    }
    cs.count = 0;
    for (int i = 0; i < 2 * CHALLENGES_MAX; i++)
        assert_int_equal(challenge_parse(&cs, "Basic realm=a", 13), 0);
    assert_int_equal(cs.count, CHALLENGES_MAX);
}

static void check_formatted(const char *field, const char *expected, size_t size)
{
    struct challenges cs = {.count = 0};
    char text[256] = "x";

    assert_int_equal(challenge_parse(&cs, field, strlen(field)), 0);
    challenge_format(&cs.list[0], text, size);
    assert_string_equal(text, expected);
}

static void a_challenge_can_be_passed_on(void **state)
{
    (void)state;
    static const char usual[] = "Bearer realm=\"https://a/\",service=\"b\",scope=\"c:pull,push\"";

    check_formatted(usual, usual, sizeof usual);
    check_formatted(usual, "", sizeof usual - 1);
    check_formatted("bearer scope=c, realm=a , error=d", "Bearer realm=\"a\",scope=\"c\"", 256);
    check_formatted("BASIC x=y,realm=\"a \\\"b\\\\\"", "Basic realm=\"a \\\"b\\\\\"", 256);
    check_formatted("Basic", "Basic", 6);
    check_formatted("Basic", "", 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_registries_are_understood),
        cmocka_unit_test(the_grammar_is_kept),
        cmocka_unit_test(nul_is_not_of_the_grammar),
        cmocka_unit_test(several_fields_add_up),
        cmocka_unit_test(values_and_their_number_are_limited),
        cmocka_unit_test(a_challenge_can_be_passed_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
