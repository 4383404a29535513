/* SPDX-License-Identifier: ISC */
#include "tools/wire.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "cache/err.h"

/* --- connecting --- */

int wire_limit(int fd, int timeout_s)
{
    struct timeval timeout = {.tv_sec = timeout_s};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) == 0)
        return 0;
    return errno;
}

static int connect_to(const struct addrinfo *address, int *fd)
{
    *fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*fd < 0)
        return errno;
    int errnum = wire_limit(*fd, WIRE_TIMEOUT_S);
    if (errnum == 0 && connect(*fd, address->ai_addr, address->ai_addrlen) != 0)
        errnum = errno == EINPROGRESS ? ETIMEDOUT : errno;
    if (errnum != 0)
        close(*fd);
    return errnum;
}

int wire_connect(const char *host, unsigned port, int *fd, char *why, size_t why_size)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *all;
    int bracket = *host == '[';
    char *name = mem_format("%.*s", (int)strlen(host) - 2 * bracket, host + bracket);
    char *service = mem_format("%u", port);
    int failure = getaddrinfo(name, service, &hints, &all);
    int errnum = failure == 0 ? ENOENT : 0;
    for (const struct addrinfo *a = failure == 0 ? all : NULL; a != NULL && errnum != 0;
         a = a->ai_next)
        errnum = connect_to(a, fd);
    if (failure == 0)
        freeaddrinfo(all);
    free(service);
    free(name);
    if (failure != 0)
        snprintf(why, why_size, "%s has no address: %s", host, gai_strerror(failure));
    else if (errnum != 0)
        snprintf(why, why_size, "%s:%u cannot be connected to: %s", host, port, strerror(errnum));
    if (failure != 0 || errnum == ECONNREFUSED)
        return ERR_NOT_FOUND;
    return errnum == 0 ? 0 : ERR_IO;
}

/* --- asking --- */

static int send_request(int fd, const char *method, const char *host, const char *target,
                        const char *fields)
{
    char *request = mem_format("%s %s HTTP/1.1\r\n"
                               "Host: %s\r\n"
                               "User-Agent: cachalot\r\n"
                               "%s"
                               "Connection: close\r\n\r\n",
                               method, target, host, fields);
    size_t len = strlen(request);
    ssize_t n = send(fd, request, len, MSG_NOSIGNAL);
    int errnum = n < 0 ? errno : (size_t)n == len ? 0 : EIO;
    free(request);
    return errnum;
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
    } while ((n > 0 && len < WIRE_ANSWER_MAX) || (n < 0 && errno == EINTR));
    if (n == 0) {
        buf[len] = '\0';
        *answer = buf;
        return 0;
    }
    int errnum = n > 0 ? EMSGSIZE : errno;
    free(buf);
    return errnum;
}

static int ask(int fd, const char *method, const char *host, const char *target, const char *fields,
               struct answer *a)
{
    char *text = NULL;
    *a = (struct answer){0};
    int errnum = send_request(fd, method, host, target, fields);
    if (errnum == 0)
        errnum = read_answer(fd, &text);
    if (text != NULL)
        answer_take(a, text);
    return errnum;
}

int wire_get(int fd, const char *host, const char *target, const char *fields, struct answer *a)
{
    return ask(fd, "GET", host, target, fields, a);
}

int wire_post(int fd, const char *host, const char *target, struct answer *a)
{
    return ask(fd, "POST", host, target, "Content-Length: 0\r\n", a);
}

/* --- answers --- */

void answer_take(struct answer *a, char *text)
{
    static const char version[] = "HTTP/1.1 ";
    char *end = strstr(text, "\r\n\r\n");
    *a = (struct answer){.head = text, .body = text + strlen(text)};
    if (end == NULL || strncmp(text, version, sizeof version - 1) != 0)
        return;
    a->status = (int)strtol(text + sizeof version - 1, NULL, 10);
    end[2] = '\0';
    a->body = end + 4;
}

void answer_clear(struct answer *a)
{
    free(a->head);
    *a = (struct answer){0};
}

char *answer_field(const struct answer *a, const char *name)
{
    size_t len = strlen(name);
    for (const char *line = a->head; line != NULL; line = strstr(line, "\r\n")) {
        line += *line == '\r' ? 2 : 0;
        if (strncasecmp(line, name, len) == 0 && line[len] == ':') {
            const char *value = line + len + 1 + strspn(line + len + 1, " \t");
            return mem_copy(value, strcspn(value, "\r"));
        }
    }
    return NULL;
}
