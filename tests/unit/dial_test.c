/* SPDX-License-Identifier: ISC */
/* Connections to upstreams for clients: what they come to, and how they end early. */
#include "tests/unit/dial_bed.h"

/* What it receives, in `buf`, up to the length or the end. */
static ssize_t receive(struct bed *b, char *buf, size_t len)
{
    ssize_t n = -1;

    AWAIT(b, (n = dial_recv(b->dial, buf, len)) >= 0 || errno != EAGAIN);
    return n;
}

static void expect_text(struct bed *b, const char *text)
{
    char buf[64] = "";

    assert_int_equal(receive(b, buf, sizeof buf - 1), strlen(text));
    assert_string_equal(buf, text);
}

static void exchange(struct bed *b, struct peer *p)
{
    char buf[16] = "";

    assert_int_equal(dial_send(b->dial, "ask", 3), 3);
    AWAIT(b, peer_recv(p, buf, sizeof buf) == 3);
    assert_string_equal(buf, "ask");
    assert_int_equal(peer_send(p, "answer", 6), 6);
    expect_text(b, "answer");
}

static void test_plain(void **state)
{
    struct bed *b = *state;
    struct peer p;
    char byte;

    bed_open(b, &p);
    assert_true(fcntl(dial_fd(b->dial), F_GETFL) & O_NONBLOCK);
    assert_int_equal(dial_recv(b->dial, &byte, 1), -1);
    assert_int_equal(errno, EAGAIN);
    exchange(b, &p);
    dial_shutdown(b->dial);
    AWAIT(b, peer_recv(&p, &byte, 1) == 0);
    assert_int_equal(peer_send(&p, "late", 4), 4);
    expect_text(b, "late");
    peer_shutdown(&p);
    assert_int_equal(receive(b, &byte, 1), 0);
    peer_close(&p);
    assert_int_equal(b->answers, 1);
}

static void test_tls(void **state)
{
    struct bed *b = *state;
    struct peer p;
    char byte;

    bed_open_tls(b, &p, b->server);
    exchange(b, &p);
    peer_shutdown(&p);
    assert_int_equal(receive(b, &byte, 1), 0);
    peer_close(&p);
}

/* HTTP says what is whole: many servers do without a close_notify. */
static void test_end_without_close_notify(void **state)
{
    struct bed *b = *state;
    struct peer p;
    char byte;

    bed_open_tls(b, &p, b->server);
    exchange(b, &p);
    assert_int_equal(peer_send(&p, "last", 4), 4);
    shutdown(p.fd, SHUT_WR);
    expect_text(b, "last");
    assert_int_equal(receive(b, &byte, 1), 0);
    peer_close(&p);
}

static void test_reset(void **state)
{
    struct bed *b = *state;
    struct peer p;
    char byte;

    for (int tls = 0; tls < 2; tls++) {
        bed_open_either(b, &p, tls);
        exchange(b, &p);
        peer_reset(&p);
        assert_int_equal(receive(b, &byte, 1), -1);
        assert_int_equal(errno, ECONNRESET);
        assert_int_equal(dial_send(b->dial, "x", 1), -1);
        assert_int_equal(errno, EPIPE);
    }
}

/* What does not fit into the socket is taken later, the same bytes again. */
static void test_full(void **state)
{
    static char out[1 << 20], in[1 << 16];
    struct bed *b = *state;
    struct peer p;
    ssize_t n;

    for (int tls = 0; tls < 2; tls++) {
        size_t sent = 0, received = 0;

        bed_open_either(b, &p, tls);
        while ((n = dial_send(b->dial, out, sizeof out)) > 0)
            sent += (size_t)n;
        assert_int_equal(errno, EAGAIN);
        bool is_taken = false;
        while (!is_taken || received < sent) {
            if (!is_taken && (n = dial_send(b->dial, out, sizeof out)) > 0) {
                is_taken = true;
                sent += (size_t)n;
            }
            AWAIT(b, (n = peer_recv(&p, in, sizeof in)) > 0 || errno != EAGAIN);
            assert_true(n > 0);
            received += (size_t)n;
        }
        assert_int_equal(received, sent);
        peer_close(&p);
    }
}

/* --- failures --- */

static void expect_untrusted(struct bed *b, SSL_CTX *server, const char *word)
{
    bed_start(b, bed_url(b, "https"), DIAL_ANYWHERE);
    struct peer p = bed_accept_tls(b, server);
    bed_expect(b, OUT_UPSTREAM_TLS, word);
    peer_close(&p);
}

static void test_certificate(void **state)
{
    struct bed *b = *state;
    struct ca_bed *elsewhere;
    void *other_bed;

    SSL_CTX *server = bed_server_of(b->ca, "other.test");
    expect_untrusted(b, server, "127.0.0.1: the certificate is not acceptable");
    SSL_CTX_free(server);

    ca_bed_setup(&other_bed);
    elsewhere = other_bed;
    struct ca *ca = MADE(elsewhere, HOST);
    server = bed_server_of(ca, HOST);
    expect_untrusted(b, server, "certificate");
    SSL_CTX_free(server);
    ca_free(&ca);
    ca_bed_teardown(&other_bed);

    b->to.ca_file = NULL; /* the system's */
    expect_untrusted(b, b->server, "certificate");
}

static void test_expired_certificate(void **state)
{
    struct bed *b = *state;
    static const struct ca_extension extensions[] = {{NID_subject_alt_name, "IP:127.0.0.1"},
                                                     {NID_undef, NULL}};
    X509 *root = ca_bed_certificate(b->ca_bed);
    EVP_PKEY *root_key = ca_bed_key(b->ca_bed), *key = ca_bed_new_key();
    X509 *leaf = ca_bed_forge(root, root_key, key, "late", extensions, time(NULL) - 2 * DAY_S,
                              time(NULL) - DAY_S);
    SSL_CTX *server = bed_server(leaf, key);

    expect_untrusted(b, server, "expired");
    SSL_CTX_free(server);
    X509_free(leaf);
    X509_free(root);
    EVP_PKEY_free(root_key);
    EVP_PKEY_free(key);
}

static void test_no_tls_there(void **state)
{
    struct bed *b = *state;

    bed_start(b, bed_url(b, "https"), DIAL_ANYWHERE);
    struct peer p = bed_accept(b);
    assert_int_equal(peer_send(&p, "HTTP/1.1 400 Bad Request\r\n\r\n", 28), 28);
    bed_expect(b, OUT_UPSTREAM_TLS, HOST);
    peer_close(&p);
}

static void test_refused(void **state)
{
    struct bed *b = *state;
    uint16_t port = b->port;
    int fd = bed_listen(&b->port);

    close(fd);
    bed_start(b, bed_url(b, "http"), DIAL_ANYWHERE);
    b->port = port;
    bed_expect(b, OUT_UPSTREAM_REFUSED, "cannot be reached");
}

static void test_unresolvable(void **state)
{
    struct bed *b = *state;

    /* A label may have 63 characters: no name server is asked. */
    bed_start(b, "https://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.test",
              DIAL_PUBLIC);
    bed_expect(b, OUT_UPSTREAM_UNRESOLVED, "does not resolve");
}

static void test_timeout(void **state)
{
    struct bed *b = *state;

    /* Nobody accepts, so that nobody answers the hello. */
    b->to.connect_timeout_ms = 100;
    bed_start(b, bed_url(b, "https"), DIAL_ANYWHERE);
    bed_expect(b, OUT_UPSTREAM_TIMEOUT, HOST);
}

/* --- a proxy --- */

static void await_head(struct bed *b, struct peer *p, char *head, size_t size)
{
    size_t len = 0;

    while (!strstr(head, "\r\n\r\n")) {
        ssize_t n = -1;
        AWAIT(b, (n = peer_recv(p, head + len, size - 1 - len)) > 0);
        len += (size_t)n;
        head[len] = '\0';
    }
}

static void test_proxy(void **state)
{
    static const char yes[] = "HTTP/1.1 200 OK\r\n\r\n", no[] = "HTTP/1.1 403 Forbidden\r\n\r\n";
    struct bed *b = *state;
    char proxy[64], head[1024] = "";

    snprintf(proxy, sizeof proxy, "http://" HOST ":%u", b->port);
    b->to.proxy = proxy;
    bed_start(b, "http://far.test:443", DIAL_PUBLIC);
    struct peer p = bed_accept(b);
    await_head(b, &p, head, sizeof head);
    assert_true(strncmp(head, "CONNECT far.test:443 HTTP/1.1\r\n", 31) == 0);
    assert_int_equal(peer_send(&p, yes, sizeof yes - 1), sizeof yes - 1);
    AWAIT(b, b->answers > 0);
    assert_true(b->is_open);
    exchange(b, &p);
    peer_close(&p);

    bed_start(b, "http://far.test:443", DIAL_PUBLIC);
    p = bed_accept(b);
    memset(head, 0, sizeof head);
    await_head(b, &p, head, sizeof head);
    assert_int_equal(peer_send(&p, no, sizeof no - 1), sizeof no - 1);
    bed_expect(b, OUT_UPSTREAM_REFUSED, "the proxy");
    peer_close(&p);
}

/* --- who we are --- */

static int any_certificate(int is_good, X509_STORE_CTX *ctx)
{
    (void)is_good, (void)ctx;
    return 1;
}

/* A PEM file of a certificate and its key, for clients. */
static void write_identity(const struct bed *b)
{
    const char *name = HOST;
    X509 *leaf;
    EVP_PKEY *key;

    assert_int_equal(ca_issue(b->ca, &name, 1, &leaf, &key), 0);
    FILE *f = fopen(scratch_path(b->ca_bed->dir, "client.pem"), "w");
    assert_non_null(f);
    assert_int_equal(PEM_write_X509(f, leaf), 1);
    assert_int_equal(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(f);
    X509_free(leaf);
    EVP_PKEY_free(key);
}

/* Whoever is dialled for a client does not see our certificate, the registry no more than others.
 */
static void test_client_certificate(void **state)
{
    struct bed *b = *state;
    struct peer p;
    char path[512];

    write_identity(b);
    snprintf(path, sizeof path, "%s", scratch_path(b->ca_bed->dir, "client.pem"));
    b->to.certificate = b->to.key = path;
    SSL_CTX_set_verify(b->server, SSL_VERIFY_PEER, any_certificate);
    bed_open_tls(b, &p, b->server);
    exchange(b, &p);
    assert_null(SSL_get0_peer_certificate(p.ssl));
    peer_close(&p);
}

/* --- early ends --- */

static void test_close_while_connecting(void **state)
{
    struct bed *b = *state;

    bed_start(b, bed_url(b, "https"), DIAL_ANYWHERE);
    struct peer p = bed_accept(b);
    dial_close(&b->dial);
    assert_null(b->dial);
    /* libcurl lets go of it long before the time to connect has passed. */
    int64_t start_ms = clock_now_ms();
    char buf[1024];
    AWAIT(b, peer_recv(&p, buf, sizeof buf) == 0);
    assert_true(clock_now_ms() - start_ms < 5000);
    peer_close(&p);
    assert_int_equal(b->answers, 0);
}

static struct dial *start_unheard(struct bed *b)
{
    bed_start(b, bed_url(b, "https"), DIAL_ANYWHERE);
    struct dial *d = b->dial;
    b->dial = NULL;
    return d;
}

/* Of the two threads one host keeps no more than one busy; what comes then waits, up to a
 * limit. */
static void test_too_many(void **state)
{
    struct bed *b = *state;
    struct dial *dials[DIALS_WAITING_MAX + 1];

    dials[0] = start_unheard(b);
    struct peer peer = bed_accept(b);
    for (unsigned i = 1; i <= DIALS_WAITING_MAX; i++)
        dials[i] = start_unheard(b);
    bed_step(b);
    assert_int_equal(b->answers, 0);
    bed_start(b, bed_url(b, "https"), DIAL_ANYWHERE);
    assert_int_equal(b->answers, 0);
    bed_expect(b, OUT_OVERLOADED, "too many");
    for (unsigned i = 1; i < DIALS_WAITING_MAX; i++)
        dial_close(&dials[i]);
    b->answers = 0;
    /* The first is connecting, the last is waiting: told when it stops. */
    dialer_stop(&b->dialer);
    AWAIT(b, b->answers == 2);
    assert_int_equal(b->failure.outcome, OUT_DRAINING);
    dial_close(&dials[0]);
    dial_close(&dials[DIALS_WAITING_MAX]);
    peer_close(&peer);
}

/* Whoever waits for a thread waits no longer than a connection may take. */
static void test_waits_too_long(void **state)
{
    struct bed *b = *state;
    struct dial *hanging = start_unheard(b);
    struct peer silent = bed_accept(b);

    b->to.connect_timeout_ms = 10;
    bed_start(b, bed_url(b, "https"), DIAL_ANYWHERE);
    bed_expect(b, OUT_UPSTREAM_TIMEOUT, "nobody answers");
    dial_close(&hanging);
    peer_close(&silent);
}

/* While one host keeps a thread waiting, another is connected to. */
static void test_another_host(void **state)
{
    struct bed *b = *state;
    struct dial *hanging = start_unheard(b), *behind = start_unheard(b);
    struct peer silent = bed_accept(b), peer;
    char url[64];

    snprintf(url, sizeof url, "http://localhost%s", strrchr(bed_url(b, "http"), ':'));
    bed_start(b, url, DIAL_ANYWHERE);
    peer = bed_accept(b);
    AWAIT(b, b->answers == 1);
    dial_close(&behind);
    dial_close(&hanging);
    peer_close(&silent);
    peer_close(&peer);
}

static void test_stop_while_connecting(void **state)
{
    struct bed *b = *state;

    bed_start(b, bed_url(b, "https"), DIAL_ANYWHERE);
    struct peer p = bed_accept(b);
    int64_t start_ms = clock_now_ms();
    dialer_stop(&b->dialer);
    assert_true(clock_now_ms() - start_ms < 5000);
    bed_expect(b, OUT_DRAINING, HOST);
    peer_close(&p);
}

static void test_close_answered(void **state)
{
    struct bed *b = *state;
    struct pollfd p = {.fd = queue_fd(b->queue), .events = POLLIN};

    bed_start(b, bed_url(b, "http"), DIAL_ANYWHERE);
    assert_int_equal(poll(&p, 1, DEADLINE_MS), 1);
    dial_close(&b->dial);
    bed_step(b);
    assert_int_equal(b->answers, 0);
}

/* In every order of the two threads. */
static void test_close_any_time(void **state)
{
    struct bed *b = *state;

    for (int i = 0; i < 300; i++) {
        bed_start(b, bed_url(b, i % 2 ? "http" : "https"), DIAL_ANYWHERE);
        struct peer p = {.fd = -1};
        if (i % 3 == 0)
            p = bed_accept(b);
        if (i % 5 == 0)
            bed_step(b);
        dial_close(&b->dial);
        if (p.fd >= 0)
            peer_close(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_plain),
        TEST(test_tls),
        TEST(test_end_without_close_notify),
        TEST(test_reset),
        TEST(test_full),
        TEST(test_certificate),
        TEST(test_expired_certificate),
        TEST(test_no_tls_there),
        TEST(test_refused),
        TEST(test_unresolvable),
        TEST(test_timeout),
        TEST(test_proxy),
        TEST(test_client_certificate),
        TEST(test_close_while_connecting),
        TEST(test_too_many),
        TEST(test_waits_too_long),
        TEST(test_another_host),
        TEST(test_stop_while_connecting),
        TEST(test_close_answered),
        TEST(test_close_any_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
