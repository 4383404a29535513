/* SPDX-License-Identifier: ISC */
/* Names that would lead out of a folder open nothing, whether the kernel has openat2 or not. */
#include "cache/beneath.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "tests/unit/scratch.h"

struct bed {
    char dir[64]; /* with in/file, and out, and links to both in in/ */
    int in_fd;
};

static int bed_setup(void **state)
{
    struct bed *b = calloc(1, sizeof *b);

    assert_non_null(b);
    scratch_dir(b->dir);
    assert_int_equal(mkdir(scratch_path(b->dir, "in"), 0700), 0);
    assert_int_equal(mkdir(scratch_path(b->dir, "in/folder"), 0700), 0);
    scratch_file(b->dir, "in/file", "in", 2);
    scratch_file(b->dir, "in/folder/deep", "in", 2);
    scratch_file(b->dir, "out", "out", 3);
    assert_int_equal(symlink("file", scratch_path(b->dir, "in/link")), 0);
    assert_int_equal(symlink("../out", scratch_path(b->dir, "in/link-out")), 0);
    b->in_fd = open(scratch_path(b->dir, "in"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(b->in_fd >= 0);
    *state = b;
    return 0;
}

static int bed_teardown(void **state)
{
    struct bed *b = *state;

    close(b->in_fd);
    scratch_remove(b->dir);
    free(b);
    return 0;
}

static int opens(const struct bed *b, const char *name, int flags)
{
    int fd = beneath_open(b->in_fd, name, flags | O_CLOEXEC, 0600);

    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

static void check_names(const struct bed *b)
{
    char outside[128];

    snprintf(outside, sizeof outside, "%s/out", b->dir);
    assert_int_equal(opens(b, "file", O_RDONLY), 0);
    assert_int_equal(opens(b, "none", O_RDONLY), ENOENT);
    assert_int_equal(opens(b, "link", O_RDONLY), ELOOP);
    assert_int_equal(opens(b, "link-out", O_RDWR | O_CREAT), ELOOP);
    assert_int_equal(opens(b, "..", O_RDONLY | O_DIRECTORY), EXDEV);
    assert_int_equal(opens(b, "../out", O_RDONLY), EXDEV);
    assert_int_equal(opens(b, outside, O_RDONLY), EXDEV);
    assert_int_equal(opens(b, "new", O_RDWR | O_CREAT | O_EXCL), 0);
    assert_int_equal(opens(b, "new", O_RDWR | O_CREAT | O_EXCL), EEXIST);
    assert_int_equal(scratch_file_size(b->dir, "out"), 3);
}

static void names_stay_beneath(void **state)
{
    check_names(*state);
}

/* From here on the call is answered with this error. */
static void answer_openat2(unsigned error)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof rules / sizeof rules[0], rules};

    assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
}

/* Of its own each, last: a filter stays. */
static void the_same_without_the_call(void **state)
{
    answer_openat2(ENOSYS);
    check_names(*state);
}

static void the_same_where_it_is_denied(void **state)
{
    answer_openat2(EPERM);
    check_names(*state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names_stay_beneath, bed_setup, bed_teardown),
        cmocka_unit_test_setup_teardown(the_same_without_the_call, bed_setup, bed_teardown),
        cmocka_unit_test_setup_teardown(the_same_where_it_is_denied, bed_setup, bed_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
