/* SPDX-License-Identifier: ISC */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "cache/check.h"
#include "cache/err.h"
#include "tests/unit/scratch.h"

#define MAP_BYTES (1u << 20)

static struct db *open_db(const char *dir)
{
    struct db *db;

    assert_int_equal(db_open(&db, dir, MAP_BYTES, false), 0);
    return db;
}

static void put(struct db *db, enum db_table table, const char *key, const char *value)
{
    struct db_txn *txn;

    assert_int_equal(db_write(db, &txn), 0);
    assert_int_equal(db_put(txn, table, key, strlen(key), value, strlen(value)), 0);
    assert_int_equal(db_commit(&txn), 0);
    assert_null(txn);
}

static void expect(struct db_txn *txn, enum db_table table, const char *key, const char *expected)
{
    struct db_value value;
    int err = db_get(txn, table, key, strlen(key), &value);

    if (expected == NULL) {
        assert_int_equal(err, ERR_NOT_FOUND);
        return;
    }
    assert_int_equal(err, 0);
    assert_int_equal(value.size, strlen(expected));
    assert_memory_equal(value.data, expected, value.size);
}

static void test_records_survive_reopening(void **state)
{
    struct db *db = open_db(*state);
    struct db_reader *r;
    struct db_txn *txn;
    uint64_t count;

    put(db, DB_BLOBS, "k1", "one");
    put(db, DB_TAGS, "k1", "other table");
    put(db, DB_BLOBS, "k1", "new one");
    db_close(&db);
    assert_null(db);
    db = open_db(*state);
    assert_int_equal(db_reader_new(db, &r), 0);
    assert_int_equal(db_read(r, &txn), 0);
    expect(txn, DB_BLOBS, "k1", "new one");
    expect(txn, DB_TAGS, "k1", "other table");
    expect(txn, DB_LINKS, "k1", NULL);
    assert_int_equal(db_count(txn, DB_BLOBS, &count), 0);
    assert_int_equal(count, 1);
    db_read_end(r);
    db_reader_free(&r);
    assert_null(r);
    db_reader_free(&r);
    db_close(&db);
    db_close(&db);
}

static void test_abort_and_delete(void **state)
{
    struct db *db = open_db(*state);
    struct db_txn *txn;

    put(db, DB_BLOBS, "kept", "1");
    assert_int_equal(db_write(db, &txn), 0);
    assert_int_equal(db_put(txn, DB_BLOBS, "lost", 4, "2", 1), 0);
    assert_int_equal(db_delete(txn, DB_BLOBS, "kept", 4), 0);
    assert_int_equal(db_delete(txn, DB_BLOBS, "kept", 4), ERR_NOT_FOUND);
    db_abort(&txn);
    assert_null(txn);
    assert_int_equal(db_write(db, &txn), 0);
    expect(txn, DB_BLOBS, "kept", "1");
    expect(txn, DB_BLOBS, "lost", NULL);
    assert_int_equal(db_delete(txn, DB_BLOBS, "kept", 4), 0);
    assert_int_equal(db_commit(&txn), 0);
    assert_int_equal(db_write(db, &txn), 0);
    expect(txn, DB_BLOBS, "kept", NULL);
    db_abort(&txn);
    db_close(&db);
}

static void test_a_reader_sees_one_commit(void **state)
{
    struct db *db = open_db(*state);
    struct db_reader *r;
    struct db_txn *txn;

    put(db, DB_BLOBS, "k", "old");
    assert_int_equal(db_reader_new(db, &r), 0);
    assert_int_equal(db_read(r, &txn), 0);
    put(db, DB_BLOBS, "k", "new");
    expect(txn, DB_BLOBS, "k", "old");
    db_read_end(r);
    assert_int_equal(db_read(r, &txn), 0);
    expect(txn, DB_BLOBS, "k", "new");
    db_read_end(r);
    db_reader_free(&r);
    db_close(&db);
}

static void test_key_limits(void **state)
{
    struct db *db = open_db(*state);
    struct db_txn *txn;
    char key[DB_KEY_MAX + 1];

    memset(key, 'k', sizeof key);
    assert_int_equal(db_write(db, &txn), 0);
    assert_int_equal(db_put(txn, DB_LISTS, key, DB_KEY_MAX, "v", 1), 0);
    assert_int_equal(db_put(txn, DB_LISTS, key, DB_KEY_MAX + 1, "v", 1), ERR_TOO_LARGE);
    db_abort(&txn);
    db_close(&db);
}

static int visit_append(void *arg, struct db_value key, struct db_value value)
{
    char *seen = arg;

    strncat(seen, key.data, key.size);
    strncat(seen, "=", 2);
    strncat(seen, value.data, value.size);
    strncat(seen, " ", 2);
    return memchr(key.data, '!', key.size) != NULL ? 42 : 0;
}

static void expect_walk(struct db_txn *txn, const char *prefix, const char *from,
                        const char *expected)
{
    char seen[256] = "";
    int result = db_walk(txn, DB_TAGS, prefix, strlen(prefix), from,
                         from != NULL ? strlen(from) : 0, visit_append, seen);

    assert_string_equal(seen, expected);
    assert_int_equal(result, strchr(expected, '!') != NULL ? 42 : 0);
}

static void test_walk(void **state)
{
    struct db *db = open_db(*state);
    struct db_txn *txn;

    assert_int_equal(db_write(db, &txn), 0);
    expect_walk(txn, "", NULL, "");
    db_abort(&txn);
    put(db, DB_TAGS, "a", "1");
    put(db, DB_TAGS, "ab", "2");
    put(db, DB_TAGS, "ac", "3");
    put(db, DB_TAGS, "b", "4");
    put(db, DB_TAGS, "z!", "5");
    put(db, DB_TAGS, "zz", "6");
    assert_int_equal(db_write(db, &txn), 0);
    expect_walk(txn, "a", NULL, "a=1 ab=2 ac=3 ");
    expect_walk(txn, "a", "aa", "ab=2 ac=3 ");
    expect_walk(txn, "a", "b", "");
    expect_walk(txn, "b", "a", "b=4 ");
    expect_walk(txn, "abc", NULL, "");
    expect_walk(txn, "zzz", NULL, "");
    expect_walk(txn, "", NULL, "a=1 ab=2 ac=3 b=4 z!=5 ");
    expect_walk(txn, "", "b", "b=4 z!=5 ");
    db_abort(&txn);
    db_close(&db);
}

static void test_full_map_is_an_error_and_no_more(void **state)
{
    struct db *db = open_db(*state);
    struct db_txn *txn;
    char value[4096] = {0};
    int err = 0;

    put(db, DB_BLOBS, "k", "before");
    assert_int_equal(db_write(db, &txn), 0);
    for (int i = 0; err == 0 && i < 1000; i++) {
        err = db_put(txn, DB_BLOBS, &i, sizeof i, value, sizeof value);
    }
    assert_int_equal(err, ERR_FULL);
    db_abort(&txn);
    put(db, DB_BLOBS, "after", "works");
    assert_int_equal(db_write(db, &txn), 0);
    expect(txn, DB_BLOBS, "k", "before");
    expect(txn, DB_BLOBS, "after", "works");
    db_abort(&txn);
    db_close(&db);
}

static void test_too_many_readers(void **state)
{
    struct db *db = open_db(*state);
    struct db_reader *readers[300];
    int count = 0;
    int err = 0;

    while (err == 0 && count < 300) {
        err = db_reader_new(db, &readers[count]);
        count += err == 0;
    }
    assert_int_equal(err, ERR_FULL);
    assert_true(count >= 250);
    while (count > 0) {
        db_reader_free(&readers[--count]);
    }
    db_close(&db);
}

/* Another process: one environment must not be open twice in a process. */
static int in_child(int (*body)(const char *dir), const char *dir)
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        _exit(body(dir));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int read_beside(const char *dir)
{
    struct db *db;
    struct db_reader *r;
    struct db_txn *txn;
    struct db_value value;

    if (db_open(&db, dir, 0, true) != 0 || db_reader_new(db, &r) != 0 || db_read(r, &txn) != 0) {
        return 1;
    }
    int err = db_get(txn, DB_BLOBS, "k", 1, &value);

    if (err != 0 || value.size != 3 || memcmp(value.data, "one", 3) != 0) {
        return 2;
    }
    db_read_end(r);
    db_reader_free(&r);
    db_close(&db);
    return 0;
}

/* Reads before and after the daemon has opened a larger map and filled it: a byte on
 * the socket says that it has read, and a byte from there that it may again. */
static int read_beside_a_growing_map(const char *dir, int socket)
{
    struct db *db;
    struct db_reader *r;
    struct db_txn *txn;
    struct db_value value;
    char byte = 'x';

    if (db_open(&db, dir, 0, true) != 0 || db_reader_new(db, &r) != 0 || db_read(r, &txn) != 0) {
        return 1;
    }
    db_read_end(r);
    if (write(socket, &byte, 1) != 1 || read(socket, &byte, 1) != 1) {
        return 2;
    }
    if (db_read(r, &txn) != 0 || db_get(txn, DB_BLOBS, "large", 5, &value) != 0) {
        return 3;
    }
    int err = value.size != 4 * MAP_BYTES || ((const char *)value.data)[value.size - 1] != 'x';

    db_read_end(r);
    db_reader_free(&r);
    db_close(&db);
    return err;
}

static void test_a_command_follows_a_map_that_grows(void **state)
{
    struct db *db = open_db(*state);
    struct db_txn *txn;
    int status;
    int sockets[2];
    char byte;
    char *large = malloc(4 * MAP_BYTES);

    assert_non_null(large);
    memset(large, 'x', 4 * MAP_BYTES);
    put(db, DB_BLOBS, "k", "v");
    db_close(&db);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        close(sockets[0]);
        _exit(read_beside_a_growing_map(*state, sockets[1]));
    }
    close(sockets[1]);
    assert_int_equal(read(sockets[0], &byte, 1), 1);
    assert_int_equal(db_open(&db, *state, 16 * MAP_BYTES, false), 0);
    assert_int_equal(db_write(db, &txn), 0);
    assert_int_equal(db_put(txn, DB_BLOBS, "large", 5, large, 4 * MAP_BYTES), 0);
    assert_int_equal(db_commit(&txn), 0);
    assert_int_equal(write(sockets[0], "x", 1), 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(sockets[0]);
    free(large);
    db_close(&db);
}

/* Dies within a read transaction and leaves its slot taken. */
static int die_reading(const char *dir)
{
    struct db *db;
    struct db_reader *r;
    struct db_txn *txn;

    return db_open(&db, dir, 0, true) != 0 || db_reader_new(db, &r) != 0 || db_read(r, &txn) != 0;
}

static void test_a_command_reads_beside_the_daemon(void **state)
{
    struct db *db = open_db(*state);

    put(db, DB_BLOBS, "k", "one");
    assert_int_equal(in_child(read_beside, *state), 0);
    assert_int_equal(in_child(die_reading, *state), 0);
    put(db, DB_BLOBS, "k", "two");
    db_close(&db);
    db = open_db(*state);
    put(db, DB_BLOBS, "k", "one");
    assert_int_equal(in_child(read_beside, *state), 0);
    db_close(&db);
}

/* The map holds 1 MiB: pages that stay pinned would fill it. */
static void test_a_killed_command_pins_nothing(void **state)
{
    struct db *db = open_db(*state);
    struct db_txn *txn;
    static const char value[16384];

    put(db, DB_BLOBS, "k", "one");
    assert_int_equal(in_child(die_reading, *state), 0);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(db_write(db, &txn), 0);
        assert_int_equal(db_put(txn, DB_BLOBS, "k", 1, value, sizeof value), 0);
        assert_int_equal(db_commit(&txn), 0);
    }
    db_close(&db);
}

struct reading {
    struct db *db;
    atomic_bool stop;
    atomic_uint reads;
};

static uint64_t number(struct db_txn *txn, const char *key)
{
    struct db_value value;
    uint64_t n;

    CHECK(db_get(txn, DB_BLOBS, key, 1, &value) == 0 && value.size == sizeof n);
    memcpy(&n, value.data, sizeof n);
    return n;
}

static void *read_pairs(void *arg)
{
    struct reading *reading = arg;
    struct db_reader *r;
    struct db_txn *txn;

    CHECK(db_reader_new(reading->db, &r) == 0);
    while (!atomic_load(&reading->stop)) {
        CHECK(db_read(r, &txn) == 0);
        CHECK(number(txn, "a") == number(txn, "b"));
        db_read_end(r);
        atomic_fetch_add(&reading->reads, 1);
    }
    db_reader_free(&r);
    return NULL;
}

static void test_threads_read_whole_commits(void **state)
{
    struct reading reading = {0};
    pthread_t threads[3] = {0};
    struct db_txn *txn;

    /* Room for what a reader pins that is not let run for a while. */
    assert_int_equal(db_open(&reading.db, *state, SCRATCH_MAP_BYTES, false), 0);
    for (uint64_t n = 0; n < 100 || atomic_load(&reading.reads) < 1000; n++) {
        assert_int_equal(db_write(reading.db, &txn), 0);
        assert_int_equal(db_put(txn, DB_BLOBS, "a", 1, &n, sizeof n), 0);
        assert_int_equal(db_put(txn, DB_BLOBS, "b", 1, &n, sizeof n), 0);
        assert_int_equal(db_commit(&txn), 0);
        for (size_t i = 0; n == 0 && i < 3; i++) {
            assert_int_equal(pthread_create(&threads[i], NULL, read_pairs, &reading), 0);
        }
    }
    atomic_store(&reading.stop, true);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    db_close(&reading.db);
}

static void test_read_only_creates_nothing(void **state)
{
    struct db *db = NULL;

    assert_int_equal(db_open(&db, *state, 0, true), ERR_NOT_FOUND);
    assert_null(db);
    assert_int_equal(scratch_file_size(*state, "data.mdb"), -1);
}

static void test_damaged_files(void **state)
{
    static const char garbage[16384] = "this is no index";
    struct db *db = NULL;

    scratch_file(*state, "data.mdb", garbage, sizeof garbage);
    assert_int_equal(db_open(&db, *state, MAP_BYTES, false), ERR_DAMAGED);
    scratch_file(*state, "data.mdb", garbage, 100);
    assert_int_equal(db_open(&db, *state, MAP_BYTES, false), ERR_DAMAGED);
    assert_int_equal(db_open(&db, *state, MAP_BYTES, true), ERR_DAMAGED);
    scratch_file(*state, "data.mdb", garbage, 0);
    assert_int_equal(db_open(&db, *state, MAP_BYTES, false), 0);
    db_close(&db);
    assert_int_equal(db_open(&db, "/nonexistent/cachalot", MAP_BYTES, false), ERR_NOT_FOUND);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_dir_setup, scratch_dir_teardown)

/* --- memory --- */

static unsigned file_kib(void)
{
    char line[256];
    unsigned kib = 0;
    FILE *status = fopen("/proc/self/status", "re");

    assert_non_null(status);
    while (fgets(line, sizeof line, status) != NULL)
        (void)!sscanf(line, "RssFile: %u kB", &kib);
    assert_int_equal(fclose(status), 0);
    return kib;
}

struct watch {
    unsigned most_kib;
    unsigned count;
};

static int watch_record(void *arg, struct db_value key, struct db_value value)
{
    struct watch *w = arg;

    (void)key;
    assert_int_equal(value.size, 2000);
    assert_int_equal(((const char *)value.data)[1999], 'x');
    if (w->count++ % 1000 == 0 && file_kib() > w->most_kib)
        w->most_kib = file_kib();
    return 0;
}

/* Who reads all of a large index, and is to stay small, has only some of it mapped. */
static void test_keep_small(void **state)
{
    struct watch w = {0};
    struct db_reader *reader;
    struct db_txn *txn;
    struct db *db;
    char value[2000];

    memset(value, 'x', sizeof value);
    assert_int_equal(db_open(&db, *state, 256u << 20, false), 0);
    assert_int_equal(db_write(db, &txn), 0);
    for (uint32_t i = 0; i < 30000; i++)
        assert_int_equal(db_put(txn, DB_BLOBS, &i, sizeof i, value, sizeof value), 0);
    assert_int_equal(db_commit(&txn), 0);
    unsigned before_kib = file_kib();
    db_keep_small(db);
    assert_int_equal(db_reader_new(db, &reader), 0);
    assert_int_equal(db_read(reader, &txn), 0);
    assert_int_equal(db_walk(txn, DB_BLOBS, NULL, 0, NULL, 0, watch_record, &w), 0);
    db_read_end(reader);
    assert_int_equal(w.count, 30000);
    /* Of 60 MB; sanitizers and what they map come before. */
    assert_true(w.most_kib < before_kib + (32u << 10));
    db_reader_free(&reader);
    db_close(&db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_records_survive_reopening),
        TEST(test_abort_and_delete),
        TEST(test_a_reader_sees_one_commit),
        TEST(test_key_limits),
        TEST(test_walk),
        TEST(test_full_map_is_an_error_and_no_more),
        TEST(test_too_many_readers),
        TEST(test_a_command_reads_beside_the_daemon),
        TEST(test_a_command_follows_a_map_that_grows),
        TEST(test_a_killed_command_pins_nothing),
        TEST(test_threads_read_whole_commits),
        TEST(test_read_only_creates_nothing),
        TEST(test_damaged_files),
        TEST(test_keep_small),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
