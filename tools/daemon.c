/* SPDX-License-Identifier: ISC */
#include "tools/daemon.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "cache/err.h"

#define ANSWER_MAX (4u * 1024 * 1024)
#define TIMEOUT_S 5

static int refuse_errno(const char *doing, const char *path, int errnum, char *why, size_t why_size)
{
    switch (errnum) {
    case ENOENT:
    case ECONNREFUSED:
        snprintf(why, why_size,
                 "nothing listens on %s; start cachalotd, or name its socket with -S FILE", path);
        return ERR_NOT_FOUND;
    case EACCES:
    case EPERM:
        snprintf(why, why_size, "%s may not be used; run this as root or as the user of cachalotd",
                 path);
        return ERR_DENIED;
    case EAGAIN:
        snprintf(why, why_size, "cachalotd did not answer on %s within %d s; see its log", path,
                 TIMEOUT_S);
        return ERR_IO;
    default:
        snprintf(why, why_size, "%s on %s: %s", doing, path, strerror(errnum));
        return ERR_IO;
    }
}

static int open_socket(const char *path, int *fd, char *why, size_t why_size)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (len >= sizeof addr.sun_path) {
        snprintf(why, why_size,
                 "%s is too long for the path of a socket; name another with -S FILE", path);
        return ERR_INVALID;
    }
    memcpy(addr.sun_path, path, len);
    struct timeval timeout = {.tv_sec = TIMEOUT_S};
    *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*fd < 0)
        return refuse_errno("cannot make a socket", path, errno, why, why_size);
    if (setsockopt(*fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) == 0 &&
        setsockopt(*fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) == 0 &&
        connect(*fd, (const struct sockaddr *)&addr, sizeof addr) == 0)
        return 0;
    int errnum = errno;
    close(*fd);
    return refuse_errno("cannot connect", path, errnum, why, why_size);
}

static int send_request(int fd, const char *path)
{
    char *request = mem_format("GET %s HTTP/1.1\r\n"
                               "Host: cachalot\r\n"
                               "Connection: close\r\n\r\n",
                               path);
    size_t len = strlen(request);
    ssize_t n = send(fd, request, len, MSG_NOSIGNAL);
    free(request);
    if (n < 0)
        return errno;
    return (size_t)n == len ? 0 : EIO;
}

/* Read until the other side closes; a string, owned by the caller. 0 or an errno. */
static int read_answer(int fd, char **answer)
{
    size_t room = 65536;
    size_t len = 0;
    char *buf = mem_new(room);
    ssize_t n;
    do {
        if (len + 1 == room) {
            room *= 2;
            buf = mem_resize(buf, room);
        }
        n = recv(fd, buf + len, room - len - 1, 0);
        if (n > 0)
            len += (size_t)n;
    } while ((n > 0 && len < ANSWER_MAX) || (n < 0 && errno == EINTR));
    if (n == 0) {
        buf[len] = '\0';
        *answer = buf;
        return 0;
    }
    free(buf);
    return n > 0 ? EMSGSIZE : errno;
}

/* The content of an answer with status 200, or NULL. */
static const char *find_content(const char *answer)
{
    const char *end = strstr(answer, "\r\n\r\n");
    return strncmp(answer, "HTTP/1.1 200 ", 13) == 0 && end != NULL ? end + 4 : NULL;
}

static int ask(const char *socket_path, const char *path, char **body, char *why, size_t why_size)
{
    int fd;
    int err = open_socket(socket_path, &fd, why, why_size);
    if (err != 0)
        return err;
    char *answer = NULL;
    int errnum = send_request(fd, path);
    if (errnum == 0)
        errnum = read_answer(fd, &answer);
    close(fd);
    if (answer == NULL)
        return refuse_errno("cannot ask", socket_path, errnum, why, why_size);
    const char *content = find_content(answer);
    if (content != NULL) {
        *body = mem_copy(content, strlen(content));
    } else {
        snprintf(why, why_size, "what listens on %s answered \"%.*s\"; is it cachalotd?",
                 socket_path, (int)strcspn(answer, "\r\n"), answer);
        err = ERR_INVALID;
    }
    free(answer);
    return err;
}

int daemon_get(const struct options *o, const char *path, char **body, char *why, size_t why_size)
{
    if (o->socket_path != NULL)
        return ask(o->socket_path, path, body, why, why_size);
    char *socket_path = mem_format("%s/cachalot.sock", o->cache_path);
    int err = ask(socket_path, path, body, why, why_size);
    free(socket_path);
    return err;
}
