/* SPDX-License-Identifier: ISC */
/*
 * A run ends with the exit: then nothing more is waited for, since a helper may leave
 * children behind that hold its output open. One that says too much or takes too long is
 * killed, and has a moment to exit.
 */
#include "proxy/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include "cache/check.h"

#define SAID_MAX 160 /* of what a failed helper says for people */
#define KILL_MS 1000 /* who is killed and not gone by then is in the hands of the kernel */

struct helper {
    struct helper_order order;
    pid_t pid; /* 0: it did not start, or is gone */
    int pidfd; /* readable at its exit */
    int output;
    struct event *readable;
    struct event *exited;
    struct event *timer; /* the time limit; at once when it did not start */
    char *answer;
    size_t len;
    char why[256];
};

static void helper_free(struct helper *h)
{
    if (h->readable)
        event_free(h->readable);
    if (h->exited)
        event_free(h->exited);
    event_free(h->timer);
    if (h->output >= 0)
        close(h->output);
    if (h->pidfd >= 0)
        close(h->pidfd);
    explicit_bzero(h->answer, h->len);
    free(h->answer);
    free((char *)(uintptr_t)h->order.program);
    free(h);
}

__attribute__((format(printf, 2, 3))) static void fail(struct helper *h, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(h->why, sizeof h->why, format, args);
    va_end(args);
}

/* Tell the end; nothing is left that runs. */
static void finish(struct helper *h)
{
    bool failed = h->why[0] != '\0';

    h->order.done(h->order.arg, failed ? NULL : h->answer, failed ? 0 : h->len, h->why);
    helper_free(h);
}

/* With its group: its children may be what takes so long. */
static void kill_group(struct helper *h)
{
    if (h->pid != 0)
        kill(-h->pid, SIGKILL);
}

/* What has come so far. False at its end, or when it is too long. */
static bool read_output(struct helper *h)
{
    for (;;) {
        size_t room = h->order.answer_max + 1 - h->len;
        ssize_t n = room > 0 ? read(h->output, h->answer + h->len, room) : 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN;
        if (n == 0)
            return false;
        h->len += (size_t)n;
    }
}

static void output_came(evutil_socket_t fd, short what, void *arg)
{
    struct helper *h = arg;

    (void)fd;
    (void)what;
    if (read_output(h))
        return;
    event_del(h->readable);
    if (h->len <= h->order.answer_max)
        return;
    fail(h, "%s said more than %zu bytes", h->order.program, h->order.answer_max);
    kill_group(h);
}

/* By the protocol a helper that fails says why on its standard output. If it looks like
 * anything else it is not repeated. */
static void quote(struct helper *h, int status)
{
    size_t len = strcspn(h->answer, "\r\n");
    char said[SAID_MAX + 1];

    if (len > SAID_MAX)
        len = SAID_MAX;
    memcpy(said, h->answer, len);
    said[len] = '\0';
    if (strpbrk(said, "{\"") != NULL)
        said[0] = '\0';
    for (char *p = said; *p != '\0'; p++)
        *p = *p < 0x20 || *p > 0x7e ? '?' : *p;
    fail(h, "%s ended with status %d%s%s", h->order.program, status, said[0] ? ": " : "", said);
}

static void exit_came(evutil_socket_t fd, short what, void *arg)
{
    struct helper *h = arg;
    int status;

    (void)fd;
    (void)what;
    pid_t got = waitpid(h->pid, &status, WNOHANG);
    if (got == 0 || (got < 0 && errno == EINTR))
        return;
    h->pid = 0;
    (void)read_output(h);
    if (h->why[0] != '\0') {
        finish(h);
        return;
    }
    if (got < 0)
        fail(h, "%s: waitpid: %s", h->order.program, strerror(errno));
    else if (WIFSIGNALED(status))
        fail(h, "%s was ended by signal %d", h->order.program, WTERMSIG(status));
    else if (WEXITSTATUS(status) != 0)
        quote(h, WEXITSTATUS(status));
    else if (h->len > h->order.answer_max)
        fail(h, "%s said more than %zu bytes", h->order.program, h->order.answer_max);
    finish(h);
}

static void time_is_up(evutil_socket_t fd, short what, void *arg)
{
    struct helper *h = arg;
    struct timeval grace = {.tv_sec = KILL_MS / 1000, .tv_usec = KILL_MS % 1000 * 1000};

    (void)fd;
    (void)what;
    if (h->why[0] != '\0') {
        finish(h);
        return;
    }
    fail(h, "%s did not end within %d ms", h->order.program, h->order.timeout_ms);
    kill_group(h);
    CHECK(event_add(h->timer, &grace) == 0);
}

void helper_stop(struct helper **hp)
{
    struct helper *h = *hp;

    if (h == NULL)
        return;
    *hp = NULL;
    kill_group(h);
    /* It was killed, so this wait is short; without it the child would stay a zombie. */
    if (h->pid != 0)
        (void)waitpid(h->pid, NULL, 0);
    helper_free(h);
}

/* --- the beginning --- */

/* Signals as any program finds them, a group of its own, no descriptor but three. */
static int spawn(struct helper *h, int input, int output)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    const char *home = getenv("HOME");
    char *environment[] = {
        mem_format("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        mem_format("HOME=%s", home != NULL ? home : "/"),
        mem_format("LANG=C.UTF-8"),
        NULL,
    };
    char *arguments[] = {mem_format("%s", h->order.program), mem_format("get"), NULL};

    sigemptyset(&none);
    sigfillset(&all);
    CHECK(posix_spawn_file_actions_init(&actions) == 0);
    CHECK(posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO) == 0);
    CHECK(posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO) == 0);
    CHECK(posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0) == 0);
    CHECK(posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1) == 0);
    CHECK(posix_spawnattr_init(&attributes) == 0);
    CHECK(posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                                    POSIX_SPAWN_SETSIGDEF) == 0);
    CHECK(posix_spawnattr_setpgroup(&attributes, 0) == 0);
    CHECK(posix_spawnattr_setsigmask(&attributes, &none) == 0);
    CHECK(posix_spawnattr_setsigdefault(&attributes, &all) == 0);
    int error =
        posix_spawn(&h->pid, h->order.program, &actions, &attributes, arguments, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    for (size_t i = 0; environment[i] != NULL; i++)
        free(environment[i]);
    for (size_t i = 0; arguments[i] != NULL; i++)
        free(arguments[i]);
    if (error != 0)
        h->pid = 0;
    return error;
}

/* A pipe that already holds the question: nobody needs to be waited for. */
static int question(const char *server, int fds[2])
{
    size_t len = strlen(server);

    if (pipe2(fds, O_CLOEXEC) != 0)
        return errno;
    CHECK(len < PIPE_BUF);
    int error = write(fds[1], server, len) == (ssize_t)len ? 0 : errno;
    close(fds[1]);
    return error;
}

static int start(struct helper *h)
{
    int input[2], output[2];
    int error = question(h->order.server, input);

    if (error != 0)
        return error;
    if (pipe2(output, O_CLOEXEC) != 0) {
        error = errno;
        close(input[0]);
        return error;
    }
    error = spawn(h, input[0], output[1]);
    close(input[0]);
    close(output[1]);
    h->output = output[0];
    if (error != 0)
        return error;
    CHECK(fcntl(h->output, F_SETFL, O_NONBLOCK) == 0);
    h->pidfd = pidfd_open(h->pid, 0);
    if (h->pidfd >= 0)
        return 0;
    error = errno;
    kill_group(h);
    return error;
}

struct helper *helper_start(struct event_base *base, const struct helper_order *o)
{
    struct helper *h = mem_new(sizeof *h);
    struct timeval limit = {.tv_sec = o->timeout_ms / 1000, .tv_usec = o->timeout_ms % 1000 * 1000};

    h->order = *o;
    h->order.program = mem_copy(o->program, strlen(o->program));
    h->output = h->pidfd = -1;
    h->answer = mem_new(o->answer_max + 2);
    h->timer = event_new(base, -1, 0, time_is_up, h);
    CHECK(h->timer);
    int error = start(h);
    if (error != 0) {
        fail(h, "%s cannot be run: %s", o->program, strerror(error));
        limit = (struct timeval){0};
    } else {
        h->readable = event_new(base, h->output, EV_READ | EV_PERSIST, output_came, h);
        h->exited = event_new(base, h->pidfd, EV_READ | EV_PERSIST, exit_came, h);
        CHECK(h->readable && event_add(h->readable, NULL) == 0);
        CHECK(h->exited && event_add(h->exited, NULL) == 0);
    }
    CHECK(event_add(h->timer, &limit) == 0);
    return h;
}
