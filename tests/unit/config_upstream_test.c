/* SPDX-License-Identifier: ISC */
/* Options of [upstream HOST] that say how, where and as whom a registry is asked. */
#include "proxy/config.h"
#include "proxy/config_match.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/config_text.h"

static bool redirects_to(const struct config_upstream *u, const char *host)
{
    return config_host_matches(u->redirect_hosts, u->redirect_host_count, host);
}

static void check_defaults(const struct config_upstream *u)
{
    assert_int_equal(u->parent, PARENT_NO);
    assert_false(u->offline);
    assert_null(u->username);
    assert_null(u->password_file);
    assert_null(u->credential_helper);
    assert_int_equal(u->visibility, VISIBILITY_PUBLIC);
    assert_int_equal(u->foreign_host_count, 5);
    assert_string_equal(u->foreign_hosts[0], "go.microsoft.com");
    assert_string_equal(u->foreign_hosts[2], "*.data.mcr.microsoft.com");
    assert_int_equal(u->not_found_ttl_ms, 15000);
    assert_int_equal(u->proof_ttl_ms, 300000);
    assert_int_equal(u->offline_grace_ms, 0);
    assert_int_equal(u->request_timeout_ms, 60000);
    assert_int_equal(u->connections, 4);
    assert_int_equal(u->rate.count, 0);
    assert_int_equal(u->background_rate.count, 0);
    assert_int_equal(u->addresses, ADDRESSES_ANY);
    assert_null(u->proxy);
    assert_null(u->proxy_username);
    assert_null(u->proxy_password_file);
    assert_null(u->certificate);
    assert_null(u->key);
}

static void shipped_upstreams_have_their_hosts(void **state)
{
    (void)state;
    struct config *c;
    assert_int_equal(config_load(&c, NULL, stderr), 0);
    for (unsigned i = 0; i < c->upstream_count; i++)
        check_defaults(&c->upstreams[i]);
    const struct config_upstream *u = config_find_upstream(c, "docker.io");
    assert_int_equal(u->realm_host_count, 1);
    assert_string_equal(u->realm_hosts[0], "auth.docker.io");
    assert_int_equal(u->redirect_host_count, 3);
    static const struct {
        const char *registry, *host;
        bool follows;
    } cases[] = {
        {"docker.io", "production.cloudflare.docker.com:443", true},
        {"docker.io", "production.cloudfront.docker.com", true},
        {"docker.io", "docker-images-prod.0123.r2.cloudflarestorage.com", true},
        {"docker.io", "r2.cloudflarestorage.com", false},
        {"mcr.microsoft.com", "eastus.data.mcr.microsoft.com", true},
        {"mcr.microsoft.com", "data.mcr.microsoft.com", false},
        {"ghcr.io", "pkg-containers.githubusercontent.com", true},
        {"quay.io", "cdn01.quay.io", true},
        {"quay.io", "quayio-production-s3.s3.amazonaws.com", true},
        {"registry.k8s.io", "europe-west1-docker.pkg.dev", true},
        {"registry.k8s.io", "prod-registry-k8s-io.s3.dualstack.eu-west-1.amazonaws.com", true},
        {"gcr.io", "storage.googleapis.com", true},
        {"gcr.io", "googleapis.com", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        u = config_find_upstream(c, cases[i].registry);
        if (redirects_to(u, cases[i].host) != cases[i].follows)
            fail_msg("%s: %s", cases[i].registry, cases[i].host);
    }
    config_unref(&c);
}

static const char all_of_an_upstream[] =
    "[cache]\noffline = yes\nrate = 100Mbit/s mon-fri 08:00-18:00\nrate = 1Gbit/s\n"
    "background-rate = 1MiB/s\n"
    "[upstream a.example]\nurl = https://head.example:5000\nparent = ns\noffline = yes\n"
    "username =;us er\npassword-file = /etc/a.password\nvisibility = private\n"
    "realm-hosts = Auth.Example, *.Auth.example:8443\nrealm-hosts = [::1]:5001\n"
    "redirect-hosts = a b c d e f g h i j k l m n o *.p\nforeign-hosts =\n"
    "not-found-ttl = 0\nproof-ttl = 1m\noffline-grace = 8h\nrequest-timeout = 5s\n"
    "connections = 16\nrate = 0 sat-sun, 6MB/s 22:00-6:00\n";

static void options_of_upstreams_are_taken(void **state)
{
    (void)state;
    char *errors;
    /* Hours have two digits. */
    struct config *c = load_n(all_of_an_upstream, strlen(all_of_an_upstream), &errors);
    assert_null(c);
    assert_non_null(
        strstr(errors, "upstream.rate: \"0 sat-sun, 6MB/s 22:00-6:00\" has hours that"));
    free(errors);
    char *text =
        mem_format("%.*s%s", (int)(strstr(all_of_an_upstream, "6:00\n") - all_of_an_upstream),
                   all_of_an_upstream,
                   "06:00\nbackground-rate = 8kbit/s\naddresses = ipv6\n"
                   "proxy = http://Proxy.example:3128/\nproxy-username = me\n"
                   "proxy-password-file = /etc/p.password\n"
                   "certificate = /etc/a.pem\nkey = /etc/a.key\n"
                   "[upstream b.example]\ncredential-helper = /usr/bin/helper\n"
                   "visibility = private\n");
    c = load_good(text);
    free(text);
    assert_true(c->offline);
    assert_int_equal(c->rate.count, 2);
    assert_int_equal(c->rate.clauses[1].bytes_per_s, 125000000);
    assert_int_equal(c->background_rate.clauses[0].bytes_per_s, 1 << 20);
    const struct config_upstream *u = config_find_upstream(c, "a.example");
    assert_int_equal(u->parent, PARENT_NS);
    assert_true(u->offline);
    assert_string_equal(u->username, ";us er");
    assert_string_equal(u->password_file, "/etc/a.password");
    assert_int_equal(u->visibility, VISIBILITY_PRIVATE);
    assert_int_equal(u->realm_host_count, 3);
    assert_string_equal(u->realm_hosts[0], "auth.example");
    assert_string_equal(u->realm_hosts[1], "*.auth.example:8443");
    assert_string_equal(u->realm_hosts[2], "[::1]:5001");
    assert_int_equal(u->redirect_host_count, CONFIG_HOSTS_MAX);
    assert_int_equal(u->foreign_host_count, 0);
    assert_int_equal(u->not_found_ttl_ms, 0);
    assert_int_equal(u->proof_ttl_ms, 60000);
    assert_int_equal(u->offline_grace_ms, 8 * 3600000);
    assert_int_equal(u->request_timeout_ms, 5000);
    assert_int_equal(u->connections, 16);
    assert_int_equal(u->rate.count, 2);
    assert_int_equal(u->background_rate.clauses[0].bytes_per_s, 1000);
    assert_int_equal(u->addresses, ADDRESSES_IPV6);
    assert_string_equal(u->proxy, "http://Proxy.example:3128");
    assert_string_equal(u->proxy_username, "me");
    assert_string_equal(u->proxy_password_file, "/etc/p.password");
    assert_string_equal(u->certificate, "/etc/a.pem");
    assert_string_equal(u->key, "/etc/a.key");
    u = config_find_upstream(c, "b.example");
    assert_string_equal(u->credential_helper, "/usr/bin/helper");
    char *first = dump(c);
    config_unref(&c);
    c = load_good(first);
    char *second = dump(c);
    assert_string_equal(first, second);
    assert_string_equal(config_find_upstream(c, "a.example")->username, ";us er");
    assert_int_equal(config_find_upstream(c, "a.example")->foreign_host_count, 0);
    free(first);
    free(second);
    config_unref(&c);
}

static void hosts_match_patterns(void **state)
{
    (void)state;
    static const char *const patterns[] = {"auth.example", "*.data.example", "one.example:5000",
                                           "*.lan:8443", "[fe80::1]"};
    static const struct {
        const char *host;
        bool matches;
    } cases[] = {
        {"auth.example", true},
        {"AUTH.example", true},
        {"auth.example:443", true},
        {"auth.example:8443", true},
        {"auth.example.", false},
        {"x.auth.example", false},
        {"auth.example.evil", false},
        {"xauth.example", false},
        {"a.data.example", true},
        {"a.b.data.example:1", true},
        {"data.example", false},
        {".data.example", false},
        {"xdata.example", false},
        {"a.data.example.evil", false},
        {"one.example:5000", true},
        {"one.example:500", false},
        {"one.example:50001", false},
        {"one.example", false},
        {"a.lan:8443", true},
        {"a.lan", false},
        {"lan:8443", false},
        {"[fe80::1]", true},
        {"[fe80::1]:443", true},
        {"[fe80::2]", false},
        {"fe80::1", false},
        {"", false},
        {"evil/.data.example", false},
        {"evil@auth.example", false},
        {"evil@a.data.example", false},
        {"*.data.example", false},
        {"auth.example:", false},
        {":443", false},
    };
    char **list = (char **)(uintptr_t)patterns;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (config_host_matches(list, 5, cases[i].host) != cases[i].matches)
            fail_msg("%s", cases[i].host);
        assert_false(config_host_matches(list, 0, cases[i].host));
    }
}

static void errors_name_place_and_remedy(void **state)
{
    (void)state;
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"[upstream a]\nconnections = 0\n", "is too small"},
        {"[upstream a]\nconnections = 17\n", "is too large"},
        {"[upstream a]\naddresses = ipv5\n", "accepted: any, ipv4 or ipv6"},
        {"[upstream a]\nparent = yes\nurl = http://b\n", "accepted: no, prefix or ns"},
        {"[upstream a]\nparent = prefix\n",
         "t.ini:1: upstream.parent: [upstream a] has no url of another cachalot; accepted: prefix "
         "or ns together with url"},
        {"\n[upstream docker.io]\nparent = ns\n", "t.ini:2: upstream.parent: [upstream docker.io]"},
        {"[upstream a]\nusername = a:b\n", "\"a:b\" has a colon"},
        {"[upstream a]\nusername = a\n",
         "t.ini:1: upstream.username: [upstream a] has no password-file; accepted: username "
         "together with password-file"},
        {"[upstream a]\npassword-file = /a\n",
         "upstream.password-file: [upstream a] has no username"},
        {"[upstream a]\npassword-file = a\n", "is not an absolute path"},
        {"[upstream a]\ncredential-helper = docker-credential-pass\n", "is not an absolute path"},
        {"[upstream a]\ncredential-helper = /a\nusername = a\npassword-file = /b\n",
         "upstream.credential-helper: [upstream a] has a username too; accepted: either"},
        {"[upstream a]\nvisibility = private\n",
         "upstream.visibility: [upstream a] has no credentials; accepted: private together with"},
        {"[upstream a]\nvisibility = secret\n", "accepted: public or private"},
        {"[upstream a]\ncertificate = /a\n", "upstream.certificate: [upstream a] has no key"},
        {"[upstream a]\nkey = /a\n", "upstream.key: [upstream a] has no certificate"},
        {"[upstream a]\nproxy = https://a:1\n",
         "does not begin with http://; accepted: http://HOST"},
        {"[upstream a]\nproxy = a:1\n", "does not begin with http://"},
        {"[upstream a]\nproxy = http://a\n", "is not a host and a port"},
        {"[upstream a]\nproxy = http://:1\n", "is not a host and a port"},
        {"[upstream a]\nproxy = http://[::1]\n", "is not a host and a port"},
        {"[upstream a]\nproxy = http://a:1/b\n", "is not a host and a port"},
        {"[upstream a]\nproxy = http://u:p@a:1\n", "has a user, which has an option of its own"},
        {"[upstream a]\nproxy-username = a\nproxy-password-file = /a\n",
         "upstream.proxy-username: [upstream a] has no proxy;"},
        {"[upstream a]\nproxy = http://a:1\nproxy-username = a\n", "has no proxy-password-file"},
        {"[upstream a]\nproxy = http://a:1\nproxy-password-file = /a\n", "has no proxy-username"},
        {"[upstream a]\nrealm-hosts = https://a\n", "\"https://a\" is not a host"},
        {"[upstream a]\nrealm-hosts = *\n", "\"*\" is not a host"},
        {"[upstream a]\nrealm-hosts = *.\n", "is not a host"},
        {"[upstream a]\nrealm-hosts = *a\n", "is not a host"},
        {"[upstream a]\nrealm-hosts = a.*.b\n", "is not a host"},
        {"[upstream a]\nrealm-hosts = *.[::1]\n", "is not a host"},
        {"[upstream a]\nrealm-hosts = a:b\n", "is not a host"},
        {"[upstream a]\nrealm-hosts = a A\n", "\"A\" is there twice"},
        {"[upstream a]\nredirect-hosts = a b c d e f g h i j k l m n o p q\n",
         "\"q\" is one too many: a list has at most 16"},
        {"[upstream a]\nrate = fast\n", "t.ini:2: upstream.rate: \"fast\" does not begin with a "
                                        "rate; accepted: empty for no limit"},
        {"[cache]\nrate = 5\n", "\"5\" has no unit that is known"},
        {"[cache]\nrate = 5Mbit/s\nrate = 6Mbit/s\n",
         "t.ini:3: cache.rate: \"6Mbit/s\" comes after"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_errors(cases[i].text, strlen(cases[i].text), cases[i].expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shipped_upstreams_have_their_hosts),
        cmocka_unit_test(options_of_upstreams_are_taken),
        cmocka_unit_test(hosts_match_patterns),
        cmocka_unit_test(errors_name_place_and_remedy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
