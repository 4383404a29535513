/* SPDX-License-Identifier: ISC */
/* A temporary directory for one test, and an index or a store in it. */
#ifndef TESTS_UNIT_SCRATCH_H
#define TESTS_UNIT_SCRATCH_H

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "cache/db.h"
#include "cache/digest.h"
#include "cache/name.h"
#include "cache/store.h"

#define SCRATCH_MAP_BYTES (64u << 20)

struct scratch {
    char dir[64];
    struct store *store;
};

static inline int scratch_remove_one(const char *path, const struct stat *st, int type,
                                     struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static inline void scratch_remove(const char *dir)
{
    assert_int_equal(nftw(dir, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static inline void scratch_dir(char dir[64])
{
    snprintf(dir, 64, "/tmp/cachalot-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
}

/* Of tests whose state is the name of a directory. */
static inline int scratch_dir_setup(void **state)
{
    char *dir = malloc(64);

    assert_non_null(dir);
    scratch_dir(dir);
    *state = dir;
    return 0;
}

static inline int scratch_dir_teardown(void **state)
{
    scratch_remove(*state);
    free(*state);
    return 0;
}

/* "dir/name", valid until the next call. */
static inline const char *scratch_path(const char *dir, const char *name)
{
    static char path[512];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static inline void scratch_file(const char *dir, const char *name, const void *data, size_t len)
{
    int fd = open(scratch_path(dir, name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
    close(fd);
}

/* The length of the file, or -1 when it is not there. */
static inline long scratch_file_size(const char *dir, const char *name)
{
    struct stat st;

    return lstat(scratch_path(dir, name), &st) == 0 ? (long)st.st_size : -1;
}

static inline struct store *scratch_store(const char *dir)
{
    char refusal[512] = "";
    struct store *store;

    if (store_open(&store, dir, STORE_OWN, SCRATCH_MAP_BYTES, refusal, sizeof refusal) != 0) {
        fail_msg("%s", refusal);
    }
    return store;
}

/* A directory with a store. */
static inline struct scratch *scratch_new(void)
{
    struct scratch *s = calloc(1, sizeof *s);

    assert_non_null(s);
    scratch_dir(s->dir);
    s->store = scratch_store(s->dir);
    return s;
}

static inline void scratch_free(struct scratch *s)
{
    store_close(&s->store);
    scratch_remove(s->dir);
    free(s);
}

/* cmocka's set-up and tear-down of a test with one. */
static inline int scratch_setup(void **state)
{
    *state = scratch_new();
    return 0;
}

static inline int scratch_teardown(void **state)
{
    scratch_free(*state);
    return 0;
}

static inline struct db_reader *scratch_reader(struct scratch *s)
{
    struct db_reader *reader;

    assert_int_equal(db_reader_new(store_db(s->store), &reader), 0);
    return reader;
}

static inline struct db_txn *scratch_write(struct scratch *s)
{
    struct db_txn *txn;

    assert_int_equal(db_write(store_db(s->store), &txn), 0);
    return txn;
}

static inline struct digest scratch_digest(const char *text)
{
    struct digest d;

    digest_of(DIGEST_SHA256, text, strlen(text), &d);
    return d;
}

static inline struct name scratch_name(const char *registry, const char *repository)
{
    struct name n;

    assert_int_equal(name_set(&n, registry, strlen(registry), repository, strlen(repository)), 0);
    return n;
}

static inline struct name scratch_local(const char *repository)
{
    struct name n;

    assert_int_equal(name_set_local(&n, repository, strlen(repository)), 0);
    return n;
}

#endif
