/* SPDX-License-Identifier: ISC */
#include "proxy/sd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define FIRST_FD 3 /* SD_LISTEN_FDS_START */

static bool notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = path == NULL ? 0 : strlen(path);
    if (len < 2 || len >= sizeof addr.sun_path || (*path != '/' && *path != '@'))
        return false;
    memcpy(addr.sun_path, path, len);
    if (*path == '@')
        addr.sun_path[0] = '\0'; /* abstract: its name has no NUL at the end */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    socklen_t addr_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    ssize_t n;
    do {
        n = sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&addr,
                   addr_len);
    } while (n < 0 && errno == EINTR);
    close(fd);
    return n >= 0;
}

bool sd_ready(void)
{
    return notify("READY=1");
}

bool sd_reloading(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    char state[64];
    snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%" PRId64,
             (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000);
    return notify(state);
}

bool sd_stopping(void)
{
    return notify("STOPPING=1");
}

bool sd_alive(void)
{
    return notify("WATCHDOG=1");
}

bool sd_status(const char *format, ...)
{
    static const char key[] = "STATUS=";
    char state[512];
    memcpy(state, key, sizeof key);
    va_list args;
    va_start(args, format);
    vsnprintf(state + sizeof key - 1, sizeof state - sizeof key + 1, format, args);
    va_end(args);
    /* A newline would begin another assignment. */
    for (char *p = strchr(state, '\n'); p != NULL; p = strchr(p, '\n'))
        *p = ' ';
    return notify(state);
}

/* The variable as a number from 0 to `max`, or -1. */
static long env_number(const char *name, long max)
{
    const char *text = getenv(name);
    if (text == NULL || *text < '0' || *text > '9')
        return -1;
    char *end;
    errno = 0;
    long n = strtol(text, &end, 10);
    return *end == '\0' && errno == 0 && n <= max ? n : -1;
}

int64_t sd_watchdog_us(void)
{
    bool ours =
        getenv("WATCHDOG_PID") == NULL || env_number("WATCHDOG_PID", INT32_MAX) == (long)getpid();
    long us = ours ? env_number("WATCHDOG_USEC", LONG_MAX) : -1;
    return us > 0 ? us : 0;
}

static void set_name(struct sd_socket *s, const char *names, unsigned i)
{
    for (; names != NULL && i > 0; i--) {
        names = strchr(names, ':');
        names = names == NULL ? NULL : names + 1;
    }
    size_t len = names == NULL ? 0 : strcspn(names, ":");
    if (len == 0 || len >= sizeof s->name) {
        names = "unknown";
        len = strlen(names);
    }
    memcpy(s->name, names, len);
    s->name[len] = '\0';
}

unsigned sd_sockets(struct sd_socket *sockets, unsigned max)
{
    unsigned taken = 0;
    bool ours = env_number("LISTEN_PID", INT32_MAX) == (long)getpid();
    long count = ours ? env_number("LISTEN_FDS", INT32_MAX - FIRST_FD) : -1;
    const char *names = getenv("LISTEN_FDNAMES");
    for (long i = 0; i < count; i++) {
        int fd = FIRST_FD + (int)i;
        int flags = fcntl(fd, F_GETFL);
        if (flags < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
            break; /* the count was wrong: there is nothing behind this number */
        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
        if (taken == max) {
            close(fd);
            continue;
        }
        sockets[taken].fd = fd;
        set_name(&sockets[taken], names, (unsigned)i);
        taken++;
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return taken;
}
