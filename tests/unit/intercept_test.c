/* SPDX-License-Identifier: ISC */
/* Whose TLS is opened, and what our own authority must vouch for. */
#include "proxy/intercept.h"

#include "tests/unit/config_text.h"

#define DOOR "[listener door]\nrole = intercept\naddress = 3128\n"

struct find_row {
    const char *host;
    enum intercept kind;
    const char *registry; /* NULL: of no upstream */
};

static void check(const struct config *c, const struct find_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct config_upstream *u = (const void *)c;
        enum intercept kind = intercept_find(c, rows[i].host, &u);

        if (kind != rows[i].kind || (u == NULL) != (rows[i].registry == NULL) ||
            (u && strcmp(u->registry, rows[i].registry) != 0)) {
            fail_msg("%s: %d of %s", rows[i].host, (int)kind, u ? u->registry : "nobody");
        }
        assert_int_equal(intercept_opens(c, rows[i].host),
                         kind == INTERCEPT_REGISTRY || kind == INTERCEPT_CONTENT);
    }
}

#define CHECK_ROWS(c, rows) check(c, rows, sizeof(rows) / sizeof(rows)[0])

/* As shipped. */
static void test_shipped(void **state)
{
    static const struct find_row rows[] = {
        {"registry-1.docker.io", INTERCEPT_REGISTRY, "docker.io"},
        {"index.docker.io", INTERCEPT_REGISTRY, "docker.io"},
        {"docker.io", INTERCEPT_REFUSED, NULL},
        {"auth.docker.io", INTERCEPT_TUNNEL, "docker.io"},
        {"production.cloudflare.docker.com", INTERCEPT_CONTENT, "docker.io"},
        {"x.r2.cloudflarestorage.com", INTERCEPT_CONTENT, "docker.io"},
        {"r2.cloudflarestorage.com", INTERCEPT_REFUSED, NULL},
        {"mcr.microsoft.com", INTERCEPT_REGISTRY, "mcr.microsoft.com"},
        {"x.mcr.microsoft.com", INTERCEPT_REFUSED, NULL},
        {"xmcr.microsoft.com", INTERCEPT_REFUSED, NULL},
        {"mcr.microsoft.co", INTERCEPT_REFUSED, NULL},
        {"mcr.microsoft.com.evil.example", INTERCEPT_REFUSED, NULL},
        {"mcr.microsoft.com.", INTERCEPT_REFUSED, NULL},
        {"eastus.data.mcr.microsoft.com", INTERCEPT_CONTENT, "docker.io"},
        {"evil.example", INTERCEPT_REFUSED, NULL},
        {"", INTERCEPT_REFUSED, NULL},
        {".", INTERCEPT_REFUSED, NULL},
        {"*.data.mcr.microsoft.com", INTERCEPT_REFUSED, NULL},
        {"127.0.0.1", INTERCEPT_REFUSED, NULL},
        {"::1", INTERCEPT_REFUSED, NULL},
        {"[::1]", INTERCEPT_REFUSED, NULL},
        {"mcr.microsoft.com:443", INTERCEPT_REFUSED, NULL},
    };
    struct config *c = load_good(DOOR);

    (void)state;
    CHECK_ROWS(c, rows);
    config_unref(&c);
}

/* Ports count: only what is at 443 is reached by it. A tunnel goes before all else, an
 * upstream's own host before its being somebody's content. */
static void test_order(void **state)
{
    static const struct find_row rows[] = {
        {"a.test", INTERCEPT_REGISTRY, "a.test"},
        {"b.test", INTERCEPT_REGISTRY, "b.test:443"},
        {"c.test", INTERCEPT_REFUSED, NULL},
        {"quiet.test", INTERCEPT_TUNNEL, NULL},
        {"x.pattern.test", INTERCEPT_TUNNEL, NULL},
        {"pattern.test", INTERCEPT_REFUSED, NULL},
        {"tokens.test", INTERCEPT_TUNNEL, "a.test"},
        {"tokens443.test", INTERCEPT_TUNNEL, "a.test"},
        {"tokens444.test", INTERCEPT_REFUSED, NULL},
        {"cdn.test", INTERCEPT_CONTENT, "a.test"},
        {"layers.test", INTERCEPT_CONTENT, "a.test"},
        {"both.test", INTERCEPT_TUNNEL, "a.test"},
        {"10.0.0.1", INTERCEPT_REFUSED, NULL},
    };
    struct config *c =
        load_good(DOOR "[intercept]\ntunnel = quiet.test *.pattern.test far.test:8443\n"
                       "[upstream a.test]\nrealm-hosts = tokens.test tokens443.test:443 "
                       "tokens444.test:444 both.test\n"
                       "redirect-hosts = cdn.test b.test both.test 10.0.0.1\n"
                       "foreign-hosts = layers.test quiet.test\n"
                       "[upstream b.test:443]\n[upstream c.test:5000]\n[upstream quiet.test]\n");

    (void)state;
    CHECK_ROWS(c, rows);
    const struct config_upstream *u;
    assert_int_equal(intercept_find(c, "far.test", &u), INTERCEPT_REFUSED);
    config_unref(&c);
}

/* Names of any length. */
static void test_long(void **state)
{
    char host[5000];
    struct config *c = load_good(DOOR "[intercept]\ntunnel = *.test\n");

    (void)state;
    for (size_t len = 1; len < sizeof host; len += 7) {
        const struct config_upstream *u;

        memset(host, 'a', len);
        host[len] = '\0';
        assert_int_equal(intercept_find(c, host, &u), INTERCEPT_REFUSED);
        if (len > 6) {
            memcpy(host + len - 5, ".test", 5);
            (void)intercept_find(c, host, &u);
        }
    }
    config_unref(&c);
}

static bool has(char **names, unsigned count, const char *name)
{
    unsigned found = 0;

    for (unsigned i = 0; i < count; i++)
        found += strcmp(names[i], name) == 0;
    assert_true(found <= 1);
    return found == 1;
}

/* For the authority: what is opened and our own names, each once; not what is tunnelled, nor
 * docker.io, which would be all of its domain. */
static void test_names(void **state)
{
    struct config *c = load_good(
        DOOR "[intercept]\ntunnel = quay.io\n"
             "[listener secure]\nrole = registry\naddress = 5443\ntls = yes\n"
             "names = cachalot.lan 10.0.0.1 2001:db8::1\n"
             "[upstream b.test:443]\n[upstream c.test:5000]\n"
             "[upstream a.test]\nredirect-hosts = cdn.test *.cdn.test mcr.microsoft.com\n");
    static const char *const in[] = {
        "cachalot.lan",    "10.0.0.1",          "2001:db8::1", "registry-1.docker.io",
        "index.docker.io", "mcr.microsoft.com", "a.test",      "b.test",
        "cdn.test",        "*.cdn.test",        "ghcr.io",     "*.data.mcr.microsoft.com"};
    static const char *const out[] = {"docker.io",   "auth.docker.io", "quay.io", "c.test",
                                      "c.test:5000", "b.test:443",     "*",       ""};
    unsigned count;
    char **names = intercept_names(c, &count);

    (void)state;
    for (size_t i = 0; i < sizeof in / sizeof in[0]; i++) {
        if (!has(names, count, in[i])) {
            fail_msg("%s is missing", in[i]);
        }
    }
    for (size_t i = 0; i < sizeof out / sizeof out[0]; i++) {
        if (has(names, count, out[i])) {
            fail_msg("%s is too much", out[i]);
        }
    }
    intercept_names_free(names, count);
    config_unref(&c);
}

/* Without an intercepting listener only those of our listeners. */
static void test_own_names(void **state)
{
    struct config *c = load_good("[listener secure]\nrole = registry\naddress = 5443\ntls = yes\n"
                                 "names = cachalot.lan\n");
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    (void)state;
    assert_non_null(out);
    intercept_print_names(c, out);
    fclose(out);
    assert_string_equal(text, "cachalot.lan\n");
    free(text);
    config_unref(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shipped),   cmocka_unit_test(test_order),
        cmocka_unit_test(test_long),      cmocka_unit_test(test_names),
        cmocka_unit_test(test_own_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
