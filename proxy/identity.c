/* SPDX-License-Identifier: ISC */
#include "proxy/identity.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cache/ca.h"
#include "cache/err.h"
#include "proxy/intercept.h"
#include "proxy/tls.h"

#define DAY_S (24 * 3600)
#define EXPIRY_WARNING_S (60 * DAY_S)

static bool intercepts(const struct config_listener *l)
{
    return l->role == ROLE_INTERCEPT || l->role == ROLE_TLS_INTERCEPT;
}

static bool wants_authority(const struct config *c)
{
    for (unsigned i = 0; i < c->listener_count; i++) {
        const struct config_listener *l = &c->listeners[i];

        if (intercepts(l) || (l->tls && !l->certificate))
            return true;
    }
    return false;
}

static int open_authority(struct ca **ca, const struct config *c, char *const *names,
                          unsigned count, struct log *log, char *why, size_t why_size)
{
    int err = ca_load(c->ca_path, ca, why, why_size);

    if (err != ERR_NOT_FOUND)
        return err;
    err = ca_create(c->ca_path, (const char *const *)names, count, CA_FIRST, why, why_size);
    if (err)
        return err;
    log_event(log, LOG_INFO, "made a certificate authority in %s", c->ca_path);
    return ca_load(c->ca_path, ca, why, why_size);
}

/* Clients refuse what it is not allowed to vouch for: better to hear of it at the start. */
static void warn_uncovered(const struct ca *ca, char *const *names, unsigned count, struct log *log)
{
    for (unsigned i = 0; i < count; i++) {
        if (!ca_covers(ca, names[i]))
            log_event_about(
                log, LOG_WARN, NULL,
                "the certificate authority does not cover %s, which is not served by TLS; "
                "make one that does: cachalot ca rotate",
                names[i]);
    }
}

static void introduce(const struct ca *ca, struct log *log)
{
    char fingerprint[CA_FINGERPRINT_SIZE], ends[32];
    int64_t expiry_s = ca_expiry_s(ca_certificate(ca));
    time_t t = (time_t)expiry_s;
    struct tm tm;

    gmtime_r(&t, &tm);
    strftime(ends, sizeof ends, "%Y-%m-%d", &tm);
    log_event(log, LOG_INFO, "certificate authority: %s until %s, SHA-256 %s", ca_subject(ca), ends,
              ca_fingerprint(ca, fingerprint));
    if (expiry_s - time(NULL) < EXPIRY_WARNING_S)
        log_event_about(
            log, LOG_WARN, NULL,
            "the certificate authority ends on %s: make another in time, with cachalot ca "
            "rotate, and give it to the clients",
            ends);
}

static int prepare_authority(struct config *c, struct log *log, char *why, size_t why_size)
{
    unsigned count;
    char **names = intercept_names(c, &count);
    struct ca *ca = NULL;
    int err = open_authority(&ca, c, names, count, log, why, why_size);

    if (err == 0) {
        char fingerprint[CA_FINGERPRINT_SIZE];

        c->ca_pem = mem_copy(ca_pem(ca), strlen(ca_pem(ca)));
        ca_fingerprint(ca, fingerprint);
        c->ca_sha256 = mem_copy(fingerprint, strlen(fingerprint));
        introduce(ca, log);
        warn_uncovered(ca, names, count, log);
    }
    ca_free(&ca);
    intercept_names_free(names, count);
    return err;
}

static int prepare_listener(const struct config *c, struct config_listener *l, char *why,
                            size_t why_size)
{
    char reason[256];
    int err = 0;

    if (intercepts(l))
        err = tls_server_from_ca_by_host(&l->identity, c->ca_path, intercept_opens, c, reason,
                                         sizeof reason);
    else if (l->tls && l->certificate)
        err = tls_server_from_files(&l->identity, l->certificate, l->key, reason, sizeof reason);
    else if (l->tls)
        err = tls_server_from_ca(&l->identity, c->ca_path, l->names, l->name_count, reason,
                                 sizeof reason);
    if (err)
        snprintf(why, why_size, "[listener %s]: %s", l->name, reason);
    return err;
}

int identity_prepare(struct config *c, struct log *log, char *why, size_t why_size)
{
    bool speaks_tls = false;
    int err = wants_authority(c) ? prepare_authority(c, log, why, why_size) : 0;

    for (unsigned i = 0; i < c->listener_count && err == 0; i++) {
        err = prepare_listener(c, &c->listeners[i], why, why_size);
        speaks_tls |= c->listeners[i].identity != NULL;
    }
    if (err == 0 && speaks_tls)
        log_event(log, LOG_INFO, "TLS is encrypted %s",
                  tls_kernel_offers() ? "by the kernel" : "here: the kernel does not offer it");
    return err;
}
