/* SPDX-License-Identifier: ISC */
/* What it means for us when an exchange fails: as curl reports it, and by its status. */
#include "proxy/upstream_transfer.h"

#include <stdarg.h>
#include <stdio.h>

#include <curl/curl.h>

#include "proxy/challenge.h"

void failure_set(struct failure *f, enum outcome o, bool may_pass, const char *format, ...)
{
    va_list args;

    *f = (struct failure){.outcome = o, .may_pass = may_pass};
    va_start(args, format);
    vsnprintf(f->why, sizeof f->why, format, args);
    va_end(args);
}

/* One row a kind of failure that curl reports. */
static const struct {
    CURLcode code;
    enum outcome outcome;
    bool may_pass;
    const char *text;
} failures[] = {
    {CURLE_COULDNT_RESOLVE_HOST, OUT_UPSTREAM_UNRESOLVED, true, "the name does not resolve"},
    {CURLE_COULDNT_CONNECT, OUT_UPSTREAM_REFUSED, true, "cannot be reached"},
    {CURLE_OPERATION_TIMEDOUT, OUT_UPSTREAM_TIMEOUT, true, "cannot be reached in time"},
    {CURLE_SSL_CONNECT_ERROR, OUT_UPSTREAM_TLS, false, "TLS failed"},
    {CURLE_PEER_FAILED_VERIFICATION, OUT_UPSTREAM_TLS, false, "the certificate is not acceptable"},
    {CURLE_SSL_ISSUER_ERROR, OUT_UPSTREAM_TLS, false, "the certificate is not acceptable"},
    {CURLE_SSL_CIPHER, OUT_UPSTREAM_TLS, false, "no cipher in common"},
    {CURLE_SSL_CERTPROBLEM, OUT_CREDENTIAL, false, "certificate or key cannot be used"},
    {CURLE_SSL_CACERT_BADFILE, OUT_UPSTREAM_TLS, false, "ca-file cannot be read"},
    {CURLE_GOT_NOTHING, OUT_UPSTREAM_BROKEN, true, "the connection was closed without an answer"},
    {CURLE_PARTIAL_FILE, OUT_UPSTREAM_BROKEN, true, "the connection was closed in the body"},
    {CURLE_RECV_ERROR, OUT_UPSTREAM_BROKEN, true, "the connection broke"},
    {CURLE_SEND_ERROR, OUT_UPSTREAM_BROKEN, true, "the connection broke"},
    {CURLE_WEIRD_SERVER_REPLY, OUT_UPSTREAM_BROKEN, true, "the answer is not HTTP"},
    {CURLE_UNSUPPORTED_PROTOCOL, OUT_UPSTREAM_BROKEN, true, "the answer is not HTTP/1.1"},
};

void failure_of_code(struct failure *f, int code, const char *host, const char *detail)
{
    const char *said = detail[0] ? detail : curl_easy_strerror((CURLcode)code);

    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++) {
        if ((int)failures[i].code == code) {
            failure_set(f, failures[i].outcome, failures[i].may_pass, "%s: %s (%s)", host,
                        failures[i].text, said);
            return;
        }
    }
    failure_set(f, OUT_UPSTREAM_BROKEN, true, "%s: %s", host, said);
}

void failure_of_status(struct failure *f, const struct head *h, const char *host,
                       enum outcome not_found)
{
    int status = h->status;

    if (status == 404 || status == 410)
        failure_set(f, not_found, false, "%s: answered %d", host, status);
    else if (status == 401 || status == 403)
        failure_set(f, OUT_UPSTREAM_DENIED, false, "%s: answered %d", host, status);
    else if (status == 508)
        failure_set(f, OUT_LOOP, false, "%s: answered 508 (loop detected)", host);
    else if (status == 429)
        failure_set(f, OUT_UPSTREAM_LIMITED, true, "%s: answered 429 (too many requests)", host);
    else if (status >= 500)
        failure_set(f, OUT_UPSTREAM_ERROR, true, "%s: answered %d", host, status);
    else
        failure_set(f, OUT_UPSTREAM_BROKEN, false, "%s: answered %d", host, status);
    f->retry_after_s = (int)h->retry_after_s;
}

void failure_pass_challenge(struct failure *f, const struct head *h)
{
    const struct challenge *c = NULL;

    if (h->challenges)
        c = challenge_find(h->challenges, CHALLENGE_BEARER);
    if (h->challenges && !c)
        c = challenge_find(h->challenges, CHALLENGE_BASIC);
    if (!c)
        return;
    f->outcome = OUT_UNAUTHORIZED;
    challenge_format(c, f->challenge, sizeof f->challenge);
}
