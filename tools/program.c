/* SPDX-License-Identifier: ISC */
#include "tools/program.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* 0 or an errno. */
static int start(const char *program, char *const argv[], int output_fd, pid_t *child)
{
    posix_spawn_file_actions_t actions;
    CHECK(posix_spawn_file_actions_init(&actions) == 0);
    CHECK(posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0) == 0);
    CHECK(posix_spawn_file_actions_adddup2(&actions, output_fd, STDOUT_FILENO) == 0);
    int errnum = posix_spawnp(child, program, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return errnum;
}

/* Until the end; a string, whatever the result. 0 or an errno. */
static int read_all(int fd, char **output)
{
    size_t room = 4096;
    size_t len = 0;
    ssize_t n;
    char *buf = mem_new(room);
    do {
        if (len + 1 == room) {
            room *= 2;
            buf = mem_resize(buf, room);
        }
        n = read(fd, buf + len, room - len - 1);
        if (n > 0)
            len += (size_t)n;
    } while ((n > 0 && len < PROGRAM_OUTPUT_MAX) || (n < 0 && errno == EINTR));
    buf[len] = '\0';
    *output = buf;
    if (n == 0)
        return 0;
    return n > 0 ? EMSGSIZE : errno;
}

int program_read(const char *program, char *const argv[], char **output, int *status)
{
    int fds[2];
    int state = 0;
    pid_t child, ended;
    *output = NULL;
    CHECK(pipe2(fds, O_CLOEXEC) == 0);
    int errnum = start(program, argv, fds[1], &child);
    close(fds[1]);
    if (errnum != 0) {
        close(fds[0]);
        return errnum;
    }
    errnum = read_all(fds[0], output);
    /* Whoever writes on gets SIGPIPE. */
    close(fds[0]);
    do {
        ended = waitpid(child, &state, 0);
    } while (ended < 0 && errno == EINTR);
    *status = ended == child && WIFEXITED(state) ? WEXITSTATUS(state) : -1;
    if (errnum == 0)
        return 0;
    free(*output);
    *output = NULL;
    return errnum;
}
