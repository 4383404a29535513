/* SPDX-License-Identifier: ISC */
/* Bytes between a client and a dialled connection: all of them, in order, both ways, however
 * the two ends read, end or break. */
#include "proxy/relay.h"

#include "tests/unit/dial_bed.h"

#define MANY (24u * 1024 * 1024)
#define IDLE_MS 60000

/* How the two ends are spoken to. */
enum kind { PLAIN, TLS_UPSTREAM, TLS_CLIENT, TLS_BOTH };
#define KINDS 4

struct fixture {
    struct bed *b;
    struct peer client; /* the far ends */
    struct peer other;
    struct stream stream;
    struct tls_server *identity;
    struct tls_scratch *scratch;
    SSL_CTX *trust;
    struct relay *relay;
    unsigned ends;
    enum outcome why;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    char *name = (char *)HOST;
    char why[256];
    void *bed;

    assert_non_null(f);
    bed_setup(&bed);
    f->b = bed;
    f->client.fd = f->other.fd = f->stream.fd = -1;
    assert_int_equal(tls_server_from_ca(&f->identity, f->b->ca_bed->ca_dir, &name, 1, why, 256), 0);
    f->scratch = tls_scratch_new();
    f->trust = SSL_CTX_new(TLS_client_method());
    assert_non_null(f->trust);
    SSL_CTX_set_mode(f->trust, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    *state = f;
    return 0;
}

static void disconnect(struct fixture *f)
{
    relay_free(&f->relay);
    tls_free(&f->stream.tls);
    close(f->stream.fd);
    peer_close(&f->client);
    peer_close(&f->other);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    void *bed = f->b;

    disconnect(f);
    tls_scratch_free(&f->scratch);
    tls_server_unref(&f->identity);
    SSL_CTX_free(f->trust);
    bed_teardown(&bed);
    free(f);
    return 0;
}

/* --- connecting --- */

static void ended(void *arg, enum outcome why)
{
    struct fixture *f = arg;

    f->ends++;
    f->why = why;
}

static bool client_is_open(struct fixture *f)
{
    char why[256];

    (void)peer_handshakes(&f->client);
    enum tls_progress t = tls_handshake(f->stream.tls, why, sizeof why);
    if (t == TLS_FAILED)
        fail_msg("%s", why);
    return t == TLS_DONE && SSL_is_init_finished(f->client.ssl);
}

/* The client's connection: a pair of TCP sockets, of which the far end may be reset. */
static void connect_client(struct fixture *f, bool tls)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    uint16_t port;
    int listener = bed_listen(&port);

    a.sin_port = htons(port);
    f->client.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(f->client.fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(fcntl(f->client.fd, F_SETFL, O_NONBLOCK), 0);
    f->stream.fd = bed_accept_from(listener);
    close(listener);
    if (!tls)
        return;
    f->client.ssl = SSL_new(f->trust);
    assert_int_equal(SSL_set_fd(f->client.ssl, f->client.fd), 1);
    SSL_set_connect_state(f->client.ssl);
    f->stream.tls = tls_new(f->identity, f->scratch, f->stream.fd, NULL);
    AWAIT(f->b, client_is_open(f));
}

static void start_with(struct fixture *f, enum kind kind, const char *up, const char *down)
{
    bed_open_either(f->b, &f->other, kind == TLS_UPSTREAM || kind == TLS_BOTH);
    connect_client(f, kind == TLS_CLIENT || kind == TLS_BOTH);
    f->ends = 0;
    f->relay = relay_new(&(struct relay_order){.base = f->b->base,
                                               .client = &f->stream,
                                               .dial = f->b->dial,
                                               .up = {up, strlen(up)},
                                               .down = {down, strlen(down)},
                                               .idle_ms = IDLE_MS,
                                               .ended = ended,
                                               .arg = f});
    f->b->dial = NULL;
}

static void start(struct fixture *f, enum kind kind)
{
    start_with(f, kind, "", "");
}

/* --- talking --- */

static void say(struct peer *p, const char *text)
{
    assert_int_equal(peer_send(p, text, strlen(text)), strlen(text));
}

static void hear(struct fixture *f, struct peer *p, const char *text)
{
    char buf[256] = "";
    size_t len = 0;

    while (len < strlen(text)) {
        ssize_t n = -1;
        AWAIT(f->b, (n = peer_recv(p, buf + len, strlen(text) - len)) >= 0 || errno != EAGAIN);
        if (n <= 0)
            fail_msg("not \"%s\", but \"%s\" and the end", text, buf);
        len += (size_t)n;
    }
    assert_string_equal(buf, text);
}

static void hear_end(struct fixture *f, struct peer *p)
{
    ssize_t n = -1;
    char byte;

    AWAIT(f->b, (n = peer_recv(p, &byte, 1)) >= 0 || errno != EAGAIN);
    assert_int_equal(n, 0);
}

static void expect_end(struct fixture *f, enum outcome why)
{
    AWAIT(f->b, f->ends > 0);
    if (f->why != why)
        fail_msg("%s", outcome_row(f->why)->word);
    bed_step(f->b);
    assert_int_equal(f->ends, 1);
}

/* A long run of bytes, each known by where it is. */
struct run {
    uint64_t sent, received;
    bool has_ended;
};

static uint8_t byte_at(uint64_t i, uint8_t salt)
{
    return (uint8_t)((i * 0x9e3779b97f4a7c15u) >> 56) ^ (uint8_t)(i >> 16) ^ salt;
}

/* Send until there is no more, or no room; the salt tells the two ways apart. */
static void push(struct peer *p, struct run *r, uint64_t total, uint8_t salt)
{
    uint8_t buf[32 * 1024];
    ssize_t n = 1;

    while (n > 0 && r->sent < total) {
        size_t len = total - r->sent < sizeof buf ? (size_t)(total - r->sent) : sizeof buf;

        for (size_t i = 0; i < len; i++)
            buf[i] = byte_at(r->sent + i, salt);
        n = peer_send(p, buf, len);
        if (n > 0)
            r->sent += (uint64_t)n;
        else
            assert_int_equal(errno, EAGAIN);
    }
}

static void pull(struct peer *p, struct run *r, uint8_t salt)
{
    uint8_t buf[32 * 1024];
    ssize_t n;

    while ((n = peer_recv(p, buf, sizeof buf)) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            if (buf[i] != byte_at(r->received + (uint64_t)i, salt))
                fail_msg("byte %llu is wrong", (unsigned long long)r->received + i);
        }
        r->received += (uint64_t)n;
    }
    if (n == 0)
        r->has_ended = true;
    else
        assert_int_equal(errno, EAGAIN);
}

/* --- tests --- */

static void test_first_bytes(void **state)
{
    struct fixture *f = *state;

    for (enum kind k = 0; k < KINDS; k++) {
        start_with(f, k, "PUT / HTTP/1.1\r\n\r\nbody", "HTTP/1.1 200 Connected\r\n\r\n");
        hear(f, &f->other, "PUT / HTTP/1.1\r\n\r\nbody");
        hear(f, &f->client, "HTTP/1.1 200 Connected\r\n\r\n");
        say(&f->client, " goes on");
        hear(f, &f->other, " goes on");
        say(&f->other, "HTTP/1.1 201 Created\r\n\r\n");
        hear(f, &f->client, "HTTP/1.1 201 Created\r\n\r\n");
        assert_int_equal(relay_bytes_up(f->relay), 30);
        assert_int_equal(relay_bytes_down(f->relay), 24);
        assert_int_equal(relay_status(f->relay), 201);
        assert_int_equal(f->ends, 0);
        disconnect(f);
    }
}

/* More than a flow may hold, as what was read behind a head. */
static void test_long_first_bytes(void **state)
{
    struct fixture *f = *state;
    size_t len = 3 * RELAY_BUFFER_BYTES;
    struct run up = {.sent = len};
    char *text = malloc(len + 1);

    assert_non_null(text);
    for (size_t i = 0; i < len; i++)
        text[i] = (char)(byte_at(i, 0) ? byte_at(i, 0) : 1);
    text[len] = '\0';
    start_with(f, PLAIN, text, "");
    memset(text, 0, len);
    free(text);
    uint8_t buf[4096];
    while (up.received < len) {
        ssize_t n = -1;
        AWAIT(f->b, (n = peer_recv(&f->other, buf, sizeof buf)) > 0);
        for (ssize_t i = 0; i < n; i++, up.received++)
            assert_int_equal(buf[i], byte_at(up.received, 0) ? byte_at(up.received, 0) : 1);
    }
}

static void test_many_both_ways(void **state)
{
    struct fixture *f = *state;

    for (enum kind k = 0; k < KINDS; k++) {
        struct run up = {0}, down = {0};

        start(f, k);
        AWAIT(f->b, (push(&f->client, &up, MANY, 1), push(&f->other, &down, MANY, 2),
                     pull(&f->client, &down, 2), pull(&f->other, &up, 1),
                     up.received == MANY && down.received == MANY));
        peer_shutdown(&f->client);
        peer_shutdown(&f->other);
        hear_end(f, &f->client);
        expect_end(f, OUT_RELAYED);
        assert_int_equal(relay_bytes_up(f->relay), MANY);
        assert_int_equal(relay_bytes_down(f->relay), MANY);
        disconnect(f);
    }
}

/* Nobody reads at one end: the other one is stopped, and nothing grows. What the kernel
 * holds for the two connections is what it is. */
static void test_slow_reader(void **state)
{
    struct fixture *f = *state;

    for (enum kind k = 0; k < KINDS; k++) {
        for (int is_up = 0; is_up < 2; is_up++) {
            struct peer *from, *to;
            struct run run = {0}, back = {0};
            unsigned quiet = 0;

            start(f, k);
            from = is_up ? &f->client : &f->other;
            to = is_up ? &f->other : &f->client;
            while (quiet < 50) {
                uint64_t before = run.sent;
                push(from, &run, 4 * MANY, 3);
                bed_step(f->b);
                quiet = run.sent == before ? quiet + 1 : 0;
                poll(NULL, 0, quiet > 0 ? 1 : 0);
            }
            assert_true(run.sent > RELAY_BUFFER_BYTES && run.sent < MANY);
            /* The other way goes on meanwhile. */
            AWAIT(f->b,
                  (push(to, &back, 300000, 4), pull(from, &back, 4), back.received == 300000));
            uint64_t total = run.sent;
            AWAIT(f->b, (pull(to, &run, 3), run.received == total));
            assert_int_equal(f->ends, 0);
            disconnect(f);
        }
    }
}

static void test_client_ends_first(void **state)
{
    struct fixture *f = *state;

    for (enum kind k = 0; k < KINDS; k++) {
        start(f, k);
        say(&f->client, "question");
        peer_shutdown(&f->client);
        hear(f, &f->other, "question");
        if (k == PLAIN || k == TLS_CLIENT)
            hear_end(f, &f->other);
        say(&f->other, "answer");
        hear(f, &f->client, "answer");
        assert_int_equal(f->ends, 0);
        peer_shutdown(&f->other);
        hear_end(f, &f->client);
        expect_end(f, OUT_RELAYED);
        disconnect(f);
    }
}

static void test_upstream_ends_first(void **state)
{
    struct fixture *f = *state;

    for (enum kind k = 0; k < KINDS; k++) {
        start(f, k);
        say(&f->other, "greeting");
        peer_shutdown(&f->other);
        hear(f, &f->client, "greeting");
        hear_end(f, &f->client);
        assert_int_equal(f->ends, 0);
        say(&f->client, "still here");
        hear(f, &f->other, "still here");
        peer_shutdown(&f->client);
        expect_end(f, OUT_RELAYED);
        disconnect(f);
    }
}

static void test_both_end_with_bytes_held(void **state)
{
    struct fixture *f = *state;
    struct run up = {0}, down = {0};

    start(f, PLAIN);
    push(&f->client, &up, MANY, 1);
    push(&f->other, &down, MANY, 2);
    peer_shutdown(&f->client);
    peer_shutdown(&f->other);
    uint64_t up_total = up.sent, down_total = down.sent;
    AWAIT(f->b,
          (pull(&f->client, &down, 2), pull(&f->other, &up, 1), down.has_ended && up.has_ended));
    assert_int_equal(up.received, up_total);
    assert_int_equal(down.received, down_total);
    expect_end(f, OUT_RELAYED);
}

static void test_client_breaks(void **state)
{
    struct fixture *f = *state;

    for (enum kind k = 0; k < KINDS; k++) {
        struct run down = {0};

        start(f, k);
        say(&f->client, "question");
        hear(f, &f->other, "question");
        peer_reset(&f->client);
        expect_end(f, OUT_CLIENT_LEFT);
        disconnect(f);

        /* While it is to be sent something. */
        start(f, k);
        AWAIT(f->b, (push(&f->other, &down, MANY, 2), down.sent > 4 * RELAY_BUFFER_BYTES));
        peer_reset(&f->client);
        expect_end(f, OUT_CLIENT_LEFT);
        disconnect(f);
    }
}

/* The client is told by the end of TCP alone: within TLS it is no proper one. */
static void test_upstream_breaks(void **state)
{
    struct fixture *f = *state;

    for (enum kind k = 0; k < KINDS; k++) {
        ssize_t n = 1;
        char byte;

        start(f, k);
        say(&f->other, "some of it");
        hear(f, &f->client, "some of it");
        peer_reset(&f->other);
        AWAIT(f->b, (n = peer_recv(&f->client, &byte, 1)) >= 0 || errno != EAGAIN);
        assert_int_equal(n, f->client.ssl ? -1 : 0);
        assert_int_equal(f->ends, 0);
        shutdown(f->client.fd, SHUT_WR);
        expect_end(f, OUT_UPSTREAM_BROKEN);
        disconnect(f);
    }
}

/* It answers in the middle of an upload, and closes: the client reads why, whatever it still
 * sends. */
static void test_early_answer(void **state)
{
    static const char answer[] = "HTTP/1.1 413 Too Large\r\nConnection: close\r\n\r\n";
    struct fixture *f = *state;

    for (int is_patient = 0; is_patient < 2; is_patient++) {
        struct run up = {0};
        char byte;

        start(f, PLAIN);
        AWAIT(f->b, (push(&f->client, &up, MANY, 1), up.sent > 1000000));
        say(&f->other, answer);
        AWAIT(f->b, relay_status(f->relay) == 413);
        /* What is not read makes its end a reset. */
        AWAIT(f->b, recv(f->other.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1);
        peer_close(&f->other);
        AWAIT(f->b, (push(&f->client, &up, 4 * MANY, 1), up.sent > MANY));
        assert_int_equal(f->ends, 0);
        hear(f, &f->client, answer);
        hear_end(f, &f->client);
        if (is_patient)
            peer_close(&f->client);
        relay_check_time(f->relay, 1000);
        relay_check_time(f->relay, 3000);
        expect_end(f, OUT_UPSTREAM_BROKEN);
        disconnect(f);
    }
}

static void test_idle(void **state)
{
    struct fixture *f = *state;
    struct run run = {0};

    /* Nothing at all. */
    start(f, PLAIN);
    relay_check_time(f->relay, 1000);
    relay_check_time(f->relay, 1000 + IDLE_MS - 1);
    bed_step(f->b);
    assert_int_equal(f->ends, 0);
    relay_check_time(f->relay, 1000 + IDLE_MS);
    expect_end(f, OUT_RELAYED);
    relay_check_time(f->relay, 1000 + 3 * IDLE_MS);
    assert_int_equal(f->ends, 1);
    disconnect(f);

    /* A question without an answer; bytes put it off. */
    start(f, PLAIN);
    relay_check_time(f->relay, 1000);
    say(&f->client, "question");
    hear(f, &f->other, "question");
    relay_check_time(f->relay, 1000 + IDLE_MS);
    assert_int_equal(f->ends, 0);
    relay_check_time(f->relay, 1000 + 2 * IDLE_MS);
    expect_end(f, OUT_UPSTREAM_TIMEOUT);
    disconnect(f);

    /* An answer, its end, and a client that does not end. */
    start(f, PLAIN);
    say(&f->other, "answer");
    peer_shutdown(&f->other);
    hear(f, &f->client, "answer");
    hear_end(f, &f->client);
    relay_check_time(f->relay, 1000);
    relay_check_time(f->relay, 1000 + IDLE_MS - 1);
    assert_int_equal(f->ends, 0);
    relay_check_time(f->relay, 1000 + IDLE_MS);
    expect_end(f, OUT_RELAYED);
    disconnect(f);

    for (int is_up = 0; is_up < 2; is_up++) {
        run = (struct run){0};
        start(f, PLAIN);
        for (unsigned i = 0; i < 100; i++) {
            push(is_up ? &f->client : &f->other, &run, 4 * MANY, 1);
            bed_step(f->b);
            poll(NULL, 0, 1);
        }
        relay_check_time(f->relay, 1000);
        relay_check_time(f->relay, 1000 + IDLE_MS);
        expect_end(f, is_up ? OUT_UPSTREAM_TIMEOUT : OUT_CLIENT_STALLED);
        disconnect(f);
    }
}

static void test_status(void **state)
{
    static const struct {
        const char *text;
        int status;
    } rows[] = {
        {"HTTP/1.1 200 OK\r\n", 200},
        {"HTTP/1.0 404\r\n", 404},
        {"HTTP/1.1 202\n", 202},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\n", 201},
        {"HTTP/1.1 100\n\nHTTP/1.1 103 Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 500 Oh\r\n", 500},
        {"HTTP/1.1 100 Continue\r\nHTTP/1.1 200 OK: no status line\r\n", 0},
        {"HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\n", 101},
        {"HTTP/1.1 401 Unauthorized\r\n\r\nHTTP/1.1 200 OK\r\n", 401},
        {"HTTP/1.1 20", 0},
        {"HTTP/1.1 2000 OK\r\n", 0},
        {"HTTP/1.1 2x0 OK\r\n", 0},
        {"HTTP/1.1 020 OK\r\n", 0},
        {"HTTP/2 200\r\n", 0},
        {"ICY 200 OK\r\n", 0},
        {"\x16\x03\x03\x01\x02", 0},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (int is_whole = 0; is_whole < 2; is_whole++) {
            size_t step = is_whole ? strlen(rows[i].text) : 1;
            start(f, PLAIN);
            for (const char *p = rows[i].text; *p; p += step) {
                assert_int_equal(peer_send(&f->other, p, step), step);
                hear(f, &f->client, (char[]){*p, 0});
                if (is_whole)
                    hear(f, &f->client, p + 1);
            }
            if (relay_status(f->relay) != rows[i].status)
                fail_msg("%s: %d", rows[i].text, relay_status(f->relay));
            disconnect(f);
        }
    }
}

static void test_freed_any_time(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 60; i++) {
        struct run up = {0}, down = {0};

        start(f, i % KINDS);
        for (int k = 0; k < i / KINDS; k++) {
            push(&f->client, &up, MANY, 1);
            push(&f->other, &down, MANY, 2);
            bed_step(f->b);
        }
        disconnect(f);
        bed_step(f->b);
        assert_int_equal(f->ends, 0);
    }
}

#undef TEST
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_first_bytes),
        TEST(test_long_first_bytes),
        TEST(test_many_both_ways),
        TEST(test_slow_reader),
        TEST(test_client_ends_first),
        TEST(test_upstream_ends_first),
        TEST(test_both_end_with_bytes_held),
        TEST(test_client_breaks),
        TEST(test_upstream_breaks),
        TEST(test_early_answer),
        TEST(test_idle),
        TEST(test_status),
        TEST(test_freed_any_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
