/* SPDX-License-Identifier: ISC */
#include "proxy/socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define UNIX_PREFIX "unix:"
#define BACKLOG 1024
/* What a socket keeps that could not be sent yet. The kernel would take megabytes for each
 * slow reader, and a thousand of them use up the memory of all sockets of the machine. */
#define UNSENT_BYTES (128u * 1024)

static bool is_unix(const char *address)
{
    return strncmp(address, UNIX_PREFIX, strlen(UNIX_PREFIX)) == 0;
}

static int fail(int fd, char *why, size_t why_size, const char *address)
{
    snprintf(why, why_size, "cannot listen on %s: %s", address, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

/* --- Unix --- */

static bool unix_name(struct sockaddr_un *a, const char *address)
{
    const char *path = address + strlen(UNIX_PREFIX);

    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof a->sun_path) {
        errno = ENAMETOOLONG;
        return false;
    }
    strcpy(a->sun_path, path);
    return true;
}

/* A socket file that nobody listens on is left from a daemon that was killed. */
static void remove_stale(const struct sockaddr_un *a)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return;
    if (connect(fd, (const struct sockaddr *)a, sizeof *a) != 0 && errno == ECONNREFUSED)
        unlink(a->sun_path);
    close(fd);
}

static int listen_unix(const char *address, char *why, size_t why_size)
{
    struct sockaddr_un a;
    int fd = -1;

    if (!unix_name(&a, address))
        return fail(fd, why, why_size, address);
    remove_stale(&a);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fail(fd, why, why_size, address);
    mode_t old = umask(0117);
    int bound = bind(fd, (const struct sockaddr *)&a, sizeof a);
    umask(old);
    if (bound != 0 || listen(fd, BACKLOG) != 0)
        return fail(fd, why, why_size, address);
    return fd;
}

/* --- TCP --- */

/* Split "HOST:PORT" or "PORT"; an empty host is any address. False when it is too
 * long. */
static bool split_address(const char *address, char *host, size_t host_size, const char **port)
{
    const char *colon = strrchr(address, ':');
    size_t len = colon ? (size_t)(colon - address) : 0;

    *port = colon ? colon + 1 : address;
    if (len >= 2 && address[0] == '[' && address[len - 1] == ']') {
        address++;
        len -= 2;
    }
    if (len >= host_size)
        return false;
    memcpy(host, address, len);
    host[len] = '\0';
    return true;
}

static int listen_one(const struct addrinfo *ai, bool both_families)
{
    int on = 1;
    int only = !both_families;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (ai->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static int listen_tcp(const char *address, char *why, size_t why_size)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found;
    char host[256];
    const char *port;
    int fd = -1;

    if (!split_address(address, host, sizeof host, &port)) {
        errno = ENAMETOOLONG;
        return fail(-1, why, why_size, address);
    }
    /* One socket of IPv6 takes both families; IPv4 alone where there is no IPv6. */
    hints.ai_family = host[0] ? AF_UNSPEC : AF_INET6;
    int err = getaddrinfo(host[0] ? host : NULL, port, &hints, &found);
    if (err) {
        snprintf(why, why_size, "cannot listen on %s: %s", address, gai_strerror(err));
        return -1;
    }
    fd = listen_one(found, host[0] == '\0');
    freeaddrinfo(found);
    if (fd < 0 && !host[0] && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL)) {
        hints.ai_family = AF_INET;
        if (getaddrinfo(NULL, port, &hints, &found) == 0) {
            fd = listen_one(found, false);
            freeaddrinfo(found);
        }
    }
    return fd >= 0 ? fd : fail(-1, why, why_size, address);
}

int socket_listen(const char *address, char *why, size_t why_size)
{
    return is_unix(address) ? listen_unix(address, why, why_size)
                            : listen_tcp(address, why, why_size);
}

bool socket_has_port_of(int fd, const char *address)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un path;
    } a = {0};
    socklen_t len = sizeof a;
    char host[256];
    const char *port;

    if (getsockname(fd, &a.any, &len) != 0)
        return false;
    if (a.any.sa_family == AF_UNIX)
        return is_unix(address) && strcmp(a.path.sun_path, address + strlen(UNIX_PREFIX)) == 0;
    if (is_unix(address) || !split_address(address, host, sizeof host, &port))
        return false;
    in_port_t bound = a.any.sa_family == AF_INET6 ? a.v6.sin6_port : a.v4.sin_port;
    return ntohs(bound) == strtoul(port, NULL, 10);
}

/* --- accepting --- */

static void bound_unsent(int fd, unsigned bytes)
{
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof bytes);
}

void socket_hurry(int fd)
{
    bound_unsent(fd, UINT_MAX);
}

int socket_accept(int fd, char peer[SOCKET_PEER_MAX])
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un path;
    } a = {0};
    socklen_t len = sizeof a;
    int on = 1;
    int taken = accept4(fd, &a.any, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (taken < 0)
        return -1;
    if (a.any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &a.v4.sin_addr, peer, SOCKET_PEER_MAX);
    } else if (a.any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&a.v6.sin6_addr)) {
        inet_ntop(AF_INET, a.v6.sin6_addr.s6_addr + 12, peer, SOCKET_PEER_MAX);
    } else if (a.any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &a.v6.sin6_addr, peer, SOCKET_PEER_MAX);
    } else {
        strcpy(peer, "unix");
        return taken;
    }
    setsockopt(taken, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    bound_unsent(taken, UNSENT_BYTES);
    return taken;
}
