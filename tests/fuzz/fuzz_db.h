/* SPDX-License-Identifier: ISC */
/* An index for a fuzz target, without a name on the disk. */
#ifndef TESTS_FUZZ_FUZZ_DB_H
#define TESTS_FUZZ_FUZZ_DB_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cache/check.h"
#include "cache/db.h"

/* The write transaction of the index, which is made by the first call. The caller
 * aborts it, so that every input meets an empty index. */
static inline struct db_txn *fuzz_db_write(void)
{
    static const char *const files[] = {"data.mdb", "lock.mdb"};
    static struct db *db;
    struct db_txn *txn;

    if (db == NULL) {
        char dir[] = "/tmp/cachalot-fuzz-XXXXXX";
        char path[64];

        CHECK(mkdtemp(dir) != NULL);
        CHECK(db_open(&db, dir, 64u << 20, false) == 0);
        for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
            snprintf(path, sizeof path, "%s/%s", dir, files[i]);
            CHECK(unlink(path) == 0);
        }
        CHECK(rmdir(dir) == 0);
    }
    CHECK(db_write(db, &txn) == 0);
    return txn;
}

#endif
