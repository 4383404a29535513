/* SPDX-License-Identifier: ISC */
/* What clients are checked with: the section [auth], and its files. */
#include "proxy/config_loader.h"

#include "proxy/bearer.h"
#include "proxy/password.h"

/* None of these means anything without the others. */
static void check_token_options(struct loader *l, const struct seen *seen)
{
    const struct config_auth *a = &l->config->auth;
    const struct {
        const char *name, *value;
    } all[] = {
        {"token-key", a->token_key},
        {"token-realm", a->token_realm},
        {"token-service", a->token_service},
        {"token-issuer", a->token_issuer},
    };
    const char *given = NULL, *missing = NULL;

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (all[i].value != NULL)
            given = all[i].name;
        else
            missing = all[i].name;
    }
    if (given != NULL && missing != NULL)
        loader_complain(l,
                        "%s: auth.%s: [auth] has no %s; accepted: token-key, token-realm, "
                        "token-service and token-issuer together",
                        seen->where, given, missing);
}

void loader_check_auth(struct loader *l, const struct seen *seen)
{
    struct config_auth *a = &l->config->auth;
    char why[256];

    check_token_options(l, seen);
    if (!l->opens_files)
        return;
    if (a->password_file != NULL &&
        passwords_read(&a->passwords, a->password_file, why, sizeof why) != 0)
        loader_complain(l,
                        "%s: auth.password-file: %s; accepted: a file as htpasswd -B makes it, "
                        "that only its owner and group can read",
                        seen->where, why);
    if (a->token_key != NULL && bearer_key_read(&a->key, a->token_key, why, sizeof why) != 0)
        loader_complain(l,
                        "%s: auth.token-key: %s; accepted: a PEM file that begins with a public "
                        "key, or a certificate, of RSA with 2048 bits or more, or of P-256",
                        seen->where, why);
}

void loader_load_zone(struct loader *l, const struct seen *seen)
{
    struct config_prefetch *p = &l->config->prefetches[seen->i];
    char why[256];
    if (l->opens_files && zone_load(&p->zone, p->zone_name, why, sizeof why) != 0)
        loader_complain(l,
                        "%s: prefetch.zone: [prefetch %s]: %s; accepted: name of a time zone, e.g. "
                        "Europe/Berlin, or empty for the system's",
                        seen->where, p->name, why);
}
