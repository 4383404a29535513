/* SPDX-License-Identifier: ISC */
#include "cache/pin.h"

#include <string.h>

#include "cache/err.h"
#include "cache/record.h"

#define PIN_RECORD_VERSION 1
#define PIN_RECORD_MAX (1 + 8 + 3 + PIN_OWNER_MAX)

static int decode(struct db_value value, struct pin *p)
{
    struct record_in in;

    record_open(&in, value, PIN_RECORD_VERSION);
    p->pinned_at_s = record_get_i64(&in);
    record_copy_text(&in, p->owner, sizeof p->owner);
    return record_close(&in);
}

int pin_get(struct db_txn *txn, const struct reference *r, struct pin *p)
{
    char key[REFERENCE_TEXT_MAX];
    struct db_value value;
    int err = db_get(txn, DB_PINS, key, reference_key(r, key), &value);

    if (err != 0)
        return err;
    p->reference = *r;
    return decode(value, p);
}

bool pin_covers(struct db_txn *txn, const struct reference *r, const struct digest *d)
{
    struct pin pin;
    struct reference by_digest = {.name = r->name, .by_digest = true, .digest = *d};

    return pin_get(txn, r, &pin) == 0 || pin_get(txn, &by_digest, &pin) == 0;
}

int pin_put(struct db_txn *txn, const struct pin *p)
{
    char key[REFERENCE_TEXT_MAX];
    uint8_t buf[PIN_RECORD_MAX];
    struct record_out out;

    record_start(&out, buf, sizeof buf, PIN_RECORD_VERSION);
    record_put_i64(&out, p->pinned_at_s);
    record_put_text(&out, p->owner);
    CHECK(record_finish(&out) == 0);
    return db_put(txn, DB_PINS, key, reference_key(&p->reference, key), buf, out.len);
}

int pin_forget(struct db_txn *txn, const struct reference *r)
{
    char key[REFERENCE_TEXT_MAX];

    return db_delete(txn, DB_PINS, key, reference_key(r, key));
}

struct walk {
    pin_visit *visit;
    void *arg;
};

static int visit_record(void *arg, struct db_value key, struct db_value value)
{
    const struct walk *w = arg;
    struct pin p;

    if (reference_from_key(&p.reference, key.data, key.size) != 0 || decode(value, &p) != 0)
        return 0;
    return w->visit(w->arg, &p);
}

int pin_walk(struct db_txn *txn, pin_visit *visit, void *arg)
{
    struct walk w = {visit, arg};

    return db_walk(txn, DB_PINS, NULL, 0, NULL, 0, visit_record, &w);
}
