/* SPDX-License-Identifier: ISC */
#include <dirent.h>
#include <sys/wait.h>

#include "cache/err.h"
#include "tests/unit/scratch.h"

static char why[512];
static unsigned found_mode, mode_since;

static int open_as(const char *path, enum store_mode mode)
{
    struct store *s = NULL;

    why[0] = '\0';
    int err = store_open(&s, path, mode, SCRATCH_MAP_BYTES, why, sizeof why);

    if (err != 0) {
        assert_null(s);
        assert_string_not_equal(why, "");
    } else {
        store_permissions(s, &found_mode, &mode_since);
    }
    store_close(&s);
    return err;
}

static int open_own(const char *path)
{
    return open_as(path, STORE_OWN);
}

static void expect_refused(const char *path, int err, const char *word)
{
    assert_int_equal(open_own(path), err);
    if (strstr(why, word) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", word, why);
    }
}

static int open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int count = 0;

    assert_non_null(dir);
    while (readdir(dir) != NULL) {
        count++;
    }
    closedir(dir);
    return count;
}

static void test_a_new_cache(void **state)
{
    static const char *const dirs[] = {"c",         "c/blobs", "c/blobs/sha256", "c/blobs/sha512",
                                       "c/partial", "c/db"};
    char path[128];
    char layout[128] = "";
    int before = open_fds();

    snprintf(path, sizeof path, "%s/c", (char *)*state);
    struct store *s = scratch_store(path);

    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        struct stat st;

        assert_int_equal(lstat(scratch_path(*state, dirs[i]), &st), 0);
        assert_true(S_ISDIR(st.st_mode));
        assert_int_equal(st.st_mode & 07777, 0700);
    }
    int fd = open(scratch_path(*state, "c/oci-layout"), O_RDONLY);

    assert_true(read(fd, layout, sizeof layout - 1) > 0);
    close(fd);
    assert_string_equal(layout, "{\"imageLayoutVersion\":\"1.0.0\"}\n");
    assert_string_equal(store_path(s), path);
    assert_non_null(store_db(s));
    assert_true(store_root_fd(s) >= 0);
    assert_true(store_blobs_fd(s, DIGEST_SHA256) >= 0);
    assert_true(store_blobs_fd(s, DIGEST_SHA512) >= 0);
    assert_true(store_partial_fd(s) >= 0);
    store_close(&s);
    assert_null(s);
    assert_int_equal(open_fds(), before);
    assert_int_equal(open_own(path), 0);
    assert_int_equal(open_as(path, STORE_READ), 0);
    assert_int_equal(open_fds(), before);
}

static void test_a_slash_at_the_end(void **state)
{
    char path[128];

    snprintf(path, sizeof path, "%s/c//", (char *)*state);
    struct store *s = scratch_store(path);

    assert_int_not_equal(store_path(s)[strlen(store_path(s)) - 1], '/');
    store_close(&s);
}

static void test_names(void **state)
{
    struct digest d = scratch_digest("x");
    char text[DIGEST_TEXT_MAX];
    char name[DIGEST_TEXT_MAX];

    (void)state;
    digest_text(&d, text);
    assert_string_equal(store_blob_name(&d, name), text + strlen("sha256:"));
    store_partial_name(&d, name);
    assert_int_equal(strncmp(name, "sha256-", 7), 0);
    assert_string_equal(name + 7, text + 7);
}

static void test_a_second_daemon_is_refused(void **state)
{
    char pid[32];
    struct store *s = scratch_store(*state);

    expect_refused(*state, ERR_BUSY, *state);
    snprintf(pid, sizeof pid, "(process %ld)", (long)getpid());
    assert_non_null(strstr(why, pid));
    store_close(&s);
    assert_int_equal(open_own(*state), 0);
}

static void test_the_lock_goes_with_its_holder(void **state)
{
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        scratch_store(*state);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(open_own(*state), 0);
}

static void test_symbolic_links_are_refused(void **state)
{
    char target[128];
    char link[128];
    char slash[130];

    snprintf(target, sizeof target, "%s/target", (char *)*state);
    snprintf(link, sizeof link, "%s/link", (char *)*state);
    snprintf(slash, sizeof slash, "%s/", link);
    assert_int_equal(mkdir(target, 0700), 0);
    assert_int_equal(symlink(target, link), 0);
    expect_refused(link, ERR_DENIED, "symbolic link");
    expect_refused(slash, ERR_DENIED, "symbolic link");
    assert_int_equal(open_own(target), 0);
    assert_int_equal(rmdir(scratch_path(target, "partial")), 0);
    assert_int_equal(symlink("/tmp", scratch_path(target, "partial")), 0);
    assert_int_not_equal(open_own(target), 0);
    assert_non_null(strstr(why, "partial"));
}

static void test_what_is_no_directory(void **state)
{
    char path[128];

    scratch_file(*state, "file", "x", 1);
    snprintf(path, sizeof path, "%s/file", (char *)*state);
    expect_refused(path, ERR_DENIED, "not a directory");
    snprintf(path, sizeof path, "%s/no/such/parent", (char *)*state);
    expect_refused(path, ERR_NOT_FOUND, "No such file");
    expect_refused("", ERR_INVALID, "empty");
}

static void test_foreign_files_are_refused(void **state)
{
    scratch_file(*state, "thesis.txt", "x", 1);
    expect_refused(*state, ERR_INVALID, "thesis.txt");
    assert_int_equal(scratch_file_size(*state, "lock"), -1);
    assert_int_equal(scratch_file_size(*state, "db"), -1);
    scratch_file(*state, "oci-layout", "{\"imageLayoutVersion\": \"1.0.0\"}", 31);
    assert_int_equal(open_own(*state), 0);
}

static void test_a_start_that_was_cut_short(void **state)
{
    assert_int_equal(mkdir(scratch_path(*state, "partial"), 0700), 0);
    assert_int_equal(mkdir(scratch_path(*state, "lost+found"), 0700), 0);
    scratch_file(*state, "lock", "1\n", 2);
    assert_int_equal(open_own(*state), 0);
}

static void test_other_layouts(void **state)
{
    scratch_file(*state, "oci-layout", "{\"imageLayoutVersion\":\"2.0.0\"}", 30);
    expect_refused(*state, ERR_VERSION, "oci-layout");
    scratch_file(*state, "oci-layout", "", 0);
    expect_refused(*state, ERR_VERSION, "oci-layout");
}

/* A cache that an older version has left open, or whose disk was made by hand. */
static void test_closed_to_others(void **state)
{
    static const unsigned open_modes[] = {0755, 0750, 0701, 02770};
    struct stat st;

    for (size_t i = 0; i < sizeof open_modes / sizeof *open_modes; i++) {
        assert_int_equal(chmod(*state, open_modes[i]), 0);
        assert_int_equal(open_own(*state), 0);
        assert_int_equal(found_mode, open_modes[i]);
        assert_int_equal(mode_since, 0700);
        assert_int_equal(stat(*state, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0700);
    }
    assert_int_equal(chmod(*state, 0755), 0);
    assert_int_equal(open_as(*state, STORE_READ), 0);
    assert_int_equal(mode_since, 0755);
}

static void test_owner_and_mode(void **state)
{
    assert_int_equal(chmod(*state, 0777), 0);
    expect_refused(*state, ERR_DENIED, "chmod 0700");
    assert_int_equal(chmod(*state, 0755), 0);
    assert_int_equal(open_own(*state), 0);
    if (geteuid() != 0) {
        return;
    }
    assert_int_equal(chown(*state, 12345, 12345), 0);
    expect_refused(*state, ERR_DENIED, "belongs to user 12345");
    assert_int_equal(open_as(*state, STORE_READ), 0);
}

/* As another user, for root can write everywhere. */
static void test_not_writable(void **state)
{
    int status;
    uid_t user = geteuid() == 0 ? 12345 : geteuid();

    assert_true(geteuid() != 0 || chown(*state, user, user) == 0);
    assert_int_equal(chmod(*state, 0500), 0);
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        if (geteuid() == 0 && (setgid(user) != 0 || setuid(user) != 0)) {
            _exit(2);
        }
        int err = open_own(*state);

        _exit(err == ERR_DENIED && strstr(why, "Permission denied") != NULL ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(chmod(*state, 0700), 0);
}

static void test_a_bad_index(void **state)
{
    static const char garbage[16384] = "x";

    assert_int_equal(open_own(*state), 0);
    scratch_file(*state, "db/data.mdb", garbage, sizeof garbage);
    expect_refused(*state, ERR_DAMAGED, "is damaged; start cachalotd");
}

static void test_reading_what_is_no_cache(void **state)
{
    assert_int_equal(open_as(*state, STORE_READ), ERR_NOT_FOUND);
    assert_non_null(strstr(why, "is not a cache"));
    assert_int_equal(rmdir(*state), 0);
    assert_int_equal(open_as(*state, STORE_READ), ERR_NOT_FOUND);
    assert_int_equal(mkdir(*state, 0700), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_dir_setup, scratch_dir_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_new_cache),
        TEST(test_a_slash_at_the_end),
        TEST(test_names),
        TEST(test_a_second_daemon_is_refused),
        TEST(test_the_lock_goes_with_its_holder),
        TEST(test_symbolic_links_are_refused),
        TEST(test_what_is_no_directory),
        TEST(test_foreign_files_are_refused),
        TEST(test_a_start_that_was_cut_short),
        TEST(test_other_layouts),
        TEST(test_closed_to_others),
        TEST(test_owner_and_mode),
        TEST(test_not_writable),
        TEST(test_a_bad_index),
        TEST(test_reading_what_is_no_cache),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
