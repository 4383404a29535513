/* SPDX-License-Identifier: ISC */
#include <sched.h>
#include <sys/mount.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "cache/partial.h"
#include "tests/unit/scratch.h"

static struct partial *open_partial(struct scratch *s, const struct digest *d, uint64_t expected)
{
    struct partial *p;
    uint64_t kept;

    assert_int_equal(partial_open(s->store, d, &p, &kept), 0);
    assert_true(kept == expected);
    return p;
}

static bool has_partial(struct scratch *s, const struct digest *d)
{
    char name[DIGEST_TEXT_MAX];

    return faccessat(store_partial_fd(s->store), store_partial_name(d, name), F_OK, 0) == 0;
}

static void test_grow_and_publish(void **state)
{
    struct scratch *s = *state;
    struct digest d = scratch_digest("hello world");
    struct partial *p = open_partial(s, &d, 0);
    char text[16];
    int fd;

    assert_int_equal(partial_reserve(p, 11), 0);
    assert_int_equal(partial_write(p, "hello ", 6, 0), 0);
    assert_int_equal(pread(partial_fd(p), text, sizeof text, 0), 6);
    assert_int_equal(partial_write(p, "world", 5, 6), 0);
    assert_int_equal(partial_sync(p), 0);
    assert_int_equal(blob_open(s->store, &d, 11, &fd), ERR_MISMATCH);
    assert_int_equal(partial_publish(p), 0);
    assert_false(has_partial(s, &d));
    /* Readers of the fetch go on from the descriptor that they have. */
    assert_int_equal(pread(partial_fd(p), text, sizeof text, 0), 11);
    partial_close(&p);
    assert_null(p);
    partial_close(&p);
    assert_int_equal(blob_open(s->store, &d, 11, &fd), 0);
    assert_int_equal(read(fd, text, sizeof text), 11);
    assert_memory_equal(text, "hello world", 11);
    close(fd);
}

static void test_room_is_not_readable(void **state)
{
    struct scratch *s = *state;
    struct digest d = scratch_digest("x");
    struct partial *p = open_partial(s, &d, 0);
    struct stat st;

    assert_int_equal(partial_reserve(p, 1 << 20), 0);
    assert_int_equal(partial_reserve(p, 0), 0);
    assert_int_equal(partial_write(p, "abc", 3, 0), 0);
    assert_int_equal(fstat(partial_fd(p), &st), 0);
    assert_int_equal(st.st_size, 3);
    partial_close(&p);
    p = open_partial(s, &d, 3);
    assert_int_equal(partial_truncate(p, 1), 0);
    partial_close(&p);
    p = open_partial(s, &d, 1);
    partial_discard(&p);
    assert_null(p);
    partial_discard(&p);
    assert_false(has_partial(s, &d));
    p = open_partial(s, &d, 0);
    partial_discard(&p);
}

static void test_absurd_sizes(void **state)
{
    struct scratch *s = *state;
    struct digest d = scratch_digest("x");
    struct partial *p = open_partial(s, &d, 0);

    assert_int_equal(partial_reserve(p, UINT64_MAX), ERR_TOO_LARGE);
    assert_int_equal(partial_reserve(p, (uint64_t)INT64_MAX + 1), ERR_TOO_LARGE);
    int err = partial_reserve(p, INT64_MAX);

    assert_true(err == ERR_TOO_LARGE || err == ERR_NO_SPACE || err == 0);
    assert_int_equal(partial_write(p, "x", 1, UINT64_MAX), ERR_TOO_LARGE);
    assert_int_equal(partial_write(p, "x", 1, INT64_MAX), ERR_TOO_LARGE);
    partial_discard(&p);
}

static void test_discard_after_publish_keeps_the_blob(void **state)
{
    struct scratch *s = *state;
    struct digest d = scratch_digest("");
    struct partial *p = open_partial(s, &d, 0);
    int fd;

    assert_int_equal(partial_publish(p), 0);
    partial_discard(&p);
    assert_int_equal(blob_open(s->store, &d, 0, &fd), 0);
    close(fd);
}

static void test_what_is_no_file(void **state)
{
    struct scratch *s = *state;
    struct digest d = scratch_digest("x");
    char name[DIGEST_TEXT_MAX];
    struct partial *p;
    uint64_t kept;

    store_partial_name(&d, name);
    assert_int_equal(symlinkat("/etc/passwd", store_partial_fd(s->store), name), 0);
    assert_int_equal(partial_open(s->store, &d, &p, &kept), ERR_IO);
    assert_int_equal(unlinkat(store_partial_fd(s->store), name, 0), 0);
    assert_int_equal(mkfifoat(store_partial_fd(s->store), name, 0600), 0);
    assert_int_equal(partial_open(s->store, &d, &p, &kept), ERR_IO);
}

/* A file system of 1 MiB over partial/, in a mount namespace of this process. */
static void test_a_full_disk(void **state)
{
    struct scratch *s = *state;
    struct digest d = scratch_digest("x");
    static const char block[65536];
    int err = 0;

    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", scratch_path(s->dir, "partial"), "tmpfs", 0, "size=1m") != 0) {
        skip();
    }
    store_close(&s->store);
    s->store = scratch_store(s->dir);
    struct partial *p = open_partial(s, &d, 0);

    assert_int_equal(partial_reserve(p, 2 << 20), ERR_NO_SPACE);
    assert_int_equal(partial_reserve(p, 512 << 10), 0);
    for (uint64_t at = 0; err == 0 && at < (2u << 20); at += sizeof block) {
        err = partial_write(p, block, sizeof block, at);
    }
    assert_int_equal(err, ERR_NO_SPACE);
    partial_discard(&p);
    p = open_partial(s, &d, 0);
    assert_int_equal(partial_write(p, block, sizeof block, 0), 0);
    partial_discard(&p);
    store_close(&s->store);
    assert_int_equal(umount(scratch_path(s->dir, "partial")), 0);
}

static struct partial_owner owner_of(const char *repository, bool is_private, bool is_elsewhere)
{
    return (struct partial_owner){scratch_name("docker.io", repository), is_private, is_elsewhere};
}

static void test_record(void **state)
{
    struct digest d = scratch_digest("x");
    struct partial_record stored = {
        .owner = owner_of("acme/secret", true, false), .size_bytes = 1 << 20, .started_at_s = 5};
    struct partial_record *r = calloc(1, sizeof *r);
    struct db_txn *txn = scratch_write(*state);

    assert_non_null(r);
    assert_int_equal(partial_get(txn, &d, r), ERR_NOT_FOUND);
    assert_int_equal(partial_forget(txn, &d), 0);
    for (unsigned count = 0; count <= EXTENTS_MAX; count += 64) {
        stored.extents.count = count;
        for (unsigned i = 0; i < count; i++) {
            stored.extents.list[i].start = i * 100;
            stored.extents.list[i].end = i * 100 + 50;
        }
        assert_int_equal(partial_put(txn, &d, &stored), 0);
        assert_int_equal(partial_get(txn, &d, r), 0);
        assert_true(r->size_bytes == stored.size_bytes);
        assert_int_equal(r->started_at_s, 5);
        assert_true(name_equal(&r->owner.name, &stored.owner.name));
        assert_true(r->owner.is_private);
        assert_false(r->owner.is_elsewhere);
        assert_int_equal(r->extents.count, count);
        assert_memory_equal(r->extents.list, stored.extents.list,
                            count * sizeof stored.extents.list[0]);
    }
    assert_int_equal(partial_forget(txn, &d), 0);
    assert_int_equal(partial_get(txn, &d, r), ERR_NOT_FOUND);
    db_abort(&txn);
    free(r);
}

/* Whose what was kept is, and who may go on with it. */
static void test_owners(void **state)
{
    enum { PUBLIC, OTHER, SECRET, OTHER_SECRET, ELSEWHERE, OTHER_ELSEWHERE, SECRET_ELSEWHERE, ALL };
    const struct partial_owner owners[ALL] = {
        [PUBLIC] = owner_of("acme/app", false, false),
        [OTHER] = owner_of("evil/app", false, false),
        [SECRET] = owner_of("acme/app", true, false),
        [OTHER_SECRET] = owner_of("evil/app", true, false),
        [ELSEWHERE] = owner_of("acme/app", false, true),
        [OTHER_ELSEWHERE] = owner_of("evil/app", false, true),
        [SECRET_ELSEWHERE] = owner_of("acme/app", true, true),
    };
    static const unsigned admitted[ALL] = {
        [PUBLIC] = 1u << PUBLIC | 1u << OTHER | 1u << SECRET | 1u << OTHER_SECRET,
        [OTHER] = 1u << PUBLIC | 1u << OTHER | 1u << SECRET | 1u << OTHER_SECRET,
        [SECRET] = 1u << SECRET,
        [OTHER_SECRET] = 1u << OTHER_SECRET,
        [ELSEWHERE] = 1u << ELSEWHERE | 1u << SECRET_ELSEWHERE,
        [OTHER_ELSEWHERE] = 1u << OTHER_ELSEWHERE,
        [SECRET_ELSEWHERE] = 1u << SECRET_ELSEWHERE,
    };

    (void)state;
    for (unsigned kept = 0; kept < ALL; kept++) {
        for (unsigned now = 0; now < ALL; now++) {
            assert_int_equal(partial_owner_admits(&owners[kept], &owners[now]),
                             (admitted[kept] >> now) & 1);
        }
    }
}

/* A record of version 1 does not say whose the bytes are: nobody goes on with them. */
static void test_an_ownerless_record(void **state)
{
    static const uint8_t old[1 + 8 + 8 + 2] = {1, 100};
    struct scratch *s = *state;
    struct digest d = scratch_digest("x");
    uint8_t key[DIGEST_KEY_MAX];
    struct partial_record r;
    unsigned removed;
    struct db_txn *txn = scratch_write(s);
    struct partial *p = open_partial(s, &d, 0);

    partial_close(&p);
    assert_int_equal(db_put(txn, DB_PARTIALS, key, digest_to_key(&d, key), old, sizeof old), 0);
    assert_int_equal(partial_get(txn, &d, &r), ERR_DAMAGED);
    assert_int_equal(partial_sweep(s->store, txn, 1, 600, &removed), 0);
    assert_int_equal(removed, 1);
    assert_int_equal(partial_get(txn, &d, &r), ERR_NOT_FOUND);
    db_abort(&txn);
}

static void test_damaged_extents(void **state)
{
    static const struct {
        struct extent first;
        struct extent second;
        int err;
    } rows[] = {
        {{0, 10}, {20, 30}, 0},
        {{5, 6}, {7, 100}, 0},
        {{0, 10}, {10, 30}, ERR_DAMAGED},  /* not apart */
        {{0, 10}, {5, 30}, ERR_DAMAGED},   /* overlapping */
        {{20, 30}, {0, 10}, ERR_DAMAGED},  /* not sorted */
        {{0, 0}, {20, 30}, ERR_DAMAGED},   /* empty */
        {{10, 5}, {20, 30}, ERR_DAMAGED},  /* backwards */
        {{0, 10}, {20, 101}, ERR_DAMAGED}, /* past the end */
        {{0, UINT64_MAX}, {20, 30}, ERR_DAMAGED},
    };
    struct digest d = scratch_digest("x");
    struct partial_record stored = {
        .owner = owner_of("acme/app", false, false), .size_bytes = 100, .extents.count = 2};
    struct partial_record r;
    struct db_txn *txn = scratch_write(*state);

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        stored.extents.list[0] = rows[i].first;
        stored.extents.list[1] = rows[i].second;
        assert_int_equal(partial_put(txn, &d, &stored), 0);
        assert_int_equal(partial_get(txn, &d, &r), rows[i].err);
    }
    db_abort(&txn);
}

static void add(struct scratch *s, struct db_txn *txn, const char *what, int64_t started_at_s,
                bool with_record, bool with_file)
{
    struct digest d = scratch_digest(what);
    struct partial_record r = {.owner = owner_of("acme/app", false, false),
                               .size_bytes = 10,
                               .started_at_s = started_at_s};

    if (with_record) {
        assert_int_equal(partial_put(txn, &d, &r), 0);
    }
    if (with_file) {
        struct partial *p = open_partial(s, &d, 0);

        partial_close(&p);
    }
}

static int stop_at(void *arg, const char *name)
{
    ++*(unsigned *)arg;
    return strcmp(name, "stop") == 0 ? 7 : 0;
}

static void test_walk_files(void **state)
{
    struct scratch *s = *state;
    unsigned seen = 0;

    assert_int_equal(partial_walk_files(s->store, stop_at, &seen), 0);
    assert_int_equal(seen, 0);
    scratch_file(s->dir, "partial/a", "", 0);
    scratch_file(s->dir, "partial/b", "", 0);
    assert_int_equal(partial_walk_files(s->store, stop_at, &seen), 0);
    assert_int_equal(seen, 2);
    scratch_file(s->dir, "partial/stop", "", 0);
    assert_int_equal(partial_walk_files(s->store, stop_at, &seen), 7);
}

static void test_sweep(void **state)
{
    static const char *const gone[] = {"old", "no file", "no record"};
    struct scratch *s = *state;
    struct partial_record r;
    struct digest kept = scratch_digest("kept");
    struct digest future = scratch_digest("future");
    uint64_t count;
    unsigned removed;
    struct db_txn *txn = scratch_write(s);

    add(s, txn, "kept", 1000, true, true);
    add(s, txn, "future", 5000, true, true);
    add(s, txn, "old", 100, true, true);
    add(s, txn, "no file", 1000, true, false);
    add(s, txn, "no record", 1000, false, true);
    assert_int_equal(db_put(txn, DB_PARTIALS, "bad key", 7, "bad", 3), 0);
    scratch_file(s->dir, "partial/tmp-0123456789abcdef", "x", 1);
    scratch_file(s->dir, "partial/sha256-short", "x", 1);
    scratch_file(s->dir, "partial/-", "x", 1);
    scratch_file(s->dir, "partial/upload-0123456789abcdef0123456789abcdef", "x", 1);
    assert_int_equal(mkdir(scratch_path(s->dir, "partial/a-folder"), 0700), 0);

    assert_int_equal(partial_sweep(s->store, txn, 1500, 600, &removed), 0);
    assert_int_equal(removed, 5);
    assert_int_equal(scratch_file_size(s->dir, "partial/upload-0123456789abcdef0123456789abcdef"),
                     1);
    assert_true(has_partial(s, &kept));
    assert_int_equal(partial_get(txn, &kept, &r), 0);
    assert_true(has_partial(s, &future));
    for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++) {
        struct digest d = scratch_digest(gone[i]);

        assert_false(has_partial(s, &d));
        assert_int_equal(partial_get(txn, &d, &r), ERR_NOT_FOUND);
    }
    assert_int_equal(db_count(txn, DB_PARTIALS, &count), 0);
    assert_int_equal(count, 2);
    assert_int_equal(partial_sweep(s->store, txn, 1500, 600, &removed), 0);
    assert_int_equal(removed, 0);
    db_abort(&txn);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_grow_and_publish),
        TEST(test_room_is_not_readable),
        TEST(test_absurd_sizes),
        TEST(test_discard_after_publish_keeps_the_blob),
        TEST(test_what_is_no_file),
        TEST(test_record),
        TEST(test_owners),
        TEST(test_an_ownerless_record),
        TEST(test_damaged_extents),
        TEST(test_walk_files),
        TEST(test_sweep),
        TEST(test_a_full_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
