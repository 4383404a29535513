/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "cache/partial.h"
#include "cache/record.h"
#include "cache/upload.h"
#include "tests/unit/scratch.h"

#define ID "0123456789abcdef0123456789abcdef"
#define FILE_OF(id) "partial/upload-" id

/* libc's, but for the time that it fails. */
static bool ftruncate_fails;

int ftruncate(int fd, off_t size)
{
    if (ftruncate_fails) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_ftruncate, fd, size);
}

static void test_ids(void **state)
{
    static const char *const bad[] = {"",
                                      "0",
                                      "0123456789abcdef0123456789abcde",
                                      "0123456789abcdef0123456789abcdef0",
                                      "0123456789ABCDEF0123456789abcdef",
                                      "0123456789abcdef0123456789abcdeg",
                                      "0123456789abcdef/123456789abcdef",
                                      "../../../../../../../etc/passwd."};
    char a[UPLOAD_ID_SIZE];
    char b[UPLOAD_ID_SIZE];

    (void)state;
    upload_id_make(a);
    upload_id_make(b);
    assert_int_equal(strlen(a), UPLOAD_ID_SIZE - 1);
    assert_true(upload_id_is_valid(a, strlen(a)));
    assert_string_not_equal(a, b);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(upload_id_is_valid(bad[i], strlen(bad[i])));
    }
    assert_false(upload_id_is_valid("0123456789abcdef\0"
                                    "123456789abcdef",
                                    32));
}

/* --- the record --- */

static void put_record(struct db_txn *txn, const char *id, int64_t started_at_s)
{
    struct upload_record r = {.alg = DIGEST_SHA256, .started_at_s = started_at_s};

    r.name = scratch_local("team/app");
    assert_int_equal(upload_put(txn, id, &r), 0);
}

static void test_record(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct upload_record stored = {.alg = DIGEST_SHA512, .started_at_s = 1234567890};
    struct upload_record r;
    char longest[255];

    memset(longest, 'a', sizeof longest);
    longest[254] = '\0';
    stored.name = scratch_local(longest);
    assert_int_equal(upload_get(txn, ID, &r), ERR_NOT_FOUND);
    assert_int_equal(upload_forget(txn, ID), 0);
    assert_int_equal(upload_put(txn, ID, &stored), 0);
    assert_int_equal(upload_get(txn, ID, &r), 0);
    assert_true(name_equal(&r.name, &stored.name));
    assert_int_equal(r.alg, DIGEST_SHA512);
    assert_int_equal(r.started_at_s, 1234567890);
    assert_int_equal(upload_get(txn, "fedcba98765432100123456789abcdef", &r), ERR_NOT_FOUND);
    assert_int_equal(upload_forget(txn, ID), 0);
    assert_int_equal(upload_get(txn, ID, &r), ERR_NOT_FOUND);
    /* What a client made up is no session. */
    assert_int_equal(upload_get(txn, "", &r), ERR_NOT_FOUND);
    assert_int_equal(upload_get(txn, "../0123456789abcdef0123456789abc", &r), ERR_NOT_FOUND);
    assert_int_equal(upload_forget(txn, "x"), 0);
    db_abort(&txn);
}

static void test_damaged_records(void **state)
{
    static const struct {
        const char *repository;
        uint8_t version;
        uint8_t alg;
        uint8_t extra;
    } rows[] = {
        {"a", 2, DIGEST_SHA256, 0},
        {"a", 1, 0, 0},
        {"a", 1, 3, 0},
        {"", 1, DIGEST_SHA256, 0},
        {"docker.io/a", 1, DIGEST_SHA256, 0},
        {"A", 1, DIGEST_SHA256, 0},
        {"../a", 1, DIGEST_SHA256, 0},
        {"a", 1, DIGEST_SHA256, 1},
    };
    struct db_txn *txn = scratch_write(*state);
    struct upload_record r;
    struct record_out out;
    uint8_t buf[64] = {0};

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        record_start(&out, buf, sizeof buf, rows[i].version);
        record_put_text(&out, rows[i].repository);
        record_put_u8(&out, rows[i].alg);
        record_put_i64(&out, 1);
        assert_int_equal(record_finish(&out), 0);
        assert_int_equal(db_put(txn, DB_UPLOADS, ID, 32, buf, out.len + rows[i].extra), 0);
        assert_int_equal(upload_get(txn, ID, &r), ERR_DAMAGED);
    }
    for (size_t len = 0; len < out.len; len++) {
        assert_int_equal(db_put(txn, DB_UPLOADS, ID, 32, buf, len), 0);
        assert_int_equal(upload_get(txn, ID, &r), ERR_DAMAGED);
    }
    db_abort(&txn);
}

/* --- the file --- */

static struct upload_file *create(struct scratch *s, const char *id)
{
    struct upload_file *f;

    assert_int_equal(upload_file_create(s->store, id, &f), 0);
    return f;
}

static struct upload_file *open_again(struct scratch *s, const char *id, uint64_t expected)
{
    struct upload_file *f;
    uint64_t size_bytes;

    assert_int_equal(upload_file_open(s->store, id, &f, &size_bytes), 0);
    assert_true(size_bytes == expected);
    return f;
}

static void expect_blob(struct scratch *s, const struct digest *d, const char *text)
{
    char data[64];
    int fd;

    assert_int_equal(blob_open(s->store, d, strlen(text), &fd), 0);
    assert_int_equal(read(fd, data, sizeof data), strlen(text));
    assert_memory_equal(data, text, strlen(text));
    close(fd);
}

static void test_grow_and_publish(void **state)
{
    struct scratch *s = *state;
    struct digest d = scratch_digest("hello world");
    struct upload_file *f = create(s, ID);
    char data[16];

    assert_int_equal(upload_file_append(f, "hello ", 6), 0);
    upload_file_flush_early(f);
    assert_int_equal(pread(upload_file_fd(f), data, sizeof data, 0), 6);
    upload_file_close(&f);
    assert_null(f);
    upload_file_close(&f);
    upload_file_discard(&f);
    /* The daemon may have been killed in between. */
    store_close(&s->store);
    s->store = scratch_store(s->dir);
    f = open_again(s, ID, 6);
    assert_int_equal(upload_file_append(f, "", 0), 0);
    assert_int_equal(upload_file_append(f, "world", 5), 0);
    upload_file_flush_early(f);
    assert_int_equal(pread(upload_file_fd(f), data, sizeof data, 0), 11);
    assert_memory_equal(data, "hello world", 11);
    assert_int_equal(upload_file_publish(f, &d), 0);
    assert_int_equal(scratch_file_size(s->dir, FILE_OF(ID)), -1);
    upload_file_discard(&f);
    assert_null(f);
    expect_blob(s, &d, "hello world");
}

static void test_two_of_one_digest(void **state)
{
    struct scratch *s = *state;
    struct digest d = scratch_digest("same");
    struct upload_file *a = create(s, ID);
    struct upload_file *b = create(s, "ffffffffffffffffffffffffffffffff");

    assert_int_equal(upload_file_append(a, "same", 4), 0);
    assert_int_equal(upload_file_append(b, "same", 4), 0);
    assert_int_equal(upload_file_publish(a, &d), 0);
    assert_int_equal(upload_file_publish(b, &d), 0);
    upload_file_close(&a);
    upload_file_close(&b);
    expect_blob(s, &d, "same");
    assert_int_equal(rmdir(scratch_path(s->dir, "partial")), 0);
}

static void test_empty_and_sha512(void **state)
{
    struct scratch *s = *state;
    struct upload_file *f = create(s, ID);
    struct digest d;

    digest_of(DIGEST_SHA512, "", 0, &d);
    upload_file_flush_early(f);
    assert_int_equal(upload_file_publish(f, &d), 0);
    upload_file_close(&f);
    expect_blob(s, &d, "");
}

static void test_what_is_no_session(void **state)
{
    struct scratch *s = *state;
    struct digest d = scratch_digest("");
    struct upload_file *f;
    struct upload_file *again;
    uint64_t size_bytes;

    assert_int_equal(upload_file_open(s->store, ID, &f, &size_bytes), ERR_NOT_FOUND);
    assert_int_equal(upload_file_open(s->store, "", &f, &size_bytes), ERR_NOT_FOUND);
    assert_int_equal(upload_file_open(s->store, "../lock", &f, &size_bytes), ERR_NOT_FOUND);
    f = create(s, ID);
    assert_int_equal(upload_file_create(s->store, ID, &again), ERR_IO);
    upload_file_discard(&f);
    assert_int_equal(scratch_file_size(s->dir, FILE_OF(ID)), -1);
    assert_int_equal(symlink("../lock", scratch_path(s->dir, FILE_OF(ID))), 0);
    assert_int_equal(upload_file_open(s->store, ID, &f, &size_bytes), ERR_IO);
    assert_int_equal(unlink(scratch_path(s->dir, FILE_OF(ID))), 0);
    assert_int_equal(mkfifo(scratch_path(s->dir, FILE_OF(ID)), 0600), 0);
    assert_int_equal(upload_file_open(s->store, ID, &f, &size_bytes), ERR_IO);
    assert_int_equal(unlink(scratch_path(s->dir, FILE_OF(ID))), 0);
    /* It was swept away under its user. */
    f = create(s, ID);
    assert_int_equal(unlink(scratch_path(s->dir, FILE_OF(ID))), 0);
    assert_int_equal(upload_file_publish(f, &d), ERR_NOT_FOUND);
    upload_file_discard(&f);
}

/* A file of at most `limit` bytes, as a full disk cuts a write short. */
static int append_within(struct upload_file *f, const char *text, rlim_t limit)
{
    struct rlimit saved;

    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &saved), 0);
    struct rlimit small = {limit, saved.rlim_max};

    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int err = upload_file_append(f, text, strlen(text));

    assert_int_equal(setrlimit(RLIMIT_FSIZE, &saved), 0);
    return err;
}

static void test_a_write_cut_short(void **state)
{
    struct scratch *s = *state;
    struct digest d = scratch_digest("hello world");
    struct upload_file *f = create(s, ID);

    assert_int_equal(upload_file_append(f, "hello ", 6), 0);
    assert_int_equal(append_within(f, "nothing of this", 9), ERR_IO);
    assert_int_equal(scratch_file_size(s->dir, FILE_OF(ID)), 6);
    assert_int_equal(upload_file_append(f, "world", 5), 0);
    assert_int_equal(upload_file_publish(f, &d), 0);
    upload_file_close(&f);
    expect_blob(s, &d, "hello world");
}

/* What could not be taken back then is taken back before anything else. */
static void test_a_rest_that_stays(void **state)
{
    struct scratch *s = *state;
    struct digest d = scratch_digest("hello world");
    struct upload_file *f = create(s, ID);

    assert_int_equal(upload_file_append(f, "hello ", 6), 0);
    ftruncate_fails = true;
    assert_int_equal(append_within(f, "nothing of this", 16), ERR_IO);
    assert_int_equal(scratch_file_size(s->dir, FILE_OF(ID)), 16);
    assert_int_equal(upload_file_append(f, "world", 5), ERR_IO);
    assert_int_equal(upload_file_publish(f, &d), ERR_IO);
    ftruncate_fails = false;
    assert_int_equal(upload_file_append(f, "world", 5), 0);
    assert_int_equal(scratch_file_size(s->dir, FILE_OF(ID)), 11);
    ftruncate_fails = true;
    assert_int_equal(append_within(f, "nothing of this", 16), ERR_IO);
    ftruncate_fails = false;
    assert_int_equal(upload_file_publish(f, &d), 0);
    upload_file_close(&f);
    expect_blob(s, &d, "hello world");
}

static void test_absurd_sizes(void **state)
{
    struct scratch *s = *state;
    struct upload_file *f = create(s, ID);

    assert_int_equal(upload_file_append(f, "x", 1), 0);
    assert_int_equal(upload_file_append(f, "x", INT64_MAX), ERR_TOO_LARGE);
    assert_int_equal(scratch_file_size(s->dir, FILE_OF(ID)), 1);
    upload_file_discard(&f);
}

static void test_a_full_disk(void **state)
{
    struct scratch *s = *state;
    static const char block[65536];
    uint64_t size_bytes = 0;
    int err = 0;

    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", scratch_path(s->dir, "partial"), "tmpfs", 0, "size=1m") != 0) {
        skip();
    }
    store_close(&s->store);
    s->store = scratch_store(s->dir);
    struct upload_file *f = create(s, ID);
    struct upload_file *other = create(s, "ffffffffffffffffffffffffffffffff");

    assert_int_equal(upload_file_append(other, block, sizeof block), 0);
    assert_int_equal(upload_file_append(f, block, 5000), 0);
    while (err == 0) {
        size_bytes = (uint64_t)scratch_file_size(s->dir, FILE_OF(ID));
        err = upload_file_append(f, block, sizeof block);
    }
    assert_int_equal(err, ERR_NO_SPACE);
    assert_true((uint64_t)scratch_file_size(s->dir, FILE_OF(ID)) == size_bytes);
    /* With room again it goes on. */
    upload_file_discard(&other);
    assert_int_equal(upload_file_append(f, block, sizeof block), 0);
    upload_file_close(&f);
    f = open_again(s, ID, size_bytes + sizeof block);
    upload_file_discard(&f);
    store_close(&s->store);
    assert_int_equal(umount(scratch_path(s->dir, "partial")), 0);
}

/* --- the sweep --- */

#define NOW_S 1700000000
#define LIFE_S 600

static void add_file(struct scratch *s, const char *name, int64_t changed_at_s)
{
    const struct timespec times[2] = {{.tv_sec = changed_at_s}, {.tv_sec = changed_at_s}};

    scratch_file(s->dir, name, "x", 1);
    assert_int_equal(utimensat(AT_FDCWD, scratch_path(s->dir, name), times, 0), 0);
}

/* One row a session: what there is of it, and whether it stays. */
static const struct {
    const char *id;
    const char *file;
    int64_t started_at_s; /* 0: no record */
    int64_t changed_at_s; /* 0: no file */
    bool stays;
} sessions[] = {
#define SESSION(digit, ...)                                                                        \
    {                                                                                              \
        digit ID_REST, FILE_OF(digit ID_REST), __VA_ARGS__                                         \
    }
#define ID_REST "123456789abcdef0123456789abcdef"
    SESSION("0", NOW_S - 9000, NOW_S - 10, true),     /* long under way */
    SESSION("1", NOW_S - 9000, NOW_S - LIFE_S, true), /* just not too old */
    SESSION("2", NOW_S - 9000, NOW_S - 601, false),   /* idle */
    SESSION("3", NOW_S - 5, NOW_S - 9000, true),      /* the file's clock was another */
    SESSION("4", NOW_S + 9000, NOW_S + 9000, true),   /* the clock went back */
    SESSION("5", NOW_S - 10, 0, false),               /* killed between publish and commit */
    SESSION("6", 0, NOW_S - 3600, false),             /* killed between create and commit */
    SESSION("7", 0, NOW_S - 10, true),                /* between create and commit right now */
    SESSION("8", INT64_MIN, NOW_S - 9000, false),     /* absurd */
    SESSION("9", INT64_MIN + 1, NOW_S - 10, true),    /* as absurd, but something comes */
};

static void test_sweep(void **state)
{
    const size_t count = sizeof sessions / sizeof sessions[0];
    struct scratch *s = *state;
    struct db_txn *txn = scratch_write(s);
    struct upload_record r;
    unsigned removed;
    uint64_t records;

    for (size_t i = 0; i < count; i++) {
        if (sessions[i].started_at_s != 0) {
            put_record(txn, sessions[i].id, sessions[i].started_at_s);
        }
        if (sessions[i].changed_at_s != 0) {
            add_file(s, sessions[i].file, sessions[i].changed_at_s);
        }
    }
    assert_int_equal(db_put(txn, DB_UPLOADS, "bad key", 7, "bad", 3), 0);
    assert_int_equal(db_put(txn, DB_UPLOADS, "a" ID_REST, 32, "bad", 3), 0);
    add_file(s, FILE_OF("a" ID_REST), NOW_S);
    add_file(s, "partial/upload-", NOW_S - 61);
    add_file(s, "partial/upload-not-an-id", NOW_S - 61);
    add_file(s, "partial/tmp-0123456789abcdef", 1);
    add_file(s, "partial/sha256-0123", 1);
    assert_int_equal(mkdir(scratch_path(s->dir, "partial/upload-folder"), 0700), 0);

    assert_int_equal(upload_sweep(s->store, txn, NOW_S, LIFE_S, &removed), 0);
    assert_int_equal(removed, 8);
    for (size_t i = 0; i < count; i++) {
        bool has_record = sessions[i].started_at_s != 0 && sessions[i].stays;
        bool has_file = sessions[i].changed_at_s != 0 && sessions[i].stays;

        assert_int_equal(upload_get(txn, sessions[i].id, &r), has_record ? 0 : ERR_NOT_FOUND);
        assert_int_equal(scratch_file_size(s->dir, sessions[i].file), has_file ? 1 : -1);
    }
    assert_int_equal(scratch_file_size(s->dir, FILE_OF("a" ID_REST)), -1);
    assert_int_equal(scratch_file_size(s->dir, "partial/upload-"), -1);
    assert_int_equal(scratch_file_size(s->dir, "partial/upload-not-an-id"), -1);
    assert_int_equal(scratch_file_size(s->dir, "partial/tmp-0123456789abcdef"), 1);
    assert_int_equal(scratch_file_size(s->dir, "partial/sha256-0123"), 1);
    assert_int_equal(db_count(txn, DB_UPLOADS, &records), 0);
    assert_int_equal(records, 5);
    assert_int_equal(upload_sweep(s->store, txn, NOW_S, LIFE_S, &removed), 0);
    assert_int_equal(removed, 0);
    db_abort(&txn);
}

/* The other job of the same transaction failed: its records are there again, and it is
 * done once more. */
static void test_sweep_twice(void **state)
{
    struct scratch *s = *state;
    struct db_txn *txn = scratch_write(s);
    struct upload_record r;
    unsigned removed;

    put_record(txn, ID, NOW_S - 9000);
    add_file(s, FILE_OF(ID), NOW_S - 9000);
    assert_int_equal(db_commit(&txn), 0);
    for (int i = 0; i < 2; i++) {
        txn = scratch_write(s);
        assert_int_equal(upload_sweep(s->store, txn, NOW_S, LIFE_S, &removed), 0);
        assert_int_equal(removed, 1);
        assert_int_equal(upload_get(txn, ID, &r), ERR_NOT_FOUND);
        db_abort(&txn);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids),
        TEST(test_record),
        TEST(test_damaged_records),
        TEST(test_grow_and_publish),
        TEST(test_two_of_one_digest),
        TEST(test_empty_and_sha512),
        TEST(test_what_is_no_session),
        TEST(test_a_write_cut_short),
        TEST(test_a_rest_that_stays),
        TEST(test_absurd_sizes),
        TEST(test_sweep),
        TEST(test_sweep_twice),
        TEST(test_a_full_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
