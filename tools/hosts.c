/* SPDX-License-Identifier: ISC */
#include "tools/hosts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define DAEMON "cachalotd"
#define OUTPUT_MAX (4u * 1024 * 1024)

#define INSTEAD "or name the hosts: cachalot ca ... NAME..."

/* Owned by the caller. Without a slash it is looked for in $PATH. */
static char *find_daemon(void)
{
    static const char *const places[] = {"", "../sbin/"};
    char self[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    self[len > 0 ? len : 0] = '\0';
    char *slash = strrchr(self, '/');
    for (size_t i = 0; i < 2 && slash != NULL; i++) {
        char *path = mem_format("%.*s/%s%s", (int)(slash - self), self, places[i], DAEMON);
        if (access(path, X_OK) == 0)
            return path;
        free(path);
    }
    return mem_copy(DAEMON, strlen(DAEMON));
}

/* 0 or an errno. What it has to complain of goes to our standard error. */
static int start(const char *program, const char *config_path, int output_fd, pid_t *child)
{
    char *argv[] = {DAEMON, "-H", config_path != NULL ? "-c" : NULL, (char *)config_path, NULL};
    posix_spawn_file_actions_t actions;
    CHECK(posix_spawn_file_actions_init(&actions) == 0);
    CHECK(posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0) == 0);
    CHECK(posix_spawn_file_actions_adddup2(&actions, output_fd, STDOUT_FILENO) == 0);
    int errnum = posix_spawnp(child, program, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return errnum;
}

/* Until the end; false when there was more than OUTPUT_MAX or an error. */
static bool read_output(struct hosts *h, int fd)
{
    size_t room = 4096;
    size_t len = 0;
    ssize_t n;
    h->text = mem_new(room);
    do {
        if (len + 1 == room) {
            room *= 2;
            h->text = mem_resize(h->text, room);
        }
        n = read(fd, h->text + len, room - len - 1);
        if (n > 0)
            len += (size_t)n;
    } while ((n > 0 && len < OUTPUT_MAX) || (n < 0 && errno == EINTR));
    h->text[len] = '\0';
    return n == 0;
}

static void split_lines(struct hosts *h)
{
    size_t room = 0;
    char *rest;
    for (char *line = strtok_r(h->text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        if (h->count == room) {
            room = room == 0 ? 64 : room * 2;
            h->names = mem_resize(h->names, room * sizeof h->names[0]);
        }
        h->names[h->count++] = line;
    }
}

static enum exit_code run(struct hosts *h, const char *program, const char *config_path)
{
    int fds[2];
    pid_t child;
    int status = 0;
    CHECK(pipe2(fds, O_CLOEXEC) == 0);
    int errnum = start(program, config_path, fds[1], &child);
    close(fds[1]);
    bool complete = errnum == 0 && read_output(h, fds[0]);
    close(fds[0]);
    if (errnum != 0)
        return complain(EXIT_FAILED,
                        "%s, which knows the hosts, cannot be run: %s; install it, " INSTEAD,
                        program, strerror(errnum));
    pid_t ended;
    do {
        ended = waitpid(child, &status, 0);
    } while (ended < 0 && errno == EINTR);
    if (complete && ended == child && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return EXIT_DONE;
    return complain(
        EXIT_USAGE,
        "%s -H failed, so that the hosts are not known; set right what it says, " INSTEAD, program);
}

enum exit_code hosts_read(struct hosts *h, const struct options *o)
{
    *h = (struct hosts){0};
    char *program = find_daemon();
    enum exit_code code = run(h, program, o->config_path);
    free(program);
    if (code != EXIT_DONE) {
        hosts_free(h);
        return code;
    }
    split_lines(h);
    if (h->count > 0)
        return EXIT_DONE;
    hosts_free(h);
    return complain(EXIT_USAGE,
                    "by its settings cachalotd serves no host by TLS; add a listener with tls, "
                    "intercept or tls-intercept, " INSTEAD);
}

void hosts_free(struct hosts *h)
{
    free(h->names);
    free(h->text);
    *h = (struct hosts){0};
}
