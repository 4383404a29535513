/* SPDX-License-Identifier: ISC */
#include "proxy/sd.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "cache/check.h"

/* A manager's socket; `name` as in NOTIFY_SOCKET, which is set. */
static int manager(const char *name)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    memcpy(addr.sun_path, name, strlen(name));
    if (*name == '@')
        addr.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, len), 0);
    setenv("NOTIFY_SOCKET", name, 1);
    return fd;
}

static void check_received(int fd, const char *expected)
{
    char buf[1024];
    ssize_t n = recv(fd, buf, sizeof buf - 1, 0);
    assert_true(n >= 0);
    buf[n] = '\0';
    assert_string_equal(buf, expected);
}

static void check_conversation(const char *name)
{
    int fd = manager(name);
    assert_true(sd_ready());
    check_received(fd, "READY=1");
    assert_true(sd_stopping());
    check_received(fd, "STOPPING=1");
    assert_true(sd_alive());
    check_received(fd, "WATCHDOG=1");
    assert_true(sd_status("serving %d\nREADY=0", 3));
    check_received(fd, "STATUS=serving 3 READY=0");
    char wide[2000];
    memset(wide, 'x', sizeof wide - 1);
    wide[sizeof wide - 1] = '\0';
    assert_true(sd_status("%s", wide));
    char buf[1024];
    assert_true(recv(fd, buf, sizeof buf, 0) < 600);

    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    assert_true(sd_reloading());
    clock_gettime(CLOCK_MONOTONIC, &after);
    ssize_t n = recv(fd, buf, sizeof buf - 1, 0);
    assert_true(n > 0);
    buf[n] = '\0';
    long long usec;
    assert_int_equal(sscanf(buf, "RELOADING=1\nMONOTONIC_USEC=%lld", &usec), 1);
    assert_true(usec >= before.tv_sec * 1000000LL + before.tv_nsec / 1000);
    assert_true(usec <= after.tv_sec * 1000000LL + after.tv_nsec / 1000);
    close(fd);
    assert_false(sd_ready());
}

static void the_manager_is_told(void **state)
{
    (void)state;
    char dir[] = "/tmp/sd_test.XXXXXX";
    assert_non_null(mkdtemp(dir));
    char *path = mem_format("%s/notify", dir);
    check_conversation(path);
    unlink(path);
    rmdir(dir);
    free(path);
    char *abstract = mem_format("@cachalot-sd-test-%d", (int)getpid());
    check_conversation(abstract);
    free(abstract);
}

static void without_a_manager_nothing_happens(void **state)
{
    (void)state;
    unsetenv("NOTIFY_SOCKET");
    assert_false(sd_ready());
    char wide[200];
    memset(wide, '/', sizeof wide - 1);
    wide[sizeof wide - 1] = '\0';
    static const char *const bad[] = {"", "/", "@", "relative", "vsock:2:1234"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        setenv("NOTIFY_SOCKET", bad[i], 1);
        assert_false(sd_ready());
    }
    setenv("NOTIFY_SOCKET", wide, 1);
    assert_false(sd_ready());
    unsetenv("NOTIFY_SOCKET");
}

static void set_environment(long pid, const char *fds, const char *names)
{
    char *text = mem_format("%ld", pid);
    setenv("LISTEN_PID", text, 1);
    free(text);
    setenv("LISTEN_FDS", fds, 1);
    if (names == NULL)
        unsetenv("LISTEN_FDNAMES");
    else
        setenv("LISTEN_FDNAMES", names, 1);
}

static void check_environment_gone(void)
{
    assert_null(getenv("LISTEN_PID"));
    assert_null(getenv("LISTEN_FDS"));
    assert_null(getenv("LISTEN_FDNAMES"));
}

/* In a child, where descriptors 3 to 5 are ours to place. */
static int take_sockets(void)
{
    struct sd_socket s[2] = {{0}};
    int made = fcntl(socket(AF_UNIX, SOCK_STREAM, 0), F_DUPFD, 10);
    for (int fd = 3; fd < 6; fd++) {
        if (dup2(made, fd) != fd)
            return 1;
    }
    set_environment(getpid(), "3", "registry::x");
    if (sd_sockets(s, 2) != 2 || s[0].fd != 3 || s[1].fd != 4)
        return 2;
    if (strcmp(s[0].name, "registry") != 0 || strcmp(s[1].name, "unknown") != 0)
        return 3;
    if (fcntl(3, F_GETFD) != FD_CLOEXEC || fcntl(4, F_GETFD) != FD_CLOEXEC)
        return 4;
    if ((fcntl(3, F_GETFL) & O_NONBLOCK) == 0)
        return 7;
    if (fcntl(5, F_GETFD) != -1 || getenv("LISTEN_FDS") != NULL)
        return 5;
    set_environment(getpid(), "9", NULL);
    if (sd_sockets(s, 2) != 2 || strcmp(s[0].name, "unknown") != 0)
        return 6;
    return 0;
}

static void sockets_are_taken_with_their_names(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(take_sockets());
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void what_is_not_for_us_is_not_taken(void **state)
{
    (void)state;
    struct sd_socket s;
    check_environment_gone();
    assert_int_equal(sd_sockets(&s, 1), 0);
    set_environment((long)getpid() + 1, "1", "x");
    assert_int_equal(sd_sockets(&s, 1), 0);
    check_environment_gone();
    static const char *const bad[] = {"", "0", "-1", "x", "1x", "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        set_environment(getpid(), bad[i], NULL);
        assert_int_equal(sd_sockets(&s, 1), 0);
        check_environment_gone();
    }
}

static void check_watchdog(const char *usec, const char *pid, int64_t expected)
{
    assert_int_equal(usec ? setenv("WATCHDOG_USEC", usec, 1) : unsetenv("WATCHDOG_USEC"), 0);
    assert_int_equal(pid ? setenv("WATCHDOG_PID", pid, 1) : unsetenv("WATCHDOG_PID"), 0);
    assert_int_equal(sd_watchdog_us(), expected);
}

static void test_watchdog(void **state)
{
    char pid[32];

    (void)state;
    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    check_watchdog(NULL, NULL, 0);
    check_watchdog("300000000", NULL, 300000000);
    check_watchdog("300000000", pid, 300000000);
    check_watchdog("300000000", "1", 0);
    check_watchdog("300000000", "x", 0);
    check_watchdog("0", pid, 0);
    check_watchdog("-1", pid, 0);
    check_watchdog("1s", pid, 0);
    check_watchdog("99999999999999999999", pid, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_watchdog),
        cmocka_unit_test(the_manager_is_told),
        cmocka_unit_test(without_a_manager_nothing_happens),
        cmocka_unit_test(sockets_are_taken_with_their_names),
        cmocka_unit_test(what_is_not_for_us_is_not_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
