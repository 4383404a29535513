/* SPDX-License-Identifier: ISC */
#include "proxy/upstream_dial.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <curl/curl.h>

#include "cache/lock.h"
#include "proxy/thread.h"
#include "proxy/upstream_hop.h"

#define PORT_SUFFIX ":443"
/* Of libcurl's own buffer, which recv and send do without. */
#define SPARE_BUFFER_BYTES (16L * 1024)

enum dial_state { WAITING, CONNECTING, ABANDONED, ANSWERED, OPEN, FAILED };
#define DIAL_STATES 6

#define DIAL_HOST_MAX 256

struct dialer {
    pthread_mutex_t lock; /* guards what follows, and the state of dials not answered */
    pthread_cond_t posted;
    STAILQ_HEAD(, dial) waiting;
    unsigned waiting_count;
    bool stopping;
    unsigned thread_count, started;
    char busy[DIALER_THREADS_MAX][DIAL_HOST_MAX]; /* with which host a thread is; or empty */
    pthread_t threads[DIALER_THREADS_MAX];
};

struct dial {
    struct msg msg;
    STAILQ_ENTRY(dial) link;
    enum dial_state state;
    struct dialer *dialer; /* NULL: the message has run */
    struct queue *answers;
    void (*done)(void *arg, const struct failure *f);
    void *arg;
    struct config *config; /* NULL: it has served */
    const struct config_upstream *to;
    char *url;
    char host[DIAL_HOST_MAX]; /* for messages */
    enum dial_reach reach;
    int64_t wait_until_ms;
    CURL *easy;
    int fd;
    bool is_refused; /* by its address */
    bool has_failed;
    struct failure failure;
    char error[CURL_ERROR_SIZE];
};

/* For a host that no upstream is the way to. */
static const struct config_upstream direct = {.connect_timeout_ms = 10000};

/* The only writer of the state. */
static void dial_enter(struct dial *d, enum dial_state next)
{
    static const bool allowed[DIAL_STATES][DIAL_STATES] = {
        [WAITING] = {[CONNECTING] = true, [ANSWERED] = true},
        [CONNECTING] = {[ABANDONED] = true, [ANSWERED] = true},
        [ANSWERED] = {[ABANDONED] = true, [OPEN] = true, [FAILED] = true},
    };

    CHECK(allowed[d->state][next]);
    d->state = next;
}

static void dial_free(struct dial *d)
{
    curl_easy_cleanup(d->easy);
    config_unref(&d->config);
    free(d->url);
    free(d);
}

__attribute__((format(printf, 3, 4))) static void fail(struct dial *d, enum outcome o,
                                                       const char *format, ...)
{
    va_list args;

    d->has_failed = true;
    d->failure = (struct failure){.outcome = o};
    va_start(args, format);
    vsnprintf(d->failure.why, sizeof d->failure.why, format, args);
    va_end(args);
}

/* --- where it may lead --- */

/* "scheme://host:port", owned by the caller; NULL when the url is not one. */
static char *origin_of(const char *text, char *host, size_t host_size)
{
    CURLU *url = curl_url();
    char *origin = NULL;

    CHECK(url);
    if (curl_url_set(url, CURLUPART_URL, text, CURLU_DISALLOW_USER) == CURLUE_OK)
        origin = hop_origin(url, host, host_size);
    curl_url_cleanup(url);
    return origin;
}

static bool has_port(const char *origin)
{
    size_t len = strlen(origin);

    return len > strlen(PORT_SUFFIX) &&
           strcmp(origin + len - strlen(PORT_SUFFIX), PORT_SUFFIX) == 0;
}

/* What can be said before the address is known. */
static void judge(struct dial *d)
{
    bool is_anywhere = d->reach == DIAL_ANYWHERE;
    char *origin = origin_of(d->url, d->host, sizeof d->host);

    if (!origin)
        fail(d, OUT_BAD_REQUEST, "%.200s is not a url to connect to", d->url);
    else if (d->to->offline || (d->config && d->config->offline))
        fail(d, OUT_OFFLINE, "%s: no upstream is asked, as configured", d->host);
    else if (!is_anywhere && !has_port(origin))
        fail(d, OUT_FORBIDDEN, "%s: only port 443 is connected to", d->host);
    else if (!is_anywhere && d->to->proxy && host_is_inside(d->host))
        fail(d, OUT_FORBIDDEN, "%s: the address is not public", d->host);
    free(origin);
}

static bool is_same_address(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    if (a->ss_family != b->ss_family)
        return false;
    if (a->ss_family == AF_INET)
        return ((const struct sockaddr_in *)a)->sin_addr.s_addr ==
               ((const struct sockaddr_in *)b)->sin_addr.s_addr;
    return a->ss_family == AF_INET6 &&
           memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr,
                  &((const struct sockaddr_in6 *)b)->sin6_addr, sizeof(struct in6_addr)) == 0;
}

/* Whether the address is one of this machine: then packets to it come from it. */
static bool is_own_address(const struct curl_sockaddr *a)
{
    struct sockaddr_storage local = {0}, peer = {0};
    socklen_t local_len = sizeof local, peer_len = sizeof peer;
    int fd = socket(a->family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return false;
    /* Of a datagram socket this sends nothing. */
    bool is = connect(fd, &a->addr, (socklen_t)a->addrlen) == 0 &&
              getsockname(fd, (struct sockaddr *)&local, &local_len) == 0 &&
              getpeername(fd, (struct sockaddr *)&peer, &peer_len) == 0 &&
              is_same_address(&local, &peer);
    close(fd);
    return is;
}

static bool may_reach(enum dial_reach reach, const struct curl_sockaddr *a)
{
    switch (reach) {
    case DIAL_ANYWHERE:
        return true;
    case DIAL_PUBLIC:
        break;
    }
    return address_kind(&a->addr) == ADDRESS_PUBLIC && !is_own_address(a);
}

/* CURLOPT_OPENSOCKETFUNCTION: the address is known, nothing was sent yet. A proxy's
 * address is the administrator's choice. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
    struct dial *d = arg;

    (void)purpose;
    if (!d->to->proxy && !may_reach(d->reach, a)) {
        d->is_refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

/* --- the dialer's threads --- */

/* With the lock held: once it is released, the dial is not ours any more. */
static void answer(struct dial *d)
{
    dial_enter(d, ANSWERED);
    queue_post(d->answers, &d->msg);
}

/* With the lock held. */
static void remove_waiting(struct dialer *r, const struct dial *d)
{
    STAILQ_REMOVE(&r->waiting, d, dial, link);
    r->waiting_count--;
}

/* With the lock held: those that have waited for a thread as long as they may connect. */
static void give_up_waiting(struct dialer *r)
{
    int64_t now_ms = clock_now_ms();
    struct dial *d, *next;

    for (d = STAILQ_FIRST(&r->waiting); d; d = next) {
        next = STAILQ_NEXT(d, link);
        if (now_ms < d->wait_until_ms)
            continue;
        remove_waiting(r, d);
        fail(d, OUT_UPSTREAM_TIMEOUT, "%s: cachalot is busy with connections that nobody answers",
             d->host);
        answer(d);
    }
}

/* CURLOPT_XFERINFOFUNCTION: called about once a second at least. As nobody waits unless a
 * thread is connecting, this is where waiting ends in time. */
static int look_around(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t e)
{
    struct dial *d = arg;
    struct dialer *r = d->dialer;

    (void)a, (void)b, (void)c, (void)e;
    pthread_mutex_lock(&r->lock);
    give_up_waiting(r);
    bool goes_on = d->state == CONNECTING && !r->stopping;
    pthread_mutex_unlock(&r->lock);
    return goes_on ? 0 : 1;
}

static void set_options(struct dial *d)
{
    CURL *e = d->easy;

    curl_easy_setopt(e, CURLOPT_URL, d->url);
    curl_easy_setopt(e, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(e, CURLOPT_BUFFERSIZE, SPARE_BUFFER_BYTES);
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, d->error);
    curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, d);
    curl_easy_setopt(e, CURLOPT_XFERINFOFUNCTION, look_around);
    curl_easy_setopt(e, CURLOPT_XFERINFODATA, d);
    curl_easy_setopt(e, CURLOPT_NOPROGRESS, 0L);
    /* What is relayed is said by a client: never with a certificate of ours. */
    easy_use_certificate(e, d->to, false);
}

/* Why it could not connect. */
static void failed(struct dial *d, CURLcode code)
{
    d->has_failed = true;
    if (code == CURLE_ABORTED_BY_CALLBACK)
        fail(d, OUT_DRAINING, "%s: cachalot is shutting down", d->host);
    else if (d->is_refused)
        fail(d, OUT_FORBIDDEN, "%s: is at an address that is not public, or is our own", d->host);
    else if (!easy_failed_at_proxy(d->easy, (int)code, d->to, &d->failure))
        failure_of_code(&d->failure, (int)code, d->host, d->error);
}

static void connect_to(struct dial *d)
{
    curl_socket_t fd = CURL_SOCKET_BAD;

    d->easy = easy_new(d->to);
    set_options(d);
    if (!easy_use_proxy(d->easy, d->to, &d->failure)) {
        d->has_failed = true;
        return;
    }
    CURLcode code = curl_easy_perform(d->easy);
    if (code == CURLE_OK)
        code = curl_easy_getinfo(d->easy, CURLINFO_ACTIVESOCKET, &fd);
    if (code != CURLE_OK || fd == CURL_SOCKET_BAD)
        failed(d, code != CURLE_OK ? code : CURLE_RECV_ERROR);
    d->fd = fd;
    curl_easy_setopt(d->easy, CURLOPT_NOPROGRESS, 1L);
}

static void connect_and_answer(struct dialer *r, struct dial *d)
{
    connect_to(d);
    d->to = NULL;
    config_unref(&d->config);
    pthread_mutex_lock(&r->lock);
    bool is_abandoned = d->state == ABANDONED;
    if (!is_abandoned)
        answer(d);
    pthread_mutex_unlock(&r->lock);
    if (is_abandoned)
        dial_free(d);
}

/* How many threads a host keeps busy. */
static unsigned busy_with(const struct dialer *r, const char *host)
{
    unsigned count = 0;

    for (unsigned i = 0; i < r->thread_count; i++)
        count += strcmp(r->busy[i], host) == 0;
    return count;
}

/* The first whose host leaves threads to others: one that swallows packets must not stop
 * the way to all of them. */
static struct dial *take_waiting(struct dialer *r)
{
    unsigned most = r->thread_count > 1 ? r->thread_count / 2 : 1;
    struct dial *d;

    STAILQ_FOREACH (d, &r->waiting, link)
        if (busy_with(r, d->host) < most)
            break;
    if (d)
        remove_waiting(r, d);
    return d;
}

static void *dialer_main(void *arg)
{
    struct dialer *r = arg;
    char *host;

    pthread_mutex_lock(&r->lock);
    host = r->busy[r->started++];
    while (!r->stopping) {
        struct dial *d = take_waiting(r);

        if (!d) {
            pthread_cond_wait(&r->posted, &r->lock);
            continue;
        }
        dial_enter(d, CONNECTING);
        memcpy(host, d->host, DIAL_HOST_MAX);
        pthread_mutex_unlock(&r->lock);
        connect_and_answer(r, d);
        pthread_mutex_lock(&r->lock);
        host[0] = '\0';
        /* Another of the host may have been left waiting. */
        pthread_cond_signal(&r->posted);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

struct dialer *dialer_start(unsigned threads)
{
    struct dialer *r = mem_new(sizeof *r);

    CHECK(threads > 0 && threads <= DIALER_THREADS_MAX);
    CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
    lock_init(&r->lock);
    CHECK(pthread_cond_init(&r->posted, NULL) == 0);
    STAILQ_INIT(&r->waiting);
    r->thread_count = threads;
    for (unsigned i = 0; i < threads; i++)
        thread_start(&r->threads[i], "dial", dialer_main, r);
    return r;
}

void dialer_stop(struct dialer **rp)
{
    struct dialer *r = *rp;
    struct dial *d;

    if (!r)
        return;
    *rp = NULL;
    pthread_mutex_lock(&r->lock);
    r->stopping = true;
    while ((d = STAILQ_FIRST(&r->waiting))) {
        STAILQ_REMOVE_HEAD(&r->waiting, link);
        fail(d, OUT_DRAINING, "%s: cachalot is shutting down", d->host);
        answer(d);
    }
    pthread_cond_broadcast(&r->posted);
    pthread_mutex_unlock(&r->lock);
    for (unsigned i = 0; i < r->thread_count; i++)
        thread_join(r->threads[i]);
    pthread_cond_destroy(&r->posted);
    pthread_mutex_destroy(&r->lock);
    curl_global_cleanup();
    free(r);
}

/* --- the thread that asks --- */

static void answered(struct msg *m, void *owner)
{
    struct dial *d = CONTAINER_OF(m, struct dial, msg);

    (void)owner;
    d->dialer = NULL;
    if (d->state == ABANDONED) {
        dial_free(d);
        return;
    }
    dial_enter(d, d->has_failed ? FAILED : OPEN);
    d->done(d->arg, d->has_failed ? &d->failure : NULL);
}

struct dial *dial_start(struct dialer *r, const struct dial_order *o)
{
    struct dial *d = mem_new(sizeof *d);

    d->msg.run = answered;
    d->dialer = r;
    d->answers = o->answers;
    d->done = o->done;
    d->arg = o->arg;
    d->config = o->config ? config_ref(o->config) : NULL;
    d->to = o->to ? o->to : &direct;
    d->url = mem_copy(o->url, strlen(o->url));
    d->reach = o->reach;
    d->wait_until_ms = clock_now_ms() + d->to->connect_timeout_ms;
    d->fd = -1;
    judge(d);
    pthread_mutex_lock(&r->lock);
    if (!d->has_failed && r->stopping)
        fail(d, OUT_DRAINING, "%s: cachalot is shutting down", d->host);
    else if (!d->has_failed && r->waiting_count == DIALS_WAITING_MAX)
        fail(d, OUT_OVERLOADED, "%s: too many connections are being made", d->host);
    if (d->has_failed) {
        answer(d);
    } else {
        STAILQ_INSERT_TAIL(&r->waiting, d, link);
        r->waiting_count++;
        pthread_cond_signal(&r->posted);
    }
    pthread_mutex_unlock(&r->lock);
    return d;
}

void dial_close(struct dial **dp)
{
    struct dial *d = *dp;

    if (!d)
        return;
    *dp = NULL;
    struct dialer *r = d->dialer;
    bool is_ours = !r;
    if (r) {
        pthread_mutex_lock(&r->lock);
        is_ours = d->state == WAITING;
        if (is_ours)
            remove_waiting(r, d);
        else
            dial_enter(d, ABANDONED);
        pthread_mutex_unlock(&r->lock);
    }
    if (is_ours)
        dial_free(d);
}

/* --- an open one --- */

int dial_fd(const struct dial *d)
{
    CHECK(d->state == OPEN);
    return d->fd;
}

/* Whether a failed recv was only the end of TCP without one of TLS before it: the
 * connection was not reset, and nothing follows. */
static bool is_bare_end(const struct dial *d, int error)
{
    char byte;

    return error != ECONNRESET && recv(d->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

ssize_t dial_recv(struct dial *d, void *buf, size_t len)
{
    size_t n = 0;

    CHECK(d->state == OPEN);
    errno = 0;
    CURLcode code = curl_easy_recv(d->easy, buf, len, &n);
    if (code == CURLE_OK)
        return (ssize_t)n;
    int error = errno;
    if (code == CURLE_AGAIN) {
        errno = EAGAIN;
        return -1;
    }
    if (is_bare_end(d, error))
        return 0;
    errno = ECONNRESET;
    return -1;
}

ssize_t dial_send(struct dial *d, const void *buf, size_t len)
{
    size_t n = 0;

    CHECK(d->state == OPEN);
    CURLcode code = curl_easy_send(d->easy, buf, len, &n);
    if (code == CURLE_OK && n > 0)
        return (ssize_t)n;
    errno = code == CURLE_AGAIN || code == CURLE_OK ? EAGAIN : EPIPE;
    return -1;
}

void dial_shutdown(struct dial *d)
{
    CHECK(d->state == OPEN);
    (void)shutdown(d->fd, SHUT_WR);
}
