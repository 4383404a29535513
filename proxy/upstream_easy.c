/* SPDX-License-Identifier: ISC */
/* How an upstream is spoken to, whatever is asked: its configuration in libcurl's words. */
#include "proxy/upstream_transfer.h"

#include <curl/curl.h>

#include "proxy/credential.h"
#include "proxy/version.h"

#define RECEIVE_BYTES (512L * 1024)

static long resolve_option(enum address_family family)
{
    switch (family) {
    case ADDRESSES_IPV4:
        return CURL_IPRESOLVE_V4;
    case ADDRESSES_IPV6:
        return CURL_IPRESOLVE_V6;
    case ADDRESSES_ANY:
        break;
    }
    return CURL_IPRESOLVE_WHATEVER;
}

void *easy_new(const struct config_upstream *to)
{
    CURL *e = curl_easy_init();

    CHECK(e);
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(e, CURLOPT_HTTP09_ALLOWED, 0L);
    curl_easy_setopt(e, CURLOPT_USERAGENT, "cachalot/" CACHALOT_VERSION);
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(e, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    /* The environment must not decide where our traffic goes. */
    curl_easy_setopt(e, CURLOPT_PROXY, to->proxy ? to->proxy : "");
    curl_easy_setopt(e, CURLOPT_NOPROXY, "");
    curl_easy_setopt(e, CURLOPT_IPRESOLVE, resolve_option(to->addresses));
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    /* Do not wait for a resolver's thread when a transfer is cancelled. */
    curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)to->connect_timeout_ms);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(e, CURLOPT_BUFFERSIZE, RECEIVE_BYTES);
    curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 2L);
    if (to->ca_file)
        curl_easy_setopt(e, CURLOPT_CAINFO, to->ca_file);
    return e;
}

bool easy_use_proxy(void *easy, const struct config_upstream *to, struct failure *f)
{
    struct credential *c;
    char why[160];

    if (!to->proxy)
        return true;
    /* It sees nothing of http urls either, nor of what we say to the registry. */
    curl_easy_setopt(easy, CURLOPT_HTTPPROXYTUNNEL, 1L);
    curl_easy_setopt(easy, CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE);
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    if (!to->proxy_username)
        return true;
    if (credential_read(&c, to->proxy_username, to->proxy_password_file, why, sizeof why) != 0) {
        failure_set(f, OUT_CREDENTIAL, false, "%s: proxy-password-file: %s", to->registry, why);
        return false;
    }
    curl_easy_setopt(easy, CURLOPT_PROXYAUTH, (long)CURLAUTH_BASIC);
    curl_easy_setopt(easy, CURLOPT_PROXYUSERNAME, c->username);
    curl_easy_setopt(easy, CURLOPT_PROXYPASSWORD, c->secret);
    credential_free(&c);
    return true;
}

void easy_use_certificate(void *easy, const struct config_upstream *to, bool is_shown)
{
    curl_easy_setopt(easy, CURLOPT_SSLCERT, is_shown ? to->certificate : NULL);
    curl_easy_setopt(easy, CURLOPT_SSLKEY, is_shown ? to->key : NULL);
    /* A key that wants a password must not ask a terminal for it. */
    curl_easy_setopt(easy, CURLOPT_KEYPASSWD, is_shown && to->key ? "" : NULL);
}

bool easy_failed_at_proxy(void *easy, int code, const struct config_upstream *to, struct failure *f)
{
    long status = 0;

    if (!to->proxy)
        return false;
    if (code == CURLE_COULDNT_RESOLVE_PROXY) {
        failure_set(f, OUT_UPSTREAM_UNRESOLVED, true, "the name of the proxy %s does not resolve",
                    to->proxy);
        return true;
    }
    (void)curl_easy_getinfo(easy, CURLINFO_HTTP_CONNECTCODE, &status);
    if (code == CURLE_COULDNT_CONNECT && status == 0) {
        failure_set(f, OUT_UPSTREAM_REFUSED, true, "the proxy %s cannot be reached", to->proxy);
        return true;
    }
    if (status / 100 == 2 || status == 0)
        return false;
    failure_set(f, OUT_UPSTREAM_REFUSED, status >= 500, "the proxy %s answered %ld", to->proxy,
                status);
    return true;
}
