/* SPDX-License-Identifier: ISC */
/*
 * Each system call that writes fails in turn, once or from then on, while content
 * is taken in, by a fetch and by a push, from the opening of the store to index.json.
 * Whatever fails: nothing crashes, the error is reported, and the next start finds no
 * record without its whole file, and nothing that was acknowledged missing. So it does
 * when the process is killed instead.
 */
#include <errno.h>
#include <jansson.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "cache/blob.h"
#include "cache/check.h"
#include "cache/err.h"
#include "cache/layout.h"
#include "cache/local.h"
#include "cache/manifest.h"
#include "cache/tag.h"
#include "cache/upload.h"
#include "tests/unit/scratch.h"

#define IMAGE "application/vnd.oci.image.manifest.v1+json"
#define UPLOAD_ID "0123456789abcdef0123456789abcdef"

static const char pushed[] = "the bytes of a layer that a client pushes";
static const char layer[] = "the bytes of a layer";

/* --- the calls, in place of libc's: for LMDB too --- */

#define KILLED 99

static struct {
    bool armed;
    bool for_ever;
    bool kills;
    int errnum;
    unsigned fail_at;
    unsigned calls;
} fault;

static bool fails(void)
{
    if (!fault.armed) {
        return false;
    }
    fault.calls++;
    if (fault.calls != fault.fail_at && !(fault.for_ever && fault.calls > fault.fail_at)) {
        return false;
    }
    if (fault.kills) {
        _exit(KILLED);
    }
    errno = fault.errnum;
    return true;
}

#define CALL(type, ...) (fails() ? (type)-1 : (type)syscall(__VA_ARGS__))

int fsync(int fd)
{
    return CALL(int, SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return CALL(int, SYS_fdatasync, fd);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    return CALL(ssize_t, SYS_pwrite64, fd, data, len, offset);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    return CALL(int, SYS_renameat2, from_dir, from, to_dir, to, 0);
}

int mkdirat(int dir, const char *path, mode_t mode)
{
    return CALL(int, SYS_mkdirat, dir, path, mode);
}

int unlinkat(int dir, const char *path, int flags)
{
    return CALL(int, SYS_unlinkat, dir, path, flags);
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
    return CALL(int, SYS_fallocate, fd, mode, offset, len);
}

int ftruncate(int fd, off_t size)
{
    return CALL(int, SYS_ftruncate, fd, size);
}

/* --- what is done --- */

struct progress {
    bool acknowledged; /* the commit returned 0 */
    bool push_acknowledged;
};

static int commit_or_abort(struct db_txn *txn, int err)
{
    if (err == 0) {
        return db_commit(&txn);
    }
    db_abort(&txn);
    return err;
}

/* The record follows the file. */
static int begin_push(struct store *s, const struct name *n, struct upload_file **f)
{
    struct upload_record r = {.name = *n, .alg = DIGEST_SHA256, .started_at_s = time(NULL)};
    struct db_txn *txn;
    int err = upload_file_create(s, UPLOAD_ID, f);

    if (err != 0) {
        return err;
    }
    err = db_write(store_db(s), &txn);
    if (err == 0) {
        err = commit_or_abort(txn, upload_put(txn, UPLOAD_ID, &r));
    }
    if (err != 0) {
        upload_file_discard(f);
    }
    return err;
}

static int end_push(struct store *s, const struct name *n, struct upload_file *f)
{
    struct digest d;
    struct db_txn *txn;

    digest_of(DIGEST_SHA256, pushed, sizeof pushed, &d);
    int err = upload_file_append(f, pushed, 10);

    if (err == 0) {
        err = upload_file_append(f, pushed + 10, sizeof pushed - 10);
    }
    if (err == 0) {
        err = upload_file_publish(f, &d);
    }
    if (err == 0) {
        err = db_write(store_db(s), &txn);
    }
    if (err != 0) {
        return err;
    }
    err = local_put_blob(txn, n, &d, sizeof pushed, 1);
    if (err == 0) {
        err = upload_forget(txn, UPLOAD_ID);
    }
    return commit_or_abort(txn, err);
}

static int take_push(struct store *s, struct progress *progress)
{
    struct name n = scratch_local("team/app");
    struct upload_file *f;
    int err = begin_push(s, &n, &f);

    if (err != 0) {
        return err;
    }
    err = end_push(s, &n, f);
    progress->push_acknowledged = err == 0;
    upload_file_close(&f);
    return err;
}

static int take_layer(struct store *s, const struct digest *d)
{
    struct partial *p;
    uint64_t kept;
    int err = partial_open(s, d, &p, &kept);

    if (err != 0) {
        return err;
    }
    err = partial_truncate(p, 0);
    if (err == 0) {
        err = partial_reserve(p, sizeof layer);
    }
    if (err == 0) {
        err = partial_write(p, layer, sizeof layer, 0);
    }
    if (err == 0) {
        err = partial_sync(p);
    }
    if (err == 0) {
        err = partial_publish(p);
    }
    partial_close(&p);
    return err;
}

static int record_all(struct db_txn *txn, const struct digest *layer_digest,
                      const struct manifest *m, const char *text)
{
    struct name n = scratch_name("docker.io", "alpine");
    struct blob_record blob = {.size_bytes = sizeof layer, .origin = BLOB_PUBLIC};
    struct tag_record tag = {.size_bytes = strlen(text), .media_type = IMAGE};

    tag.digest = scratch_digest(text);
    int err = blob_put(txn, layer_digest, &blob);

    if (err == 0) {
        err = manifest_put(txn, &n, &tag.digest, m, BLOB_PUBLIC, strlen(text), 1);
    }
    return err == 0 ? tag_put(txn, &n, "latest", &tag) : err;
}

static int commit_all(struct store *s, const struct digest *layer_digest, const struct manifest *m,
                      const char *text, struct progress *progress)
{
    struct db_txn *txn;
    int err = db_write(store_db(s), &txn);

    if (err != 0) {
        return err;
    }
    err = record_all(txn, layer_digest, m, text);
    if (err != 0) {
        db_abort(&txn);
        return err;
    }
    err = db_commit(&txn);
    progress->acknowledged = err == 0;
    if (err == 0) {
        err = db_write(store_db(s), &txn);
    }
    if (err == 0) {
        err = layout_write_index(s, txn);
        db_abort(&txn);
    }
    return err;
}

static int take_in(const char *dir, const struct digest *layer_digest, const struct manifest *m,
                   const char *text, struct progress *progress)
{
    char why[512] = "";
    struct digest d = scratch_digest(text);
    struct store *s;
    int err = store_open(&s, dir, STORE_OWN, SCRATCH_MAP_BYTES, why, sizeof why);

    if (err != 0) {
        assert_string_not_equal(why, "");
        return err;
    }
    err = take_layer(s, layer_digest);
    if (err == 0) {
        err = blob_write(s, &d, text, strlen(text));
    }
    if (err == 0) {
        err = commit_all(s, layer_digest, m, text, progress);
    }
    if (err == 0) {
        err = take_push(s, progress);
    }
    store_close(&s);
    return err;
}

/* --- what must hold afterwards --- */

struct checking {
    struct store *store;
    struct db_txn *txn;
};

static int check_blob(void *arg, struct db_value key, struct db_value value)
{
    const struct checking *checking = arg;
    struct digest d;
    struct digest is;
    struct blob_record r;
    char data[1024];
    int fd;

    (void)value;
    assert_int_equal(digest_from_key(&d, key.data, key.size), key.size);
    assert_int_equal(blob_get(checking->txn, &d, &r), 0);
    assert_int_equal(blob_open(checking->store, &d, r.size_bytes, &fd), 0);
    ssize_t len = read(fd, data, sizeof data);

    close(fd);
    assert_true(len >= 0);
    digest_of(DIGEST_SHA256, data, (size_t)len, &is);
    assert_true(digest_equal(&d, &is));
    return 0;
}

static void check_index_json(const char *dir)
{
    json_error_t error;
    json_t *index = json_load_file(scratch_path(dir, "index.json"), 0, &error);

    if (index == NULL) {
        assert_int_equal(scratch_file_size(dir, "index.json"), -1);
    }
    json_decref(index);
}

/* What was pushed is there whole, and a session is either whole or gone. */
static void check_push(struct store *s, struct db_txn *txn, const struct progress *progress)
{
    struct name n = scratch_local("team/app");
    struct upload_record session;
    struct blob_record r;
    struct digest d;
    unsigned removed;
    uint64_t count;

    digest_of(DIGEST_SHA256, pushed, sizeof pushed, &d);
    assert_true(local_find_blob(txn, &n, &d, &r) == 0 || !progress->push_acknowledged);
    assert_int_equal(upload_sweep(s, txn, time(NULL) + 3600, INT64_MAX, &removed), 0);
    if (upload_get(txn, UPLOAD_ID, &session) == 0) {
        assert_int_equal(faccessat(store_partial_fd(s), "upload-" UPLOAD_ID, F_OK, 0), 0);
    }
    assert_int_equal(upload_sweep(s, txn, time(NULL) + 3600, 5, &removed), 0);
    assert_int_equal(db_count(txn, DB_UPLOADS, &count), 0);
    assert_int_equal(count, 0);
}

static void check_next_start(const char *dir, const struct progress *progress)
{
    struct store *s = scratch_store(dir);
    struct checking checking = {.store = s};
    struct db_txn *txn;
    uint64_t count;
    unsigned removed;

    assert_int_equal(db_write(store_db(s), &txn), 0);
    checking.txn = txn;
    assert_int_equal(db_walk(txn, DB_BLOBS, NULL, 0, NULL, 0, check_blob, &checking), 0);
    assert_int_equal(db_count(txn, DB_TAGS, &count), 0);
    assert_true(count == 1 || !progress->acknowledged);
    check_push(s, txn, progress);
    assert_int_equal(partial_sweep(s, txn, 10, 5, &removed), 0);
    assert_int_equal(db_commit(&txn), 0);
    store_close(&s);
    check_index_json(dir);
    assert_int_equal(rmdir(scratch_path(dir, "partial")), 0);
}

/* In memory where that can be: there are hundreds of runs. */
static void run_dir(char dir[64])
{
    strcpy(dir, access("/dev/shm", W_OK) == 0 ? "/dev/shm/cachalot-test-XXXXXX"
                                              : "/tmp/cachalot-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
}

/* Returns whether the fault was met. */
static bool one_run(const struct manifest *m, const char *text, const struct digest *layer_digest)
{
    struct progress progress = {false, false};
    char dir[64];

    run_dir(dir);
    fault.calls = 0;
    fault.armed = true;
    int err = take_in(dir, layer_digest, m, text, &progress);

    fault.armed = false;
    bool met = fault.calls >= fault.fail_at;

    assert_true(err == 0 || met);
    if (err == 0) {
        assert_true(progress.acknowledged && progress.push_acknowledged);
    }
    check_next_start(dir, &progress);
    scratch_remove(dir);
    return met;
}

/* The same in a process that is killed instead. */
static bool one_killed_run(const struct manifest *m, const char *text,
                           const struct digest *layer_digest)
{
    struct progress *progress =
        mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char dir[64];
    int status = 0;

    assert_true(progress != MAP_FAILED);
    run_dir(dir);
    pid_t child = fork();

    if (child == 0) {
        fault.calls = 0;
        fault.armed = true;
        _exit(take_in(dir, layer_digest, m, text, progress) == 0 ? 0 : 1);
    }
    assert_true(child > 0 && waitpid(child, &status, 0) == child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 1);
    check_next_start(dir, progress);
    assert_int_equal(munmap(progress, sizeof *progress), 0);
    scratch_remove(dir);
    return WEXITSTATUS(status) == KILLED;
}

typedef bool run(const struct manifest *m, const char *text, const struct digest *layer_digest);

static void each_call_fails(run *one, int errnum, bool for_ever)
{
    char digest[DIGEST_TEXT_MAX];
    char why[256];
    struct digest layer_digest;
    struct manifest *m;

    digest_of(DIGEST_SHA256, layer, sizeof layer, &layer_digest);
    char *text = mem_format("{\"layers\":[{\"digest\":\"%s\",\"size\":%zu}]}",
                            digest_text(&layer_digest, digest), sizeof layer);

    assert_int_equal(manifest_parse(&m, IMAGE, text, strlen(text), why, sizeof why), 0);
    fault.errnum = errnum;
    fault.for_ever = for_ever;
    fault.fail_at = 1;
    while (one(m, text, &layer_digest)) {
        fault.fail_at++;
    }
    assert_true(fault.fail_at > 20);
    manifest_free(&m);
    free(text);
}

static void test_once(void **state)
{
    (void)state;
    each_call_fails(one_run, EIO, false);
}

static void test_for_ever(void **state)
{
    (void)state;
    each_call_fails(one_run, EIO, true);
}

static void test_full_disk(void **state)
{
    (void)state;
    each_call_fails(one_run, ENOSPC, true);
}

static void test_killed(void **state)
{
    (void)state;
    fault.kills = true;
    each_call_fails(one_killed_run, 0, false);
    fault.kills = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_once),
        cmocka_unit_test(test_for_ever),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_killed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
