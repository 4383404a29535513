/* SPDX-License-Identifier: ISC */
/* A dialer, an event loop with its queue, and a server on loopback, plain or with TLS, whose
 * connections are driven from the test's own thread: nothing here blocks. */
#ifndef TESTS_UNIT_DIAL_BED_H
#define TESTS_UNIT_DIAL_BED_H

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include "proxy/thread.h"
#include "proxy/upstream_dial.h"
#include "tests/unit/ca_bed.h"

#define DEADLINE_MS 20000
#define HOST "127.0.0.1"

/* A peer's end of a connection: what a far program would do with it. */
struct peer {
    int fd;
    SSL *ssl; /* NULL: plain */
};

struct bed {
    struct ca_bed *ca_bed; /* its directory holds the CA that clients trust */
    struct ca *ca;
    char ca_file[512];
    struct event_base *base;
    struct queue *queue;
    struct dialer *dialer;
    struct config_upstream to;
    int listener;
    uint16_t port;
    SSL_CTX *server; /* of 127.0.0.1, by the CA */
    /* The last dial, and what it came to. */
    struct dial *dial;
    unsigned answers;
    bool is_open;
    struct failure failure;
};

static inline SSL_CTX *bed_server(X509 *leaf, EVP_PKEY *key)
{
    SSL_CTX *s = SSL_CTX_new(TLS_server_method());

    assert_non_null(s);
    assert_int_equal(SSL_CTX_use_certificate(s, leaf), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(s, key), 1);
    SSL_CTX_set_mode(s, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return s;
}

static inline SSL_CTX *bed_server_of(const struct ca *ca, const char *name)
{
    X509 *leaf;
    EVP_PKEY *key;

    assert_int_equal(ca_issue(ca, &name, 1, &leaf, &key), 0);
    SSL_CTX *s = bed_server(leaf, key);
    X509_free(leaf);
    EVP_PKEY_free(key);
    return s;
}

static inline int bed_listen(uint16_t *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 300), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static inline int bed_setup(void **state)
{
    struct bed *b = calloc(1, sizeof *b);
    void *ca_bed;

    assert_non_null(b);
    /* OpenSSL writes to its peer without a flag against it. */
    signal(SIGPIPE, SIG_IGN);
    ca_bed_setup(&ca_bed);
    b->ca_bed = ca_bed;
    b->ca = MADE(b->ca_bed, HOST, "other.test");
    snprintf(b->ca_file, sizeof b->ca_file, "%s", ca_bed_path(b->ca_bed, "ca.crt"));
    b->server = bed_server_of(b->ca, HOST);
    b->to = (struct config_upstream){
        .registry = (char *)"reg.test", .ca_file = b->ca_file, .connect_timeout_ms = 15000};
    b->listener = bed_listen(&b->port);
    b->queue = queue_new();
    b->base = event_base_new();
    assert_non_null(b->base);
    b->dialer = dialer_start(2);
    *state = b;
    return 0;
}

static inline int bed_teardown(void **state)
{
    struct bed *b = *state;
    void *ca_bed = b->ca_bed;

    dial_close(&b->dial);
    dialer_stop(&b->dialer);
    queue_run(b->queue, NULL);
    queue_free(&b->queue);
    event_base_free(b->base);
    SSL_CTX_free(b->server);
    close(b->listener);
    ca_free(&b->ca);
    ca_bed_teardown(&ca_bed);
    free(b);
    return 0;
}

/* One step of all that runs in this thread; a short wait when there is nothing to do. */
static inline void bed_step(struct bed *b)
{
    queue_run(b->queue, NULL);
    event_base_loop(b->base, EVLOOP_NONBLOCK);
}

#define AWAIT(b, condition)                                                                        \
    do {                                                                                           \
        int64_t end_ms = clock_now_ms() + DEADLINE_MS;                                             \
        while (bed_step(b), !(condition)) {                                                        \
            if (clock_now_ms() > end_ms)                                                           \
                fail_msg("waited in vain for %s", #condition);                                     \
            poll(NULL, 0, 1);                                                                      \
        }                                                                                          \
    } while (0)

/* --- dialling --- */

static inline void bed_done(void *arg, const struct failure *f)
{
    struct bed *b = arg;

    b->answers++;
    b->is_open = !f;
    if (f)
        b->failure = *f;
}

static inline void bed_start(struct bed *b, const char *url, enum dial_reach reach)
{
    dial_close(&b->dial);
    b->answers = 0;
    b->is_open = false;
    b->failure = (struct failure){0};
    b->dial = dial_start(b->dialer, &(struct dial_order){.to = &b->to,
                                                         .url = url,
                                                         .reach = reach,
                                                         .answers = b->queue,
                                                         .done = bed_done,
                                                         .arg = b});
}

/* "scheme://127.0.0.1:port", valid until the next call. */
static inline const char *bed_url(const struct bed *b, const char *scheme)
{
    static char url[64];

    snprintf(url, sizeof url, "%s://" HOST ":%u", scheme, b->port);
    return url;
}

static inline void bed_expect(struct bed *b, enum outcome o, const char *word)
{
    AWAIT(b, b->answers > 0);
    assert_false(b->is_open);
    if (b->failure.outcome != o || !strstr(b->failure.why, word))
        fail_msg("%s: %s", outcome_row(b->failure.outcome)->word, b->failure.why);
}

/* --- peers --- */

/* The next connection of a listener, which is there. */
static inline int bed_accept_from(int listener)
{
    int fd = accept(listener, NULL, NULL);

    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static inline struct peer bed_accept(struct bed *b)
{
    struct pollfd p = {.fd = b->listener, .events = POLLIN};

    AWAIT(b, poll(&p, 1, 0) > 0);
    return (struct peer){.fd = bed_accept_from(b->listener)};
}

/* Whether the handshake is over, well or not; steps on. */
static inline bool peer_handshakes(struct peer *p)
{
    int n = SSL_do_handshake(p->ssl);
    int error = SSL_get_error(p->ssl, n);

    ERR_clear_error();
    return n == 1 || (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE);
}

static inline struct peer bed_accept_tls(struct bed *b, SSL_CTX *server)
{
    struct peer p = bed_accept(b);

    p.ssl = SSL_new(server);
    assert_non_null(p.ssl);
    assert_int_equal(SSL_set_fd(p.ssl, p.fd), 1);
    SSL_set_accept_state(p.ssl);
    AWAIT(b, peer_handshakes(&p));
    return p;
}

/* As recv(2) and send(2), errno too. */
static inline ssize_t peer_result(struct peer *p, int n)
{
    int error = SSL_get_error(p->ssl, n);

    ERR_clear_error();
    if (n > 0)
        return n;
    if (error == SSL_ERROR_ZERO_RETURN)
        return 0;
    errno = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? EAGAIN : EPIPE;
    return -1;
}

static inline ssize_t peer_recv(struct peer *p, void *buf, size_t len)
{
    if (p->ssl)
        return peer_result(p, SSL_read(p->ssl, buf, (int)len));
    return recv(p->fd, buf, len, 0);
}

static inline ssize_t peer_send(struct peer *p, const void *buf, size_t len)
{
    if (p->ssl)
        return peer_result(p, SSL_write(p->ssl, buf, (int)len));
    return send(p->fd, buf, len, MSG_NOSIGNAL);
}

/* No more will be sent. */
static inline void peer_shutdown(struct peer *p)
{
    if (p->ssl)
        SSL_shutdown(p->ssl);
    shutdown(p->fd, SHUT_WR);
}

static inline void peer_close(struct peer *p)
{
    SSL_free(p->ssl);
    close(p->fd);
    *p = (struct peer){.fd = -1};
}

static inline void peer_reset(struct peer *p)
{
    struct linger now = {.l_onoff = 1};

    assert_int_equal(setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    peer_close(p);
}

/* --- both --- */

static inline void bed_open(struct bed *b, struct peer *p)
{
    bed_start(b, bed_url(b, "http"), DIAL_ANYWHERE);
    *p = bed_accept(b);
    AWAIT(b, b->answers > 0);
    assert_true(b->is_open);
}

static inline void bed_open_tls(struct bed *b, struct peer *p, SSL_CTX *server)
{
    bed_start(b, bed_url(b, "https"), DIAL_ANYWHERE);
    *p = bed_accept_tls(b, server);
    AWAIT(b, b->answers > 0);
    if (!b->is_open)
        fail_msg("%s", b->failure.why);
}

static inline void bed_open_either(struct bed *b, struct peer *p, bool tls)
{
    if (tls)
        bed_open_tls(b, p, b->server);
    else
        bed_open(b, p);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, bed_setup, bed_teardown)

#endif
