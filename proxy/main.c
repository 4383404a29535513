/* SPDX-License-Identifier: ISC */
/* cachalotd: arguments, the background, the life of the server. */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cache/err.h"
#include "proxy/config.h"
#include "proxy/config_option.h"
#include "proxy/intercept.h"
#include "proxy/log.h"
#include "proxy/privileges.h"
#include "proxy/server.h"
#include "proxy/version.h"

#define DEFAULT_CONFIG "/etc/cachalot/cachalot.ini"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

enum mode { MODE_RUN, MODE_CHECK, MODE_DUMP, MODE_NAMES };

struct arguments {
    enum mode mode;
    bool foreground;
    const char *config_path; /* NULL: the defaults */
};

static void print_usage(FILE *out)
{
    fputs("usage: cachalotd [-f] [-c FILE]     serve\n"
          "       cachalotd -t [-c FILE]       check the configuration\n"
          "       cachalotd -T [-c FILE]       check it and print what is in effect\n"
          "       cachalotd -H [-c FILE]       print the names that our authority is to cover\n"
          "       cachalotd -V | -h            print the version, or this\n"
          "\n"
          "  -c FILE   read FILE and conf.d/*.ini beside it; default " DEFAULT_CONFIG "\n"
          "            when it is there, else the built-in settings\n"
          "  -f        stay in the foreground\n",
          out);
}

/* The exit code, or -1 to go on. */
static int parse_arguments(int argc, char **argv, struct arguments *a)
{
    int c;

    a->config_path = access(DEFAULT_CONFIG, F_OK) == 0 ? DEFAULT_CONFIG : NULL;
    while ((c = getopt(argc, argv, "c:ftTHhV")) != -1) {
        switch (c) {
        case 'c':
            a->config_path = optarg;
            break;
        case 'f':
            a->foreground = true;
            break;
        case 't':
            a->mode = MODE_CHECK;
            break;
        case 'T':
            a->mode = MODE_DUMP;
            break;
        case 'H':
            a->mode = MODE_NAMES;
            break;
        case 'h':
            print_usage(stdout);
            return EXIT_DONE;
        case 'V':
            puts("cachalotd " CACHALOT_VERSION);
            return EXIT_DONE;
        default:
            print_usage(stderr);
            return EXIT_USAGE;
        }
    }
    if (optind == argc)
        return -1;
    print_usage(stderr);
    return EXIT_USAGE;
}

/* Every connection and fetch takes a descriptor. */
static void raise_file_limit(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

/* A core would hold passwords and tokens, those of clients too. 1, not 0: then no
 * program that core_pattern names gets it either, core(5). */
static void forbid_core(void)
{
    const struct rlimit limit = {.rlim_cur = 1, .rlim_max = 1};

    (void)setrlimit(RLIMIT_CORE, &limit);
}

/* Go into the background before any thread is there. The parent waits until the
 * child serves (a byte in the pipe) or has failed, and exits as it did. Returns the
 * child's end of the pipe. */
static int leave_terminal(void)
{
    int ready[2];
    char byte;

    CHECK(pipe2(ready, O_CLOEXEC) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child > 0) {
        int status = 0;

        close(ready[1]);
        if (read(ready[0], &byte, 1) == 1)
            _exit(EXIT_DONE);
        waitpid(child, &status, 0);
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILED);
    }
    close(ready[0]);
    setsid();
    return ready[1];
}

/* Serving: the terminal is let go of, the parent may leave. */
static void tell_ready(int pipe_fd, bool keeps_stderr)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        if (!keeps_stderr)
            dup2(null, STDERR_FILENO);
        close(null);
    }
    if (write(pipe_fd, "", 1) != 1)
        _exit(EXIT_FAILED);
    close(pipe_fd);
}

/* Become the user that serves, and read the settings as him: what he cannot read would be
 * refused at the first reload only. */
static int settle(struct privileges *p, const char *config_path, struct config **c)
{
    char why[512];

    if (privileges_take(p, (*c)->user, (*c)->path, why, sizeof why) != 0) {
        fprintf(stderr, "cachalotd: %s\n", why);
        return EXIT_FAILED;
    }
    if (!p->changed_user)
        return EXIT_DONE;
    config_unref(c);
    if (config_load(c, config_path, stderr) == 0)
        return EXIT_DONE;
    fprintf(stderr, "cachalotd: user %lu, who is to serve, must be able to read all that\n",
            (unsigned long)geteuid());
    return EXIT_USAGE;
}

/* `c` may become another, the same read again. */
static int serve(const struct arguments *a, struct config **cp)
{
    struct server *server;
    struct privileges privileges;
    struct log *log;
    char why[512];
    int ready = a->foreground ? -1 : leave_terminal();
    int code = settle(&privileges, a->config_path, cp);

    if (code != EXIT_DONE)
        return code;
    struct config *c = *cp;
    if (log_open(&log, c->log_file, c->log_format, c->log_level, c->log_access) != 0) {
        fprintf(stderr, "cachalotd: cannot open the log file %s\n", c->log_file);
        return EXIT_FAILED;
    }
    signal(SIGPIPE, SIG_IGN);
    raise_file_limit();
    forbid_core();
    struct server_order order = {c, a->config_path, &privileges, log};
    int err = server_start(&server, &order, why, sizeof why);
    if (err) {
        log_event(log, LOG_ERROR, "cannot start: %s", why);
        if (c->log_file)
            fprintf(stderr, "cachalotd: cannot start: %s\n", why);
    } else {
        if (ready >= 0)
            tell_ready(ready, c->log_file == NULL);
        server_run(server);
        server_stop(&server);
    }
    log_close(&log);
    return err ? EXIT_FAILED : EXIT_DONE;
}

/* Where one of the standard files is closed, the next file that is opened would have its number,
 * and be written to as if it were. */
static bool have_standard_files(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

int main(int argc, char **argv)
{
    struct arguments a = {.mode = MODE_RUN};
    struct config *c;

    if (!have_standard_files())
        return EXIT_FAILED;
    int code = parse_arguments(argc, argv, &a);

    if (code >= 0)
        return code;
    if (config_load(&c, a.config_path, stderr) != 0)
        return EXIT_USAGE;
    if (a.mode == MODE_RUN)
        code = serve(&a, &c);
    else
        code = EXIT_DONE;
    if (a.mode == MODE_DUMP)
        config_dump(c, stdout);
    if (a.mode == MODE_NAMES)
        intercept_print_names(c, stdout);
    if (a.mode == MODE_CHECK)
        fprintf(stderr, "cachalotd: the configuration is good\n");
    config_unref(&c);
    return code;
}
