/* SPDX-License-Identifier: ISC */
#include "tools/hosts.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/program.h"

#define DAEMON "cachalotd"

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
    char *argv[] = {DAEMON, "-H", config_path != NULL ? "-c" : NULL, (char *)config_path, NULL};
    int status;
    int errnum = program_read(program, argv, &h->text, &status);
    if (errnum != 0)
        return complain(EXIT_FAILED,
                        "%s, which knows the hosts, cannot be run: %s; install it, " INSTEAD,
                        program, strerror(errnum));
    if (status == 0)
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
