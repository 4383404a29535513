/* SPDX-License-Identifier: ISC */
/*
 * Pages of an index: the input is a list of flips, of which each is three bytes of an offset
 * and one that is the bits, over a real index. What is said to be sound LMDB can open, walk
 * and write to; nothing outside the file is ever read. The input itself is looked at as
 * a file, too.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/blob.h"
#include "cache/check.h"
#include "cache/db.h"
#include "cache/db_pages.h"
#include "cache/err.h"

#define FLIP_BYTES 4
#define MAP_BYTES (4u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
    char dir[64];
    char path[80];
    uint8_t *sound;
    size_t size;
} real;

static void remove_all(void)
{
    char path[96];

    CHECK(unlink(real.path) == 0);
    snprintf(path, sizeof path, "%s/lock.mdb", real.dir);
    CHECK(unlink(path) == 0);
    CHECK(rmdir(real.dir) == 0);
}

static int put_blobs(struct db *db, int from, int to)
{
    const struct blob_record r = {5, BLOB_PUBLIC, 1, 1};
    struct db_txn *txn;
    char text[32];
    int err = db_write(db, &txn);

    for (int i = from; err == 0 && i < to; i++) {
        struct digest d;
        int len = snprintf(text, sizeof text, "blob %d", i);

        digest_of(DIGEST_SHA256, text, (size_t)len, &d);
        err = blob_put(txn, &d, &r);
        if (err == 0 && i % 3 == 0)
            err = blob_forget(txn, &d);
    }
    if (err == 0)
        return db_commit(&txn);
    db_abort(&txn);
    return err;
}

/* With branches, free pages, and a value on pages of its own. */
static void fill(void)
{
    static const char large[10000] = "large";
    struct db *db;
    struct db_txn *txn;

    CHECK(db_open(&db, real.dir, MAP_BYTES, false) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(put_blobs(db, i * 40, (i + 1) * 40) == 0);
    CHECK(db_write(db, &txn) == 0);
    CHECK(db_put(txn, DB_LISTS, "large", 5, large, sizeof large) == 0);
    CHECK(db_commit(&txn) == 0);
    db_close(&db);
}

static void make_real(void)
{
    struct stat st;

    strcpy(real.dir, "/tmp/cachalot-fuzz-XXXXXX");
    CHECK(mkdtemp(real.dir) != NULL);
    snprintf(real.path, sizeof real.path, "%s/data.mdb", real.dir);
    fill();
    int fd = open(real.path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && fstat(fd, &st) == 0);
    real.size = (size_t)st.st_size;
    real.sound = mem_new(real.size);
    CHECK(read(fd, real.sound, real.size) == (ssize_t)real.size);
    close(fd);
    CHECK(db_pages_check(real.sound, real.size) == 0);
    CHECK(atexit(remove_all) == 0);
}

static int visit(void *arg, struct db_value key, struct db_value value)
{
    uint64_t *sum = arg;

    for (size_t i = 0; i < key.size; i++)
        *sum += ((const uint8_t *)key.data)[i];
    for (size_t i = 0; i < value.size; i++)
        *sum += ((const uint8_t *)value.data)[i];
    return 0;
}

/* Whatever it says, as of a table that has another name: it does not crash. */
static void use(void)
{
    struct db *db;
    struct db_reader *r;
    struct db_txn *txn;
    uint64_t sum = 0;

    if (db_open(&db, real.dir, MAP_BYTES, false) != 0)
        return;
    CHECK(db_reader_new(db, &r) == 0 && db_read(r, &txn) == 0);
    for (int table = 0; table < DB_TABLE_COUNT; table++)
        CHECK(db_walk(txn, (enum db_table)table, NULL, 0, NULL, 0, visit, &sum) == 0);
    db_reader_free(&r);
    for (int i = 0; i < 3; i++)
        (void)!put_blobs(db, i * 30, 200);
    db_close(&db);
}

static void look_at_flips(const uint8_t *data, size_t size)
{
    uint8_t *file = mem_new(real.size);

    memcpy(file, real.sound, real.size);
    for (size_t i = 0; i + FLIP_BYTES <= size; i += FLIP_BYTES) {
        size_t at = data[i] | (size_t)data[i + 1] << 8 | (size_t)data[i + 2] << 16;

        file[at % real.size] ^= data[i + 3];
    }
    if (db_pages_check(file, real.size) == 0) {
        int fd = open(real.path, O_WRONLY | O_TRUNC | O_CLOEXEC);

        CHECK(fd >= 0 && write(fd, file, real.size) == (ssize_t)real.size);
        close(fd);
        use();
    }
    free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (real.sound == NULL)
        make_real();
    uint8_t *exact = mem_new(size + 1);

    if (size > 0)
        memcpy(exact, data, size);
    exact = mem_resize(exact, size > 0 ? size : 1);
    (void)!db_pages_check(exact, size);
    free(exact);
    look_at_flips(data, size);
    return 0;
}
