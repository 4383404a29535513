/* SPDX-License-Identifier: ISC */
/* Where an exchange may lead. */
#include "proxy/upstream_hop.h"

#include <curl/curl.h>

#include "tests/unit/scratch.h"

enum verdict { NO, PUBLIC, ANY };

struct row {
    const char *from;
    const char *location;
    enum verdict verdict;
};

static char *cdn[] = {"cdn.test", "*.wide.test", "port.test:8443"};

static enum verdict take(const struct hop_policy *p, const struct row *row, struct failure *f)
{
    CURLU *url = curl_url();
    bool is_guarded = true;

    assert_int_equal(curl_url_set(url, CURLUPART_URL, row->from, 0), CURLUE_OK);
    bool taken = hop_take(p, url, row->location, &is_guarded, f);
    curl_url_cleanup(url);
    if (!taken)
        return NO;
    return is_guarded ? PUBLIC : ANY;
}

static void expect(const struct hop_policy *p, const struct row *rows, size_t count)
{
    struct failure f;

    for (size_t i = 0; i < count; i++) {
        enum verdict v = take(p, &rows[i], &f);
        if (v != rows[i].verdict)
            fail_msg("%s -> %s: %d", rows[i].from, rows[i].location, v);
    }
}

#define EXPECT(p, rows) expect(p, rows, sizeof rows / sizeof rows[0])
#define REG "https://reg.test/v2/x"

static void test_without_a_list(void **state)
{
    static const struct row rows[] = {
        {REG, "https://cdn.test/x", PUBLIC},
        {REG, "/elsewhere", ANY},
        {REG, "https://REG.test:8443/x", ANY},
        {REG, "https://10.1.2.3/x", ANY},
        {REG, "https://10.1.2.4/x", PUBLIC},
        {REG, "http://cdn.test/x", NO},
        {"http://reg.test/x", "http://cdn.test/x", PUBLIC},
        {REG, "file:///etc/passwd", NO},
        {REG, "ftp://reg.test/x", NO},
        {REG, "https://user@reg.test/x", NO},
        {REG, "https://", NO},
    };
    struct config_upstream to = {.registry = (char[]){"reg.test"}};
    struct hop_policy p = {
        .to = &to, .from = "reg.test", .own_host = "reg.test", .own_address = "10.1.2.3"};

    (void)state;
    EXPECT(&p, rows);
    p.own_address = "fd00::1";
    EXPECT(&p, ((const struct row[]){{REG, "https://[fd00::1]/x", ANY},
                                     {REG, "https://[fd00::2]/x", PUBLIC}}));
}

static void test_redirect_hosts(void **state)
{
    static const struct row rows[] = {
        {REG, "https://cdn.test/x", ANY},
        {REG, "https://CDN.test:444/x", ANY},
        {REG, "https://a.wide.test/x", PUBLIC},
        {REG, "https://wide.test/x", NO},
        {REG, "https://port.test:8443/x", ANY},
        {REG, "https://port.test/x", NO},
        {REG, "https://cdn.test.evil.test/x", NO},
        {REG, "https://evil.test/x", NO},
        {REG, "https://8.8.8.8/x", NO},
        {REG, "/x", ANY},
    };
    struct config_upstream to = {.registry = (char[]){"reg.test"},
                                 .redirect_hosts = {cdn[0], cdn[1], cdn[2]},
                                 .redirect_host_count = 3};
    struct hop_policy p = {
        .to = &to, .from = "reg.test", .own_host = "reg.test", .own_address = ""};
    struct failure f;

    (void)state;
    EXPECT(&p, rows);
    assert_int_equal(take(&p, &rows[7], &f), NO);
    assert_int_equal(f.outcome, OUT_UPSTREAM_BROKEN);
    assert_false(f.may_pass);
    assert_non_null(strstr(f.why, "evil.test:443"));
    assert_non_null(strstr(f.why, "redirect-hosts"));
}

/* The registry's own host is nothing special for a layer that is kept elsewhere. */
static void test_foreign(void **state)
{
    static const struct row rows[] = {
        {"https://cdn.test/1", "https://cdn.test/2", ANY},
        {"https://cdn.test/1", "https://a.wide.test/2", PUBLIC},
        {"https://cdn.test/1", "https://reg.test/2", NO},
        {"http://cdn.test/1", "http://cdn.test/2", ANY},
        {"http://cdn.test/1", "http://a.wide.test/2", NO},
    };
    struct config_upstream to = {.registry = (char[]){"reg.test"},
                                 .urls = {(char[]){"http://reg.test"}},
                                 .url_count = 1,
                                 .foreign_hosts = {cdn[0], cdn[1]},
                                 .foreign_host_count = 2};
    struct hop_policy p = {.to = &to,
                           .from = "cdn.test",
                           .own_host = "cdn.test",
                           .own_address = "10.0.0.1",
                           .is_foreign = true};
    struct failure f;

    (void)state;
    EXPECT(&p, rows);
    to.urls[0] = (char[]){"https://reg.test"};
    EXPECT(&p, ((const struct row[]){{"http://cdn.test/1", "http://cdn.test/2", NO}}));
    to.foreign_host_count = 0;
    assert_int_equal(take(&p, &rows[0], &f), NO);
    assert_non_null(strstr(f.why, "foreign-hosts"));
}

/* Behind a proxy no address is seen: those that are plain to see are refused. */
static void test_with_a_proxy(void **state)
{
    static const struct row rows[] = {
        {REG, "https://cdn.test/x", PUBLIC},
        {REG, "https://8.8.8.8/x", PUBLIC},
        {REG, "https://127.0.0.1/x", NO},
        {REG, "https://0x7f.1/x", NO},
        {REG, "https://2130706433/x", NO},
        {REG, "https://169.254.169.254/x", NO},
        {REG, "https://[::1]/x", NO},
        {REG, "https://[::ffff:10.0.0.1]/x", NO},
        {REG, "https://localhost/x", NO},
        {REG, "https://a.LOCALHOST/x", NO},
        {REG, "https://[2001:4860::8888]/x", PUBLIC},
        {REG, "https://notlocalhost/x", PUBLIC},
        {REG, "/x", ANY},
    };
    struct config_upstream to = {.registry = (char[]){"reg.test"},
                                 .proxy = (char[]){"http://proxy.test:3128"}};
    struct hop_policy p = {
        .to = &to, .from = "reg.test", .own_host = "reg.test", .own_address = ""};

    (void)state;
    EXPECT(&p, rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_a_list),
        cmocka_unit_test(test_redirect_hosts),
        cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_with_a_proxy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
