/* SPDX-License-Identifier: ISC */
/* Where connections for clients may lead. */
#include "tests/unit/dial_bed.h"

#include <ifaddrs.h>

#include "proxy/upstream_hop.h"

/* --- where it may lead --- */

static void expect_verdict(struct bed *b, const char *url, enum dial_reach reach, bool is_let)
{
    bed_start(b, url, reach);
    AWAIT(b, b->answers > 0);
    if ((b->is_open || b->failure.outcome != OUT_FORBIDDEN) != is_let)
        fail_msg("%s: %s", url, b->failure.why);
}

static enum address_kind kind_of(const char *text)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};

    if (inet_pton(AF_INET, text, &in.sin_addr) == 1)
        return address_kind((struct sockaddr *)&in);
    assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
    return address_kind((struct sockaddr *)&in6);
}

static void test_kinds(void **state)
{
    static const struct {
        const char *address;
        enum address_kind kind;
    } rows[] = {
        {"9.255.255.255", ADDRESS_PUBLIC},
        {"10.0.0.0", ADDRESS_PRIVATE},
        {"10.255.255.255", ADDRESS_PRIVATE},
        {"11.0.0.0", ADDRESS_PUBLIC},
        {"172.15.255.255", ADDRESS_PUBLIC},
        {"172.16.0.0", ADDRESS_PRIVATE},
        {"172.31.255.255", ADDRESS_PRIVATE},
        {"172.32.0.0", ADDRESS_PUBLIC},
        {"192.168.0.1", ADDRESS_PRIVATE},
        {"192.169.0.1", ADDRESS_PUBLIC},
        {"100.64.0.1", ADDRESS_RESERVED},
        {"255.255.255.255", ADDRESS_RESERVED},
        {"::ffff:10.0.0.1", ADDRESS_PRIVATE},
        {"::ffff:127.0.0.1", ADDRESS_RESERVED},
        {"64:ff9b::a00:1", ADDRESS_PRIVATE},
        {"64:ff9b::a9fe:a9fe", ADDRESS_RESERVED},
        {"2002:a00:1::", ADDRESS_PRIVATE},
        {"2002:7f00:1::", ADDRESS_RESERVED},
        {"fc00::1", ADDRESS_PRIVATE},
        {"fdff::1", ADDRESS_PRIVATE},
        {"fd00:ec2::254", ADDRESS_RESERVED},
        {"fe80::1", ADDRESS_RESERVED},
        {"::", ADDRESS_RESERVED},
        {"::1", ADDRESS_RESERVED},
        {"2001:4860::8888", ADDRESS_PUBLIC},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (kind_of(rows[i].address) != rows[i].kind)
            fail_msg("%s: %d", rows[i].address, kind_of(rows[i].address));
    }
}

static void test_addresses(void **state)
{
    static const struct {
        const char *url;
        bool is_let;
    } rows[] = {
        {"http://127.0.0.1:443", false},
        {"https://127.0.0.1", false},
        {"https://127.8.9.10", false},
        {"https://[::1]", false},
        {"https://[::ffff:127.0.0.1]", false},
        {"https://localhost", false},
        {"https://0.0.0.0", false},
        {"https://169.254.169.254", false},
        {"https://100.100.100.200", false},
        {"https://[fe80::1]", false},
        {"https://[fd00:ec2::254]", false},
        {"https://224.0.0.1", false},
        {"https://10.255.255.1", false},
        {"https://[fd12:3456::1]", false},
        {"https://203.0.113.9", true},
        {"http://203.0.113.9:443", true},
        {"http://203.0.113.9", false},
        {"https://203.0.113.9:22", false},
        {"https://203.0.113.9:4430", false},
        {"https://203.0.113.9:8443", false},
    };
    struct bed *b = *state;

    b->to.connect_timeout_ms = 20;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        expect_verdict(b, rows[i].url, DIAL_PUBLIC, rows[i].is_let);
}

/* An address of this machine is refused, whatever network it is in. */
static void test_own_addresses(void **state)
{
    struct bed *b = *state;
    struct ifaddrs *all;
    char host[64], url[96];

    b->to.connect_timeout_ms = 100;
    assert_int_equal(getifaddrs(&all), 0);
    for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET)
            continue;
        struct sockaddr_in in;
        memcpy(&in, i->ifa_addr, sizeof in);
        assert_non_null(inet_ntop(AF_INET, &in.sin_addr, host, sizeof host));
        snprintf(url, sizeof url, "https://%s", host);
        expect_verdict(b, url, DIAL_PUBLIC, false);
    }
    freeifaddrs(all);
}

static void test_offline(void **state)
{
    struct bed *b = *state;

    b->to.offline = true;
    bed_start(b, bed_url(b, "http"), DIAL_ANYWHERE);
    bed_expect(b, OUT_OFFLINE, "");
}

static void test_not_a_url(void **state)
{
    struct bed *b = *state;

    bed_start(b, "https://", DIAL_ANYWHERE);
    bed_expect(b, OUT_BAD_REQUEST, "not a url");
    bed_start(b, "https://user@203.0.113.9", DIAL_PUBLIC);
    bed_expect(b, OUT_BAD_REQUEST, "not a url");
}

/* What is plainly inside is not asked of a proxy either. */
static void test_behind_a_proxy(void **state)
{
    struct bed *b = *state;
    char proxy[64] = "http://127.0.0.1:9";

    b->to.proxy = proxy;
    expect_verdict(b, "https://localhost", DIAL_PUBLIC, false);
    expect_verdict(b, "https://10.0.0.1", DIAL_PUBLIC, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds), TEST(test_addresses), TEST(test_own_addresses),
        TEST(test_offline),           TEST(test_not_a_url), TEST(test_behind_a_proxy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
