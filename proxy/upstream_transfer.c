/* SPDX-License-Identifier: ISC */
/*
 * One HTTP exchange: a request, the redirects that answer it, the body of the last.
 *
 * Redirects are followed here, hop by hop, so that each is judged (upstream_hop.c): at
 * most HOPS_MAX, never from https to http. Nothing but the fields built below is sent to any hop,
 * and who we are, or a client is, to the origin of the first one alone. When the first hop refuses
 * us, the exchange may wait for a credential, out of the loop, and begin anew.
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

#include "proxy/secret.h"
#include "proxy/upstream_auth.h"
#include "proxy/upstream_hop.h"
#include "proxy/upstream_private.h"

#define HOPS_MAX 5
/* Of the body of a redirect or an error: read, so that the connection lives on. */
#define DROPPED_BODY_MAX (64u * 1024)
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
    bool has_auth; /* we may say who we are */
    struct auth auth;
    char *form; /* secret */
    bool is_token;
    bool is_foreign;
    bool accept_manifests;
    uint64_t range_start;
    bool has_range;
    uint64_t range_end;
    enum outcome not_found;

    CURLU *url;       /* of the hop under way */
    char *own_host;   /* of the first hop */
    char *own_origin; /* of the first hop: scheme, host and port */
    char host[256];   /* of the hop: for messages */
    char own_address[ADDRESS_TEXT_MAX];
    unsigned hops;
    bool is_guarded; /* the hop may lead to public addresses only */

    struct head head;
    bool is_in_loop;
    bool is_ping;
    bool is_challenged; /* the registry itself wants to know who we are */
    bool has_body;      /* the head was taken: what follows is content */
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

/* --- the end --- */

/* They may be secret. */
static void drop_fields(struct transfer *t)
{
    for (struct curl_slist *field = t->fields; field; field = field->next)
        explicit_bzero(field->data, strlen(field->data));
    curl_slist_free_all(t->fields);
    t->fields = NULL;
}

static void transfer_free(struct transfer *t)
{
    curl_easy_cleanup(t->easy);
    drop_fields(t);
    behalf_clear(&t->behalf);
    if (t->has_auth)
        auth_clear(&t->auth);
    secret_free(t->form);
    curl_url_cleanup(t->url);
    event_free(t->stall);
    free(t->own_host);
    free(t->own_origin);
    head_clear(&t->head);
    free(t);
}

void transfer_cancel(struct transfer **tp)
{
    struct transfer *t = *tp;

    if (!t)
        return;
    *tp = NULL;
    if (t->is_in_loop)
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

    f.is_elsewhere = t->hops > 0;
    /* Nobody is to log in elsewhere. */
    if (f.is_elsewhere || t->is_foreign)
        f.challenge[0] = '\0';
    transfer_free(t);
    done(arg, has_failed ? &f : NULL);
}

/* Note the reason; the first one counts. */
static void fail(struct transfer *t, const struct failure *f)
{
    if (t->has_failed)
        return;
    t->has_failed = true;
    t->failure = *f;
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

/* --- hops --- */

static void add_field(struct transfer *t, const char *line)
{
    t->fields = curl_slist_append(t->fields, line);
    CHECK(t->fields);
}

/* `name` with its colon. */
static void add_field_value(struct transfer *t, const char *name, const char *value)
{
    char *line = secret_join(name, value);

    add_field(t, line);
    secret_free(line);
}

/* The fields of a hop. `is_own`: it goes to the registry itself, which alone is told
 * who we are, or what a client gave. */
static void set_fields(struct transfer *t, bool is_own)
{
    char line[64], last[24] = "";

    drop_fields(t);
    /* Content must come as it is stored: by its digest. */
    add_field(t, "Accept-Encoding: identity");
    add_field(t, t->accept_manifests ? accept_manifests : "Accept: */*");
    if (t->has_range) {
        if (t->range_end > 0)
            snprintf(last, sizeof last, "%llu", (unsigned long long)t->range_end - 1);
        snprintf(line, sizeof line, "Range: bytes=%llu-%s", (unsigned long long)t->range_start,
                 last);
        add_field(t, line);
    }
    if (is_own && t->behalf.authorization)
        add_field_value(t, "Authorization: ", t->behalf.authorization);
    else if (is_own && t->has_auth && t->auth.field)
        add_field_value(t, "Authorization: ", t->auth.field);
    /* What is within the network may be ourselves. */
    if ((is_own || !t->is_guarded) && t->behalf.loop)
        add_field_value(t, "CDN-Loop: ", t->behalf.loop);
    curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->fields);
}

/* Set off to where t->url points. */
static void start_hop(struct transfer *t)
{
    struct stats *stats = t->upstream->parts.stats;
    char *origin = hop_origin(t->url, t->host, sizeof t->host);

    if (!t->own_host) {
        t->own_host = mem_copy(t->host, strlen(t->host));
        t->own_origin = mem_copy(origin, strlen(origin));
    }
    bool is_own = strcasecmp(origin, t->own_origin) == 0;
    free(origin);
    head_clear(&t->head);
    t->has_body = false;
    t->dropped_bytes = 0;
    t->is_connected = false;
    t->error[0] = '\0';
    set_fields(t, is_own);
    easy_use_certificate(t->easy, t->to, is_own && !t->is_foreign);
    STATS_ADD(stats, upstream_requests, 1);
    if (t->registry)
        STATS_ADD(t->registry, line_requests, 1);
    t->is_in_loop = true;
    loop_add(t->upstream->loop, t->easy);
}

static struct hop_policy policy(const struct transfer *t)
{
    return (struct hop_policy){
        .to = t->to,
        .from = t->host,
        .own_host = t->own_host,
        .own_address = t->own_address,
        .is_foreign = t->is_foreign,
    };
}

/* Into t->url; false when the hop is not to be taken. */
static bool take_redirect(struct transfer *t)
{
    struct hop_policy p = policy(t);
    struct failure f;
    bool taken = false;

    if (t->is_token)
        failure_set(&f, OUT_UPSTREAM_BROKEN, false, "%s: redirects, as no token server may",
                    t->host);
    else if (t->hops == HOPS_MAX)
        failure_set(&f, OUT_UPSTREAM_BROKEN, false, "%s: redirects more than %d times", t->host,
                    HOPS_MAX);
    else
        taken = hop_take(&p, t->url, t->head.location, &t->is_guarded, &f);
    if (!taken)
        fail(t, &f);
    t->hops++;
    return taken;
}

/* The registry refused us: bring what it wants, and begin anew, if that can be had. */
static void answer_challenge(struct transfer *t)
{
    bool is_inside = t->own_address[0] && !address_text_is_public(t->own_address);
    struct failure f = t->failure;

    t->is_challenged = false;
    t->has_failed = false;
    switch (auth_refused(&t->auth, &t->head, is_inside, &f)) {
    case AUTH_GO:
        start_hop(t);
        break;
    case AUTH_WAIT:
        t->is_connected = false;
        break;
    case AUTH_REFUSED:
        fail(t, &f);
        finish(t);
        break;
    }
}

static void auth_is_ready(struct auth *a, const struct failure *f)
{
    struct transfer *t = CONTAINER_OF(a, struct transfer, auth);

    if (!f) {
        start_hop(t);
        return;
    }
    fail(t, f);
    finish(t);
}

void transfer_ended(void *easy, int code)
{
    struct transfer *t;
    char *address;

    CHECK(curl_easy_getinfo(easy, CURLINFO_PRIVATE, &t) == CURLE_OK);
    t->is_in_loop = false;
    /* A redirect's body is of no interest, however long. */
    if (code != CURLE_OK && !(head_is_redirect(&t->head) && t->dropped_bytes > DROPPED_BODY_MAX)) {
        struct failure f;
        if (!easy_failed_at_proxy(easy, code, t->to, &f))
            failure_of_code(&f, code, t->host, t->error);
        fail(t, &f);
    }
    if (t->hops == 0 && !t->to->proxy &&
        curl_easy_getinfo(easy, CURLINFO_PRIMARY_IP, &address) == CURLE_OK && address)
        snprintf(t->own_address, sizeof t->own_address, "%s", address);
    if (t->is_challenged) {
        answer_challenge(t);
        return;
    }
    if (!t->has_failed && head_is_redirect(&t->head) && take_redirect(t)) {
        start_hop(t);
        return;
    }
    if (!t->has_failed && !t->has_body)
        refuse(t, OUT_UPSTREAM_BROKEN, true, "%s: sent no whole answer", t->host);
    finish(t);
}

/* --- what curl calls --- */

static void refuse_address(struct transfer *t)
{
    refuse(t, OUT_UPSTREAM_BROKEN, false, "%s: %s an address that is not public", t->host,
           t->is_token ? "the token server is at" : "a redirect leads to");
}

/* CURLOPT_OPENSOCKETFUNCTION: the address is known, nothing was sent yet. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
    struct transfer *t = arg;

    (void)purpose;
    if (t->is_guarded && !t->to->proxy && !address_is_public(&a->addr)) {
        refuse_address(t);
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
    if (!t->is_guarded || t->to->proxy || address_text_is_public(peer))
        return CURL_PREREQFUNC_OK;
    refuse_address(t);
    return CURL_PREREQFUNC_ABORT;
}

/* The head is whole. False ends the transfer at once; so does an error's head, but
 * only after its body, to keep the connection. */
static bool head_is_whole(struct transfer *t)
{
    int status = t->head.status;

    if (status < 200 || head_is_redirect(&t->head))
        return true;
    if (t->head.bad) {
        refuse(t, OUT_UPSTREAM_BROKEN, false, "%s: sent a malformed head", t->host);
        return false;
    }
    /* Those of a client are its own affair. */
    if (t->hops == 0 && !t->behalf.authorization)
        head_note_limits(&t->head, t->registry, t->upstream->parts.log, time(NULL));
    if (t->head.chunked)
        t->head.content_length = -1;
    if (status != 200 && !(t->has_range && (status == 206 || status == 416))) {
        struct failure f;
        failure_of_status(&f, &t->head, t->host, t->not_found);
        if (t->is_ping && status == 401)
            failure_pass_challenge(&f, &t->head);
        /* A signed url may have expired, or its storage be behind: the registry itself
         * has refused nothing, and gives another url when it is asked again. */
        if (t->hops > 0 && status >= 400 && status < 500 && status != 429)
            failure_set(&f, OUT_UPSTREAM_ERROR, true,
                        "%s: a redirect led there, and it answered %d", t->host, status);
        fail(t, &f);
        t->is_challenged =
            t->has_auth && t->hops == 0 && (status == 400 || status == 401 || status == 403);
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
    if (t->calls->room && !t->calls->room(t->arg, len)) {
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
    if (t->has_failed && !t->is_in_loop) {
        finish(t);
        return;
    }
    t->bytes = 0;
    t->slow_looks = slow ? t->slow_looks + 1 : 0;
    if (t->slow_looks < 2)
        return;
    refuse(t, OUT_UPSTREAM_TIMEOUT, true, "%s: sent nothing for %lld ms", t->host,
           (long long)t->to->stall_timeout_ms);
    loop_remove(t->upstream->loop, t->easy);
    t->is_in_loop = false;
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
    if (t->form) {
        curl_easy_setopt(e, CURLOPT_POSTFIELDS, t->form);
        curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE, (long)strlen(t->form));
    }
    curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)o->timeout_ms);
    curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, t);
    curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, before_request);
    curl_easy_setopt(e, CURLOPT_PREREQDATA, t);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, header_line);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, body_bytes);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
}

/* A manifest's url that is not allowed is as good as one where nothing is. */
static bool may_begin(struct transfer *t, struct failure *f)
{
    struct hop_policy p = {.to = t->to, .from = "a manifest", .is_foreign = true};

    if (t->is_foreign && !hop_judge(&p, t->url, &t->is_guarded, f)) {
        f->outcome = t->not_found;
        return false;
    }
    return easy_use_proxy(t->easy, t->to, f);
}

/* Nobody may be called back from within transfer_start. */
static void begin(struct transfer *t)
{
    struct failure f;
    enum auth_step step = AUTH_REFUSED;

    if (may_begin(t, &f))
        step = t->has_auth ? auth_begin(&t->auth, &f) : AUTH_GO;
    switch (step) {
    case AUTH_GO:
        start_hop(t);
        break;
    case AUTH_WAIT:
        break;
    case AUTH_REFUSED:
        fail(t, &f);
        event_active(t->stall, EV_TIMEOUT, 0);
        break;
    }
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
    t->range_end = o->range_end;
    t->has_range = o->range_start > 0 || o->range_end > 0;
    t->is_ping = o->is_ping;
    t->not_found = o->not_found;
    t->is_token = o->is_token;
    t->is_foreign = o->is_foreign;
    t->is_guarded = o->is_guarded;
    t->form = o->form ? mem_copy(o->form, strlen(o->form)) : NULL;
    t->registry = stats_find_registry(u->parts.stats, o->registry);
    head_init(&t->head);
    t->easy = easy_new(t->to);
    t->stall = event_new(u->base, -1, EV_PERSIST, look_for_stall, t);
    CHECK(t->easy && t->stall);
    set_options(t, o);
    int64_t look_us = t->to->stall_timeout_ms * 1000 / 2;
    struct timeval look = {.tv_sec = look_us / 1000000, .tv_usec = look_us % 1000000};
    CHECK(event_add(t->stall, &look) == 0);
    t->has_auth = o->repository != NULL;
    if (t->has_auth) {
        auth_init(&t->auth, u->authority, o->to, o->url, o->repository,
                  t->behalf.authorization != NULL);
        t->auth.ready = auth_is_ready;
    }
    begin(t);
    return t;
}
