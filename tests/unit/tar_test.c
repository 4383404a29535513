/* SPDX-License-Identifier: ISC */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "cache/err.h"
#include "cache/tar_format.h"
#include "cache/tar_read.h"
#include "cache/tar_write.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static int file_of(const void *data, size_t len)
{
    int fd = memfd_create("tar", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static void test_round_trip(void **state)
{
    static const struct {
        const char *name;
        size_t size;
    } files[] = {
        {"oci-layout", 30},   {"empty", 0},
        {"a/b", 511},         {"a/c", 512},
        {"a/d", 513},         {"blobs/sha256/" HEX64, 3000000},
        {"end", 1024 * 1024}, {"blobs/sha512/" HEX64 HEX64, 77},
    };
    struct tar_writer w = {.fd = memfd_create("tar", MFD_CLOEXEC)};
    char *data = calloc(1, 3000000);
    struct tar_entry e;
    uint64_t expected = 0;

    (void)state;
    memset(data, 'x', 3000000);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        assert_int_equal(tar_write_file(&w, files[i].name, data, files[i].size), 0);
        expected += tar_entry_bytes(files[i].name, files[i].size);
        assert_int_equal(w.written_bytes, expected);
    }
    assert_int_equal(tar_write_end(&w), 0);
    assert_int_equal(w.written_bytes, expected + TAR_END_BYTES);
    assert_int_equal(lseek(w.fd, 0, SEEK_SET), 0);
    struct tar_reader *r = tar_reader_new(w.fd);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        const void *read;
        size_t len;
        size_t all = 0;

        assert_int_equal(tar_next(r, &e), 0);
        assert_string_equal(e.name, files[i].name);
        assert_int_equal(e.size_bytes, files[i].size);
        /* Every other one is passed over. */
        while (i % 2 == 0 && tar_read(r, &read, &len) == 0 && len > 0) {
            assert_memory_equal(read, data, len);
            all += len;
        }
        assert_int_equal(all, i % 2 == 0 ? files[i].size : 0);
    }
    assert_int_equal(tar_next(r, &e), ERR_NOT_FOUND);
    assert_int_equal(tar_position(r), w.written_bytes);
    tar_reader_free(&r);
    close(w.fd);
    free(data);
}

/* A size that eleven octal digits do not hold is in a pax header, where all tools look. */
static void test_large(void **state)
{
    uint64_t size = 9ull << 30;
    struct tar_writer w = {.fd = memfd_create("tar", MFD_CLOEXEC)};
    struct tar_entry e;

    (void)state;
    assert_int_equal(tar_write_begin(&w, "large", size), 0);
    assert_int_equal(tar_entry_bytes("large", size), 3 * TAR_BLOCK_BYTES + size);
    assert_int_equal(w.written_bytes, 3 * TAR_BLOCK_BYTES);
    assert_int_equal(lseek(w.fd, 0, SEEK_SET), 0);
    struct tar_reader *r = tar_reader_new(w.fd);
    assert_int_equal(tar_next(r, &e), 0);
    assert_int_equal(e.size_bytes, size);
    assert_string_equal(e.name, "large");
    assert_int_equal(tar_next(r, &e), ERR_INVALID);
    assert_non_null(strstr(tar_why(r), "large"));
    tar_reader_free(&r);
    close(w.fd);
}

/* --- headers made by hand --- */

struct odd {
    const char *name, *size, *link;
    char type;
    const char *why; /* NULL: it is taken */
};

static void make(struct tar_header blocks[3], const struct odd *odd)
{
    struct tar_header *h = &blocks[0];

    memset(blocks, 0, 3 * sizeof *blocks);
    memcpy(h->name, odd->name, strlen(odd->name));
    memcpy(h->size, odd->size, strlen(odd->size));
    memcpy(h->link, odd->link, strlen(odd->link));
    memcpy(h->magic, "ustar", 6);
    h->type = odd->type;
    snprintf(h->checksum, sizeof h->checksum, "%06o", tar_checksum(h));
}

static void test_odd(void **state)
{
    static const struct odd rows[] = {
        {"plain", "0", "", '0', NULL},
        {"./plain", "00000000000", "", '\0', NULL},
        {"d/", " 0 ", "", '5', NULL},
        {"./", "0", "", '5', NULL},
        {"a/layer.tar", "0", "../b.tar", '2', NULL},
        {"/etc/passwd", "0", "", '0', "absolute"},
        {"..", "0", "", '0', ".."},
        {"a/..", "0", "", '0', ".."},
        {"../a", "0", "", '0', ".."},
        {"a/../b", "0", "", '0', ".."},
        {"a//b", "0", "", '0', "nothing"},
        {"a/.", "0", "", '0', "."},
        {"a/", "0", "", '0', "nothing"},
        {"", "0", "", '0', "empty"},
        {"a\\b", "0", "", '0', "backslashes"},
        {"a\tb", "0", "", '0', "a?b"},
        {"a\x80", "0", "", '0', "a?"},
        {"h", "0", "plain", '1', "hard link"},
        {"c", "0", "", '3', "device"},
        {"b", "0", "", '4', "device"},
        {"p", "0", "", '6', "fifo"},
        {"s", "0", "", 'S', "sparse"},
        {"k", "0", "", 'K', "long target"},
        {"?", "0", "", 'Z', "kind"},
        {"l", "0", "a\nb", '2', "ASCII"},
        {"l", "1", "x", '2', "no file"},
        {"n", "-1", "", '0', "below zero"},
        {"n", "9", "", '0', "no number"},
        {"n", "", "", '0', "no number"},
        {"n", "1x", "", '0', "no number"},
        {"n", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "", '0', "below zero"},
        {"n", "\x80\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01", "", '0', "no number"},
        {"n", "\xc0", "", '0', "no number"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct tar_header blocks[3];
        struct tar_entry e;

        make(blocks, &rows[i]);
        int fd = file_of(blocks, sizeof blocks);
        struct tar_reader *r = tar_reader_new(fd);
        int err = tar_next(r, &e);

        if (rows[i].why == NULL ? err != 0
                                : err != ERR_INVALID || strstr(tar_why(r), rows[i].why) == NULL)
            fail_msg("row %zu (%s): %d, %s", i, rows[i].name, err, tar_why(r));
        tar_reader_free(&r);
        close(fd);
    }
}

static void test_ends(void **state)
{
    struct tar_writer w = {.fd = memfd_create("tar", MFD_CLOEXEC)};
    struct tar_entry e;
    char archive[8192];

    (void)state;
    assert_int_equal(tar_write_file(&w, "a", "0123456789", 10), 0);
    assert_int_equal(tar_write_end(&w), 0);
    ssize_t size = pread(w.fd, archive, sizeof archive, 0);
    assert_int_equal(size, 4 * TAR_BLOCK_BYTES);
    close(w.fd);
    for (size_t len = 0; len <= (size_t)size; len++) {
        int fd = file_of(archive, len);
        struct tar_reader *r = tar_reader_new(fd);
        int err;

        do {
            err = tar_next(r, &e);
        } while (err == 0);
        assert_int_equal(err, len < (size_t)size ? ERR_INVALID : ERR_NOT_FOUND);
        assert_true(err == ERR_NOT_FOUND || strstr(tar_why(r), "cut short") != NULL);
        tar_reader_free(&r);
        close(fd);
    }
    archive[size] = 1;
    int fd = file_of(archive, (size_t)size + 1);
    struct tar_reader *r = tar_reader_new(fd);
    assert_int_equal(tar_next(r, &e), 0);
    assert_int_equal(tar_next(r, &e), ERR_INVALID);
    assert_non_null(strstr(tar_why(r), "follows"));
    tar_reader_free(&r);
    close(fd);
}

static void test_unreadable(void **state)
{
    struct tar_entry e;
    int fd = open("/", O_RDONLY | O_CLOEXEC);
    struct tar_reader *r = tar_reader_new(fd);

    (void)state;
    assert_int_equal(tar_next(r, &e), ERR_IO);
    assert_non_null(strstr(tar_why(r), "cannot be read"));
    tar_reader_free(&r);
    close(fd);
}

static void test_full_disk(void **state)
{
    struct tar_writer w = {.fd = open("/dev/full", O_WRONLY | O_CLOEXEC)};

    (void)state;
    assert_int_equal(tar_write_file(&w, "a", "x", 1), ERR_NO_SPACE);
    close(w.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_large),
        cmocka_unit_test(test_odd),        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_unreadable), cmocka_unit_test(test_full_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
