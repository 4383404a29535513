/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cache/check.h"
#include "cache/err.h"

static void test_memory(void **state)
{
    (void)state;
    char *zeroed = mem_new(64);

    for (int i = 0; i < 64; i++) {
        assert_int_equal(zeroed[i], 0);
    }
    zeroed = mem_resize(zeroed, 128);
    free(zeroed);
    char *copy = mem_copy("abcdef", 3);

    assert_string_equal(copy, "abc");
    free(copy);
    copy = mem_copy(NULL, 0);
    assert_string_equal(copy, "");
    free(copy);
    char *formatted = mem_format("%s/%d", "x", 7);

    assert_string_equal(formatted, "x/7");
    free(formatted);
    free(mem_new(0));
}

static void test_failed_check_aborts(void **state)
{
    (void)state;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit no_core = {0, 0};
        int null = open("/dev/null", O_WRONLY);

        setrlimit(RLIMIT_CORE, &no_core);
        dup2(null, STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        CHECK(1 + 1 == 2);
        CHECK(1 + 1 == 3);
        _exit(0);
    }
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void test_errors_have_texts(void **state)
{
    (void)state;
    for (int err = ERR_FULL; err <= 0; err++) {
        assert_string_not_equal(err_text(err), "");
        assert_string_not_equal(err_text(err), "unknown error");
    }
    assert_string_equal(err_text(0), "no error");
    assert_string_equal(err_text(ERR_NOT_FOUND), "not found");
    assert_string_equal(err_text(12345), "unknown error");
}

static void test_errno(void **state)
{
    (void)state;
    assert_int_equal(err_from_errno(ENOSPC), ERR_NO_SPACE);
    assert_int_equal(err_from_errno(EDQUOT), ERR_NO_SPACE);
    assert_int_equal(err_from_errno(ENOENT), ERR_NOT_FOUND);
    assert_int_equal(err_from_errno(EACCES), ERR_DENIED);
    assert_int_equal(err_from_errno(EPERM), ERR_DENIED);
    assert_int_equal(err_from_errno(EROFS), ERR_DENIED);
    assert_int_equal(err_from_errno(EIO), ERR_IO);
    assert_int_equal(err_from_errno(EMFILE), ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_failed_check_aborts),
        cmocka_unit_test(test_errors_have_texts),
        cmocka_unit_test(test_errno),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
