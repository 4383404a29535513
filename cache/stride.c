/* SPDX-License-Identifier: ISC */
#include "cache/stride.h"

#include <string.h>

/* Some milliseconds' worth. */
#define STRIDE_RECORDS 4096

struct stride {
    struct db_txn *txn;
    stride_visit *visit;
    void *arg;
    unsigned count;
    int result; /* of a visit that ended the walk */
    /* The first key after the last one: that with a NUL. */
    uint8_t next[DB_KEY_MAX + 1];
    size_t next_len;
};

/* 1: the stride is over. */
static int visit_record(void *arg, struct db_value key, struct db_value value)
{
    struct stride *s = arg;

    memcpy(s->next, key.data, key.size);
    s->next[key.size] = 0;
    s->next_len = key.size + 1;
    s->result = s->visit(s->arg, s->txn, key, value);
    return s->result != 0 || ++s->count == STRIDE_RECORDS;
}

int db_stride(struct db_reader *r, enum db_table table, const void *from, size_t from_len,
              stride_visit *visit, stride_rest *rest, void *arg)
{
    struct stride s = {.visit = visit, .arg = arg, .next_len = from_len};
    int went;

    CHECK(from_len <= DB_KEY_MAX);
    if (from_len > 0)
        memcpy(s.next, from, from_len);
    do {
        int err = db_read(r, &s.txn);

        if (err != 0)
            return err;
        s.count = 0;
        went = db_walk(s.txn, table, NULL, 0, s.next, s.next_len, visit_record, &s);
        db_read_end(r);
        if (went < 0)
            return went;
        if (s.result == 0 && rest != NULL)
            s.result = rest(arg);
    } while (went == 1 && s.result == 0);
    return s.result;
}
