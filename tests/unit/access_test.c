/* SPDX-License-Identifier: ISC */
/* Rules of access: patterns, what rules let, and when a login could help. */
#include "proxy/access.h"
#include "proxy/config_match.h"

#include "tests/unit/config_text.h"

/* "team/app" is local, "docker.io/acme/app" an upstream's. */
static struct name name_of(const char *text)
{
    struct name n;
    size_t len = strlen(text);

    if (name_looks_like_registry(text, len)) {
        size_t host = strcspn(text, "/");
        assert_int_equal(name_set(&n, text, host, text + host + 1, len - host - 1), 0);
    } else {
        assert_int_equal(name_set_local(&n, text, len), 0);
    }
    return n;
}

struct pattern_row {
    const char *pattern, *name;
    bool matches;
};

static const struct pattern_row patterns[] = {
    {"**", "app", true},
    {"**", "team/app", true},
    {"**", "a/b/c/d", true},
    {"**", "docker.io/acme/app", false},
    {"*", "app", true},
    {"*", "team/app", false},
    {"*/*", "team/app", true},
    {"*/*", "docker.io/acme/app", false},
    {"*/**", "team/app", true},
    {"**/**", "docker.io/acme/app", false},
    {"**/app", "docker.io/acme/app", false},
    {"team/app", "team/app", true},
    {"team/app", "team/apps", false},
    {"team/app", "team/ap", false},
    {"team/app", "xteam/app", false},
    {"team/*", "team/app", true},
    {"team/*", "team/app/base", false},
    {"team/*", "teams/app", false},
    {"team/*", "team", false},
    {"team/**", "team/app/base", true},
    {"team/**", "team", false},
    {"team**", "team", true},
    {"team**", "teams/app", true},
    {"team*/app", "team-x/app", true},
    {"team*/app", "team/x/app", false},
    {"**/app", "a/b/app", true},
    {"**/app", "app", false},
    {"**app", "app", true},
    {"a*b*c", "axxbxxc", true},
    {"a*b*c", "axxbxx", false},
    {"a*b*c", "abc", true},
    {"*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
    {"***", "team/app", true},
    {"docker.io/**", "docker.io/acme/app", true},
    {"docker.io/**", "quay.io/acme/app", false},
    {"docker.io/**", "team/app", false},
    {"docker.io/acme/*", "docker.io/acme/app", true},
    {"docker.io/acme/*", "docker.io/acme/app/x", false},
    {"docker.io/alpine", "docker.io/library/alpine", true},
    {"docker.io/*", "docker.io/library/alpine", true},
    {"docker.io/*", "docker.io/acme/app", false},
    {"Index.Docker.IO/acme/app", "docker.io/acme/app", true},
    {"*.example.com/**", "a.example.com/x", true},
    {"*.example.com/**", "a.b.example.com/x/y", true},
    {"*.example.com/**", "example.com/x", false},
    {"*.example.com/**", "evil.org/a.example.com/x", false},
    {"*.example.com/**", "a.example.com:5000/x", false},
    {"*.example.com:5000/**", "a.example.com:5000/x", true},
    {"localhost/**", "localhost/x", true},
    {"localhost:5000/**", "localhost:5000/x", true},
    {"[::1]:5000/**", "[::1]:5000/x", true},
};

static void patterns_match(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        const struct pattern_row *r = &patterns[i];
        char *text = mem_format("[access a]\nrepositories = %s\n", r->pattern);
        struct config *c = load_good(text);
        struct name n = name_of(r->name);
        if (access_allows(c, "10.0.0.1", NULL, &n, RIGHT_PULL) != r->matches)
            fail_msg("%s and %s", r->pattern, r->name);
        config_unref(&c);
        free(text);
    }
}

/* A registry whose name could be a local repository's has to be named in full. */
static void a_registry_without_dots_is_named(void **state)
{
    (void)state;
    char *house[] = {(char *)(uintptr_t) "house/**"}, *any[] = {(char *)(uintptr_t) "*/**"};
    struct name n = {"house", "acme/app"};

    assert_true(config_repository_matches(house, 1, &n));
    assert_false(config_repository_matches(any, 1, &n));
    n = (struct name){"houses", "acme/app"};
    assert_false(config_repository_matches(house, 1, &n));
}

/* The same by another way: every place that a star can end at is tried. */
static bool slow_matches(const char *p, const char *t)
{
    if (*p == '\0')
        return *t == '\0';
    if (*p != '*')
        return *p == *t && slow_matches(p + 1, t + 1);
    bool crosses = p[1] == '*';
    for (;; t++) {
        if (slow_matches(p + (crosses ? 2 : 1), t))
            return true;
        if (*t == '\0' || (!crosses && *t == '/'))
            return false;
    }
}

static void patterns_match_as_the_definition_says(void **state)
{
    (void)state;
    static const char letters[] = "ab/*";
    unsigned seed = 1, matched = 0;

    for (int round = 0; round < 200000; round++) {
        char p[8], t[8];
        struct name n = {.registry = ""};
        for (size_t i = 0; i < sizeof p; i++) {
            seed = seed * 1103515245 + 12345;
            p[i] = letters[seed >> 16 & 3];
            t[i] = letters[(seed >> 20) % 3];
        }
        p[seed >> 24 & 7] = t[seed >> 27 & 7] = '\0';
        p[7] = t[7] = '\0';
        memcpy(n.repository, t, sizeof t);
        char *list[] = {p};
        bool matches = config_repository_matches(list, 1, &n);
        if (matches != slow_matches(p, t))
            fail_msg("%s and %s", p, t);
        matched += matches;
    }
    assert_in_range(matched, 100, 199900);
}

#define AUTH "[auth]\npassword-file = /x\n"
#define TOKENS                                                                                     \
    "[auth]\ntoken-key = /k\ntoken-realm = https://t.example/token\ntoken-service = s\n"           \
    "token-issuer = i\n"
#define EVERYBODY "[access everybody]\n"
#define TEAM "[access team]\nusers = alice bob\nrepositories = team/**\nallow = pull push\n"
#define BUILDS "[access builds]\naddresses = 10.0.0.17\nallow = pull push delete\n"
#define KNOWN "[access known]\naddresses = any\nusers = *\nrepositories = docker.io/acme/**\n"

struct rule_row {
    const char *text;
    const char *peer, *user, *name;
    enum right right;
    bool allows, could;
};

static const struct rule_row rules[] = {
    /* As shipped. */
    {"", "10.0.0.1", NULL, "app", RIGHT_PULL, true, false},
    {"", "unix", NULL, "app", RIGHT_PULL, true, false},
    {"", "203.0.113.9", NULL, "app", RIGHT_PULL, false, false},
    {"", "10.0.0.1", NULL, "app", RIGHT_PUSH, false, false},
    {"", "10.0.0.1", NULL, "app", RIGHT_DELETE, false, false},
    {"", "unix", NULL, "app", RIGHT_PUSH, false, false},
    {"", "10.0.0.1", NULL, "docker.io/acme/app", RIGHT_PULL, false, false},
    {"", "10.0.0.1", "alice", "docker.io/acme/app", RIGHT_PULL, false, false},
    /* Users. */
    {AUTH TEAM, "10.0.0.1", NULL, "team/app", RIGHT_PULL, false, true},
    {AUTH TEAM, "10.0.0.1", NULL, "app", RIGHT_PULL, false, false},
    {AUTH TEAM, "203.0.113.9", NULL, "team/app", RIGHT_PULL, false, false},
    {AUTH TEAM, "10.0.0.1", "alice", "team/app", RIGHT_PUSH, true, true},
    {AUTH TEAM, "10.0.0.1", "bob", "team/app", RIGHT_PULL, true, true},
    {AUTH TEAM, "10.0.0.1", "carol", "team/app", RIGHT_PUSH, false, true},
    {AUTH TEAM, "10.0.0.1", "*", "team/app", RIGHT_PUSH, false, true},
    {AUTH TEAM, "10.0.0.1", "", "team/app", RIGHT_PUSH, false, true},
    {AUTH TEAM, "10.0.0.1", "alice", "other/app", RIGHT_PUSH, false, false},
    {AUTH TEAM, "10.0.0.1", "alice", "team/app", RIGHT_DELETE, false, false},
    {AUTH TEAM, "203.0.113.9", "alice", "team/app", RIGHT_PUSH, false, false},
    /* They add up. */
    {AUTH TEAM BUILDS EVERYBODY, "10.0.0.17", NULL, "team/app", RIGHT_DELETE, true, false},
    {AUTH TEAM BUILDS EVERYBODY, "10.0.0.17", "carol", "any/app", RIGHT_PUSH, true, false},
    {AUTH TEAM BUILDS EVERYBODY, "10.0.0.18", NULL, "team/app", RIGHT_PULL, true, true},
    {AUTH TEAM BUILDS EVERYBODY, "10.0.0.18", NULL, "team/app", RIGHT_PUSH, false, true},
    {AUTH TEAM BUILDS EVERYBODY, "10.0.0.18", "alice", "team/app", RIGHT_PUSH, true, true},
    /* Anybody who is known; an upstream's. */
    {AUTH KNOWN, "203.0.113.9", "carol", "docker.io/acme/app", RIGHT_PULL, true, true},
    {AUTH KNOWN, "203.0.113.9", NULL, "docker.io/acme/app", RIGHT_PULL, false, true},
    {AUTH KNOWN, "203.0.113.9", "carol", "docker.io/other/app", RIGHT_PULL, false, false},
    {AUTH KNOWN, "203.0.113.9", "carol", "acme/app", RIGHT_PULL, false, false},
    /* No rule makes an upstream's one to push to. */
    {BUILDS "repositories = docker.io/**\n", "10.0.0.17", NULL, "docker.io/acme/app", RIGHT_PULL,
     true, false},
    {BUILDS "repositories = docker.io/**\n", "10.0.0.17", NULL, "docker.io/acme/app", RIGHT_PUSH,
     false, false},
    {BUILDS "repositories = docker.io/**\n", "10.0.0.17", NULL, "docker.io/acme/app", RIGHT_DELETE,
     false, false},
    /* A token may grant anything but that. */
    {TOKENS, "203.0.113.9", NULL, "app", RIGHT_PUSH, false, true},
    {TOKENS, "203.0.113.9", NULL, "docker.io/acme/app", RIGHT_PULL, false, true},
    {TOKENS, "203.0.113.9", NULL, "docker.io/acme/app", RIGHT_PUSH, false, false},
    /* Rules that let nobody. */
    {"[access none]\naddresses =\n", "10.0.0.1", NULL, "app", RIGHT_PULL, false, false},
    {"[access none]\nrepositories =\n", "10.0.0.1", NULL, "app", RIGHT_PULL, false, false},
    {"[access none]\nallow =\n", "10.0.0.1", NULL, "app", RIGHT_PULL, false, false},
};

static void rules_add_up(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        const struct rule_row *r = &rules[i];
        char *text = mem_format("%s\n", r->text);
        struct config *c = load_good(text);
        struct name n = name_of(r->name);
        if (access_allows(c, r->peer, r->user, &n, r->right) != r->allows)
            fail_msg("row %zu: allows", i);
        if (access_any_user_could(c, r->peer, &n, r->right) != r->could)
            fail_msg("row %zu: could", i);
        config_unref(&c);
        free(text);
    }
}

static void check_text(const char *text, bool wants_users, const char *expected)
{
    struct config *c = load_good(text);
    char said[ACCESS_SENTENCE_SIZE];

    assert_int_equal(access_wants_users(c, "10.0.0.1"), wants_users);
    if (strstr(access_describe(c, said), expected) == NULL)
        fail_msg("no \"%s\" in: %s", expected, said);
    assert_non_null(strstr(said, "[access NAME]"));
    assert_true(strlen(said) < ACCESS_SENTENCE_SIZE - 1);
    config_unref(&c);
}

static void what_it_means_is_said(void **state)
{
    (void)state;
    check_text("\n", false,
               "local repositories: everybody at private addresses may pull, nobody may push, "
               "nobody may delete; ");
    check_text(AUTH TEAM, true,
               "users with a password may pull, users with a password may push, "
               "nobody may delete; ");
    check_text(AUTH TEAM BUILDS EVERYBODY, true,
               "everybody at private addresses may pull, everybody at some addresses may push, "
               "everybody at some addresses may delete; ");
    check_text("[access a]\naddresses = any\nallow = push\n", false,
               "nobody may pull, everybody at any address may push, nobody may delete; ");
    check_text(TOKENS, true, "nobody may delete, and who has a token what it grants; ");
    check_text(AUTH "[access a]\naddresses = 192.0.2.0/24\nusers = *\n", false, "users with a");
    check_text("[access a]\naddresses =\n", false, "nobody may pull, nobody may push");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_match),
        cmocka_unit_test(a_registry_without_dots_is_named),
        cmocka_unit_test(patterns_match_as_the_definition_says),
        cmocka_unit_test(rules_add_up),
        cmocka_unit_test(what_it_means_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
