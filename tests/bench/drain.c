/* SPDX-License-Identifier: ISC */
/*
 * drain: the client of the benches. One thread, one epoll, many connections.
 *
 *   drain [-c clients] [-s spread_ms] [-r repeats] [-b receive_bytes] [-t seconds]
 *         [-p asking -u url [-i interval_us] [-n requests]] address:port [path]
 *
 * Downloaders (-c) get `path` `repeats` times each over one connection and throw
 * the bytes away; their arrivals are spread evenly over `spread_ms`. Askers (-p)
 * get `url`, a small thing, over and over: one after the other, or, with -i, on a
 * fixed timetable, and then a latency counts from the planned moment, so that a
 * server that stalls cannot hide the requests that it held up. Askers end after -n
 * requests in all, after -t seconds, or when the last downloader has finished.
 *
 * Prints one JSON object. Exits 1 when anything went wrong: then "error" says what.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define HEAD_MAX 8192
#define EVENTS_MAX 64
#define REQUEST_MAX 1024

/* Planned -> connecting -> head -> body, and over again until done. */
enum state { STATE_PLANNED, STATE_CONNECTING, STATE_HEAD, STATE_BODY, STATE_DONE };

struct conn {
    int fd;
    enum state state;
    bool asks; /* else it downloads */
    unsigned left;
    int status;
    size_t head_len;
    uint64_t body_left;
    uint64_t body_bytes; /* of all answers */
    /* Nanoseconds of the monotonic clock. */
    int64_t due;
    int64_t arrived;
    int64_t first_byte;
    int64_t first_body;
    int64_t finished;
    char head[HEAD_MAX];
};

struct options {
    unsigned clients;
    unsigned askers;
    unsigned repeats;
    unsigned requests; /* 0: no limit */
    int64_t spread_ns;
    int64_t interval_ns; /* 0: one after the other */
    int64_t limit_ns;    /* 0: none */
    size_t receive_bytes;
    const char *host;
    const char *path;
    const char *url;
    struct sockaddr_in address;
};

struct drain {
    struct options o;
    struct conn *conns;
    unsigned conn_count;
    unsigned downloads_left;
    unsigned asked;    /* requests sent */
    unsigned answered; /* requests answered; its latencies are in `us` */
    uint32_t *us;
    unsigned us_room;
    int64_t ask_first;
    int64_t ask_last;
    int epoll;
    int timer;
    int64_t begun;
    bool over;
    char error[160];
    char *buffer;
};

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void fail(struct drain *d, const struct conn *c, const char *what)
{
    d->over = true;
    if (d->error[0])
        return;
    snprintf(d->error, sizeof d->error, "%s %u: %.120s", c->asks ? "asker" : "client",
             (unsigned)(c - d->conns), what);
    for (char *p = d->error; *p; p++) {
        if (*p < ' ' || *p == '"' || *p == '\\' || *p == 0x7f)
            *p = '?';
    }
}

/* --- the timetable --- */

/* Set the timer to the earliest thing that is planned. */
static void arm(struct drain *d)
{
    int64_t next = d->o.limit_ns ? d->begun + d->o.limit_ns : INT64_MAX;
    struct itimerspec at = {0};

    for (unsigned i = 0; i < d->conn_count; i++) {
        if (d->conns[i].state == STATE_PLANNED && d->conns[i].due < next)
            next = d->conns[i].due;
    }
    if (next != INT64_MAX) {
        at.it_value.tv_sec = next / 1000000000;
        at.it_value.tv_nsec = next % 1000000000;
    }
    if (timerfd_settime(d->timer, TFD_TIMER_ABSTIME, &at, NULL) < 0)
        err(1, "timerfd_settime");
}

static void watch(struct drain *d, struct conn *c, int op, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = c};

    if (epoll_ctl(d->epoll, op, c->fd, &e) < 0)
        err(1, "epoll_ctl");
}

static void send_request(struct drain *d, struct conn *c)
{
    char text[REQUEST_MAX];
    int len = snprintf(text, sizeof text,
                       "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: drain\r\n"
                       "Accept: application/vnd.oci.image.manifest.v1+json\r\nAccept: */*\r\n\r\n",
                       c->asks ? d->o.url : d->o.path, d->o.host);

    if (len < 0 || (size_t)len >= sizeof text)
        errx(1, "the path is too long");
    if (send(c->fd, text, (size_t)len, MSG_NOSIGNAL) != len) {
        fail(d, c, "the request could not be sent");
        return;
    }
    c->state = STATE_HEAD;
    c->head_len = 0;
    if (c->asks)
        d->asked++;
}

static void connect_now(struct drain *d, struct conn *c)
{
    int one = 1;

    c->arrived = now_ns();
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        err(1, "socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(c->fd, (struct sockaddr *)&d->o.address, sizeof d->o.address) < 0 &&
        errno != EINPROGRESS) {
        fail(d, c, strerror(errno));
        return;
    }
    c->state = STATE_CONNECTING;
    watch(d, c, EPOLL_CTL_ADD, EPOLLOUT);
}

static bool asking_is_over(const struct drain *d)
{
    return (d->o.requests && d->asked >= d->o.requests) || (d->o.clients && !d->downloads_left);
}

/* Begin what has fallen due. */
static void tick(struct drain *d)
{
    uint64_t expirations;
    int64_t now = now_ns();

    if (read(d->timer, &expirations, sizeof expirations) < 0 && errno != EAGAIN)
        err(1, "timerfd");
    if (d->o.limit_ns && now >= d->begun + d->o.limit_ns)
        d->over = true;
    for (unsigned i = 0; i < d->conn_count && !d->over; i++) {
        struct conn *c = &d->conns[i];

        if (c->state != STATE_PLANNED || c->due > now)
            continue;
        if (c->fd < 0)
            connect_now(d, c);
        else if (asking_is_over(d))
            c->state = STATE_DONE;
        else
            send_request(d, c);
    }
    arm(d);
}

/* --- answers --- */

static void record_latency(struct drain *d, int64_t ns)
{
    if (d->answered == d->us_room) {
        d->us_room = d->us_room ? d->us_room * 2 : 4096;
        d->us = realloc(d->us, d->us_room * sizeof *d->us);
        if (!d->us)
            err(1, "realloc");
    }
    d->us[d->answered++] = (uint32_t)(ns / 1000);
}

static void answered(struct drain *d, struct conn *c, int64_t now)
{
    record_latency(d, now - c->due);
    d->ask_last = now;
    if (d->o.requests && d->answered >= d->o.requests) {
        d->over = true;
    } else if (asking_is_over(d)) {
        c->state = STATE_DONE;
    } else if (!d->o.interval_ns) {
        c->due = now;
        send_request(d, c);
    } else {
        c->due += d->o.interval_ns;
        c->state = STATE_PLANNED;
        if (c->due <= now)
            send_request(d, c);
        else
            arm(d);
    }
}

static void answer_ended(struct drain *d, struct conn *c)
{
    int64_t now = now_ns();

    if (c->asks) {
        answered(d, c, now);
        return;
    }
    c->finished = now;
    if (--c->left) {
        send_request(d, c);
        return;
    }
    c->state = STATE_DONE;
    close(c->fd);
    c->fd = -1;
    if (!--d->downloads_left)
        d->over = true;
}

static void take_body(struct drain *d, struct conn *c, size_t len)
{
    if (len > c->body_left) {
        fail(d, c, "more bytes than Content-Length");
        return;
    }
    if (len && !c->first_body)
        c->first_body = now_ns();
    c->body_left -= len;
    c->body_bytes += len;
    if (!c->body_left)
        answer_ended(d, c);
}

/* The value of a field in a head that ends with NUL, or NULL. */
static const char *find_field(const char *head, const char *name)
{
    size_t len = strlen(name);

    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, len) == 0 && line[len] == ':')
            return line + len + 1;
    }
    return NULL;
}

/* Take bytes of a head; returns how many of them were the head's. */
static size_t take_head(struct drain *d, struct conn *c, const char *data, size_t len)
{
    size_t had = c->head_len;
    size_t take = len < HEAD_MAX - 1 - had ? len : HEAD_MAX - 1 - had;
    const char *length;
    char *end;

    memcpy(c->head + had, data, take);
    c->head_len += take;
    c->head[c->head_len] = '\0';
    end = strstr(c->head, "\r\n\r\n");
    if (!end) {
        if (c->head_len == HEAD_MAX - 1)
            fail(d, c, "the head is too long");
        return take;
    }
    end[2] = '\0';
    length = find_field(c->head, "Content-Length");
    if (sscanf(c->head, "HTTP/1.1 %d", &c->status) != 1 || c->status != 200 || !length) {
        c->head[strcspn(c->head, "\r\n")] = '\0';
        fail(d, c, length ? c->head : "an answer without Content-Length");
        return take;
    }
    c->body_left = strtoull(length, NULL, 10);
    c->state = STATE_BODY;
    return (size_t)(end + 4 - c->head) - had;
}

static void readable(struct drain *d, struct conn *c)
{
    ssize_t n = recv(c->fd, d->buffer, d->o.receive_bytes, 0);
    size_t used = 0;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        fail(d, c, n ? strerror(errno) : "closed before the end");
        return;
    }
    if (!c->first_byte)
        c->first_byte = now_ns();
    if (c->state == STATE_HEAD)
        used = take_head(d, c, d->buffer, (size_t)n);
    if (!d->over && c->state == STATE_BODY)
        take_body(d, c, (size_t)n - used);
    else if (!d->over && (size_t)n != used)
        fail(d, c, "bytes after the answer");
}

static void connected(struct drain *d, struct conn *c)
{
    int error = 0;
    socklen_t len = sizeof error;

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 || error) {
        fail(d, c, strerror(error));
        return;
    }
    watch(d, c, EPOLL_CTL_MOD, EPOLLIN);
    if (c->asks)
        c->due = now_ns();
    if (c->asks && !d->ask_first)
        d->ask_first = c->due;
    send_request(d, c);
}

static void run(struct drain *d)
{
    struct epoll_event events[EVENTS_MAX];

    d->begun = now_ns();
    for (unsigned i = 0; i < d->conn_count; i++) {
        struct conn *c = &d->conns[i];
        int64_t spread = c->asks ? d->o.interval_ns : d->o.spread_ns;
        unsigned of = c->asks ? d->o.askers : d->o.clients;
        unsigned at = c->asks ? i - d->o.clients : i;

        c->due = d->begun + spread * at / (of > 1 ? of - 1 : 1);
    }
    tick(d);
    while (!d->over) {
        int n = epoll_wait(d->epoll, events, EVENTS_MAX, -1);

        if (n < 0 && errno != EINTR)
            err(1, "epoll_wait");
        for (int i = 0; i < n && !d->over; i++) {
            struct conn *c = events[i].data.ptr;

            if (!c)
                tick(d);
            else if (c->state == STATE_CONNECTING)
                connected(d, c);
            else
                readable(d, c);
        }
    }
    if (!d->error[0] && d->downloads_left)
        snprintf(d->error, sizeof d->error, "out of time with %u downloads left",
                 d->downloads_left);
}

/* --- the report --- */

static int compare_us(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static double quantile_ms(const struct drain *d, double q)
{
    if (!d->answered)
        return 0;
    return d->us[(unsigned)(q * (d->answered - 1))] / 1e3;
}

static double since(const struct conn *c, int64_t then)
{
    return then ? (double)(then - c->arrived) / 1e9 : -1;
}

static void report(struct drain *d)
{
    uint64_t bytes = 0;
    int64_t end = d->begun;
    struct rusage usage;
    const char *comma = "";

    printf("{\"clients\": [");
    for (unsigned i = 0; i < d->o.clients; i++) {
        const struct conn *c = &d->conns[i];

        printf("%s{\"arrived\": %.6f, \"first_byte\": %.6f, \"first_body\": %.6f, "
               "\"finished\": %.6f, \"bytes\": %llu}",
               comma, (double)(c->arrived - d->begun) / 1e9, since(c, c->first_byte),
               since(c, c->first_body), since(c, c->finished), (unsigned long long)c->body_bytes);
        bytes += c->body_bytes;
        end = c->finished > end ? c->finished : end;
        comma = ", ";
    }
    qsort(d->us, d->answered, sizeof *d->us, compare_us);
    getrusage(RUSAGE_SELF, &usage);
    printf("], \"bytes\": %llu, \"seconds\": %.6f, \"requests\": %u, \"request_seconds\": %.6f, "
           "\"p50_ms\": %.3f, \"p99_ms\": %.3f, \"p999_ms\": %.3f, \"max_ms\": %.3f, "
           "\"cpu_seconds\": %.6f, \"error\": \"%s\"}\n",
           (unsigned long long)bytes, (double)(end - d->begun) / 1e9, d->answered,
           (double)(d->ask_last - d->ask_first) / 1e9, quantile_ms(d, 0.5), quantile_ms(d, 0.99),
           quantile_ms(d, 0.999), quantile_ms(d, 1),
           (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
               (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6,
           d->error);
}

/* --- start --- */

static unsigned number(const char *text)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    if (end == text || *end || n > 1u << 30)
        errx(2, "not a number: %s", text);
    return (unsigned)n;
}

static void parse_address(struct options *o, const char *text)
{
    char host[64];
    const char *colon = strrchr(text, ':');

    if (!colon || (size_t)(colon - text) >= sizeof host)
        errx(2, "not address:port: %s", text);
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';
    o->host = text;
    o->address.sin_family = AF_INET;
    o->address.sin_port = htons((uint16_t)number(colon + 1));
    if (inet_pton(AF_INET, host, &o->address.sin_addr) != 1)
        errx(2, "not an IPv4 address: %s", host);
}

static void parse_options(struct options *o, int argc, char **argv)
{
    int c;

    *o = (struct options){.repeats = 1, .receive_bytes = 256 * 1024};
    while ((c = getopt(argc, argv, "c:s:r:b:t:p:u:i:n:")) != -1) {
        switch (c) {
        case 'c':
            o->clients = number(optarg);
            break;
        case 's':
            o->spread_ns = (int64_t)number(optarg) * 1000000;
            break;
        case 'r':
            o->repeats = number(optarg);
            break;
        case 'b':
            o->receive_bytes = number(optarg);
            break;
        case 't':
            o->limit_ns = (int64_t)number(optarg) * 1000000000;
            break;
        case 'p':
            o->askers = number(optarg);
            break;
        case 'u':
            o->url = optarg;
            break;
        case 'i':
            o->interval_ns = (int64_t)number(optarg) * 1000;
            break;
        case 'n':
            o->requests = number(optarg);
            break;
        default:
            exit(2);
        }
    }
    if (optind < argc)
        parse_address(o, argv[optind++]);
    if (optind < argc)
        o->path = argv[optind++];
    if (!o->host || (o->clients && !o->path) || (o->askers && !o->url) || !o->repeats ||
        !o->receive_bytes || optind < argc)
        errx(2, "see the top of drain.c for its arguments");
}

static void prepare(struct drain *d)
{
    struct rlimit files;
    struct epoll_event e = {.events = EPOLLIN};

    d->conn_count = d->o.clients + d->o.askers;
    d->downloads_left = d->o.clients;
    d->conns = calloc(d->conn_count ? d->conn_count : 1, sizeof *d->conns);
    d->buffer = malloc(d->o.receive_bytes);
    if (!d->conns || !d->buffer)
        err(1, "malloc");
    for (unsigned i = 0; i < d->conn_count; i++) {
        d->conns[i].fd = -1;
        d->conns[i].asks = i >= d->o.clients;
        d->conns[i].left = d->o.repeats;
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    d->epoll = epoll_create1(EPOLL_CLOEXEC);
    d->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (d->epoll < 0 || d->timer < 0 || epoll_ctl(d->epoll, EPOLL_CTL_ADD, d->timer, &e) < 0)
        err(1, "epoll");
}

int main(int argc, char **argv)
{
    struct drain d = {0};

    parse_options(&d.o, argc, argv);
    prepare(&d);
    run(&d);
    report(&d);
    return d.error[0] ? 1 : 0;
}
