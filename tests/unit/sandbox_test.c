/* SPDX-License-Identifier: ISC */
/* In a child that has entered the sandbox: what the daemon does goes on, the rest does not. */
#include "proxy/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cache/err.h"
#include "tests/unit/scratch.h"

#define ABSENT 77

struct bed {
    char dir[64];   /* with cache/, log/, keys/, run/ and away/ */
    char home[128]; /* a directory of its own */
};

static const char *const folders[] = {"cache", "cache/partial", "cache/blobs", "log",
                                      "keys",  "run",           "away",        "home"};

static int bed_setup(void **state)
{
    struct bed *b = calloc(1, sizeof *b);

    assert_non_null(b);
    scratch_dir(b->dir);
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++)
        assert_int_equal(mkdir(scratch_path(b->dir, folders[i]), 0755), 0);
    scratch_file(b->dir, "cache/partial/a", "a", 1);
    scratch_file(b->dir, "keys/password", "p", 1);
    scratch_file(b->dir, "away/file", "x", 1);
    snprintf(b->home, sizeof b->home, "%s/home", b->dir);
    *state = b;
    return 0;
}

static int bed_teardown(void **state)
{
    struct bed *b = *state;

    scratch_remove(b->dir);
    free(b);
    return 0;
}

static struct config *load(const struct bed *b, const char *more)
{
    struct config *c;
    char *text = mem_format("[cache]\npath = %s/cache\n[log]\nfile = %s/log/cachalot.log\n"
                            "[admin]\nsocket = %s/run/cachalot.sock\n"
                            "[upstream a.test]\nca-file = %s/keys/ca.pem\n%s",
                            b->dir, b->dir, b->dir, b->dir, more);
    FILE *in = fmemopen(text, strlen(text), "r");

    assert_int_equal(config_load_stream(&c, "sandbox", in, stderr), 0);
    fclose(in);
    free(text);
    return c;
}

/* In the child, whose end the parent judges. */
#define MUST(what)                                                                                 \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            fprintf(stderr, "line %d: this does not hold: %s\n", __LINE__, #what);                 \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static bool opens(const struct bed *b, const char *name, int flags)
{
    int fd = open(scratch_path(b->dir, name), flags | O_CLOEXEC, 0600);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static bool is_denied(const struct bed *b, const char *name, int flags)
{
    return !opens(b, name, flags) && errno == EACCES;
}

static bool binds(const struct bed *b, const char *name)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memccpy(a.sun_path, scratch_path(b->dir, name), '\0', sizeof a.sun_path - 1);
    bool bound = bind(fd, (const struct sockaddr *)&a, sizeof a) == 0;
    close(fd);
    return bound;
}

/* Whether a program can be run, "true" with its status 0. */
static bool runs(const char *program)
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        execl(program, program, (char *)NULL);
        _exit(126);
    }
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void work_goes_on(const struct bed *b)
{
    char from[128];

    MUST(opens(b, "cache/new", O_RDWR | O_CREAT | O_EXCL));
    MUST(truncate(scratch_path(b->dir, "cache/new"), 10) == 0);
    MUST(mkdir(scratch_path(b->dir, "cache/folder"), 0700) == 0);
    MUST(rmdir(scratch_path(b->dir, "cache/folder")) == 0);
    snprintf(from, sizeof from, "%s/cache/partial/a", b->dir);
    MUST(rename(from, scratch_path(b->dir, "cache/blobs/a")) == 0);
    MUST(unlink(scratch_path(b->dir, "cache/blobs/a")) == 0);
    MUST(opens(b, "log/cachalot.log", O_WRONLY | O_APPEND | O_CREAT));
    MUST(opens(b, "keys/password", O_RDONLY));
    MUST(binds(b, "run/cachalot.sock"));
    MUST(unlink(scratch_path(b->dir, "run/cachalot.sock")) == 0);
    MUST(opens(b, "../../etc/nsswitch.conf", O_RDONLY));
    MUST(opens(b, "../../dev/null", O_RDWR));
}

static void rest_does_not(const struct bed *b)
{
    char from[128];

    MUST(is_denied(b, "away/file", O_RDONLY));
    MUST(is_denied(b, "away/file", O_WRONLY));
    MUST(is_denied(b, "away/new", O_WRONLY | O_CREAT));
    MUST(is_denied(b, "keys/password", O_WRONLY));
    MUST(is_denied(b, "keys/new", O_WRONLY | O_CREAT));
    MUST(is_denied(b, "run/new", O_WRONLY | O_CREAT));
    MUST(is_denied(b, "log/other", O_RDONLY | O_CREAT));
    MUST(is_denied(b, "home/new", O_WRONLY | O_CREAT));
    MUST(is_denied(b, "../new-here", O_WRONLY | O_CREAT));
    MUST(is_denied(b, "../../etc/passwd", O_RDWR));
    snprintf(from, sizeof from, "%s/cache/new", b->dir);
    MUST(rename(from, scratch_path(b->dir, "away/new")) != 0);
    MUST(unlink(scratch_path(b->dir, "away/file")) != 0);
    MUST(symlink("/etc/passwd", scratch_path(b->dir, "cache/link")) != 0);
    MUST(!binds(b, "away/socket"));
}

static void nobody_is_reached(void)
{
    MUST(!runs("/bin/true"));
    MUST(ptrace(PTRACE_ATTACH, getppid(), NULL, NULL) != 0 && errno == EPERM);
}

typedef void run_inside(const struct bed *b);

static void check_inside(const struct bed *b, const char *more, run_inside *run)
{
    struct config *c = load(b, more);
    int status = 0;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        MUST(setenv("HOME", b->home, 1) == 0);
        MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
        int err = sandbox_enter(c, NULL);
        if (err == ERR_NOT_FOUND)
            _exit(ABSENT);
        MUST(err == 0);
        run(b);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    config_unref(&c);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == ABSENT)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void inside(const struct bed *b)
{
    work_goes_on(b);
    rest_does_not(b);
    nobody_is_reached();
}

static void the_daemon_is_confined(void **state)
{
    check_inside(*state, "", inside);
}

static void inside_with_helper(const struct bed *b)
{
    work_goes_on(b);
    MUST(runs("/bin/true"));
    MUST(opens(b, "away/file", O_RDONLY));
    MUST(opens(b, "home/new", O_WRONLY | O_CREAT));
    MUST(is_denied(b, "../../etc/passwd", O_RDWR));
    MUST(ptrace(PTRACE_ATTACH, getppid(), NULL, NULL) != 0 && errno == EPERM);
}

static void a_helper_is_given_more(void **state)
{
    check_inside(*state, "credential-helper = /bin/true\n", inside_with_helper);
}

static void a_first_helper_is_noticed(void **state)
{
    const struct bed *b = *state;
    struct config *without = load(b, ""), *with = load(b, "credential-helper = /bin/true\n");

    assert_true(sandbox_is_outgrown(without, with));
    assert_false(sandbox_is_outgrown(with, without));
    assert_false(sandbox_is_outgrown(with, with));
    config_unref(&without);
    config_unref(&with);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_daemon_is_confined, bed_setup, bed_teardown),
        cmocka_unit_test_setup_teardown(a_helper_is_given_more, bed_setup, bed_teardown),
        cmocka_unit_test_setup_teardown(a_first_helper_is_noticed, bed_setup, bed_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
