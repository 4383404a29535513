/* SPDX-License-Identifier: ISC */
/* cachalot ca: make, show or replace the certificate authority. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache/ca.h"
#include "cache/err.h"
#include "tools/command.h"
#include "tools/hosts.h"
#include "tools/output.h"

#define SECONDS_A_DAY 86400
#define DATE_SIZE 32

static enum exit_code code_of(int err)
{
    switch (err) {
    case ERR_NOT_FOUND:
        return EXIT_ABSENT;
    case ERR_MISMATCH:
    case ERR_DAMAGED:
        return EXIT_INTEGRITY;
    default:
        return EXIT_FAILED;
    }
}

static enum exit_code load(const char *dir, struct ca **ca)
{
    char why[1024];
    int err = ca_load(dir, ca, why, sizeof why);
    return err == 0 ? EXIT_DONE : complain(code_of(err), "%s", why);
}

/* --- show --- */

static char *date_text(char out[DATE_SIZE], int64_t time_s)
{
    time_t t = (time_t)time_s;
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(out, DATE_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return out;
}

static int64_t days_left(const struct ca *ca)
{
    return (ca_expiry_s(ca_certificate(ca)) - (int64_t)time(NULL)) / SECONDS_A_DAY;
}

static void print_json(const char *dir, const struct ca *ca)
{
    char start[DATE_SIZE], expiry[DATE_SIZE], fingerprint[CA_FINGERPRINT_SIZE];
    size_t count;
    const char *const *names = ca_names(ca, &count);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_string(names[i]));
    json_print(json_pack("{ss ss ss ss ss sI so}", "directory", dir, "subject", ca_subject(ca),
                         "sha256", ca_fingerprint(ca, fingerprint), "valid_from",
                         date_text(start, ca_start_s(ca_certificate(ca))), "valid_until",
                         date_text(expiry, ca_expiry_s(ca_certificate(ca))), "days_left",
                         (json_int_t)days_left(ca), "names", list));
}

static void print_table(const char *dir, const struct ca *ca)
{
    char start[DATE_SIZE], expiry[DATE_SIZE], fingerprint[CA_FINGERPRINT_SIZE];
    size_t count;
    const char *const *names = ca_names(ca, &count);
    date_text(start, ca_start_s(ca_certificate(ca)));
    date_text(expiry, ca_expiry_s(ca_certificate(ca)));
    printf("certificate  %s/ca.crt\n", dir);
    printf("subject      %s\n", ca_subject(ca));
    printf("SHA-256      %s\n", ca_fingerprint(ca, fingerprint));
    printf("valid        %.10s to %.10s, %" PRId64 " days left\n", start, expiry, days_left(ca));
    for (size_t i = 0; i < count; i++)
        printf("%-11s  %s\n", i == 0 ? "only for" : "", names[i]);
}

static enum exit_code show(const struct options *o, const char *dir)
{
    struct ca *ca;
    enum exit_code code = load(dir, &ca);
    if (code != EXIT_DONE)
        return code;
    if (o->format == FORMAT_JSON)
        print_json(dir, ca);
    else if (!o->quiet)
        print_table(dir, ca);
    ca_free(&ca);
    return output_end();
}

static enum exit_code print_certificate(const char *dir)
{
    struct ca *ca;
    enum exit_code code = load(dir, &ca);
    if (code != EXIT_DONE)
        return code;
    fputs(ca_pem(ca), stdout);
    ca_free(&ca);
    return output_end();
}

/* --- init, rotate --- */

static enum exit_code create_for(const char *dir, const char *const *names, size_t count,
                                 enum ca_occasion occasion)
{
    char why[1024];
    int err = ca_create(dir, names, count, occasion, why, sizeof why);
    if (err == 0)
        return EXIT_DONE;
    return complain(err == ERR_INVALID ? EXIT_USAGE : code_of(err), "%s", why);
}

static enum exit_code create(const struct options *o, const char *dir, int argc, char **argv,
                             enum ca_occasion occasion)
{
    struct hosts hosts = {0};
    enum exit_code code = EXIT_DONE;
    if (argc == 0)
        code = hosts_read(&hosts, o);
    if (code == EXIT_DONE && argc == 0)
        code = create_for(dir, (const char *const *)hosts.names, hosts.count, occasion);
    else if (code == EXIT_DONE)
        code = create_for(dir, (const char *const *)argv, (size_t)argc, occasion);
    hosts_free(&hosts);
    if (code == EXIT_DONE)
        code = show(o, dir);
    if (code != EXIT_DONE || o->quiet || o->format == FORMAT_JSON)
        return code;
    if (occasion == CA_FIRST)
        puts("\nClients must trust this certificate; \"cachalot ca cert\" prints it.");
    else
        puts("\nClients must trust this certificate, too, before cachalotd uses it: \"cachalot ca "
             "cert\"\nprints it. cachalotd takes it when it is reloaded (SIGHUP) or started. The "
             "former one\nis kept as ca.crt.old and ca.key.old.");
    return output_end();
}

/* --- the command --- */

enum action { ACTION_INIT, ACTION_SHOW, ACTION_CERT, ACTION_ROTATE, ACTION_COUNT };

static const struct {
    const char *name;
    bool takes_names;
} actions[ACTION_COUNT] = {
    [ACTION_INIT] = {"init", true},
    [ACTION_SHOW] = {"show", false},
    [ACTION_CERT] = {"cert", false},
    [ACTION_ROTATE] = {"rotate", true},
};

static enum exit_code run(const struct options *o, const char *dir, enum action action, int argc,
                          char **argv)
{
    switch (action) {
    case ACTION_INIT:
        return create(o, dir, argc, argv, CA_FIRST);
    case ACTION_SHOW:
        return show(o, dir);
    case ACTION_CERT:
        return print_certificate(dir);
    case ACTION_ROTATE:
        return create(o, dir, argc, argv, CA_ROTATION);
    case ACTION_COUNT:
        break;
    }
    return EXIT_USAGE;
}

enum exit_code cmd_ca(const struct options *o, int argc, char **argv)
{
    unsigned action = 0;
    while (action < ACTION_COUNT && strcmp(actions[action].name, argv[0]) != 0)
        action++;
    if (action == ACTION_COUNT)
        return complain(EXIT_USAGE,
                        "ca can init, show, cert and rotate, not %s; \"cachalot help "
                        "ca\" says more",
                        argv[0]);
    if (argc > 1 && !actions[action].takes_names)
        return complain(EXIT_USAGE, "ca %s takes no argument; \"cachalot help ca\" says more",
                        argv[0]);
    char *dir = o->ca_path != NULL ? mem_copy(o->ca_path, strlen(o->ca_path))
                                   : mem_format("%s/ca", o->cache_path);
    enum exit_code code = run(o, dir, (enum action)action, argc - 1, argv + 1);
    free(dir);
    return code;
}
