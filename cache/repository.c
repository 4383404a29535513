/* SPDX-License-Identifier: ISC */
#include "cache/repository.h"

#include "cache/record.h"

#define REPOSITORY_RECORD_VERSION 1

int repository_get(struct db_txn *txn, const struct name *n, struct repository_record *r)
{
    char key[NAME_MAX_SIZE];
    struct db_value value;
    struct record_in in;
    int err = db_get(txn, DB_REPOSITORIES, key, name_text(n, key), &value);

    if (err != 0)
        return err;
    record_open(&in, value, REPOSITORY_RECORD_VERSION);
    r->visibility = (enum repository_visibility)record_get_u8(&in);
    r->checked_at_s = record_get_i64(&in);
    record_require(&in, r->visibility == REPOSITORY_PUBLIC || r->visibility == REPOSITORY_PRIVATE);
    return record_close(&in);
}

int repository_put(struct db_txn *txn, const struct name *n, const struct repository_record *r)
{
    char key[NAME_MAX_SIZE];
    uint8_t buf[16];
    struct record_out out;

    record_start(&out, buf, sizeof buf, REPOSITORY_RECORD_VERSION);
    record_put_u8(&out, (uint8_t)r->visibility);
    record_put_i64(&out, r->checked_at_s);
    CHECK(record_finish(&out) == 0);
    return db_put(txn, DB_REPOSITORIES, key, name_text(n, key), buf, out.len);
}
