/* SPDX-License-Identifier: ISC */
/* Real streams of gzip and zstd, and what is none, cut short, or a bomb. */
#include "cache/inflate.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/mman.h>

#include "cache/err.h"
#include "tests/unit/scratch.h"

/* A tar with one file, made with tar -b1, and what gzip -9 and zstd -19 make of it. */
#define HELLO_DIGEST "sha256:3e728ed54ac4b1a5e5315a2a60b598865c5e101db22f0fcf0f7f1a43f902a7a9"
#define HELLO_BYTES 2048
static const uint8_t hello_gzip[] = {
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xcb, 0x48, 0xcd, 0xc9, 0xc9,
    0x67, 0xa0, 0x2d, 0x30, 0x00, 0x02, 0x33, 0x13, 0x13, 0x30, 0x0d, 0x04, 0xe8, 0x34, 0x48,
    0x16, 0x89, 0x0d, 0x14, 0x37, 0x34, 0x30, 0x32, 0x32, 0x67, 0x50, 0x30, 0x60, 0xa0, 0x03,
    0x28, 0x2d, 0x2e, 0x49, 0x2c, 0x02, 0x5a, 0x4f, 0x0d, 0x4f, 0x22, 0x7b, 0x6e, 0x88, 0x80,
    0x0c, 0x50, 0xfc, 0x73, 0x31, 0x8c, 0x82, 0x51, 0x30, 0x0a, 0x46, 0xc1, 0x28, 0x18, 0x61,
    0x00, 0x00, 0x82, 0x4e, 0x63, 0x39, 0x00, 0x08, 0x00, 0x00,
};
static const uint8_t hello_zstd[] = {
    0x28, 0xb5, 0x2f, 0xfd, 0x64, 0x00, 0x07, 0x1d, 0x02, 0x00, 0x82, 0xc2, 0x08, 0x10,
    0xb0, 0xa9, 0x03, 0x24, 0xe2, 0x1a, 0x69, 0x98, 0xe8, 0xde, 0xb7, 0x77, 0x1a, 0x0d,
    0x1d, 0x19, 0x05, 0xfd, 0x22, 0xa2, 0xd2, 0xea, 0xa1, 0xc3, 0x6c, 0x71, 0x2f, 0xde,
    0x3b, 0xfc, 0xef, 0xc9, 0x2c, 0x26, 0x0b, 0x20, 0x80, 0x99, 0x63, 0x1c, 0xf6, 0xc1,
    0xc7, 0x01, 0x85, 0x20, 0x9d, 0x02, 0xf0, 0x0c, 0x46, 0x3a, 0x20, 0x79, 0x70, 0x84,
    0x81, 0x07, 0x0c, 0x67, 0x27, 0x5e, 0x04, 0x19, 0xbd, 0x59, 0x9e,
};

/* The empty layer that Docker adds for each step that changes no file. */
#define EMPTY_DIGEST "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
static const uint8_t empty_layer[] = {
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x09, 0x6e, 0x88, 0x00, 0xff, 0x62, 0x18, 0x05, 0xa3, 0x60, 0x14,
    0x8c, 0x58, 0x00, 0x08, 0x00, 0x00, 0xff, 0xff, 0x2e, 0xaf, 0xb5, 0xef, 0x00, 0x04, 0x00, 0x00,
};

struct trial {
    int fd;
    unsigned asked;
    unsigned wanted; /* as often it is; 0: always */
    struct digest diff_id;
    uint64_t size_bytes;
};

static struct trial trial_new(void)
{
    struct trial t = {.fd = memfd_create("layer", MFD_CLOEXEC)};

    assert_true(t.fd >= 0);
    return t;
}

static void add(const struct trial *t, const void *data, size_t len)
{
    assert_int_equal(write(t->fd, data, len), len);
}

static bool is_wanted(void *arg)
{
    struct trial *t = arg;

    return t->asked++ < t->wanted || t->wanted == 0;
}

static int inflate(struct trial *t)
{
    assert_int_equal(lseek(t->fd, 0, SEEK_SET), 0);
    return inflate_digest(t->fd, DIGEST_SHA256, is_wanted, t, &t->diff_id, &t->size_bytes);
}

static void expect(struct trial *t, const char *diff_id, uint64_t size_bytes)
{
    char text[DIGEST_TEXT_MAX];

    assert_int_equal(inflate(t), 0);
    assert_string_equal(digest_text(&t->diff_id, text), diff_id);
    assert_int_equal(t->size_bytes, size_bytes);
    close(t->fd);
}

static void expect_err(struct trial *t, int err)
{
    assert_int_equal(inflate(t), err);
    close(t->fd);
}

static void test_gzip(void **state)
{
    struct trial t = trial_new();

    (void)state;
    add(&t, hello_gzip, sizeof hello_gzip);
    expect(&t, HELLO_DIGEST, HELLO_BYTES);
    t = trial_new();
    add(&t, empty_layer, sizeof empty_layer);
    expect(&t, EMPTY_DIGEST, 1024);
}

static void test_zstd(void **state)
{
    struct trial t = trial_new();

    (void)state;
    add(&t, hello_zstd, sizeof hello_zstd);
    expect(&t, HELLO_DIGEST, HELLO_BYTES);
}

/* Streams of several parts, as pigz, estargz and zstd:chunked make them, are one content. */
static void test_several_parts(void **state)
{
    static const uint8_t skippable[] = {0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 't', 'o', 'c', '!'};
    static uint8_t twice[2 * 1024];
    struct digest zeros;
    char text[DIGEST_TEXT_MAX];
    struct trial t = trial_new();

    (void)state;
    digest_of(DIGEST_SHA256, twice, sizeof twice, &zeros);
    add(&t, empty_layer, sizeof empty_layer);
    add(&t, empty_layer, sizeof empty_layer);
    expect(&t, digest_text(&zeros, text), sizeof twice);
    t = trial_new();
    add(&t, hello_zstd, sizeof hello_zstd);
    add(&t, skippable, sizeof skippable);
    expect(&t, HELLO_DIGEST, HELLO_BYTES);
}

/* A tar that is not compressed is its own content. */
static void test_plain(void **state)
{
    char tar[1024] = "name";
    struct digest d;
    char text[DIGEST_TEXT_MAX];
    struct trial t = trial_new();

    (void)state;
    memcpy(tar + 257, "ustar", 5);
    digest_of(DIGEST_SHA256, tar, sizeof tar, &d);
    add(&t, tar, sizeof tar);
    expect(&t, digest_text(&d, text), sizeof tar);
}

static void test_sha512(void **state)
{
    struct trial t = trial_new();
    static const uint8_t zeros[1024];
    struct digest d;

    (void)state;
    add(&t, empty_layer, sizeof empty_layer);
    assert_int_equal(lseek(t.fd, 0, SEEK_SET), 0);
    assert_int_equal(inflate_digest(t.fd, DIGEST_SHA512, NULL, NULL, &t.diff_id, &t.size_bytes), 0);
    digest_of(DIGEST_SHA512, zeros, sizeof zeros, &d);
    assert_true(digest_equal(&d, &t.diff_id));
    close(t.fd);
}

static void test_what_is_no_layer(void **state)
{
    static const char *const texts[] = {"", "{}", "\x1f\x8b", "BZh91AY&SY", "LZIP\1"};
    struct trial t;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        t = trial_new();
        add(&t, texts[i], strlen(texts[i]));
        expect_err(&t, ERR_INVALID);
    }
}

static void test_cut_short(void **state)
{
    struct trial t;

    (void)state;
    for (size_t cut = 0; cut < sizeof hello_gzip - 8; cut++) {
        t = trial_new();
        add(&t, hello_gzip, cut);
        expect_err(&t, ERR_INVALID);
    }
    for (size_t cut = 0; cut < sizeof hello_zstd - 4; cut++) {
        t = trial_new();
        add(&t, hello_zstd, cut);
        expect_err(&t, ERR_INVALID);
    }
}

static la_ssize_t write_block(struct archive *a, void *arg, const void *data, size_t len)
{
    (void)a;
    add(arg, data, len);
    return (la_ssize_t)len;
}

/* `blocks` of 64 KiB, zeros or noise, compressed by libarchive itself. */
static struct trial compressed(int filter, unsigned blocks, bool is_noise)
{
    static uint8_t block[64 * 1024];
    struct trial t = trial_new();
    struct archive *a = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    uint32_t noise = 1;

    assert_int_equal(archive_write_add_filter(a, filter), ARCHIVE_OK);
    assert_int_equal(archive_write_set_format_raw(a), ARCHIVE_OK);
    assert_int_equal(archive_write_set_bytes_in_last_block(a, 1), ARCHIVE_OK);
    assert_int_equal(archive_write_open(a, &t, NULL, write_block, NULL), ARCHIVE_OK);
    archive_entry_set_filetype(entry, AE_IFREG);
    assert_int_equal(archive_write_header(a, entry), ARCHIVE_OK);
    memset(block, 0, sizeof block);
    for (unsigned i = 0; i < blocks; i++) {
        for (size_t j = 0; is_noise && j < sizeof block; j++) {
            noise = noise * 1664525 + 1013904223;
            block[j] = (uint8_t)(noise >> 24);
        }
        assert_int_equal(archive_write_data(a, block, sizeof block), sizeof block);
    }
    archive_entry_free(entry);
    assert_int_equal(archive_write_free(a), ARCHIVE_OK);
    return t;
}

static void test_large_ones_are_the_same_however_compressed(void **state)
{
    enum { BLOCKS = 400 };
    struct trial gzip = compressed(ARCHIVE_FILTER_GZIP, BLOCKS, true);
    struct trial zstd = compressed(ARCHIVE_FILTER_ZSTD, BLOCKS, true);

    (void)state;
    assert_int_equal(inflate(&gzip), 0);
    assert_int_equal(inflate(&zstd), 0);
    assert_int_equal(gzip.size_bytes, BLOCKS * 64 * 1024);
    assert_int_equal(zstd.size_bytes, BLOCKS * 64 * 1024);
    assert_true(digest_equal(&gzip.diff_id, &zstd.diff_id));
    close(gzip.fd);
    close(zstd.fd);
}

/* Zeros are the best that can happen to a compressor: gzip's 1:1032 must pass. */
static void test_bombs(void **state)
{
    struct trial gzip = compressed(ARCHIVE_FILTER_GZIP, 1024, false);
    struct trial zstd = compressed(ARCHIVE_FILTER_ZSTD, 1024, false);
    struct trial small = compressed(ARCHIVE_FILTER_ZSTD, 100, false);

    (void)state;
    assert_int_equal(inflate(&gzip), 0);
    close(gzip.fd);
    expect_err(&zstd, ERR_TOO_LARGE);
    assert_int_equal(inflate(&small), 0);
    close(small.fd);
}

static void test_given_up(void **state)
{
    struct trial t = compressed(ARCHIVE_FILTER_GZIP, 100, true);

    (void)state;
    t.wanted = 3;
    expect_err(&t, ERR_BUSY);
    assert_int_equal(t.asked, 4);
}

/* What is compressed twice has no diff_id: nobody could tell which it is. */
static void test_compressed_twice(void **state)
{
    struct trial t = trial_new();
    struct archive *a = archive_write_new();
    struct archive_entry *entry = archive_entry_new();

    (void)state;
    assert_int_equal(archive_write_add_filter_gzip(a), ARCHIVE_OK);
    assert_int_equal(archive_write_set_format_raw(a), ARCHIVE_OK);
    assert_int_equal(archive_write_open(a, &t, NULL, write_block, NULL), ARCHIVE_OK);
    archive_entry_set_filetype(entry, AE_IFREG);
    assert_int_equal(archive_write_header(a, entry), ARCHIVE_OK);
    assert_int_equal(archive_write_data(a, hello_gzip, sizeof hello_gzip), sizeof hello_gzip);
    archive_entry_free(entry);
    assert_int_equal(archive_write_free(a), ARCHIVE_OK);
    expect_err(&t, ERR_INVALID);
}

static void test_a_file_that_cannot_be_read(void **state)
{
    struct digest d;
    uint64_t size_bytes;
    int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(inflate_digest(fd, DIGEST_SHA256, NULL, NULL, &d, &size_bytes), ERR_INVALID);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gzip),
        cmocka_unit_test(test_zstd),
        cmocka_unit_test(test_several_parts),
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_sha512),
        cmocka_unit_test(test_what_is_no_layer),
        cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_large_ones_are_the_same_however_compressed),
        cmocka_unit_test(test_bombs),
        cmocka_unit_test(test_given_up),
        cmocka_unit_test(test_compressed_twice),
        cmocka_unit_test(test_a_file_that_cannot_be_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
