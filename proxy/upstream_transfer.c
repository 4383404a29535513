/* SPDX-License-Identifier: ISC */
/*
 * One HTTP exchange: a request, the redirects that answer it, the body of the last.
 *
 * Redirects are followed here, hop by hop, so that each is judged: at most
 * HOPS_MAX, never from https to http, and to another host only at a public
 * address. Nothing but the fields built below is sent to any hop.
 */
#include "proxy/upstream_transfer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>

#include "proxy/upstream_private.h"
#include "proxy/version.h"

#define HOPS_MAX 5
/* Of the body of a redirect or an error: read, so that the connection lives on. */
#define DROPPED_BODY_MAX (64u * 1024)
#define RECEIVE_BYTES (512L * 1024)
/* Slower than this over a stall timeout is no progress, whatever drips. */
#define DRIP_BYTES_A_SECOND 512

#define ADDRESS_TEXT_MAX 64

static const char accept_manifests[] = "Accept: application/vnd.oci.image.index.v1+json, "
                                       "application/vnd.docker.distribution.manifest.list.v2+json, "
                                       "application/vnd.oci.image.manifest.v1+json, "
                                       "application/vnd.docker.distribution.manifest.v2+json, "
                                       "application/vnd.oci.artifact.manifest.v1+json";

struct transfer {
    struct upstream *upstream;
    const struct config_upstream *to;
    const struct transfer_calls *calls;
    void *arg;
    CURL *easy;
    struct curl_slist *fields;
    struct registry_stats *registry;
    struct behalf behalf;
    bool accept_manifests;
    uint64_t range_start;
    bool has_range;
    enum outcome not_found;

    CURLU *url;     /* of the hop under way */
    char *own_host; /* of the url in the configuration */
    char host[256]; /* of the hop: for messages */
    char own_address[ADDRESS_TEXT_MAX];
    unsigned hops;
    bool is_guarded; /* the hop may lead to public addresses only */

    struct head head;
    bool has_body; /* the head was taken: what follows is content */
    uint64_t dropped_bytes;
    bool is_connected;
    bool is_paused;
    struct event *stall;
    uint64_t bytes; /* since the last look */
    unsigned slow_looks;
    bool has_failed;
    struct failure failure;
    char error[CURL_ERROR_SIZE];
};

void failure_set(struct failure *f, enum outcome o, bool may_pass, const char *format, ...)
{
    va_list args;

    *f = (struct failure){.outcome = o, .may_pass = may_pass};
    va_start(args, format);
    vsnprintf(f->why, sizeof f->why, format, args);
    va_end(args);
}

/* --- the end --- */

static void transfer_free(struct transfer *t)
{
    curl_easy_cleanup(t->easy);
    curl_slist_free_all(t->fields);
    behalf_clear(&t->behalf);
    curl_url_cleanup(t->url);
    event_free(t->stall);
    free(t->own_host);
    head_clear(&t->head);
    free(t);
}

void transfer_cancel(struct transfer **tp)
{
    struct transfer *t = *tp;

    if (!t)
        return;
    *tp = NULL;
    loop_remove(t->upstream->loop, t->easy);
    transfer_free(t);
}

/* The handle is out of the loop already. */
static void finish(struct transfer *t)
{
    void (*done)(void *, const struct failure *) = t->calls->done;
    void *arg = t->arg;
    bool has_failed = t->has_failed;
    struct failure f = t->failure;

    transfer_free(t);
    done(arg, has_failed ? &f : NULL);
}

/* For callbacks: note the reason; curl ends the transfer. */
__attribute__((format(printf, 4, 5))) static void refuse(struct transfer *t, enum outcome o,
                                                         bool may_pass, const char *format, ...)
{
    va_list args;

    if (t->has_failed)
        return;
    t->has_failed = true;
    t->failure = (struct failure){.outcome = o, .may_pass = may_pass};
    va_start(args, format);
    vsnprintf(t->failure.why, sizeof t->failure.why, format, args);
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
    {CURLE_SSL_CACERT_BADFILE, OUT_UPSTREAM_TLS, false, "ca-file cannot be read"},
    {CURLE_GOT_NOTHING, OUT_UPSTREAM_BROKEN, true, "the connection was closed without an answer"},
    {CURLE_PARTIAL_FILE, OUT_UPSTREAM_BROKEN, true, "the connection was closed in the body"},
    {CURLE_RECV_ERROR, OUT_UPSTREAM_BROKEN, true, "the connection broke"},
    {CURLE_SEND_ERROR, OUT_UPSTREAM_BROKEN, true, "the connection broke"},
    {CURLE_WEIRD_SERVER_REPLY, OUT_UPSTREAM_BROKEN, true, "the answer is not HTTP"},
    {CURLE_UNSUPPORTED_PROTOCOL, OUT_UPSTREAM_BROKEN, true, "the answer is not HTTP/1.1"},
};

static void refuse_code(struct transfer *t, CURLcode code)
{
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++) {
        if (failures[i].code == code) {
            refuse(t, failures[i].outcome, failures[i].may_pass, "%s: %s (%s)", t->host,
                   failures[i].text, t->error[0] ? t->error : curl_easy_strerror(code));
            return;
        }
    }
    refuse(t, OUT_UPSTREAM_BROKEN, true, "%s: %s", t->host,
           t->error[0] ? t->error : curl_easy_strerror(code));
}

/* --- hops --- */

static char *url_part(CURLU *url, CURLUPart part)
{
    char *text = NULL;

    return curl_url_get(url, part, &text, 0) == CURLUE_OK ? text : NULL;
}

/* Whether the hop leads to the host of the configured url, by name or by the
 * address that it was reached at. */
static bool is_own_host(const struct transfer *t, const char *host)
{
    size_t len = strlen(host);

    if (strcasecmp(host, t->own_host) == 0)
        return true;
    if (host[0] == '[' && len > 2)
        return strlen(t->own_address) == len - 2 &&
               strncasecmp(host + 1, t->own_address, len - 2) == 0;
    return t->own_address[0] && strcmp(host, t->own_address) == 0;
}

static void add_field(struct transfer *t, const char *line)
{
    t->fields = curl_slist_append(t->fields, line);
    CHECK(t->fields);
}

static void add_field_value(struct transfer *t, const char *name, const char *value)
{
    char *line = mem_format("%s: %s", name, value);

    add_field(t, line);
    explicit_bzero(line, strlen(line));
    free(line);
}

/* The fields of a hop. What a client gave goes to the registry itself alone. */
static void set_fields(struct transfer *t)
{
    char line[64];
    bool is_registry = t->hops == 0;

    curl_slist_free_all(t->fields);
    t->fields = NULL;
    /* Content must come as it is stored: by its digest. */
    add_field(t, "Accept-Encoding: identity");
    add_field(t, t->accept_manifests ? accept_manifests : "Accept: */*");
    if (t->has_range) {
        snprintf(line, sizeof line, "Range: bytes=%llu-", (unsigned long long)t->range_start);
        add_field(t, line);
    }
    if (is_registry && t->behalf.authorization)
        add_field_value(t, "Authorization", t->behalf.authorization);
    if (is_registry && t->behalf.loop)
        add_field_value(t, "CDN-Loop", t->behalf.loop);
    curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->fields);
}

/* Set off to where t->url points. */
static void start_hop(struct transfer *t)
{
    struct stats *stats = t->upstream->parts.stats;
    char *host = url_part(t->url, CURLUPART_HOST);

    if (!t->own_host)
        t->own_host = mem_copy(host, strlen(host));
    snprintf(t->host, sizeof t->host, "%s", host);
    t->is_guarded = !is_own_host(t, host);
    curl_free(host);
    head_clear(&t->head);
    t->has_body = false;
    t->dropped_bytes = 0;
    t->is_connected = false;
    t->error[0] = '\0';
    set_fields(t);
    STATS_ADD(stats, upstream_requests, 1);
    if (t->registry)
        STATS_ADD(t->registry, line_requests, 1);
    loop_add(t->upstream->loop, t->easy);
}

static bool is_redirect(const struct transfer *t)
{
    switch (t->head.status) {
    case 301:
    case 302:
    case 303:
    case 307:
    case 308:
        return t->head.location != NULL;
    default:
        return false;
    }
}

/* Resolve Location (RFC 3986 section 5, by curl) into t->url. False when the hop
 * is not to be taken. */
static bool take_redirect(struct transfer *t)
{
    char *from = url_part(t->url, CURLUPART_SCHEME);
    CURLUcode code = curl_url_set(t->url, CURLUPART_URL, t->head.location, CURLU_DISALLOW_USER);
    char *scheme = url_part(t->url, CURLUPART_SCHEME);
    char *host = url_part(t->url, CURLUPART_HOST);
    bool taken = false;

    if (code != CURLUE_OK || !scheme || !host)
        refuse(t, OUT_UPSTREAM_BROKEN, false, "%s: redirects to an invalid url", t->host);
    else if (strcmp(scheme, "https") != 0 && strcmp(scheme, "http") != 0)
        refuse(t, OUT_UPSTREAM_BROKEN, false, "%s: redirects to %.20s:", t->host, scheme);
    else if (from && strcmp(from, "https") == 0 && strcmp(scheme, "http") == 0)
        refuse(t, OUT_UPSTREAM_BROKEN, false, "%s: redirects from https to http", t->host);
    else if (t->hops == HOPS_MAX)
        refuse(t, OUT_UPSTREAM_BROKEN, false, "%s: redirects more than %d times", t->host,
               HOPS_MAX);
    else
        taken = true;
    curl_free(from);
    curl_free(scheme);
    curl_free(host);
    t->hops++;
    return taken;
}

void transfer_ended(void *easy, int code)
{
    struct transfer *t;
    char *address;

    CHECK(curl_easy_getinfo(easy, CURLINFO_PRIVATE, &t) == CURLE_OK);
    /* A redirect's body is of no interest, however long. */
    if (code != CURLE_OK && !(is_redirect(t) && t->dropped_bytes > DROPPED_BODY_MAX))
        refuse_code(t, (CURLcode)code);
    if (!t->has_failed && is_redirect(t)) {
        if (t->hops == 0 && curl_easy_getinfo(easy, CURLINFO_PRIMARY_IP, &address) == CURLE_OK &&
            address)
            snprintf(t->own_address, sizeof t->own_address, "%s", address);
        if (take_redirect(t)) {
            start_hop(t);
            return;
        }
    }
    if (!t->has_failed && !t->has_body)
        refuse(t, OUT_UPSTREAM_BROKEN, true, "%s: sent no whole answer", t->host);
    finish(t);
}

/* --- what curl calls --- */

/* CURLOPT_OPENSOCKETFUNCTION: the address is known, nothing was sent yet. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
    struct transfer *t = arg;

    (void)purpose;
    if (t->is_guarded && !address_is_public(&a->addr)) {
        refuse(t, OUT_UPSTREAM_BROKEN, false,
               "%s: a redirect leads to an address that is not public", t->host);
        return CURL_SOCKET_BAD;
    }
    return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

/* CURLOPT_PREREQFUNCTION: a connection, new or kept, is about to get the request. */
static int before_request(void *arg, char *peer, char *local, int peer_port, int local_port)
{
    struct transfer *t = arg;

    (void)local;
    (void)peer_port;
    (void)local_port;
    t->is_connected = true;
    t->slow_looks = 0;
    if (!t->is_guarded || address_text_is_public(peer))
        return CURL_PREREQFUNC_OK;
    refuse(t, OUT_UPSTREAM_BROKEN, false, "%s: a redirect leads to an address that is not public",
           t->host);
    return CURL_PREREQFUNC_ABORT;
}

static void refuse_status(struct transfer *t)
{
    int status = t->head.status;

    if (status == 404 || status == 410)
        refuse(t, t->not_found, false, "%s: answered %d", t->host, status);
    else if (status == 401 || status == 403)
        refuse(t, OUT_UPSTREAM_DENIED, false, "%s: answered %d", t->host, status);
    else if (status == 429)
        refuse(t, OUT_UPSTREAM_LIMITED, true, "%s: answered 429 (too many requests)", t->host);
    else if (status >= 500)
        refuse(t, OUT_UPSTREAM_ERROR, true, "%s: answered %d", t->host, status);
    else
        refuse(t, OUT_UPSTREAM_BROKEN, false, "%s: answered %d", t->host, status);
    t->failure.retry_after_s = (int)t->head.retry_after_s;
    if (status == 401 && t->head.challenge)
        snprintf(t->failure.challenge, sizeof t->failure.challenge, "%s", t->head.challenge);
}

/* The head is whole. False ends the transfer at once; so does an error's head, but
 * only after its body, to keep the connection. */
static bool head_is_whole(struct transfer *t)
{
    int status = t->head.status;

    if (status < 200 || is_redirect(t))
        return true;
    if (t->head.bad) {
        refuse(t, OUT_UPSTREAM_BROKEN, false, "%s: sent a malformed head", t->host);
        return false;
    }
    if (t->head.chunked)
        t->head.content_length = -1;
    if (status != 200 && !(t->has_range && (status == 206 || status == 416))) {
        refuse_status(t);
        return true;
    }
    t->has_body = true;
    if (t->calls->head(t->arg, &t->head, &t->failure))
        return true;
    t->has_failed = true;
    return false;
}

/* CURLOPT_HEADERFUNCTION: a line, with its end. */
static size_t header_line(char *line, size_t size, size_t count, void *arg)
{
    struct transfer *t = arg;
    size_t len = size * count;

    t->bytes += len;
    /* A trailer after the body says nothing that we want. */
    if (t->has_body || t->has_failed)
        return len;
    if (line[0] == '\r' || line[0] == '\n')
        return head_is_whole(t) ? len : 0;
    if (head_take(&t->head, line, len, time(NULL)))
        return len;
    refuse(t, OUT_UPSTREAM_BROKEN, false, "%s: sent a head that is too large", t->host);
    return 0;
}

/* CURLOPT_WRITEFUNCTION */
static size_t body_bytes(char *data, size_t size, size_t count, void *arg)
{
    struct transfer *t = arg;
    size_t len = size * count;

    if (!t->has_body || t->has_failed) {
        t->bytes += len;
        t->dropped_bytes += len;
        return t->dropped_bytes <= DROPPED_BODY_MAX ? len : 0;
    }
    if (t->calls->room && !t->calls->room(t->arg)) {
        t->is_paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    t->bytes += len;
    STATS_ADD(t->upstream->parts.stats, upstream_bytes, len);
    if (t->registry)
        STATS_ADD(t->registry, line_bytes, len);
    if (t->calls->body(t->arg, data, len, &t->failure))
        return len;
    t->has_failed = true;
    return 0;
}

void transfer_resume(struct transfer *t)
{
    if (!t->is_paused)
        return;
    t->is_paused = false;
    t->slow_looks = 0;
    /* An error ends the transfer by way of the loop. */
    (void)curl_easy_pause(t->easy, CURLPAUSE_CONT);
}

/* Own watch for stalls: curl's looks at whole seconds, remembers five of them and
 * does not know why a paused transfer stands still. Two slow looks in a row, each
 * half of the timeout, are a stall. */
static void look_for_stall(evutil_socket_t s, short what, void *arg)
{
    struct transfer *t = arg;
    int64_t least = t->to->stall_timeout_ms / 2 * DRIP_BYTES_A_SECOND / 1000;
    bool slow = t->is_connected && !t->is_paused && t->bytes <= (uint64_t)least;

    (void)s;
    (void)what;
    t->bytes = 0;
    t->slow_looks = slow ? t->slow_looks + 1 : 0;
    if (t->slow_looks < 2)
        return;
    refuse(t, OUT_UPSTREAM_TIMEOUT, true, "%s: sent nothing for %lld ms", t->host,
           (long long)t->to->stall_timeout_ms);
    loop_remove(t->upstream->loop, t->easy);
    finish(t);
}

/* --- the beginning --- */

static void set_options(struct transfer *t, const struct transfer_order *o)
{
    CURL *e = t->easy;

    curl_easy_setopt(e, CURLOPT_PRIVATE, t);
    curl_easy_setopt(e, CURLOPT_CURLU, t->url);
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->error);
    curl_easy_setopt(e, CURLOPT_NOBODY, o->head_only ? 1L : 0L);
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(e, CURLOPT_HTTP09_ALLOWED, 0L);
    curl_easy_setopt(e, CURLOPT_USERAGENT, "cachalot/" CACHALOT_VERSION);
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(e, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    /* The environment must not decide where our traffic goes. */
    curl_easy_setopt(e, CURLOPT_PROXY, "");
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    /* Do not wait for a resolver's thread when a transfer is cancelled. */
    curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)t->to->connect_timeout_ms);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(e, CURLOPT_BUFFERSIZE, RECEIVE_BYTES);
    curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 2L);
    if (t->to->ca_file)
        curl_easy_setopt(e, CURLOPT_CAINFO, t->to->ca_file);
    curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, t);
    curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, before_request);
    curl_easy_setopt(e, CURLOPT_PREREQDATA, t);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, header_line);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, body_bytes);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
}

struct transfer *transfer_start(struct upstream *u, const struct transfer_order *o,
                                const struct transfer_calls *calls, void *arg)
{
    CURLU *url = curl_url();

    CHECK(url);
    if (curl_url_set(url, CURLUPART_URL, o->url, CURLU_DISALLOW_USER) != CURLUE_OK) {
        curl_url_cleanup(url);
        return NULL;
    }
    struct transfer *t = mem_new(sizeof *t);
    t->url = url;
    t->upstream = u;
    t->to = o->to;
    t->calls = calls;
    t->arg = arg;
    if (o->behalf)
        t->behalf = behalf_copy(o->behalf);
    t->accept_manifests = o->accept_manifests;
    t->range_start = o->range_start;
    t->has_range = o->range_start > 0;
    t->not_found = o->not_found;
    t->registry = stats_find_registry(u->parts.stats, o->registry);
    head_init(&t->head);
    t->easy = curl_easy_init();
    t->stall = event_new(u->base, -1, EV_PERSIST, look_for_stall, t);
    CHECK(t->easy && t->stall);
    set_options(t, o);
    int64_t look_us = t->to->stall_timeout_ms * 1000 / 2;
    struct timeval look = {.tv_sec = look_us / 1000000, .tv_usec = look_us % 1000000};
    CHECK(event_add(t->stall, &look) == 0);
    start_hop(t);
    return t;
}
