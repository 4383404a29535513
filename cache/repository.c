/* SPDX-License-Identifier: ISC */
#include "cache/repository.h"

#include <string.h>

#include "cache/record.h"

#define REPOSITORY_RECORD_VERSION 1

/* A local one's record is no answer about an upstream's, nor the other way round. */
static int repository_decode(struct db_value value, bool is_local, struct repository_record *r)
{
    struct record_in in;

    record_open(&in, value, REPOSITORY_RECORD_VERSION);
    r->visibility = (enum repository_visibility)record_get_u8(&in);
    r->checked_at_s = record_get_i64(&in);
    record_require(&in, is_local ? r->visibility == REPOSITORY_LOCAL
                                 : r->visibility == REPOSITORY_PUBLIC ||
                                       r->visibility == REPOSITORY_PRIVATE);
    return record_close(&in);
}

int repository_get(struct db_txn *txn, const struct name *n, struct repository_record *r)
{
    char key[NAME_MAX_SIZE];
    struct db_value value;
    int err = db_get(txn, DB_REPOSITORIES, key, name_key(n, key), &value);

    return err != 0 ? err : repository_decode(value, name_is_local(n), r);
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
    return db_put(txn, DB_REPOSITORIES, key, name_key(n, key), buf, out.len);
}

struct repository_walk_state {
    repository_visit *visit;
    void *arg;
};

static int repository_walk_record(void *arg, struct db_value key, struct db_value value)
{
    const struct repository_walk_state *walk = arg;
    struct repository_record r;
    struct name n;

    if (name_from_key(&n, key.data, key.size) != 0 || repository_decode(value, true, &r) != 0)
        return 0;
    return walk->visit(walk->arg, &n);
}

int repository_walk_local(struct db_txn *txn, const char *after, repository_visit *visit, void *arg)
{
    struct repository_walk_state walk = {visit, arg};
    char from[1 + NAME_MAX_SIZE + 1] = "/";
    /* No name is longer, so that what is cut off decides nothing. */
    size_t len = after != NULL ? strnlen(after, NAME_MAX_SIZE) : 0;

    if (len == 0)
        return db_walk(txn, DB_REPOSITORIES, "/", 1, NULL, 0, repository_walk_record, &walk);
    memcpy(from + 1, after, len);
    /* The NUL that follows makes it the first key after that of `after`. */
    return db_walk(txn, DB_REPOSITORIES, "/", 1, from, len + 2, repository_walk_record, &walk);
}
