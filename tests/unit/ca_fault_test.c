/* SPDX-License-Identifier: ISC */
/*
 * Rotation, and what is left when the making of a CA is cut short at any of its system calls, or
 * one of them fails: the former CA or the new one, and the next attempt succeeds.
 */
#include <dirent.h>
#include <errno.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/unit/ca_bed.h"

#define HOST "docker.io"

/* How a process ended that makes a CA; an error is its exit code, as a positive number. */
enum { ENDED = 0, ENDED_UNHURT = 97, ENDED_SILENT = 98, DIED = 99 };

/* --- the calls, in place of libc's --- */

enum kind { FAULT_NONE, FAULT_DEATH, FAULT_ERROR };

static struct {
    enum kind kind;
    unsigned at;
    unsigned calls;
} fault;

static bool fails(void)
{
    if (fault.kind == FAULT_NONE || ++fault.calls != fault.at) {
        return false;
    }
    if (fault.kind == FAULT_DEATH) {
        _exit(DIED);
    }
    errno = ENOSPC;
    return true;
}

#define CALL(type, ...) (fails() ? (type)-1 : (type)syscall(__VA_ARGS__))

int fsync(int fd)
{
    return CALL(int, SYS_fsync, fd);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    return CALL(ssize_t, SYS_pwrite64, fd, data, len, offset);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    return CALL(int, SYS_renameat2, from_fd, from, to_fd, to, 0);
}

int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
    return CALL(int, SYS_linkat, from_fd, from, to_fd, to, flags);
}

int unlinkat(int dir_fd, const char *name, int flags)
{
    return CALL(int, SYS_unlinkat, dir_fd, name, flags);
}

int mkdir(const char *path, mode_t mode)
{
    return CALL(int, SYS_mkdirat, AT_FDCWD, path, mode);
}

int fchmod(int fd, mode_t mode)
{
    return CALL(int, SYS_fchmod, fd, mode);
}

/* --- rotation --- */

static char *read_text(const struct ca_bed *b, const char *name, char *out, size_t size)
{
    FILE *f = ca_bed_open(b, name, "r");

    out[fread(out, 1, size - 1, f)] = '\0';
    fclose(f);
    return out;
}

static char *fingerprint(struct ca_bed *b, char out[CA_FINGERPRINT_SIZE])
{
    struct ca *ca = ca_bed_loaded(b);

    ca_fingerprint(ca, out);
    ca_free(&ca);
    return out;
}

static void test_rotation(void **state)
{
    struct ca_bed *b = *state;
    struct ca *old = MADE(b, HOST);
    X509 *root = ca_bed_certificate(b);
    char key[1024], certificate[4096], text[4096];
    const char *const names[] = {"mcr.microsoft.com"};
    EVP_PKEY *leaf_key;
    X509 *leaf;

    read_text(b, "ca.key", key, sizeof key);
    read_text(b, "ca.crt", certificate, sizeof certificate);
    assert_int_equal(CREATE(b, CA_FIRST, HOST), ERR_DENIED);
    ca_bed_expect_word(b, "cachalot ca rotate");
    assert_string_equal(read_text(b, "ca.key", text, sizeof text), key);
    assert_int_equal(CREATE(b, CA_ROTATION, "mcr.microsoft.com"), 0);
    assert_string_equal(read_text(b, "ca.key.old", text, sizeof text), key);
    assert_string_equal(read_text(b, "ca.crt.old", text, sizeof text), certificate);
    assert_string_not_equal(read_text(b, "ca.key", text, sizeof text), key);
    assert_int_equal(ca_bed_mode(b, "ca.key"), 0600);
    assert_int_equal(ca_bed_mode(b, "ca.key.old"), 0600);
    assert_int_equal(ca_bed_mode(b, "ca.crt.old"), 0600);
    struct ca *ca = ca_bed_loaded(b);
    X509 *new_root = ca_bed_certificate(b);

    assert_true(ca_covers(ca, "mcr.microsoft.com") && !ca_covers(ca, HOST));
    assert_int_equal(ca_issue(ca, names, 1, &leaf, &leaf_key), 0);
    assert_int_equal(ca_bed_verify(new_root, NULL, leaf), X509_V_OK);
    assert_int_not_equal(ca_bed_verify(root, NULL, leaf), X509_V_OK);
    X509_free(leaf);
    EVP_PKEY_free(leaf_key);
    /* What is loaded goes on as it was. */
    assert_true(ca_covers(old, HOST));
    assert_int_equal(CREATE(b, CA_ROTATION, HOST), 0);
    assert_string_not_equal(read_text(b, "ca.key.old", text, sizeof text), key);
    X509_free(root);
    X509_free(new_root);
    ca_free(&old);
    ca_free(&ca);
}

static void test_rotation_of_nothing(void **state)
{
    struct ca_bed *b = *state;

    assert_int_equal(CREATE(b, CA_ROTATION, HOST), ERR_NOT_FOUND);
    ca_bed_expect_word(b, "cachalot ca init");
    assert_int_equal(mkdir(b->ca_dir, 0700), 0);
    assert_int_equal(CREATE(b, CA_ROTATION, HOST), ERR_NOT_FOUND);
    ca_bed_expect_word(b, "cachalot ca init");
}

/* Rotation is the way out of what ca_load refuses. */
static void test_rotation_of_a_damaged_one(void **state)
{
    struct ca_bed *b = *state;
    struct ca *ca = MADE(b, HOST);

    ca_free(&ca);
    assert_int_equal(chmod(ca_bed_path(b, "ca.key"), 0644), 0);
    assert_int_equal(CREATE(b, CA_ROTATION, HOST), 0);
    assert_int_equal(ca_bed_mode(b, "ca.key.old"), 0600);
    ca = ca_bed_loaded(b);
    ca_free(&ca);
    assert_int_equal(unlink(ca_bed_path(b, "ca.crt")), 0);
    assert_int_equal(CREATE(b, CA_FIRST, HOST), ERR_DENIED);
    assert_int_equal(CREATE(b, CA_ROTATION, HOST), 0);
    ca = ca_bed_loaded(b);
    ca_free(&ca);
    assert_int_equal(unlink(ca_bed_path(b, "ca.key")), 0);
    scratch_file(b->ca_dir, "ca.crt", "rubbish", 7);
    assert_int_equal(CREATE(b, CA_ROTATION, HOST), 0);
    ca = ca_bed_loaded(b);
    ca_free(&ca);
}

/* --- when it is cut short --- */

static int create_with_fault(struct ca_bed *b, enum ca_occasion occasion, enum kind kind,
                             unsigned at)
{
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        const char *const names[] = {HOST};

        fault.kind = kind;
        fault.at = at;
        int err = ca_create(b->ca_dir, names, 1, occasion, b->why, sizeof b->why);

        if (err != 0) {
            _exit(b->why[0] != '\0' ? -err : ENDED_SILENT);
        }
        _exit(fault.calls < at ? ENDED_UNHURT : ENDED);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_not_equal(WEXITSTATUS(status), ENDED_SILENT);
    return WEXITSTATUS(status);
}

static void clear(const struct ca_bed *b)
{
    DIR *dir = opendir(b->ca_dir);
    const struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.') {
            unlink(ca_bed_path(b, entry->d_name));
        }
    }
    if (dir != NULL) {
        closedir(dir);
        assert_int_equal(rmdir(b->ca_dir), 0);
    }
}

/* Whether there was a call to fail. */
static bool rotate_with_fault(struct ca_bed *b, enum kind kind, unsigned at)
{
    char before[CA_FINGERPRINT_SIZE], after[CA_FINGERPRINT_SIZE], last[CA_FINGERPRINT_SIZE];
    char was[4096], kept[4096];

    clear(b);
    struct ca *ca = MADE(b, HOST);

    ca_fingerprint(ca, before);
    ca_free(&ca);
    int ended = create_with_fault(b, CA_ROTATION, kind, at);

    ca = ca_bed_loaded(b);
    ca_fingerprint(ca, after);
    snprintf(was, sizeof was, "%s", ca_pem(ca));
    ca_free(&ca);
    if (ended == ENDED || ended == ENDED_UNHURT) {
        assert_string_not_equal(before, after);
    }
    assert_int_equal(CREATE(b, CA_FIRST, HOST), ERR_DENIED);
    assert_string_equal(fingerprint(b, last), after);
    assert_int_equal(CREATE(b, CA_ROTATION, HOST), 0);
    assert_string_not_equal(fingerprint(b, last), after);
    assert_string_equal(read_text(b, "ca.crt.old", kept, sizeof kept), was);
    assert_int_equal(scratch_file_size(b->ca_dir, "ca.key.new"), -1);
    assert_int_equal(scratch_file_size(b->ca_dir, "ca.crt.new"), -1);
    return ended != ENDED_UNHURT;
}

static bool make_with_fault(struct ca_bed *b, enum kind kind, unsigned at)
{
    struct ca *ca;

    clear(b);
    int ended = create_with_fault(b, CA_FIRST, kind, at);
    int err = ca_bed_load(b, &ca);

    assert_true(err == 0 || (err == ERR_NOT_FOUND && ended != ENDED && ended != ENDED_UNHURT));
    if (err != 0) {
        ca = MADE(b, HOST);
    }
    ca_free(&ca);
    return ended != ENDED_UNHURT;
}

static void try_all(struct ca_bed *b, enum kind kind)
{
    unsigned at = 1;

    while (rotate_with_fault(b, kind, at)) {
        at++;
    }
    assert_in_range(at, 20, 40);
    at = 1;
    while (make_with_fault(b, kind, at)) {
        at++;
    }
    assert_in_range(at, 12, 40);
}

static void test_death_at_any_call(void **state)
{
    try_all(*state, FAULT_DEATH);
}

static void test_an_error_at_any_call(void **state)
{
    try_all(*state, FAULT_ERROR);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, ca_bed_setup, ca_bed_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_rotation),
        TEST(test_rotation_of_nothing),
        TEST(test_rotation_of_a_damaged_one),
        TEST(test_death_at_any_call),
        TEST(test_an_error_at_any_call),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
