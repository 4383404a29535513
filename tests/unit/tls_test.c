/* SPDX-License-Identifier: ISC */
/* Our side of TLS against OpenSSL's client, over a pair of sockets that hold little. */
#include "proxy/tls.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include "cache/ca.h"
#include "cache/err.h"
#include "tests/unit/scratch.h"

#define BIG_BYTES (3u * 1024 * 1024 + 17)

struct bed {
    char dir[64], ca_dir[96], why[512];
    struct tls_server *server;
    struct tls_scratch *scratch;
    struct tls *tls;
    SSL_CTX *context;
    SSL *client;
    int fds[2]; /* ours, the client's */
    uint8_t *big;
    int big_fd;
};

static bool allow_test_hosts(const void *arg, const char *host)
{
    size_t len = strlen(host);

    assert_string_equal(arg, "policy");
    return len > 5 && strcmp(host + len - 5, ".test") == 0;
}

static void make_ca(struct bed *b)
{
    static const char *const names[] = {"cachalot.lan", "10.0.0.1", "*.test"};

    snprintf(b->ca_dir, sizeof b->ca_dir, "%s/ca", b->dir);
    if (ca_create(b->ca_dir, names, 3, CA_FIRST, b->why, sizeof b->why) != 0) {
        fail_msg("%s", b->why);
    }
}

static void make_big(struct bed *b)
{
    b->big = malloc(BIG_BYTES);
    assert_non_null(b->big);
    for (uint32_t i = 0, x = 1; i < BIG_BYTES; i++, x = x * 1664525 + 1013904223)
        b->big[i] = (uint8_t)(x >> 24);
    scratch_file(b->dir, "big", b->big, BIG_BYTES);
    b->big_fd = open(scratch_path(b->dir, "big"), O_RDONLY | O_CLOEXEC);
    assert_true(b->big_fd >= 0);
}

static int setup(void **state)
{
    struct bed *b = calloc(1, sizeof *b);

    assert_non_null(b);
    scratch_dir(b->dir);
    make_ca(b);
    make_big(b);
    b->scratch = tls_scratch_new();
    b->context = SSL_CTX_new(TLS_client_method());
    assert_non_null(b->context);
    snprintf(b->why, sizeof b->why, "%s/ca.crt", b->ca_dir);
    assert_int_equal(SSL_CTX_load_verify_locations(b->context, b->why, NULL), 1);
    SSL_CTX_set_verify(b->context, SSL_VERIFY_PEER, NULL);
    b->fds[0] = b->fds[1] = -1;
    *state = b;
    return 0;
}

static void hang_up(struct bed *b)
{
    tls_free(&b->tls);
    SSL_free(b->client);
    b->client = NULL;
    for (int i = 0; i < 2; i++) {
        if (b->fds[i] >= 0)
            close(b->fds[i]);
        b->fds[i] = -1;
    }
}

static int teardown(void **state)
{
    struct bed *b = *state;

    hang_up(b);
    tls_server_unref(&b->server);
    tls_scratch_free(&b->scratch);
    SSL_CTX_free(b->context);
    close(b->big_fd);
    free(b->big);
    scratch_remove(b->dir);
    free(b);
    return 0;
}

static void use_names(struct bed *b)
{
    char *names[] = {"cachalot.lan", "10.0.0.1"};

    assert_int_equal(tls_server_from_ca(&b->server, b->ca_dir, names, 2, b->why, sizeof b->why), 0);
}

static void use_hosts(struct bed *b)
{
    assert_int_equal(tls_server_from_ca_by_host(&b->server, b->ca_dir, allow_test_hosts, "policy",
                                                b->why, sizeof b->why),
                     0);
}

/* A client that asks for `sni` (NULL: for none) and verifies it, at a door that expects `host`
 * (NULL: any). */
static void dial(struct bed *b, const char *sni, const char *host)
{
    int room = 4096;

    hang_up(b);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, b->fds), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(setsockopt(b->fds[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof room), 0);
    b->tls = tls_new(b->server, b->scratch, b->fds[0], host);
    b->client = SSL_new(b->context);
    assert_non_null(b->client);
    assert_int_equal(SSL_set_fd(b->client, b->fds[1]), 1);
    if (sni) {
        assert_int_equal(SSL_set_tlsext_host_name(b->client, sni), 1);
        assert_int_equal(SSL_set1_host(b->client, sni), 1);
    }
    SSL_set_connect_state(b->client);
}

/* Both sides in turn until ours is done or has failed. */
static enum tls_progress shake(struct bed *b)
{
    enum tls_progress p = TLS_WANTS_READ;

    b->why[0] = '\0';
    for (int i = 0; i < 1000 && p != TLS_DONE && p != TLS_FAILED; i++) {
        (void)SSL_do_handshake(b->client);
        p = tls_handshake(b->tls, b->why, sizeof b->why);
    }
    (void)SSL_do_handshake(b->client);
    return p;
}

static void shake_well(struct bed *b)
{
    if (shake(b) != TLS_DONE) {
        fail_msg("%s", b->why);
    }
    assert_int_equal(SSL_get_verify_result(b->client), X509_V_OK);
}

/* What the client has received so far, after `*got` bytes that were right. */
static void receive(struct bed *b, uint8_t *in, size_t *got)
{
    size_t n;

    while (SSL_read_ex(b->client, in + *got, BIG_BYTES + 1 - *got, &n) == 1)
        *got += n;
}

/* --- who we are --- */

static void test_names(void **state)
{
    struct bed *b = *state;

    use_names(b);
    dial(b, "cachalot.lan", NULL);
    shake_well(b);
    dial(b, "other.lan", NULL);
    (void)shake(b);
    assert_int_equal(SSL_get_verify_result(b->client), X509_V_ERR_HOSTNAME_MISMATCH);
}

/* A server outlives its last reference for as long as it has connections. */
static void test_references(void **state)
{
    struct bed *b = *state;

    use_names(b);
    dial(b, "cachalot.lan", NULL);
    tls_server_unref(&b->server);
    assert_null(b->server);
    shake_well(b);
}

static void test_hosts(void **state)
{
    struct bed *b = *state;

    use_hosts(b);
    dial(b, "a.test", NULL);
    shake_well(b);
    dial(b, "B.Test", "b.test");
    shake_well(b);
    assert_string_equal(tls_host(b->tls), "b.test");
    /* More than are kept. */
    for (int i = 0; i < 1100; i++) {
        char host[32];

        snprintf(host, sizeof host, "h%d.test", i);
        dial(b, host, NULL);
        shake_well(b);
    }
}

static void refused(struct bed *b, const char *sni, const char *host, const char *word)
{
    dial(b, sni, host);
    assert_int_equal(shake(b), TLS_FAILED);
    if (strstr(b->why, word) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", word, b->why);
    }
    assert_null(SSL_get0_peer_certificate(b->client));
    char byte;
    assert_int_equal(tls_recv(b->tls, &byte, 1), -1);
    assert_int_equal(errno, ECONNRESET);
}

/* No host that is not allowed, or not the one that the client was connected to, is ever shown
 * a certificate. */
static void test_refused(void **state)
{
    struct bed *b = *state;

    use_hosts(b);
    refused(b, "evil.example", NULL, "not intercepted");
    refused(b, "cachalot.lan", NULL, "not intercepted");
    refused(b, "a.test", "b.test", "b.test");
    refused(b, "evil.example", "b.test", "evil.example");
    refused(b, NULL, NULL, "named no host");
    /* Allowed, but not by the constraints of the authority. */
    refused(b, ".test.test", NULL, "");
}

/* Without a name in the hello the host of the door counts. */
static void test_no_name(void **state)
{
    struct bed *b = *state;

    use_hosts(b);
    dial(b, NULL, "a.test");
    assert_int_equal(SSL_set1_host(b->client, "a.test"), 1);
    shake_well(b);
}

/* --- bytes --- */

/* A file from any offset, in any steps, through sockets that are full all the time. */
static void test_sendfile(void **state)
{
    static const size_t starts[] = {0, 1, 16384, 65535, BIG_BYTES - 1};
    struct bed *b = *state;
    uint8_t *in = malloc(BIG_BYTES + 1);

    assert_non_null(in);
    use_names(b);
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        size_t at = starts[i], got = 0;

        dial(b, "cachalot.lan", NULL);
        shake_well(b);
        while (at < BIG_BYTES) {
            ssize_t n = tls_sendfile(b->tls, b->big_fd, at, BIG_BYTES - at);

            if (n < 0)
                assert_int_equal(errno, EAGAIN);
            else
                at += (size_t)n;
            receive(b, in, &got);
        }
        while (!tls_flush(b->tls)) {
            assert_int_equal(errno, EAGAIN);
            receive(b, in, &got);
        }
        receive(b, in, &got);
        assert_int_equal(got, BIG_BYTES - starts[i]);
        assert_memory_equal(in, b->big + starts[i], got);
        assert_int_equal(tls_sendfile(b->tls, b->big_fd, BIG_BYTES, 10), 0);
    }
    free(in);
}

/* A file that cannot be read is EIO, and not the end of the connection. */
static void test_sendfile_fails(void **state)
{
    struct bed *b = *state;
    uint8_t in[64];
    size_t n;

    use_names(b);
    dial(b, "cachalot.lan", NULL);
    shake_well(b);
    int directory = open(b->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(tls_sendfile(b->tls, directory, 0, 10), -1);
    assert_int_equal(errno, EIO);
    close(directory);
    struct iovec part = {"x", 1};
    assert_int_equal(tls_send(b->tls, &part, 1), 1);
    assert_int_equal(SSL_read_ex(b->client, in, sizeof in, &n), 1);
    assert_int_equal(n, 1);
}

/* Two parts, of which the second is longer than a batch. */
static void test_send(void **state)
{
    struct bed *b = *state;
    uint8_t *in = malloc(BIG_BYTES + 1);
    size_t got = 0, sent = 0;

    assert_non_null(in);
    use_names(b);
    dial(b, "cachalot.lan", NULL);
    shake_well(b);
    while (sent < BIG_BYTES) {
        size_t first = BIG_BYTES - sent < 100 ? BIG_BYTES - sent : 100;
        struct iovec parts[] = {{b->big + sent, first},
                                {b->big + sent + first, BIG_BYTES - sent - first}};
        ssize_t n = tls_send(b->tls, parts, 2);

        if (n < 0)
            assert_int_equal(errno, EAGAIN);
        else
            sent += (size_t)n;
        receive(b, in, &got);
    }
    while (!tls_flush(b->tls))
        receive(b, in, &got);
    receive(b, in, &got);
    assert_int_equal(got, BIG_BYTES);
    assert_memory_equal(in, b->big, BIG_BYTES);
    free(in);
}

/* What came with the rest of a record is told of, as the socket will not. */
static void test_input(void **state)
{
    struct bed *b = *state;
    char in[16];
    size_t n;

    use_names(b);
    dial(b, "cachalot.lan", NULL);
    shake_well(b);
    assert_int_equal(tls_recv(b->tls, in, sizeof in), -1);
    assert_int_equal(errno, EAGAIN);
    assert_false(tls_has_input(b->tls));
    for (int i = 0; i < 3; i++)
        assert_int_equal(SSL_write_ex(b->client, "0123456789", 10, &n), 1);
    assert_int_equal(tls_recv(b->tls, in, 4), 4);
    assert_memory_equal(in, "0123", 4);
    assert_true(tls_has_input(b->tls));
    assert_int_equal(tls_recv(b->tls, in, 16), 16);
    assert_memory_equal(in, "4567890123456789", 16);
    assert_int_equal(tls_recv(b->tls, in, 16), 10);
    assert_int_equal(tls_recv(b->tls, in, 16), -1);
    assert_int_equal(errno, EAGAIN);
}

/* Ends: ours is announced; the client's is an end with and without that; what is no TLS breaks
 * the connection. */
static void test_ends(void **state)
{
    struct bed *b = *state;
    char byte;
    size_t n;

    use_names(b);
    dial(b, "cachalot.lan", NULL);
    shake_well(b);
    tls_shutdown(b->tls);
    assert_int_equal(SSL_read_ex(b->client, &byte, 1, &n), 0);
    assert_int_equal(SSL_get_error(b->client, 0), SSL_ERROR_ZERO_RETURN);
    (void)SSL_shutdown(b->client);
    assert_int_equal(tls_recv(b->tls, &byte, 1), 0);

    dial(b, "cachalot.lan", NULL);
    shake_well(b);
    assert_int_equal(shutdown(b->fds[1], SHUT_WR), 0);
    assert_int_equal(tls_recv(b->tls, &byte, 1), 0);

    dial(b, "cachalot.lan", NULL);
    shake_well(b);
    assert_int_equal(send(b->fds[1], "GET / HTTP/1.1\r\n", 16, MSG_NOSIGNAL), 16);
    assert_int_equal(tls_recv(b->tls, &byte, 1), -1);
    assert_int_equal(errno, ECONNRESET);
    struct iovec part = {"x", 1};
    assert_int_equal(tls_send(b->tls, &part, 1), -1);
    assert_int_equal(errno, ECONNRESET);
    tls_shutdown(b->tls);
}

/* The client goes in the middle of a handshake. */
static void test_client_leaves(void **state)
{
    struct bed *b = *state;

    use_names(b);
    dial(b, "cachalot.lan", NULL);
    (void)SSL_do_handshake(b->client);
    assert_int_equal(tls_handshake(b->tls, b->why, sizeof b->why), TLS_WANTS_READ);
    close(b->fds[1]);
    b->fds[1] = -1;
    assert_int_equal(tls_handshake(b->tls, b->why, sizeof b->why), TLS_FAILED);
    assert_true(b->why[0] != '\0');
}

/* --- identities that cannot be --- */

static void test_bad_authority(void **state)
{
    struct bed *b = *state;
    char *names[] = {"cachalot.lan", "evil.example"};

    assert_int_equal(tls_server_from_ca(&b->server, b->ca_dir, names, 2, b->why, sizeof b->why),
                     ERR_INVALID);
    assert_non_null(strstr(b->why, "cachalot ca rotate"));
    assert_null(b->server);
    assert_int_equal(
        tls_server_from_ca(&b->server, "/nowhere/at/all", names, 1, b->why, sizeof b->why),
        ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_names, setup, teardown),
        cmocka_unit_test_setup_teardown(test_references, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hosts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_name, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sendfile, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sendfile_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(test_send, setup, teardown),
        cmocka_unit_test_setup_teardown(test_input, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(test_client_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_authority, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
