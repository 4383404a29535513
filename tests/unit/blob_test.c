/* SPDX-License-Identifier: ISC */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "tests/unit/scratch.h"

/* In place of libc's: fails once this many calls are left, 0 when it never does. */
static int fsync_fails_in;

int fsync(int fd)
{
    if (fsync_fails_in > 0 && --fsync_fails_in == 0) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

static unsigned partial_files(const struct scratch *s)
{
    DIR *dir = opendir(scratch_path(s->dir, "partial"));
    unsigned count = 0;

    assert_non_null(dir);
    while (readdir(dir) != NULL) {
        count++;
    }
    closedir(dir);
    return count - 2;
}

static void test_record(void **state)
{
    static const struct blob_record stored = {.size_bytes = 1500000000000,
                                              .origin = BLOB_PRIVATE,
                                              .stored_at_s = 1700000000,
                                              .used_at_s = -1};
    struct digest d = scratch_digest("x");
    struct digest other = scratch_digest("y");
    struct blob_record r;
    struct db_txn *txn = scratch_write(*state);

    assert_int_equal(blob_get(txn, &d, &r), ERR_NOT_FOUND);
    assert_int_equal(blob_forget(txn, &d), ERR_NOT_FOUND);
    assert_int_equal(blob_put(txn, &d, &stored), 0);
    assert_int_equal(blob_get(txn, &d, &r), 0);
    assert_true(r.size_bytes == stored.size_bytes);
    assert_int_equal(r.origin, stored.origin);
    assert_int_equal(r.stored_at_s, stored.stored_at_s);
    assert_int_equal(r.used_at_s, stored.used_at_s);
    assert_int_equal(blob_get(txn, &other, &r), ERR_NOT_FOUND);
    assert_int_equal(blob_forget(txn, &d), 0);
    assert_int_equal(blob_get(txn, &d, &r), ERR_NOT_FOUND);
    db_abort(&txn);
}

static void expect_used_at(struct db_txn *txn, const struct digest *d, int64_t now_s,
                           int64_t expected_s)
{
    struct blob_record r;

    assert_int_equal(blob_touch(txn, d, now_s), 0);
    assert_int_equal(blob_get(txn, d, &r), 0);
    assert_true(r.used_at_s == expected_s);
    assert_int_equal(r.stored_at_s, 1000);
}

static void test_touch_is_coarse(void **state)
{
    static const struct blob_record stored = {
        .size_bytes = 1, .origin = BLOB_PUBLIC, .stored_at_s = 1000, .used_at_s = 1000};
    struct digest d = scratch_digest("x");
    struct digest unknown = scratch_digest("y");
    struct db_txn *txn = scratch_write(*state);

    assert_int_equal(blob_put(txn, &d, &stored), 0);
    expect_used_at(txn, &d, 1000 + BLOB_TOUCH_S, 1000);
    expect_used_at(txn, &d, 1001 + BLOB_TOUCH_S, 1601);
    expect_used_at(txn, &d, 10, 1601);
    expect_used_at(txn, &d, INT64_MAX, INT64_MAX);
    expect_used_at(txn, &d, INT64_MIN, INT64_MIN);
    assert_int_equal(blob_touch(txn, &unknown, 5), 0);
    db_abort(&txn);
}

static void test_damaged_records(void **state)
{
    struct digest d = scratch_digest("x");
    uint8_t key[DIGEST_KEY_MAX];
    size_t key_len = digest_to_key(&d, key);
    uint8_t bytes[64] = {1, 5, 0, 0, 0, 0, 0, 0, 0, BLOB_PUBLIC};
    struct blob_record r;
    struct db_txn *txn = scratch_write(*state);

    for (size_t len = 0; len < sizeof bytes; len++) {
        assert_int_equal(db_put(txn, DB_BLOBS, key, key_len, bytes, len), 0);
        assert_int_equal(blob_get(txn, &d, &r), len == 26 ? 0 : ERR_DAMAGED);
    }
    bytes[9] = 9;
    assert_int_equal(db_put(txn, DB_BLOBS, key, key_len, bytes, 26), 0);
    assert_int_equal(blob_get(txn, &d, &r), ERR_DAMAGED);
    bytes[9] = BLOB_PUSHED;
    bytes[8] = 0x80;
    assert_int_equal(db_put(txn, DB_BLOBS, key, key_len, bytes, 26), 0);
    assert_int_equal(blob_get(txn, &d, &r), ERR_DAMAGED);
    assert_int_equal(blob_touch(txn, &d, 5), ERR_DAMAGED);
    db_abort(&txn);
}

static void test_write_and_open(void **state)
{
    struct scratch *s = *state;
    struct digest d;
    char text[8];
    int fd;

    for (enum digest_alg alg = DIGEST_SHA256; alg <= DIGEST_SHA512; alg++) {
        digest_of(alg, "hello", 5, &d);
        assert_int_equal(blob_open(s->store, &d, 5, &fd), ERR_MISMATCH);
        assert_int_equal(blob_write(s->store, &d, "hello", 5), 0);
        assert_int_equal(blob_open(s->store, &d, 5, &fd), 0);
        assert_int_equal(read(fd, text, sizeof text), 5);
        assert_memory_equal(text, "hello", 5);
        assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        /* A second writer of the same blob replaces it under its readers. */
        assert_int_equal(blob_write(s->store, &d, "hello", 5), 0);
        close(fd);
        assert_int_equal(blob_unlink(s->store, &d), 0);
        assert_int_equal(blob_open(s->store, &d, 5, &fd), ERR_MISMATCH);
        assert_int_equal(blob_unlink(s->store, &d), 0);
    }
    assert_int_equal(partial_files(s), 0);
}

static void test_a_record_is_not_trusted_alone(void **state)
{
    struct scratch *s = *state;
    struct digest d = scratch_digest("hello");
    char hex[DIGEST_TEXT_MAX];
    char name[200];
    int fd;

    snprintf(name, sizeof name, "blobs/sha256/%s", store_blob_name(&d, hex));
    assert_int_equal(blob_write(s->store, &d, "hello", 5), 0);
    assert_int_equal(blob_open(s->store, &d, 6, &fd), ERR_MISMATCH);
    assert_int_equal(blob_open(s->store, &d, 4, &fd), ERR_MISMATCH);
    assert_int_equal(truncate(scratch_path(s->dir, name), 0), 0);
    assert_int_equal(blob_open(s->store, &d, 5, &fd), ERR_MISMATCH);
    assert_int_equal(blob_unlink(s->store, &d), 0);

    scratch_file(s->dir, "elsewhere", "hello", 5);
    assert_int_equal(symlink("../../elsewhere", scratch_path(s->dir, name)), 0);
    assert_int_equal(blob_open(s->store, &d, 5, &fd), ERR_MISMATCH);
    assert_int_equal(blob_unlink(s->store, &d), 0);
    assert_int_equal(mkfifo(scratch_path(s->dir, name), 0600), 0);
    assert_int_equal(blob_open(s->store, &d, 0, &fd), ERR_MISMATCH);
    assert_int_equal(blob_unlink(s->store, &d), 0);
    assert_int_equal(mkdir(scratch_path(s->dir, name), 0700), 0);
    assert_int_equal(blob_open(s->store, &d, 4096, &fd), ERR_MISMATCH);
}

static void test_each_sync_that_fails(void **state)
{
    struct scratch *s = *state;
    struct digest d = scratch_digest("hello");
    int fd;

    fsync_fails_in = 1;
    assert_int_equal(blob_write(s->store, &d, "hello", 5), ERR_IO);
    assert_int_equal(blob_open(s->store, &d, 5, &fd), ERR_MISMATCH);
    assert_int_equal(partial_files(s), 0);
    fsync_fails_in = 2;
    assert_int_equal(blob_write(s->store, &d, "hello", 5), ERR_IO);
    assert_int_equal(partial_files(s), 0);
    fsync_fails_in = 0;
    assert_int_equal(blob_write(s->store, &d, "hello", 5), 0);
}

static void test_a_write_that_fails(void **state)
{
    struct scratch *s = *state;
    struct digest d = scratch_digest("hello");
    struct rlimit saved;
    int fd;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &saved), 0);
    struct rlimit small = {2, saved.rlim_max};

    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int err = blob_write(s->store, &d, "hello", 5);

    assert_int_equal(setrlimit(RLIMIT_FSIZE, &saved), 0);
    assert_int_equal(err, ERR_IO);
    assert_int_equal(partial_files(s), 0);
    assert_int_equal(blob_open(s->store, &d, 2, &fd), ERR_MISMATCH);
}

/* What was removed meanwhile is written again, and only that. */
static void test_restore(void **state)
{
    struct scratch *s = *state;
    struct digest d = scratch_digest("hello");
    struct digest other = scratch_digest("other");

    assert_int_equal(blob_check(s->store, &d, 5), ERR_MISMATCH);
    assert_int_equal(blob_restore(s->store, &d, "hello", 5), 0);
    assert_int_equal(blob_check(s->store, &d, 5), 0);
    assert_int_equal(blob_check(s->store, &d, 4), ERR_MISMATCH);
    assert_int_equal(blob_check(s->store, &other, 5), ERR_MISMATCH);
    assert_int_equal(blob_unlink(s->store, &d), 0);
    assert_int_equal(blob_restore(s->store, &d, "hello", 5), 0);
    assert_int_equal(blob_restore(s->store, &d, "HELLO", 5), 0);
    int fd;
    char bytes[5];

    assert_int_equal(blob_open(s->store, &d, 5, &fd), 0);
    assert_int_equal(read(fd, bytes, 5), 5);
    assert_memory_equal(bytes, "hello", 5);
    close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_record),
        TEST(test_touch_is_coarse),
        TEST(test_damaged_records),
        TEST(test_write_and_open),
        TEST(test_a_record_is_not_trusted_alone),
        TEST(test_each_sync_that_fails),
        TEST(test_a_write_that_fails),
        TEST(test_restore),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
