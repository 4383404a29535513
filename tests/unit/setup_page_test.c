/* SPDX-License-Identifier: ISC */
/* The pages below /-/setup/. */
#include "proxy/setup.h"

#include <jansson.h>

#include "tests/unit/config_text.h"

#define PEM "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
#define BYTES "AA:BB:CC:DD:01:23:45:67"

static struct config *config(void)
{
    struct config *c = load_good("[listener one]\nrole = registry\naddress = 10.0.0.1:5000\n"
                                 "[listener two]\nrole = registry\naddress = 5443\ntls = yes\n"
                                 "names = cachalot.lan\n"
                                 "[listener hub]\nrole = mirror\naddress = unix:/x [::1]:5001\n"
                                 "[listener quay]\nrole = mirror\nupstream = quay.io\n"
                                 "address = 5002\n"
                                 "[listener out]\nrole = intercept\naddress = 3128\n");

    c->ca_pem = mem_copy(PEM, sizeof PEM - 1);
    c->ca_sha256 = mem_format("%s:%s:%s:%s", BYTES, BYTES, BYTES, BYTES);
    return c;
}

static struct setup_visit visit(const struct config *c, unsigned listener, const char *page,
                                const char *host)
{
    return (struct setup_visit){
        .page = page,
        .config = c,
        .listener = &c->listeners[listener],
        .client = "10.0.0.7",
        .host = {host, host ? strlen(host) : 0},
    };
}

static char *good(const struct setup_visit *v, const char *media_type)
{
    struct setup_page p;

    setup_make(&p, v);
    if (p.outcome != OUT_LOCAL)
        fail_msg("%s: %s", v->page, p.why);
    assert_int_equal(strncmp(p.media_type, media_type, strlen(media_type)), 0);
    assert_int_equal(strlen(p.text), p.len);
    return p.text;
}

static void bad(const struct setup_visit *v, enum outcome expected)
{
    struct setup_page p;

    setup_make(&p, v);
    assert_int_equal(p.outcome, expected);
    assert_int_not_equal(p.why[0], '\0');
    free(p.text);
}

static void check_door(const json_t *doors, const char *name, int port, bool tls, bool own)
{
    const json_t *door = json_object_get(doors, name);

    assert_int_equal(json_integer_value(json_object_get(door, "port")), port);
    assert_int_equal(json_is_true(json_object_get(door, "tls")), tls);
    assert_int_equal(json_is_true(json_object_get(door, "own_authority")), own);
}

static json_t *doctor(const struct setup_visit *v)
{
    char *text = good(v, "application/json");
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);

    assert_non_null(json);
    free(text);
    return json;
}

/* The ports are those of the configuration, but of the door that the client came by that which
 * it knows. */
static void test_doors(void **state)
{
    struct config *c = config();
    struct setup_visit v = visit(c, 0, "doctor.json", "cachalot.lan:15000");
    json_t *json = doctor(&v);
    const json_t *doors = json_object_get(json, "doors");

    (void)state;
    check_door(doors, "registry", 15000, false, false);
    check_door(doors, "mirror", 5001, false, false);
    check_door(doors, "proxy", 3128, false, false);
    assert_string_equal(json_string_value(json_object_get(json, "host")), "cachalot.lan");
    assert_string_equal(json_string_value(json_object_get(json, "ca")), PEM);
    json_decref(json);

    v = visit(c, 1, "doctor.json", "cachalot.lan");
    json = doctor(&v);
    check_door(json_object_get(json, "doors"), "registry", 443, true, true);
    assert_true(json_is_true(json_object_get(json, "tls")));
    json_decref(json);

    v = visit(c, 3, "doctor.json", "[fd00::1]:99");
    json = doctor(&v);
    doors = json_object_get(json, "doors");
    check_door(doors, "mirror", 5001, false, false);
    check_door(doors, "registry", 5000, false, false);
    assert_string_equal(json_string_value(json_object_get(json, "mirror_of")), "quay.io");
    assert_string_equal(json_string_value(json_object_get(json, "host")), "[fd00::1]");
    json_decref(json);
    config_unref(&c);
}

static void test_doctor_of_a_host_that_is_opened(void **state)
{
    struct config *c = config();
    struct setup_visit v = visit(c, 4, "doctor.json", "mcr.microsoft.com");

    (void)state;
    v.opened = "mcr.microsoft.com";
    json_t *json = doctor(&v);
    check_door(json_object_get(json, "doors"), "proxy", 3128, false, false);
    assert_true(json_is_true(json_object_get(json, "proxy")));
    assert_true(json_is_true(json_object_get(json, "tls")));
    assert_string_equal(json_string_value(json_object_get(json, "opened_as")), "mcr.microsoft.com");
    json_decref(json);
    v.page = "doctor";
    char *text = good(&v, "text/plain");
    assert_non_null(strstr(text, "yes, opened as mcr.microsoft.com\n"));
    free(text);
    assert_true(setup_is_doctor("doctor") && setup_is_doctor("doctor.json"));
    assert_false(setup_is_doctor("docker.sh") || setup_is_doctor(""));
    config_unref(&c);
}

static void test_pages(void **state)
{
    static const struct {
        const char *page, *media_type, *has;
    } pages[] = {
        {"", "text/html", "http://cachalot.lan:5000/-/setup/docker.sh"},
        {"docker.sh", "text/plain", "\"http://cachalot.lan:5001\""},
        {"containerd.sh", "text/plain", "put \"/etc/containerd/certs.d/quay.io/hosts.toml\""},
        {"proxy.sh", "text/plain", PEM},
        {"podman.conf", "text/plain", "cachalot.lan:5000/docker.io"},
        {"podman.sh", "text/plain", "50-cachalot.conf"},
        {"k3s", "text/plain", "mirrors:\n"},
        {"k3s.sh", "text/plain", "registries.yaml"},
        {"windows.ps1", "text/plain", "'http://cachalot.lan:3128'"},
        {"doctor", "text/plain", "listener   one, role registry\n"},
    };
    struct config *c = config();

    (void)state;
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        struct setup_visit v = visit(c, 0, pages[i].page, "cachalot.lan:5000");
        char *text = good(&v, pages[i].media_type);

        if (!strstr(text, pages[i].has))
            fail_msg("%s has no %s: %s", pages[i].page, pages[i].has, text);
        free(text);
    }
    struct setup_visit v = visit(c, 0, "other", "cachalot.lan:5000");
    bad(&v, OUT_NO_ROUTE);
    config_unref(&c);
}

/* What is in Host goes into scripts: only names that clients could be told. */
static void test_host(void **state)
{
    static const char *const hosts[] = {NULL, "", "a_b", "a~b:5000", "-a", "[1.2", ":5000"};
    static const char *const needy[] = {"", "docker.sh", "windows.ps1", "podman.conf"};
    struct config *c = config();

    (void)state;
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        for (size_t k = 0; k < sizeof needy / sizeof needy[0]; k++) {
            struct setup_visit v = visit(c, 0, needy[k], hosts[i]);

            bad(&v, OUT_BAD_REQUEST);
        }
        struct setup_visit v = visit(c, 0, "doctor.json", hosts[i]);
        json_decref(doctor(&v));
        v.page = "doctor";
        free(good(&v, "text/plain"));
    }
    config_unref(&c);
}

static void test_without_doors(void **state)
{
    struct config *c = load_good("[listener one]\nrole = registry\naddress = 5000\n");
    struct setup_visit v = visit(c, 0, "proxy.sh", "cachalot.lan:5000");

    (void)state;
    bad(&v, OUT_NO_ROUTE);
    v.page = "windows.ps1";
    bad(&v, OUT_NO_ROUTE);
    v.page = "";
    char *text = good(&v, "text/html");
    assert_null(strstr(text, "proxy.sh"));
    assert_non_null(strstr(text, "docker.sh"));
    free(text);
    config_unref(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_doors),
        cmocka_unit_test(test_doctor_of_a_host_that_is_opened),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_host),
        cmocka_unit_test(test_without_doors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
