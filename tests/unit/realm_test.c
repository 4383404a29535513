/* SPDX-License-Identifier: ISC */
/* Where a token may be asked for. */
#include "proxy/realm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cache/err.h"

#define HUB "https://registry-1.docker.io"
#define LAN "http://registry.lan:5000"

static char auth[] = "auth.docker.io", port[] = "auth.lan:8443", http[] = "registry.lan:5001",
            ipv6[] = "[2001:db8::1]:444", all[] = "*.wild.example";
static char *const hosts[] = {auth, port, http, ipv6, all};

struct row {
    const char *url;
    const char *realm;
    int err;
};

static const struct row rows[] = {
    {HUB, "https://auth.docker.io/token", 0},
    {HUB, "https://AUTH.docker.io:443/token?a=b", 0},
    {HUB, "HTTPS://auth.docker.io", 0},
    {HUB, "https://auth.docker.io?x=1", 0},
    {HUB, "https://registry-1.docker.io/token", 0},
    {HUB, "https://registry-1.docker.io:443/token", 0},
    {HUB, "https://auth.docker.io:8443/token", 0},
    {HUB, "https://a.b.wild.example/token", 0},
    {HUB, "https://auth.lan:8443/", 0},
    {HUB, "https://[2001:DB8::1]:444/", 0},
    {"https://ghcr.io/proxy/path", "https://ghcr.io/token", 0},
    {"https://reg.lan:5000", "https://reg.lan:5000/token", 0},
    /* another host, or another port of one that is allowed */
    {HUB, "https://evil.example/token", ERR_DENIED},
    {HUB, "https://docker.io/token", ERR_DENIED},
    {HUB, "https://xauth.docker.io/token", ERR_DENIED},
    {HUB, "https://auth.docker.io.evil.example/token", ERR_DENIED},
    {HUB, "https://wild.example/token", ERR_DENIED},
    {HUB, "https://auth.lan/", ERR_DENIED},
    {HUB, "https://registry-1.docker.io:444/token", ERR_DENIED},
    {HUB, "https://169.254.169.254/latest", ERR_DENIED},
    {HUB, "https://127.0.0.1/", ERR_DENIED},
    {HUB, "https://[::1]/", ERR_DENIED},
    {HUB, "https://evil.example/auth.docker.io", ERR_DENIED},
    {HUB, "https://evil.example?@auth.docker.io/", ERR_DENIED},
    /* http: never from https, else at the same host only */
    {HUB, "http://auth.docker.io/token", ERR_DENIED},
    {HUB, "http://registry-1.docker.io/token", ERR_DENIED},
    {HUB, "http://registry-1.docker.io:443/token", ERR_DENIED},
    {LAN, "http://registry.lan:5000/token", 0},
    {LAN, "http://registry.lan:5001/token", 0},
    {LAN, "https://registry.lan:5000/token", 0},
    {LAN, "https://auth.lan:8443/token", 0},
    {LAN, "http://auth.lan:8443/token", ERR_DENIED},
    {LAN, "http://auth.docker.io/token", ERR_DENIED},
    {LAN, "http://registry.lan:5002/token", ERR_DENIED},
    {LAN, "http://registry.lan/token", ERR_DENIED},
    /* not a plain url */
    {HUB, "", ERR_INVALID},
    {HUB, "Registry Realm", ERR_INVALID},
    {HUB, "auth.docker.io/token", ERR_INVALID},
    {HUB, "//auth.docker.io/token", ERR_INVALID},
    {HUB, "/token", ERR_INVALID},
    {HUB, "file:///etc/passwd", ERR_INVALID},
    {HUB, "ftp://auth.docker.io/", ERR_INVALID},
    {HUB, "https:/auth.docker.io/", ERR_INVALID},
    {HUB, "https://", ERR_INVALID},
    {HUB, "https:///token", ERR_INVALID},
    {HUB, "https://user@auth.docker.io/token", ERR_INVALID},
    {HUB, "https://user:pass@auth.docker.io/token", ERR_INVALID},
    {HUB, "https://auth.docker.io@evil.example/token", ERR_INVALID},
    {HUB, "https://auth.docker.io:443@evil.example/token", ERR_INVALID},
    {HUB, "https://evil.example\\@auth.docker.io/token", ERR_INVALID},
    {HUB, "https://evil.example\\.auth.docker.io/token", ERR_INVALID},
    {HUB, "https://auth.docker.io\\evil/token", ERR_INVALID},
    {HUB, "https://auth.docker.io/to\\ken", ERR_INVALID},
    {HUB, "https://auth.docker.io/token#x", ERR_INVALID},
    {HUB, "https://auth.docker.io#@evil.example", ERR_INVALID},
    {HUB, "https://auth.docker.io/a b", ERR_INVALID},
    {HUB, "https://auth.docker.io/\r\nX: y", ERR_INVALID},
    {HUB, "https://auth.docker.io/\t", ERR_INVALID},
    {HUB, "https://auth.docker.io/\xc3\xa9", ERR_INVALID},
    {HUB, "https://auth.docker.io./token", ERR_INVALID},
    {HUB, "https://auth.docker.io:/token", ERR_INVALID},
    {HUB, "https://auth.docker.io:0443/token", ERR_INVALID},
    {HUB, "https://auth.docker.io:70000/token", ERR_INVALID},
    {HUB, "https://auth%2edocker.io/token", ERR_INVALID},
    {HUB, "https://[::1%25lo]/", ERR_INVALID},
};

static int check(const struct row *r, char why[256])
{
    struct realm_policy p = {.registry = "docker.io",
                             .url = r->url,
                             .hosts = hosts,
                             .host_count = sizeof hosts / sizeof hosts[0]};

    why[0] = '\0';
    return realm_check(&p, r->realm, why, 256);
}

static void only_allowed_realms_are_asked(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char why[256];
        int err = check(&rows[i], why);
        if (err != rows[i].err)
            fail_msg("%s at %s: %d, %s", rows[i].realm, rows[i].url, err, why);
        assert_int_equal(err == 0, why[0] == '\0');
    }
}

static void the_reason_names_the_option(void **state)
{
    (void)state;
    char why[256];

    assert_int_equal(check(&(struct row){HUB, "https://evil.example:8443/token?x", 0}, why),
                     ERR_DENIED);
    assert_string_equal(why, "docker.io: no credential is sent to a realm that is not allowed; "
                             "realm-hosts in [upstream docker.io] would allow it: "
                             "evil.example:8443");
    /* What it names does allow it. */
    char evil[] = "evil.example:8443";
    char *more[] = {evil};
    struct realm_policy p = {.registry = "docker.io", .url = HUB, .hosts = more, .host_count = 1};
    assert_int_equal(realm_check(&p, "https://evil.example:8443/token?x", why, sizeof why), 0);
    /* A user's name and password are not repeated. */
    assert_int_equal(check(&(struct row){HUB, "https://user:hunter2@a.example/", 0}, why),
                     ERR_INVALID);
    assert_null(strstr(why, "hunter2"));
}

static void what_is_named_in_full_may_be_inside(void **state)
{
    (void)state;
    struct realm_policy p = {
        .registry = "x",
        .url = "https://Reg.lan:2/x",
        .hosts = hosts,
        .host_count = sizeof hosts / sizeof hosts[0],
    };

    assert_true(realm_may_be_inside(&p, "https://reg.lan:1/token"));
    assert_true(realm_may_be_inside(&p, "https://auth.docker.io/"));
    assert_true(realm_may_be_inside(&p, "https://auth.lan:8443/"));
    assert_false(realm_may_be_inside(&p, "https://auth.lan/"));
    assert_false(realm_may_be_inside(&p, "https://a.wild.example/"));
    assert_false(realm_may_be_inside(&p, "https://reg.lann/"));
    assert_false(realm_may_be_inside(&p, "https://a@reg.lan/"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_allowed_realms_are_asked),
        cmocka_unit_test(the_reason_names_the_option),
        cmocka_unit_test(what_is_named_in_full_may_be_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
