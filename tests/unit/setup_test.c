/* SPDX-License-Identifier: ISC */
/* The texts of cache/setup.h. */
#include "cache/setup.h"

#include <fnmatch.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "cache/err.h"

#define PEM "-----BEGIN CERTIFICATE-----\nMIIB+/=\n-----END CERTIFICATE-----\n"
#define BYTES(x) x ":" x ":" x ":" x
#define SHA256                                                                                     \
    BYTES("AA")                                                                                    \
    ":" BYTES("01") ":" BYTES("BB") ":" BYTES("23") ":" BYTES("CC") ":" BYTES("45") ":" BYTES(     \
        "DD") ":" BYTES("67")

static const char *const registries[] = {"docker.io", "mcr.microsoft.com", "localhost:5000"};

/* Plain, or with TLS by cachalot's own authority. */
static struct setup_facts facts(bool tls)
{
    return (struct setup_facts){
        .host = "cachalot.lan",
        .doors = {{5000, tls, tls}, {5001, tls, tls}, {3128, false, false}},
        .registries = registries,
        .registry_count = 3,
        .ca_pem = PEM,
        .ca_sha256 = SHA256,
    };
}

static struct setup_plan plan(enum setup_client client, const struct setup_facts *f)
{
    struct setup_plan p;
    char why[256] = "";

    if (setup_plan(&p, client, f, why, sizeof why) != 0)
        fail_msg("%s", why);
    return p;
}

static const char *content(const struct setup_plan *p, const char *path)
{
    for (size_t i = 0; i < p->count; i++) {
        if (strcmp(p->items[i].path, path) == 0)
            return p->items[i].content;
    }
    fail_msg("%s is not in the plan", path);
    return NULL;
}

static void test_hosts(void **state)
{
    static const char *const good[] = {"cachalot", "cachalot.lan", "10.0.0.1", "[fd00::1]",
                                       "A-1.b"};
    static const char *const bad[] = {
        "",   "a:5000", "[fd00::1]:5000", "a/b",    "a b", "a\"b", "a'b", "$(a)", "a\nb",
        "-a", "a_b",    "a..b",           "fd00::", "[a",  "<b>",  "a;b", "*"};

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(setup_host_is_valid(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (setup_host_is_valid(bad[i], strlen(bad[i])))
            fail_msg("%s is taken", bad[i]);
    }
}

/* Facts come from whatever answers at an address. */
static void test_facts(void **state)
{
    static const char *const evil[] = {"docker.io", "x\" && rm"};
    struct setup_facts f = facts(true);

    (void)state;
    assert_true(setup_facts_are_valid(&f));
    f.ca_pem = f.ca_sha256 = NULL;
    assert_false(setup_facts_are_valid(&f));
    f.doors[SETUP_DOOR_PROXY].port = 0;
    assert_false(setup_facts_are_valid(&f));
    f = facts(false);
    f.ca_pem = "-----BEGIN CERTIFICATE-----\nMII$(x)\n-----END CERTIFICATE-----\n";
    assert_false(setup_facts_are_valid(&f));
    f.ca_pem = PEM "END\nrm -rf /\n";
    assert_false(setup_facts_are_valid(&f));
    f = facts(false);
    f.ca_sha256 = "AA";
    assert_false(setup_facts_are_valid(&f));
    f = facts(false);
    f.registries = evil;
    f.registry_count = 2;
    assert_false(setup_facts_are_valid(&f));
    f = facts(false);
    f.doors[0].port = 65536;
    assert_false(setup_facts_are_valid(&f));
    f.doors[0].port = 5000;
    f.host = "a:1";
    assert_false(setup_facts_are_valid(&f));
}

/* So that undoing finds each, and nothing that is another client's. */
static void test_files_are_marked_and_found(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2 * SETUP_WINDOWS; i++) {
        enum setup_client client = (enum setup_client)(i / 2);
        struct setup_facts f = facts(i % 2 == 1);
        struct setup_plan p = plan(client, &f);

        for (size_t k = 0; k < p.count; k++) {
            const struct setup_item *item = &p.items[k];
            bool found = false;

            if (item->kind == SETUP_MERGE) {
                assert_string_equal(item->path, setup_merge_path(client));
                continue;
            }
            assert_true(setup_is_marked(item->content, client));
            assert_false(setup_is_marked(item->content, (client + 1) % SETUP_WINDOWS));
            for (const char *const *at = setup_patterns(client); *at; at++)
                found |= fnmatch(*at, item->path, FNM_PATHNAME) == 0;
            assert_true(found);
        }
        setup_plan_clear(&p);
    }
}

static void test_docker(void **state)
{
    struct setup_facts f = facts(false);
    struct setup_plan p = plan(SETUP_DOCKER, &f);
    json_t *json = json_loads(content(&p, "/etc/docker/daemon.json"), 0, NULL);

    (void)state;
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(json, "registry-mirrors"), 0)),
        "http://cachalot.lan:5001");
    /* Plain HTTP: engines refuse it of names that they were not told. */
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(json, "insecure-registries"), 0)),
        "cachalot.lan:5000");
    assert_int_equal(json_object_size(json), 2);
    json_decref(json);
    assert_non_null(strstr(content(&p, "/etc/docker/certs.d/mcr.microsoft.com/hosts.toml"),
                           "server = \"https://mcr.microsoft.com\"\n"));
    assert_non_null(strstr(content(&p, "/etc/docker/certs.d/docker.io/hosts.toml"),
                           "server = \"https://registry-1.docker.io\"\n"));
    setup_plan_clear(&p);

    f = facts(true);
    p = plan(SETUP_DOCKER, &f);
    const char *hosts = content(&p, "/etc/docker/certs.d/localhost:5000/hosts.toml");
    assert_non_null(strstr(hosts, "[host.\"https://cachalot.lan:5000\"]\n"));
    assert_non_null(strstr(hosts, "ca = \"../cachalot-ca.crt\"\n"));
    assert_non_null(strstr(content(&p, "/etc/docker/certs.d/cachalot.lan:5000/ca.crt"), PEM));
    assert_non_null(strstr(content(&p, "/etc/docker/certs.d/cachalot.lan:5001/ca.crt"), PEM));
    assert_non_null(strstr(content(&p, "/etc/docker/certs.d/cachalot-ca.crt"), PEM));
    setup_plan_clear(&p);
}

static void test_others(void **state)
{
    struct setup_facts f = facts(true);
    struct setup_plan p = plan(SETUP_PODMAN, &f);

    (void)state;
    assert_string_equal(p.items[0].path, "/etc/containers/registries.conf.d/50-cachalot.conf");
    assert_non_null(strstr(p.items[0].content, "prefix = \"mcr.microsoft.com\"\n"));
    assert_non_null(strstr(p.items[0].content, "\"cachalot.lan:5000/mcr.microsoft.com\"\n"));
    assert_null(strstr(p.items[0].content, "insecure"));
    assert_non_null(strstr(content(&p, "/etc/containers/certs.d/cachalot.lan:5000/ca.crt"), PEM));
    setup_plan_clear(&p);

    p = plan(SETUP_K3S, &f);
    assert_string_equal(p.items[0].path, "/etc/rancher/k3s/registries.yaml");
    assert_non_null(strstr(p.items[0].content, "ca_file: \"/etc/rancher/k3s/cachalot-ca.crt\"\n"));
    setup_plan_clear(&p);

    f.host = "[fd00::1]";
    p = plan(SETUP_PROXY, &f);
    assert_non_null(strstr(content(&p, "/etc/systemd/system/docker.service.d/cachalot.conf"),
                           "\"HTTPS_PROXY=http://[fd00::1]:3128\"\n"
                           "Environment=\"NO_PROXY=localhost,127.0.0.0/8,::1,fd00::1\"\n"));
    setup_plan_clear(&p);
}

/* What cachalot has no listener for, nobody can be told of. */
static void test_missing_doors(void **state)
{
    struct setup_facts f = facts(false);
    struct setup_plan p;
    char why[256];

    (void)state;
    f.doors[SETUP_DOOR_PROXY].port = 0;
    assert_int_equal(setup_plan(&p, SETUP_PROXY, &f, why, sizeof why), ERR_NOT_FOUND);
    assert_non_null(strstr(why, "role = intercept"));
    f.doors[SETUP_DOOR_REGISTRY].port = 0;
    assert_int_equal(setup_plan(&p, SETUP_PODMAN, &f, why, sizeof why), ERR_NOT_FOUND);
    p = plan(SETUP_DOCKER, &f);
    assert_int_equal(p.count, 1);
    setup_plan_clear(&p);
    f.doors[SETUP_DOOR_MIRROR].port = 0;
    assert_int_equal(setup_plan(&p, SETUP_DOCKER, &f, why, sizeof why), ERR_NOT_FOUND);
    assert_int_equal(setup_write_windows(stdout, &f, why, sizeof why), ERR_NOT_FOUND);
    f = facts(false);
    f.registry_count = SETUP_ITEMS_MAX;
    assert_int_equal(setup_plan(&p, SETUP_DOCKER, &f, why, sizeof why), ERR_TOO_LARGE);
}

static char *windows(const struct setup_facts *f)
{
    char why[256];
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    assert_non_null(out);
    assert_int_equal(setup_write_windows(out, f, why, sizeof why), 0);
    fclose(out);
    return text;
}

static size_t count(const char *text, char c)
{
    size_t n = 0;

    for (; *text; text++)
        n += *text == c;
    return n;
}

/* Nothing here runs PowerShell: at least it is ASCII, and what opens is closed. */
static void test_windows(void **state)
{
    struct setup_facts f = facts(false);
    char *text = windows(&f);

    (void)state;
    for (const char *p = text; *p; p++)
        assert_true(*p == '\n' || (*p >= 0x20 && *p < 0x7f));
    assert_int_equal(count(text, '{'), count(text, '}'));
    assert_int_equal(count(text, '('), count(text, ')'));
    assert_int_equal(count(text, '['), count(text, ']'));
    assert_int_equal(count(text, '"') % 2, 0);
    assert_non_null(strstr(text, "$proxyUrl = 'http://cachalot.lan:3128'\n"));
    assert_non_null(strstr(text, "$mirrorUrl = 'http://cachalot.lan:5001'\n"));
    assert_non_null(strstr(text, "$announced = '" SHA256 "'\n"));
    assert_non_null(strstr(text, "$testHost = 'mcr.microsoft.com'\n"));
    assert_non_null(strstr(text, "$Mode = 'Proxy'"));
    free(text);
    f.doors[SETUP_DOOR_PROXY].port = 0;
    text = windows(&f);
    assert_non_null(strstr(text, "$Mode = 'Mirror'"));
    assert_non_null(strstr(text, "$proxyUrl = ''\n"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_facts),
        cmocka_unit_test(test_files_are_marked_and_found),
        cmocka_unit_test(test_docker),
        cmocka_unit_test(test_others),
        cmocka_unit_test(test_missing_doors),
        cmocka_unit_test(test_windows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
