/* SPDX-License-Identifier: ISC */
#include "tools/daemon.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cache/err.h"
#include "tools/wire.h"

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
                 WIRE_TIMEOUT_S);
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
    *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*fd < 0)
        return refuse_errno("cannot make a socket", path, errno, why, why_size);
    int errnum = wire_limit(*fd, WIRE_TIMEOUT_S);
    if (errnum == 0 && connect(*fd, (const struct sockaddr *)&addr, sizeof addr) != 0)
        errnum = errno;
    if (errnum == 0)
        return 0;
    close(*fd);
    return refuse_errno("cannot connect", path, errnum, why, why_size);
}

/* What an error of cachalotd says, its detail rather than its name; false when it is none. */
static bool error_text(const char *body, char *out, size_t size)
{
    json_t *root = json_loads(body, 0, NULL);
    const char *message = NULL, *detail = NULL;
    int bad =
        json_unpack(root, "{s[{s:s, s?:s}]}", "errors", "message", &message, "detail", &detail);
    if (bad == 0)
        snprintf(out, size, "%s", detail != NULL && *detail != '\0' ? detail : message);
    json_decref(root);
    return bad == 0;
}

static int take_answer(struct answer *answer, const char *socket_path, char **body, char *why,
                       size_t why_size)
{
    if (answer->status == 200) {
        *body = mem_copy(answer->body, strlen(answer->body));
        return 0;
    }
    if (answer->status == 0 || !error_text(answer->body, why, why_size))
        snprintf(why, why_size, "what listens on %s answered \"%.*s\"; is it cachalotd?",
                 socket_path, (int)strcspn(answer->head, "\r\n"), answer->head);
    return answer->status == 404 ? ERR_MISMATCH : ERR_INVALID;
}

static int ask(const char *socket_path, bool is_post, const char *path, char **body, char *why,
               size_t why_size)
{
    int fd;
    int err = open_socket(socket_path, &fd, why, why_size);
    if (err != 0)
        return err;
    struct answer answer;
    int errnum = is_post ? wire_post(fd, "cachalot", path, &answer)
                         : wire_get(fd, "cachalot", path, "", &answer);
    close(fd);
    if (errnum != 0)
        return refuse_errno("cannot ask", socket_path, errnum, why, why_size);
    err = take_answer(&answer, socket_path, body, why, why_size);
    answer_clear(&answer);
    return err;
}

static int ask_by_options(const struct options *o, bool is_post, const char *path, char **body,
                          char *why, size_t why_size)
{
    if (o->socket_path != NULL)
        return ask(o->socket_path, is_post, path, body, why, why_size);
    char *socket_path = mem_format("%s/cachalot.sock", o->cache_path);
    int err = ask(socket_path, is_post, path, body, why, why_size);
    free(socket_path);
    return err;
}

int daemon_get(const struct options *o, const char *path, char **body, char *why, size_t why_size)
{
    return ask_by_options(o, false, path, body, why, why_size);
}

int daemon_post(const struct options *o, const char *path, char **body, char *why, size_t why_size)
{
    return ask_by_options(o, true, path, body, why, why_size);
}
