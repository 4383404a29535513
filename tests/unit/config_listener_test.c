/* SPDX-License-Identifier: ISC */
/* Listeners that speak TLS or intercept it, and whom listeners answer. */
#include "proxy/config.h"
#include "proxy/config_match.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/config_text.h"

#define LISTENER "[listener a]\naddress = 1\n"

static void tls_options_are_taken(void **state)
{
    (void)state;
    struct config *c =
        load_good("[intercept]\nca = /srv/ca\ntunnel = login.example *.auth.example:443\n" LISTENER
                  "tls = yes\nnames = Cachalot.LAN 10.0.0.1 fd00::1\nallow = 10.0.0.0/8, any\n"
                  "[listener b]\naddress = 2\ntls = yes\ncertificate = /a.crt\nkey = /a.key\n"
                  "[listener c]\naddress = 3\nrole = tls-intercept\nallow =\n");
    const struct config_listener *l = c->listeners;

    assert_string_equal(c->ca_path, "/srv/ca");
    assert_int_equal(c->tunnel_host_count, 2);
    assert_true(l[0].tls);
    assert_int_equal(l[0].name_count, 3);
    assert_string_equal(l[0].names[0], "cachalot.lan");
    assert_string_equal(l[0].names[2], "fd00::1");
    assert_int_equal(l[0].allow_count, 2);
    assert_string_equal(l[1].certificate, "/a.crt");
    assert_string_equal(l[1].key, "/a.key");
    assert_int_equal(l[2].role, ROLE_TLS_INTERCEPT);
    assert_int_equal(l[2].allow_count, 0);
    char *text = dump(c);
    struct config *again = load_good(text);
    char *twice = dump(again);
    assert_string_equal(text, twice);
    free(twice);
    free(text);
    config_unref(&again);
    config_unref(&c);
}

static void errors_name_the_remedy(void **state)
{
    (void)state;
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {LISTENER "tls = yes\n", "listener.tls: [listener a] has nothing to show; accepted: tls "
                                 "together with names, or with certificate and key"},
        {LISTENER "names = a\n", "listener.names: [listener a] has no TLS"},
        {LISTENER "certificate = /a\nkey = /b\n", "listener.certificate: [listener a] has no TLS"},
        {LISTENER "tls = yes\nkey = /b\n", "listener.key: [listener a] has not both"},
        {LISTENER "tls = yes\nkey = /b\ncertificate = /a\nnames = a\n",
         "listener.names: [listener a] has a certificate too"},
        {LISTENER "role = intercept\ntls = yes\nnames = a\n",
         "listener.tls: [listener a] has a role that shows a certificate for each host"},
        {LISTENER "role = tls-intercept\nnames = a\n", "listener.tls: [listener a] has a role"},
        {LISTENER "role = proxy\n", "accepted: registry, mirror, intercept or tls-intercept"},
        {LISTENER "tls = yes\nnames = a:5000\n", "\"a:5000\" is not a name or an address"},
        {LISTENER "tls = yes\nnames = *.a\n", "\"*.a\" is not a name or an address"},
        {LISTENER "allow = 10.0.0.0/33\n", "\"10.0.0.0/33\" is not an address or a range"},
        {LISTENER "allow = 10.0.0.0/\n", "is not an address or a range"},
        {LISTENER "allow = 10.0.0.0/8x\n", "is not an address or a range"},
        {LISTENER "allow = fe80::1%eth0\n", "is not an address or a range"},
        {LISTENER "allow = publick\n", "accepted: list of at most 16 ADDRESS, ADDRESS/BITS"},
        {"[intercept]\nca = ca\n", "is not an absolute path"},
        {"[intercept]\ntunnel = http://a\n", "is not a host"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_errors(cases[i].text, strlen(cases[i].text), cases[i].expected);
}

static bool is_in(const char *ranges, const char *address)
{
    char *one[] = {(char *)(uintptr_t)ranges};

    return config_address_matches(one, 1, address);
}

static void ranges_have_their_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *range, *address;
        bool is_in;
    } rows[] = {
        {"10.0.0.0/8", "10.255.0.1", true},
        {"10.0.0.0/8", "11.0.0.1", false},
        {"10.0.0.0/9", "10.127.0.1", true},
        {"10.0.0.0/9", "10.128.0.1", false},
        {"192.0.2.7", "192.0.2.7", true},
        {"192.0.2.7", "192.0.2.8", false},
        {"0.0.0.0/0", "203.0.113.9", true},
        {"0.0.0.0/0", "2001:db8::1", false},
        {"2001:db8::/32", "2001:db8::5", true},
        {"2001:db8::/32", "2001:db9::5", false},
        {"::/0", "2001:db8::5", true},
        {"any", "203.0.113.9", true},
        {"any", "2001:db8::1", true},
        {"private", "127.0.0.1", true},
        {"private", "192.168.3.4", true},
        {"private", "172.16.0.1", true},
        {"private", "172.32.0.1", false},
        {"private", "203.0.113.9", false},
        {"private", "fd12::1", true},
        {"private", "fe80::1", true},
        {"private", "::1", true},
        {"private", "2001:db8::1", false},
        {"private", "100.127.255.255", true},
        {"private", "100.128.0.0", false},
        {"10.0.0.0/8", "unix", true},
        {"10.0.0.0/8", "nonsense", false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (is_in(rows[i].range, rows[i].address) != rows[i].is_in)
            fail_msg("%s in %s", rows[i].address, rows[i].range);
    }
    assert_false(config_address_matches(NULL, 0, "127.0.0.1"));
    assert_true(config_address_matches(NULL, 0, "unix"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tls_options_are_taken),
        cmocka_unit_test(errors_name_the_remedy),
        cmocka_unit_test(ranges_have_their_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
