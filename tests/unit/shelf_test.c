/* SPDX-License-Identifier: ISC */
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "proxy/shelf.h"

static char dir[64];
static struct store *store;

static int setup(void **state)
{
    char why[256];

    (void)state;
    strcpy(dir, "/tmp/cachalot-shelf-XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(store_open(&store, dir, STORE_OWN, 16u << 20, why, sizeof why), 0);
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
    (void)st;
    (void)type;
    (void)f;
    return remove(path);
}

static int teardown(void **state)
{
    (void)state;
    store_close(&store);
    return nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static struct digest write_blob(const char *text)
{
    struct digest d;

    digest_of(DIGEST_SHA256, text, strlen(text), &d);
    assert_int_equal(blob_write(store, &d, text, strlen(text)), 0);
    return d;
}

static void blob_path(const struct digest *d, char *out, size_t size)
{
    char text[DIGEST_TEXT_MAX];

    snprintf(out, size, "%s/blobs/sha256/%s", dir, digest_text(d, text) + strlen("sha256:"));
}

static int take(struct shelf *sh, const struct digest *d, uint64_t size_bytes, bool in_memory,
                const struct held **held)
{
    struct blob_record record = {.size_bytes = size_bytes, .origin = BLOB_PUBLIC};

    return shelf_take(sh, d, &record, in_memory, held);
}

static void test_take(void **state)
{
    struct shelf *sh = shelf_new(store, 2);
    struct digest d = write_blob("a manifest");
    const struct held *file, *body;
    char text[DIGEST_TEXT_MAX];

    (void)state;
    assert_int_equal(take(sh, &d, 10, true, &body), 0);
    assert_int_equal(body->fd, -1);
    assert_memory_equal(body->body, "a manifest", 10);
    assert_memory_equal(body->etag + 1, digest_text(&d, text), strlen(text));
    shelf_return(&body);
    assert_null(body);
    body = shelf_take_body(sh, &d);
    assert_memory_equal(body->body, "a manifest", 10);
    shelf_return(&body);
    d = write_blob("a layer");
    assert_int_equal(take(sh, &d, 7, false, &file), 0);
    assert_true(file->fd >= 0);
    assert_null(shelf_take_body(sh, &d));
    assert_null(file->body);
    shelf_return(&file);
    shelf_free(&sh);
}

/* Bodies that are not what their digest says are not taken. */
static void test_rotten_body(void **state)
{
    struct shelf *sh = shelf_new(store, 2);
    struct digest d = write_blob("right");
    const struct held *h;
    char path[256];

    (void)state;
    blob_path(&d, path, sizeof path);
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "wrong", 5), 5);
    close(fd);
    assert_int_equal(take(sh, &d, 5, true, &h), ERR_MISMATCH);
    shelf_free(&sh);
}

/* A file that is cut or removed while it is on the shelf is a miss the next time. */
static void test_changed_file(void **state)
{
    struct shelf *sh = shelf_new(store, 2);
    struct digest d = write_blob("0123456789");
    const struct held *h;
    char path[256];

    (void)state;
    assert_int_equal(take(sh, &d, 10, false, &h), 0);
    shelf_return(&h);
    blob_path(&d, path, sizeof path);
    assert_int_equal(truncate(path, 4), 0);
    assert_int_equal(take(sh, &d, 10, false, &h), ERR_MISMATCH);
    d = write_blob("0123456789");
    assert_int_equal(take(sh, &d, 10, false, &h), 0);
    shelf_return(&h);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(take(sh, &d, 10, false, &h), ERR_MISMATCH);
    shelf_free(&sh);
}

/* The shelf keeps few files; what is held stays usable when it falls off. */
static void test_limit(void **state)
{
    struct shelf *sh = shelf_new(store, 2);
    const struct held *held[5];
    char byte;

    (void)state;
    for (int i = 0; i < 5; i++) {
        char text[2] = {(char)('a' + i), '\0'};
        struct digest d = write_blob(text);

        assert_int_equal(take(sh, &d, 1, false, &held[i]), 0);
    }
    for (int i = 0; i < 5; i++) {
        assert_int_equal(pread(held[i]->fd, &byte, 1, 0), 1);
        assert_int_equal(byte, 'a' + i);
        shelf_return(&held[i]);
    }
    shelf_free(&sh);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_take, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rotten_body, setup, teardown),
        cmocka_unit_test_setup_teardown(test_changed_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limit, setup, teardown),
    };

    return cmocka_run_group_tests_name("shelf", tests, NULL, NULL);
}
