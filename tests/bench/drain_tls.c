/* SPDX-License-Identifier: ISC */
/*
 * drain_tls: the TLS client of the benches. A thread a client, with blocking sockets: what
 * it costs itself is on a processor of its own.
 *
 *   drain_tls get CLIENTS REPEATS address:port path     downloads; each client one connection
 *   drain_tls open CLIENTS SECONDS address:port path    a new connection for each request
 *   drain_tls hold CLIENTS - address:port -             opens them, says so, and holds them
 *                                                       until its input ends
 *
 * TLS 1.3 with AES-128-GCM, no session is resumed, certificates are not looked at. Prints
 * one JSON object; exits 1 when anything went wrong.
 */
#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_BYTES (256u * 1024)
#define READ_AHEAD_BYTES (256 * 1024)
#define REQUEST_MAX 1024

struct job {
    SSL_CTX *context;
    struct sockaddr_in address;
    const char *host;
    const char *path;
    unsigned repeats;
    int64_t until_ns;
};

struct client {
    pthread_t thread;
    const struct job *job;
    uint64_t bytes;
    uint64_t connections;
};

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static SSL *dial(const struct job *j)
{
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    SSL *ssl = SSL_new(j->context);

    if (fd < 0 || !ssl)
        err(1, "socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (const struct sockaddr *)&j->address, sizeof j->address) != 0)
        err(1, "connect");
    if (SSL_set_fd(ssl, fd) != 1 || SSL_connect(ssl) != 1)
        errx(1, "no TLS");
    return ssl;
}

static void hang_up(SSL *ssl)
{
    int fd = SSL_get_fd(ssl);

    SSL_shutdown(ssl);
    SSL_free(ssl);
    close(fd);
}

/* Take a head, and say how long its body is; `*extra` of it came along. */
static uint64_t take_head(SSL *ssl, char *buffer, uint64_t *extra)
{
    size_t len = 0, n;
    char *end = NULL;

    while (!end) {
        if (len == BUFFER_BYTES - 1 ||
            SSL_read_ex(ssl, buffer + len, BUFFER_BYTES - 1 - len, &n) != 1)
            errx(1, "no head");
        len += n;
        buffer[len] = '\0';
        end = strstr(buffer, "\r\n\r\n");
    }
    const char *field = strcasestr(buffer, "\r\nContent-Length:");
    if (strncmp(buffer, "HTTP/1.1 200", 12) != 0 || !field || field > end)
        errx(1, "answered %.60s", buffer);
    *extra = len - (size_t)(end + 4 - buffer);
    return strtoull(field + 17, NULL, 10);
}

static uint64_t get(const struct job *j, SSL *ssl, char *buffer)
{
    char request[REQUEST_MAX];
    size_t n;
    uint64_t got;
    int len = snprintf(request, sizeof request,
                       "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: */*\r\n\r\n", j->path, j->host);

    if (len < 0 || (size_t)len >= sizeof request)
        errx(1, "the path is too long");
    if (SSL_write_ex(ssl, request, (size_t)len, &n) != 1)
        errx(1, "the request could not be sent");
    uint64_t size = take_head(ssl, buffer, &got);
    while (got < size) {
        if (SSL_read_ex(ssl, buffer, BUFFER_BYTES, &n) != 1)
            errx(1, "closed before the end");
        got += n;
    }
    return size;
}

static void *run_get(void *arg)
{
    struct client *c = arg;
    char *buffer = malloc(BUFFER_BYTES);
    SSL *ssl = dial(c->job);

    if (!buffer)
        err(1, "malloc");
    for (unsigned i = 0; i < c->job->repeats; i++)
        c->bytes += get(c->job, ssl, buffer);
    c->connections = 1;
    hang_up(ssl);
    free(buffer);
    return NULL;
}

static void *run_open(void *arg)
{
    struct client *c = arg;
    char *buffer = malloc(BUFFER_BYTES);

    if (!buffer)
        err(1, "malloc");
    while (now_ns() < c->job->until_ns) {
        SSL *ssl = dial(c->job);

        c->bytes += get(c->job, ssl, buffer);
        c->connections++;
        hang_up(ssl);
    }
    free(buffer);
    return NULL;
}

static int hold(const struct job *j, unsigned count)
{
    char byte;

    for (unsigned i = 0; i < count; i++)
        (void)dial(j);
    printf("{\"connections\": %u}\n", count);
    fflush(stdout);
    return read(STDIN_FILENO, &byte, 1) == 0 ? 0 : 1;
}

static void parse_address(struct job *j, const char *text)
{
    char host[64];
    const char *colon = strchr(text, ':');

    if (!colon || (size_t)(colon - text) >= sizeof host)
        errx(2, "not an address and a port: %s", text);
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';
    j->address.sin_family = AF_INET;
    j->address.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    if (inet_pton(AF_INET, host, &j->address.sin_addr) != 1)
        errx(2, "not an IPv4 address: %s", host);
    j->host = text;
}

static void print_report(const struct client *clients, unsigned count, double seconds)
{
    struct rusage used;
    uint64_t bytes = 0, connections = 0;

    getrusage(RUSAGE_SELF, &used);
    for (unsigned i = 0; i < count; i++) {
        bytes += clients[i].bytes;
        connections += clients[i].connections;
    }
    printf("{\"bytes\": %llu, \"connections\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n",
           (unsigned long long)bytes, (unsigned long long)connections, seconds,
           (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
               (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
}

int main(int argc, char **argv)
{
    struct job job = {0};

    if (argc != 6)
        errx(2, "usage: drain_tls get|open|hold CLIENTS REPEATS|SECONDS|- address:port PATH|-");
    unsigned count = (unsigned)strtoul(argv[2], NULL, 10);
    bool is_get = strcmp(argv[1], "get") == 0;
    struct client *clients = calloc(count, sizeof *clients);
    job.context = SSL_CTX_new(TLS_client_method());
    if (!clients || !job.context ||
        SSL_CTX_set_min_proto_version(job.context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(job.context, "TLS_AES_128_GCM_SHA256") != 1)
        errx(1, "out of memory");
    SSL_CTX_set_mode(job.context, SSL_MODE_RELEASE_BUFFERS);
    /* Two system calls a record would make this client, not the server, the limit. */
    SSL_CTX_set_read_ahead(job.context, 1);
    SSL_CTX_set_default_read_buffer_len(job.context, READ_AHEAD_BYTES);
    parse_address(&job, argv[4]);
    job.path = argv[5];
    if (strcmp(argv[1], "hold") == 0)
        return hold(&job, count);
    int64_t begun = now_ns();
    job.repeats = (unsigned)strtoul(argv[3], NULL, 10);
    job.until_ns = begun + (int64_t)job.repeats * 1000000000;
    for (unsigned i = 0; i < count; i++) {
        clients[i].job = &job;
        if (pthread_create(&clients[i].thread, NULL, is_get ? run_get : run_open, &clients[i]))
            errx(1, "pthread_create");
    }
    for (unsigned i = 0; i < count; i++)
        pthread_join(clients[i].thread, NULL);
    print_report(clients, count, (double)(now_ns() - begun) / 1e9);
    return 0;
}
