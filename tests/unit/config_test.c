/* SPDX-License-Identifier: ISC */
#include "proxy/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "cache/err.h"
#include "tests/unit/config_text.h"

static void defaults_are_the_shipped_ones(void **state)
{
    (void)state;
    struct config *c;
    assert_int_equal(config_load(&c, NULL, stderr), 0);
    assert_string_equal(c->path, "/var/lib/cachalot");
    assert_true(c->index_size_bytes == (sizeof(void *) == 8 ? INT64_C(8) : 1) << 30);
    assert_int_equal(c->workers, 0);
    assert_int_equal(c->drain_timeout_ms, 30000);
    assert_false(c->offline);
    assert_int_equal(c->rate.count, 0);
    assert_int_equal(c->background_rate.count, 0);
    assert_null(c->log_file);
    assert_int_equal(c->log_format, LOG_TEXT);
    assert_int_equal(c->log_level, LOG_INFO);
    assert_true(c->log_access);
    assert_string_equal(c->admin_socket, "/var/lib/cachalot/cachalot.sock");

    assert_string_equal(c->ca_path, "/var/lib/cachalot/ca");
    assert_int_equal(c->tunnel_host_count, 0);

    assert_int_equal(c->listener_count, 3);
    const struct config_listener *l = c->listeners;
    assert_string_equal(l[0].name, "registry");
    assert_int_equal(l[0].role, ROLE_REGISTRY);
    assert_null(l[0].mirror_of);
    assert_string_equal(l[0].addresses[0], "5000");
    assert_int_equal(l[0].head_timeout_ms, 10000);
    assert_int_equal(l[0].idle_timeout_ms, 90000);
    assert_int_equal(l[0].stall_timeout_ms, 60000);
    assert_int_equal(l[0].max_connections, 0);
    assert_int_equal(l[1].role, ROLE_MIRROR);
    assert_string_equal(l[1].mirror_of, "docker.io");
    assert_string_equal(l[1].addresses[0], "5001");
    assert_int_equal(l[2].role, ROLE_INTERCEPT);
    assert_string_equal(l[2].addresses[0], "3128");
    for (unsigned i = 0; i < c->listener_count; i++) {
        assert_false(l[i].tls);
        assert_int_equal(l[i].allow_count, 1);
        assert_string_equal(l[i].allow[0], "private");
    }

    assert_int_equal(c->upstream_count, 6);
    const struct config_upstream *u = config_find_upstream(c, "docker.io");
    assert_int_equal(u->url_count, 1);
    assert_string_equal(u->urls[0], "https://registry-1.docker.io");
    assert_int_equal(u->tag_ttl_s, 60);
    assert_int_equal(u->connect_timeout_ms, 10000);
    assert_int_equal(u->stall_timeout_ms, 30000);
    assert_int_equal(u->retries, 5);
    assert_null(u->ca_file);
    u = config_find_upstream(c, "mcr.microsoft.com");
    assert_string_equal(u->urls[0], "https://mcr.microsoft.com");
    assert_null(config_find_upstream(c, "example.com"));
    config_unref(&c);
    assert_null(c);
}

static void every_option_is_taken(void **state)
{
    (void)state;
    struct config *c = load_good(
        "\xef\xbb\xbf# with a byte order mark\r\n"
        "[cache]\r\npath = /srv/a cache\r\nindex-size=1MiB\nworkers: 3\ndrain-timeout = 0\n"
        "[log]\nfile = /var/log/x.log ; a comment\nformat=json\nlevel=debug\naccess=no\n"
        "[admin]\nsocket = /run/x.sock\n"
        "[listener a]\n  address = 127.0.0.1:80, [0:0::1]:81\tunix:/run/a.sock\n"
        "  address = 82\n\thead-timeout = 250ms\nidle-timeout = 2m\nstall-timeout=1h\n"
        "max-connections = 7\n"
        "[ listener\tb ] ; comment\nrole = mirror\nupstream = My.Registry:5000\naddress = 5002\n"
        "[upstream my.registry:5000]\nurl = http://10.0.0.1:5000/, https://b/sub/path//\n"
        "tag-ttl = 1d\nconnect-timeout=1s\nstall-timeout=2s\nretries = 0\nca-file=/etc/ca.pem\n"
        "[upstream index.docker.io]\ntag-ttl = 5m\n"
        "[upstream quay.example]");
    assert_string_equal(c->path, "/srv/a cache");
    assert_int_equal(c->index_size_bytes, 1 << 20);
    assert_int_equal(c->workers, 3);
    assert_int_equal(c->drain_timeout_ms, 0);
    assert_string_equal(c->log_file, "/var/log/x.log");
    assert_int_equal(c->log_format, LOG_JSON);
    assert_int_equal(c->log_level, LOG_DEBUG);
    assert_false(c->log_access);
    assert_string_equal(c->admin_socket, "/run/x.sock");
    assert_int_equal(c->listener_count, 2);
    const struct config_listener *l = c->listeners;
    assert_int_equal(l[0].address_count, 4);
    assert_string_equal(l[0].addresses[0], "127.0.0.1:80");
    assert_string_equal(l[0].addresses[1], "[::1]:81");
    assert_string_equal(l[0].addresses[2], "unix:/run/a.sock");
    assert_string_equal(l[0].addresses[3], "82");
    assert_int_equal(l[0].head_timeout_ms, 250);
    assert_int_equal(l[0].idle_timeout_ms, 120000);
    assert_int_equal(l[0].stall_timeout_ms, 3600000);
    assert_int_equal(l[0].max_connections, 7);
    assert_string_equal(l[1].name, "b");
    assert_string_equal(l[1].mirror_of, "my.registry:5000");
    const struct config_upstream *u = config_find_upstream(c, "my.registry:5000");
    assert_int_equal(u->url_count, 2);
    assert_string_equal(u->urls[0], "http://10.0.0.1:5000");
    assert_string_equal(u->urls[1], "https://b/sub/path");
    assert_int_equal(u->tag_ttl_s, 86400);
    assert_int_equal(u->connect_timeout_ms, 1000);
    assert_int_equal(u->stall_timeout_ms, 2000);
    assert_int_equal(u->retries, 0);
    assert_string_equal(u->ca_file, "/etc/ca.pem");
    u = config_find_upstream(c, "docker.io");
    assert_int_equal(u->tag_ttl_s, 300);
    assert_string_equal(u->urls[0], "https://registry-1.docker.io");
    u = config_find_upstream(c, "quay.example");
    assert_string_equal(u->urls[0], "https://quay.example");
    config_unref(&c);
}

static void the_dump_is_taken_back(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "\n",
        "[cache]\npath=/x\nindex-size=1048577B\n[admin]\nsocket=none\n[listener "
        "a]\naddress=1,2,3\n",
        "[listener m]\nrole=mirror\naddress=unix:/a-b\naddress=[::]:9\n[upstream "
        "[2001:db8::1]:5000]\n"
        "url=http://[2001:db8::1]:5000\n[cache]\ndrain-timeout=1500ms\n[log]\nlevel=error\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct config *c = load_good(texts[i]);
        char *first = dump(c);
        config_unref(&c);
        c = load_good(first);
        char *second = dump(c);
        assert_string_equal(first, second);
        config_unref(&c);
        free(first);
        free(second);
    }
}

static void a_reference_keeps_a_snapshot(void **state)
{
    (void)state;
    struct config *c = load_good("[cache]\npath=/x\n");
    struct config *other = config_ref(c);
    config_unref(&c);
    assert_null(c);
    assert_string_equal(other->path, "/x");
    config_unref(&other);
    config_unref(&other);
}

static void errors_name_place_and_remedy(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *expected;
    } cases[] = {
        {"[cach]\n", "t.ini:1: [cach]: unknown section; accepted: [cache], [log]"},
        {"[cache x]\n", "[cache x]: unknown section"},
        {"\n\n[cache]\nidnex-size = 1GiB\n",
         "t.ini:4: cache.idnex-size: unknown option, did you mean index-size?; accepted: path, "
         "index-size, size, min-free, evict-to"},
        {"[cache]\nzzzzzzzzzzz = 1\n", "cache.zzzzzzzzzzz: unknown option; accepted: path"},
        {"path = /x\n", "t.ini:1: path: outside of a section"},
        {"[cache]\nhello\n", "t.ini:2: neither a [section] nor a name = value"},
        {"[cache\n", "t.ini:1: [cache: not a section heading"},
        {"[cache] x\n", "not a section heading"},
        {"[cache];x\n", "not a section heading"},
        {"[cache]\nworkers = 1\nworkers = 2\n",
         "t.ini:3: cache.workers: set twice in this section, first in line 2"},
        {"[cache]\nworkers = 1\n[log]\n[cache]\nworkers = 1\n",
         "t.ini:5: cache.workers: set twice"},
        {"[cache]\nworkers = -1\n", "\"-1\" is not a number; accepted: number from 0 to 256"},
        {"[cache]\nworkers = 257\n", "\"257\" is too large"},
        {"[cache]\nworkers = 99999999999999999999\n", "is too large"},
        {"[cache]\nworkers = 1 2\n", "is not a number"},
        {"[cache]\nworkers =\n", "\"\" is not a number"},
        {"[cache]\nindex-size = 1023KiB\n", "is too small"},
        {"[cache]\nindex-size = 100000TiB\n", "is too large"},
        {"[cache]\nindex-size = 9223372036854775807TiB\n", "is too large"},
        {"[cache]\nindex-size = 8GB\n", "\"8GB\" has an unknown unit"},
        {"[cache]\nindex-size = 8\n", "\"8\" has no unit"},
        {"[cache]\ndrain-timeout = 2h\n", "is too large"},
        {"[cache]\npath = var\n", "\"var\" is not an absolute path"},
        {"[cache]\npath =\n", "\"\" is empty"},
        {"[log]\naccess = true\n", "\"true\" is neither yes nor no; accepted: yes or no"},
        {"[log]\nlevel = loud\n", "\"loud\" is not one of the words; accepted: error, warn"},
        {"[admin]\nsocket = x\n", "not an absolute path"},
        {"[listener]\n", "not a name for a listener"},
        {"[listener a/b]\n", "not a name for a listener"},
        {"[listener a]\n", "t.ini:1: listener.address: [listener a] has none"},
        {"[listener a]\naddress = 0\n", "not an address to listen on"},
        {"[listener a]\naddress = 65536\n", "not an address to listen on"},
        {"[listener a]\naddress = 1.2.3:1\n", "not an address to listen on"},
        {"[listener a]\naddress = ::1:1\n", "not an address to listen on"},
        {"[listener a]\naddress = [::1]\n", "not an address to listen on"},
        {"[listener a]\naddress = []:1\n", "not an address to listen on"},
        {"[listener a]\naddress = localhost:1\n", "not an address to listen on"},
        {"[listener a]\naddress = unix:x\n", "not an absolute path"},
        {"[listener a]\naddress = 1 1\n", "\"1\" is there twice"},
        {"[listener a]\naddress = 1 2 3 4 5 6 7 8 9\n", "\"9\" is one too many"},
        {"[listener a]\naddress = 80\n[listener b]\naddress = 80\n",
         "t.ini:3: listener.address: 80 of [listener b] is taken by 80 of [listener a]"},
        {"[listener a]\naddress = 80\n[listener b]\naddress = [::1]:80\n", "is taken by 80"},
        {"[listener a]\naddress = 0.0.0.0:80 10.0.0.1:80\n", "is taken by 0.0.0.0:80"},
        {"[listener a]\naddress = [::2]:80 [::]:80\n", "[::]:80 of [listener a] is taken by"},
        {"[listener a]\naddress = 1\nupstream = quay.io\n", "[listener a] is not a mirror"},
        {"[listener a]\naddress = 1\nrole = mirror\nupstream = x.example\n",
         "the upstream x.example of [listener a] is not configured; add a section [upstream "
         "x.example]"},
        {"[listener a]\naddress = 1\nrole = mirror\nupstream = a b\n", "is not a registry host"},
        {"[upstream]\n", "not a registry"},
        {"[upstream https://quay.io]\n", "without https://"},
        {"[upstream quay.io]\nurl = quay.io\n", "does not begin with http:// or https://"},
        {"[upstream quay.io]\nurl = https://u:p@quay.io\n", "has a user"},
        {"[upstream quay.io]\nurl = https://quay.io?x\n", "a query"},
        {"[upstream quay.io]\nurl = https:///x\n", "has no valid host"},
        {"[upstream quay.io]\nurl = https://quay.io/\"\n", "not of a url"},
        {"[upstream quay.io]\ntag-ttl = 1500ms\n", "is not in whole seconds"},
        {"[upstream quay.io]\ntag-ttl = 31d\n", "is too large"},
        {"[upstream quay.io]\nca-file = ca.pem\n", "is not an absolute path"},
        {"[cache]\npath = /a\x01z\n", "t.ini:2: a control character"},
        {"[cache]\npath = /"
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         "aaa"
         "aaaaaaaaaaaa\n",
         "admin.socket: /aaa"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_errors(cases[i].text, strlen(cases[i].text), cases[i].expected);
    static const char nul[] = "[cache]\npath = /a\0b\n";
    check_errors(nul, sizeof nul - 1, "t.ini:2: a control character");
}

static void all_errors_are_told_up_to_a_limit(void **state)
{
    (void)state;
    check_errors("[cache]\nworkers=x\n[lag]\nb=c\n[log]\nlevel=z\n", 45, "t.ini:6: log.level");
    check_errors("[cache]\nworkers=x\n[lag]\nb=c\n[log]\nlevel=z\n", 45, "t.ini:2: cache.workers");
    char many[4096] = "[cache]\n";
    for (int i = 0; i < 100; i++)
        strcat(many, "x=1\n");
    check_errors(many, strlen(many), "\nmore errors are not shown\n");
}

/* inih would cut the line at 199 bytes and hand over what is left. */
static void long_lines_are_refused_not_cut(void **state)
{
    (void)state;
    for (size_t len = 150; len < 300; len++) {
        char text[400] = "[log]\nfile = /";
        size_t used = strlen(text);
        memset(text + used, 'a', len);
        memcpy(text + used + len, "\n", 2);
        char *errors;
        struct config *c = load_n(text, strlen(text), &errors);
        if (c != NULL)
            assert_int_equal(strlen(c->log_file), len + 1);
        else
            assert_non_null(strstr(errors, "t.ini:2: too long"));
        assert_int_equal(c == NULL, len + strlen("file = /") > 198);
        config_unref(&c);
        free(errors);
    }
    char comment[1000];
    memset(comment, '#', sizeof comment - 1);
    comment[sizeof comment - 1] = '\0';
    struct config *c = load_good(comment);
    config_unref(&c);
    /* A host of more than inih's 49 bytes of section name. */
    c = load_good("[upstream a-host-name-that-is-longer-than-forty-nine-bytes.example.com]\n"
                  "tag-ttl = 7s\n[upstream a-host-name-that-is-longer-than-forty-nine-bytes.example"
                  ".org]\ntag-ttl = 8s\n");
    const struct config_upstream *u =
        config_find_upstream(c, "a-host-name-that-is-longer-than-forty-nine-bytes.example.com");
    assert_int_equal(u->tag_ttl_s, 7);
    config_unref(&c);
}

static void write_file(const char *dir, const char *name, const char *text)
{
    char *path = mem_format("%s/%s", dir, name);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    fputs(text, out);
    fclose(out);
    free(path);
}

static void remove_file(const char *dir, const char *name)
{
    char *path = mem_format("%s/%s", dir, name);
    assert_int_equal(unlink(path), 0);
    free(path);
}

static void files_of_the_folder_come_after_in_order(void **state)
{
    (void)state;
    char dir[] = "/tmp/config_test.XXXXXX";
    assert_non_null(mkdtemp(dir));
    char *folder = mem_format("%s/conf.d", dir);
    char *path = mem_format("%s/cachalot.ini", dir);
    assert_int_equal(mkdir(folder, 0700), 0);
    write_file(dir, "cachalot.ini",
               "[cache]\nworkers = 1\n[upstream x.example]\nurl=http://a\nurl=http://b\n");
    write_file(folder, "10-b.ini", "[cache]\nworkers = 2\n");
    write_file(folder, "20-a.ini", "[upstream x.example]\nurl = http://c\n");
    write_file(folder, "20-a.ini.old", "nonsense");
    write_file(folder, ".hidden.ini", "nonsense");
    struct config *c;
    assert_int_equal(config_load(&c, path, stderr), 0);
    assert_int_equal(c->workers, 2);
    const struct config_upstream *u = config_find_upstream(c, "x.example");
    assert_int_equal(u->url_count, 1);
    assert_string_equal(u->urls[0], "http://c");
    config_unref(&c);

    write_file(folder, "30.ini", "x");
    char *errors;
    size_t errors_len;
    FILE *out = open_memstream(&errors, &errors_len);
    assert_int_equal(config_load(&c, path, out), ERR_INVALID);
    assert_null(c);
    fclose(out);
    assert_non_null(strstr(errors, "/conf.d/30.ini:1: neither"));
    free(errors);

    static const char *const names[] = {"10-b.ini", "20-a.ini", "20-a.ini.old", ".hidden.ini",
                                        "30.ini"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        remove_file(folder, names[i]);
    remove_file(dir, "cachalot.ini");
    out = open_memstream(&errors, &errors_len);
    assert_int_equal(config_load(&c, path, out), ERR_NOT_FOUND);
    fclose(out);
    assert_non_null(strstr(errors, "cachalot.ini: cannot be opened: No such file"));
    free(errors);
    rmdir(folder);
    rmdir(dir);
    free(folder);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_the_shipped_ones),
        cmocka_unit_test(every_option_is_taken),
        cmocka_unit_test(the_dump_is_taken_back),
        cmocka_unit_test(a_reference_keeps_a_snapshot),
        cmocka_unit_test(errors_name_place_and_remedy),
        cmocka_unit_test(all_errors_are_told_up_to_a_limit),
        cmocka_unit_test(long_lines_are_refused_not_cut),
        cmocka_unit_test(files_of_the_folder_come_after_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
