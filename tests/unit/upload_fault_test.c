/* SPDX-License-Identifier: ISC */
/* When the disk takes no more, or the index, or fails altogether. */
#include <errno.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "cache/beneath.h"
#include "tests/unit/upload_bed.h"

/* --- system calls, in place of libc's: for LMDB too --- */

#define UNLIMITED INT64_MAX

enum call { CALL_NONE, CALL_FSYNC, CALL_RENAME, CALL_TRUNCATE, CALL_UNLINK, CALL_OPEN };

static struct {
    /* The disk's, for the threads of the engine. */
    _Atomic int64_t room_bytes;
    /* This call fails, or any does when so many of all have been. */
    _Atomic enum call fails;
    _Atomic int errnum;
    _Atomic bool is_counting, for_ever;
    _Atomic unsigned calls, fail_at;
    _Atomic bool loses_renamed, index_is_full;
} fault = {.room_bytes = UNLIMITED};

static bool fails(enum call call)
{
    errno = fault.errnum;
    if (call != CALL_NONE && fault.fails == call)
        return true;
    if (!fault.is_counting)
        return false;
    unsigned now = atomic_fetch_add(&fault.calls, 1) + 1;
    return now == fault.fail_at || (now > fault.fail_at && fault.for_ever);
}

static bool is_thread(const char *which)
{
    char name[16];

    return pthread_getname_np(pthread_self(), name, sizeof name) == 0 && strcmp(name, which) == 0;
}

/* Whether the index takes no more pages. */
static bool is_index_full(void)
{
    errno = ENOSPC;
    return fault.index_is_full && is_thread("storage");
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    if (is_index_full() || fails(CALL_NONE))
        return -1;
    if (fault.room_bytes != UNLIMITED && is_thread("upload")) {
        int64_t room = fault.room_bytes;
        if (room == 0) {
            errno = ENOSPC;
            return -1;
        }
        if (len > (size_t)room)
            len = (size_t)room;
        fault.room_bytes -= (int64_t)len;
    }
    return syscall(SYS_pwrite64, fd, data, len, offset);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    if (is_index_full() || fails(CALL_NONE))
        return -1;
    return syscall(SYS_pwritev, fd, parts, count, offset, 0);
}

int fsync(int fd)
{
    return fails(CALL_FSYNC) ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return fails(CALL_NONE) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    if (fails(CALL_RENAME))
        return -1;
    int result = (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, 0);

    if (result == 0 && fault.loses_renamed)
        syscall(SYS_unlinkat, to_dir, to, 0);
    return result;
}

int unlinkat(int dir, const char *path, int flags)
{
    return fails(CALL_UNLINK) ? -1 : (int)syscall(SYS_unlinkat, dir, path, flags);
}

int ftruncate(int fd, off_t size)
{
    return fails(CALL_TRUNCATE) ? -1 : (int)syscall(SYS_ftruncate, fd, size);
}

int beneath_open(int dir, const char *name, int flags, mode_t mode)
{
    return fails(CALL_OPEN) ? -1 : (int)syscall(SYS_openat, dir, name, flags | O_NOFOLLOW, mode);
}

static int fault_setup(void **state)
{
    fault.room_bytes = UNLIMITED;
    fault.fails = CALL_NONE;
    fault.is_counting = fault.loses_renamed = fault.index_is_full = false;
    return setup(state);
}

#define FAULT_TEST(f) cmocka_unit_test_setup_teardown(f, fault_setup, teardown)

/* --- a disk that is full --- */

static long file_size(struct bed *b, const char *id)
{
    char name[64];

    snprintf(name, sizeof name, "partial/upload-%s", id);
    return scratch_file_size(b->scratch->dir, name);
}

/* There is room for MIB + 10 only. */
static void fill_disk(struct bed *b, struct client *c)
{
    begin(b, c);
    fault.room_bytes = MIB + 10;
    write_range(b, c, 0, 3 * MIB);
    AWAIT(b, upload_has_failed(c->upload));
    /* More is dropped. */
    assert_true(upload_write(c->upload, b->data, DATA_BYTES));
}

/* What is there is the beginning, and not more than fits. */
static void expect_part(struct bed *b, struct client *c)
{
    assert_in_range(upload_size(c->upload), 1, MIB + 10);
    assert_int_equal(file_size(b, upload_id(c->upload)), upload_size(c->upload));
    assert_false(upload_has_failed(c->upload));
}

static void go_on_to_the_end(struct bed *b, struct client *c)
{
    struct digest d = digest_of_data(b, DIGEST_SHA256, 4 * MIB);

    fault.room_bytes = UNLIMITED;
    write_range(b, c, upload_size(c->upload), 4 * MIB);
    assert_int_equal(finish(b, c, &d), 0);
    expect_stored(b, &d, 4 * MIB);
    expect_no_sessions(b);
}

static void test_a_full_disk_then_a_settle(void **state)
{
    struct bed *b = *state;
    struct client c;

    fill_disk(b, &c);
    assert_int_equal(settle(b, &c), ERR_NO_SPACE);
    expect_part(b, &c);
    uint64_t size = upload_size(c.upload);
    /* Still full: nothing is added. */
    fault.room_bytes = 100;
    upload_write(c.upload, b->data + size, 200);
    assert_int_equal(settle(b, &c), ERR_NO_SPACE);
    assert_int_equal(upload_size(c.upload), size);
    expect_part(b, &c);
    go_on_to_the_end(b, &c);
    assert_int_equal(b->stats.store_failures, 2);
}

static void test_a_full_disk_then_a_finish(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 3 * MIB);
    struct client c;

    fill_disk(b, &c);
    ask_finish(&c, &d);
    assert_int_equal(answer_of(b, &c), ERR_NO_SPACE);
    expect_part(b, &c);
    assert_int_equal(stored_size(b, "team/app", &d), -1);
    go_on_to_the_end(b, &c);
}

static void test_a_full_disk_and_nobody_asks(void **state)
{
    struct bed *b = *state;
    char id[UPLOAD_ID_SIZE];
    struct client c;

    for (int restarted = 0; restarted < 2; restarted++) {
        fill_disk(b, &c);
        memcpy(id, upload_id(c.upload), sizeof id);
        upload_leave(&c.upload);
        if (restarted)
            bed_restart(b, DAY_S);
        assert_int_equal(reopen(b, &c, id), 0);
        expect_part(b, &c);
        go_on_to_the_end(b, &c);
    }
}

static void test_a_full_disk_then_a_cancel(void **state)
{
    struct bed *b = *state;
    struct client c;

    fill_disk(b, &c);
    assert_int_equal(cancel(b, &c), 0);
    expect_no_sessions(b);
    fault.room_bytes = UNLIMITED;
    begin(b, &c);
    go_on_to_the_end(b, &c);
}

/* Even what was written in part cannot be taken away: it is later. */
static void test_a_rest_that_stays(void **state)
{
    struct bed *b = *state;
    struct client c;

    fault.errnum = EIO;
    fault.fails = CALL_TRUNCATE;
    fill_disk(b, &c);
    assert_int_equal(settle(b, &c), ERR_NO_SPACE);
    assert_in_range(upload_size(c.upload), 1, MIB + 10);
    fault.fails = CALL_NONE;
    go_on_to_the_end(b, &c);
}

static void test_no_room_for_a_name(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 2 * MIB);
    char id[UPLOAD_ID_SIZE];
    struct client c;

    fault.errnum = ENOSPC;
    fault.fails = CALL_OPEN;
    ask_begin(b, &c, DIGEST_SHA256);
    assert_int_equal(answer_of(b, &c), ERR_NO_SPACE);
    upload_leave(&c.upload);
    expect_no_sessions(b);
    fault.fails = CALL_NONE;
    begin(b, &c);
    memcpy(id, upload_id(c.upload), sizeof id);
    write_range(b, &c, 0, 2 * MIB);
    fault.fails = CALL_RENAME;
    assert_int_equal(finish(b, &c, &d), ERR_NO_SPACE);
    assert_int_equal(stored_size(b, "team/app", &d), -1);
    assert_int_equal(b->stats.uploads, 1);
    fault.fails = CALL_NONE;
    assert_int_equal(reopen(b, &c, id), 0);
    assert_int_equal(upload_size(c.upload), 2 * MIB);
    assert_int_equal(finish(b, &c, &d), 0);
    expect_stored(b, &d, 2 * MIB);
    expect_no_sessions(b);
}

/* --- a disk that fails --- */

static void test_an_fsync_that_fails(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 2 * MIB);
    char id[UPLOAD_ID_SIZE];
    struct client c, other;

    begin(b, &c);
    begin(b, &other);
    memcpy(id, upload_id(c.upload), sizeof id);
    write_range(b, &c, 0, 2 * MIB);
    fault.errnum = EIO;
    fault.fails = CALL_FSYNC;
    assert_int_equal(finish(b, &c, &d), ERR_IO);
    fault.fails = CALL_NONE;
    assert_false(storage_is_writable(b->storage));
    assert_int_equal(stored_size(b, "team/app", &d), -1);
    /* Nothing is written any more. */
    upload_write(other.upload, b->data, 100);
    assert_int_equal(settle(b, &other), ERR_IO);
    assert_int_equal(upload_size(other.upload), 0);
    upload_leave(&other.upload);
    ask_begin(b, &other, DIGEST_SHA256);
    assert_int_equal(answer_of(b, &other), ERR_IO);
    upload_leave(&other.upload);
    /* The restart that this needs. */
    bed_restart(b, DAY_S);
    assert_int_equal(reopen(b, &c, id), 0);
    assert_int_equal(finish(b, &c, &d), 0);
    expect_stored(b, &d, 2 * MIB);
}

/* What is not there is not acknowledged. */
static void test_a_blob_that_is_lost_before_its_record(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 100);
    struct client c;

    begin(b, &c);
    write_range(b, &c, 0, 100);
    fault.loses_renamed = true;
    assert_int_equal(finish(b, &c, &d), ERR_NOT_FOUND);
    fault.loses_renamed = false;
    assert_int_equal(stored_size(b, "team/app", &d), -1);
    begin(b, &c);
    write_range(b, &c, 0, 100);
    assert_int_equal(finish(b, &c, &d), 0);
    expect_stored(b, &d, 100);
}

static void test_a_file_that_cannot_be_read_back(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, MIB);
    struct digest d512 = digest_of_data(b, DIGEST_SHA512, MIB);
    char name[64], id[UPLOAD_ID_SIZE];
    struct client c;

    begin(b, &c);
    memcpy(id, upload_id(c.upload), sizeof id);
    snprintf(name, sizeof name, "partial/upload-%s", id);
    write_range(b, &c, 0, MIB);
    assert_int_equal(settle(b, &c), 0);
    assert_int_equal(truncate(scratch_path(b->scratch->dir, name), MIB / 2), 0);
    assert_int_equal(finish(b, &c, &d512), ERR_IO);
    scratch_file(b->scratch->dir, name, b->data, MIB);
    assert_int_equal(reopen(b, &c, id), 0);
    assert_int_equal(upload_size(c.upload), MIB);
    assert_int_equal(finish(b, &c, &d), 0);
    expect_stored(b, &d, MIB);
}

/* --- an index that is full --- */

static void test_a_full_index(void **state)
{
    struct bed *b = *state;
    struct digest held = digest_of_data(b, DIGEST_SHA256, MIB);
    struct digest d = digest_of_data(b, DIGEST_SHA256, 2 * MIB);
    char id[UPLOAD_ID_SIZE];
    struct client c, again, late, cancelled;

    begin(b, &c);
    write_range(b, &c, 0, MIB);
    assert_int_equal(finish(b, &c, &held), 0);
    begin(b, &again);
    write_range(b, &again, 0, MIB);
    begin(b, &c);
    memcpy(id, upload_id(c.upload), sizeof id);
    write_range(b, &c, 0, 2 * MIB);
    begin(b, &cancelled);
    fault.index_is_full = true;
    ask_begin(b, &late, DIGEST_SHA256);
    assert_int_equal(answer_of(b, &late), ERR_NO_SPACE);
    upload_leave(&late.upload);
    assert_int_equal(files_in(b, "partial"), 3);
    assert_int_equal(finish(b, &c, &d), ERR_NO_SPACE);
    assert_int_equal(open_error(b, id), ERR_NOT_FOUND);
    assert_int_equal(stored_size(b, "team/app", &d), -1);
    /* No file is left that nobody counts, and none is removed that somebody has. */
    assert_int_equal(finish(b, &again, &held), ERR_NO_SPACE);
    assert_int_equal(files_in(b, "blobs/sha256"), 1);
    expect_stored(b, &held, MIB);
    assert_int_equal(cancel(b, &cancelled), 0);
    fault.index_is_full = false;
    assert_true(storage_is_writable(b->storage));
    begin(b, &c);
    write_range(b, &c, 0, 2 * MIB);
    assert_int_equal(finish(b, &c, &d), 0);
    expect_stored(b, &d, 2 * MIB);
    /* Their records are left, and go with the next sweep. */
    assert_int_equal(records(b), 3);
    assert_int_equal(b->stats.uploads, 3);
    bed_restart(b, DAY_S);
    AWAIT(b, is_quiet(b));
    expect_no_sessions(b);
}

/* --- every call in turn --- */

static int visit_blob(void *arg, struct db_value key, struct db_value value)
{
    struct bed *b = arg;
    struct digest d;

    (void)value;
    assert_int_equal(digest_from_key(&d, key.data, key.size), key.size);
    expect_stored(b, &d, MIB);
    return 0;
}

static void check_blobs(struct bed *b)
{
    struct db_reader *reader;
    struct db_txn *txn;

    reader = scratch_reader(b->scratch);
    assert_int_equal(db_read(reader, &txn), 0);
    assert_int_equal(db_walk(txn, DB_BLOBS, NULL, 0, NULL, 0, visit_blob, b), 0);
    db_read_end(reader);
    db_reader_free(&reader);
}

/* A push; returns how it ended, and where it came to. */
static int push(struct bed *b, const struct digest *d, char id[UPLOAD_ID_SIZE])
{
    struct client c;

    id[0] = '\0';
    ask_begin(b, &c, DIGEST_SHA256);
    int err = answer_of(b, &c);
    if (err != 0) {
        upload_leave(&c.upload);
        return err;
    }
    memcpy(id, upload_id(c.upload), UPLOAD_ID_SIZE);
    write_range(b, &c, 0, MIB / 2);
    err = settle(b, &c);
    if (err == 0) {
        write_range(b, &c, MIB / 2, MIB);
        return finish(b, &c, d);
    }
    upload_leave(&c.upload);
    return err;
}

/* What the failed push has left is good to go on with, or not there. */
static void go_on_after(struct bed *b, const struct digest *d, const char *id)
{
    struct client c;

    if (id[0] != '\0' && reopen(b, &c, id) == 0) {
        assert_in_range(upload_size(c.upload), 0, MIB);
        write_range(b, &c, upload_size(c.upload), MIB);
        assert_int_equal(finish(b, &c, d), 0);
        expect_stored(b, d, MIB);
    } else if (id[0] != '\0') {
        assert_int_equal(c.err, ERR_NOT_FOUND);
        upload_leave(&c.upload);
    }
}

static void each_call_fails(struct bed *b, int errnum, bool for_ever)
{
    struct digest d = digest_of_data(b, DIGEST_SHA256, MIB);
    char id[UPLOAD_ID_SIZE];
    bool is_met = true;

    fault.errnum = errnum;
    fault.for_ever = for_ever;
    for (unsigned at = 1; is_met; at++) {
        fault.calls = 0;
        fault.fail_at = at;
        fault.is_counting = true;
        int err = push(b, &d, id);
        fault.is_counting = false;
        is_met = fault.calls >= at;
        assert_true(is_met || err == 0);
        bed_restart(b, DAY_S);
        check_blobs(b);
        if (err == 0)
            expect_stored(b, &d, MIB);
        else
            go_on_after(b, &d, id);
        assert_int_equal(push(b, &d, id), 0);
        expect_stored(b, &d, MIB);
        AWAIT(b, is_quiet(b));
        assert_int_equal(records(b), b->stats.uploads);
    }
    assert_true(fault.fail_at > 10);
}

static void test_each_call_fails_once(void **state)
{
    each_call_fails(*state, EIO, false);
}

static void test_each_call_fails_for_ever(void **state)
{
    each_call_fails(*state, EIO, true);
}

static void test_the_disk_is_full_from_each_call_on(void **state)
{
    each_call_fails(*state, ENOSPC, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAULT_TEST(test_a_full_disk_then_a_settle),
        FAULT_TEST(test_a_full_disk_then_a_finish),
        FAULT_TEST(test_a_full_disk_and_nobody_asks),
        FAULT_TEST(test_a_full_disk_then_a_cancel),
        FAULT_TEST(test_a_rest_that_stays),
        FAULT_TEST(test_no_room_for_a_name),
        FAULT_TEST(test_an_fsync_that_fails),
        FAULT_TEST(test_a_blob_that_is_lost_before_its_record),
        FAULT_TEST(test_a_file_that_cannot_be_read_back),
        FAULT_TEST(test_a_full_index),
        FAULT_TEST(test_each_call_fails_once),
        FAULT_TEST(test_each_call_fails_for_ever),
        FAULT_TEST(test_the_disk_is_full_from_each_call_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
