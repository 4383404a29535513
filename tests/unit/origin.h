/* SPDX-License-Identifier: ISC */
/*
 * A scripted upstream on loopback: each connection takes one request, and gets the
 * next answer of the script, byte for byte. The heads of requests are kept.
 */
#ifndef TESTS_UNIT_ORIGIN_H
#define TESTS_UNIT_ORIGIN_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "tests/unit/scratch.h"

#define ORIGIN_ANSWERS_MAX 32

struct origin_answer {
    const char *head; /* with its empty line; NULL: close without an answer */
    const void *body;
    size_t body_len;
    bool stall; /* then hold the connection open until the end */
};

struct origin {
    int listener;
    int stop;
    unsigned short port;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    struct origin_answer script[ORIGIN_ANSWERS_MAX];
    unsigned script_len;
    unsigned asked;
    char requests[ORIGIN_ANSWERS_MAX][2048];
};

static inline bool origin_wait(struct origin *o, int fd, short what)
{
    struct pollfd p[2] = {{.fd = fd, .events = what}, {.fd = o->stop, .events = POLLIN}};

    return poll(p, 2, -1) > 0 && !(p[1].revents & POLLIN);
}

static inline void origin_send(struct origin *o, int fd, const void *data, size_t len)
{
    const char *from = data;

    while (len > 0 && origin_wait(o, fd, POLLOUT)) {
        ssize_t n = send(fd, from, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n <= 0)
            return;
        from += n;
        len -= (size_t)n;
    }
}

static inline void origin_serve(struct origin *o, int fd)
{
    char request[2048] = "";
    size_t len = 0;
    struct origin_answer a = {.head = "HTTP/1.1 500 Unscripted\r\nContent-Length: 0\r\n\r\n"};

    while (!strstr(request, "\r\n\r\n") && len < sizeof request - 1) {
        if (!origin_wait(o, fd, POLLIN))
            return;
        ssize_t n = recv(fd, request + len, sizeof request - 1 - len, 0);
        if (n <= 0)
            return;
        len += (size_t)n;
        request[len] = '\0';
    }
    pthread_mutex_lock(&o->lock);
    if (o->asked < ORIGIN_ANSWERS_MAX)
        memcpy(o->requests[o->asked], request, len + 1);
    if (o->asked < o->script_len)
        a = o->script[o->asked];
    o->asked++;
    pthread_mutex_unlock(&o->lock);
    if (a.head)
        origin_send(o, fd, a.head, strlen(a.head));
    origin_send(o, fd, a.body, a.body_len);
    if (a.stall)
        origin_wait(o, fd, POLLIN);
}

static inline void *origin_run(void *arg)
{
    struct origin *o = arg;

    while (origin_wait(o, o->listener, POLLIN)) {
        int fd = accept(o->listener, NULL, NULL);
        if (fd < 0)
            continue;
        origin_serve(o, fd);
        shutdown(fd, SHUT_WR);
        close(fd);
    }
    return NULL;
}

static inline struct origin *origin_start(void)
{
    struct origin *o = calloc(1, sizeof *o);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;

    assert_non_null(o);
    pthread_mutex_init(&o->lock, NULL);
    o->stop = eventfd(0, EFD_CLOEXEC);
    o->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(o->stop >= 0 && o->listener >= 0);
    assert_int_equal(bind(o->listener, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(o->listener, 64), 0);
    assert_int_equal(getsockname(o->listener, (struct sockaddr *)&a, &len), 0);
    o->port = ntohs(a.sin_port);
    assert_int_equal(pthread_create(&o->thread, NULL, origin_run, o), 0);
    return o;
}

static inline void origin_stop(struct origin *o)
{
    uint64_t one = 1;

    assert_int_equal(write(o->stop, &one, sizeof one), sizeof one);
    assert_int_equal(pthread_join(o->thread, NULL), 0);
    close(o->listener);
    close(o->stop);
    pthread_mutex_destroy(&o->lock);
    free(o);
}

/* Add to the script; `head` and `body` must live as long as the origin. */
static inline void origin_answer(struct origin *o, const char *head, const void *body, size_t len)
{
    pthread_mutex_lock(&o->lock);
    assert_true(o->script_len < ORIGIN_ANSWERS_MAX);
    o->script[o->script_len++] = (struct origin_answer){head, body, len, false};
    pthread_mutex_unlock(&o->lock);
}

/* As origin_answer; then the connection stays open and silent. */
static inline void origin_stall(struct origin *o, const char *head, const void *body, size_t len)
{
    origin_answer(o, head, body, len);
    pthread_mutex_lock(&o->lock);
    o->script[o->script_len - 1].stall = true;
    pthread_mutex_unlock(&o->lock);
}

static inline unsigned origin_asked(struct origin *o)
{
    pthread_mutex_lock(&o->lock);
    unsigned asked = o->asked;
    pthread_mutex_unlock(&o->lock);
    return asked;
}

/* Whether the head of request `i` holds the text. */
static inline bool origin_request_has(struct origin *o, unsigned i, const char *text)
{
    pthread_mutex_lock(&o->lock);
    bool has = i < o->asked && strstr(o->requests[i], text) != NULL;
    pthread_mutex_unlock(&o->lock);
    return has;
}

#endif
