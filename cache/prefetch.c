/* SPDX-License-Identifier: ISC */
#include "cache/prefetch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/record.h"

#define RUN_VERSION 1
#define BUILDS_VERSION 1
#define RUN_RECORD_MAX (PREFETCH_PLAN_MAX + PREFETCH_WHY_MAX + 128)
#define BUILDS_RECORD_MAX (32 + (1 + PREFETCH_KEEP_MAX) * DIGEST_KEY_MAX)
/* The section, a NUL, and the reference or nothing. */
#define KEY_MAX (PREFETCH_NAME_MAX + REFERENCE_TEXT_MAX)

static size_t key_of(char key[KEY_MAX], const char *section, const struct reference *r)
{
    size_t len = strlen(section) + 1;

    CHECK(len <= PREFETCH_NAME_MAX);
    memcpy(key, section, len);
    return r != NULL ? len + reference_key(r, key + len) : len;
}

/* --- runs --- */

static int decode_run(struct db_value value, struct prefetch_record *r)
{
    struct record_in in;

    record_open(&in, value, RUN_VERSION);
    record_copy_text(&in, r->plan, sizeof r->plan);
    r->planned_at_s = record_get_i64(&in);
    r->began_at_s = record_get_i64(&in);
    r->ended_at_s = record_get_i64(&in);
    r->unchanged_since_s = record_get_i64(&in);
    r->references = record_get_u32(&in);
    r->changed = record_get_u32(&in);
    r->failed = record_get_u32(&in);
    r->fetched_bytes = record_get_u64(&in);
    record_copy_text(&in, r->why, sizeof r->why);
    return record_close(&in);
}

int prefetch_get(struct db_txn *txn, const char *section, struct prefetch_record *r)
{
    char key[KEY_MAX];
    struct db_value value;
    int err = db_get(txn, DB_PREFETCHES, key, key_of(key, section, NULL), &value);

    return err != 0 ? err : decode_run(value, r);
}

int prefetch_put(struct db_txn *txn, const char *section, const struct prefetch_record *r)
{
    char key[KEY_MAX];
    uint8_t buf[RUN_RECORD_MAX];
    struct record_out out;

    record_start(&out, buf, sizeof buf, RUN_VERSION);
    record_put_text(&out, r->plan);
    record_put_i64(&out, r->planned_at_s);
    record_put_i64(&out, r->began_at_s);
    record_put_i64(&out, r->ended_at_s);
    record_put_i64(&out, r->unchanged_since_s);
    record_put_u32(&out, r->references);
    record_put_u32(&out, r->changed);
    record_put_u32(&out, r->failed);
    record_put_u64(&out, r->fetched_bytes);
    record_put_text(&out, r->why);
    CHECK(record_finish(&out) == 0);
    return db_put(txn, DB_PREFETCHES, key, key_of(key, section, NULL), buf, out.len);
}

/* --- builds --- */

static int decode_builds(struct db_value value, struct prefetch_builds *b)
{
    struct record_in in;

    record_open(&in, value, BUILDS_VERSION);
    b->changed_at_s = record_get_i64(&in);
    b->count = record_get_u8(&in);
    record_require(&in, b->count > 0 && b->count <= 1 + PREFETCH_KEEP_MAX);
    for (unsigned i = 0; record_check(&in) == 0 && i < b->count; i++)
        record_get_digest(&in, &b->builds[i]);
    return record_close(&in);
}

int prefetch_builds_get(struct db_txn *txn, const char *section, const struct reference *r,
                        struct prefetch_builds *b)
{
    char key[KEY_MAX];
    struct db_value value;
    int err = db_get(txn, DB_PREFETCHES, key, key_of(key, section, r), &value);

    return err != 0 ? err : decode_builds(value, b);
}

static int put_builds(struct db_txn *txn, const char *section, const struct reference *r,
                      const struct prefetch_builds *b)
{
    char key[KEY_MAX];
    uint8_t buf[BUILDS_RECORD_MAX];
    struct record_out out;

    record_start(&out, buf, sizeof buf, BUILDS_VERSION);
    record_put_i64(&out, b->changed_at_s);
    record_put_u8(&out, (uint8_t)b->count);
    for (unsigned i = 0; i < b->count; i++)
        record_put_digest(&out, &b->builds[i]);
    CHECK(record_finish(&out) == 0);
    return db_put(txn, DB_PREFETCHES, key, key_of(key, section, r), buf, out.len);
}

/* --- pins --- */

static void owner_of(char out[PIN_OWNER_MAX], const char *section)
{
    int len = snprintf(out, PIN_OWNER_MAX, "prefetch %s", section);

    CHECK(len > 0 && len < PIN_OWNER_MAX);
}

static struct reference build_of(const struct reference *r, const struct digest *d)
{
    return (struct reference){.name = r->name, .by_digest = true, .digest = *d};
}

/* A pin that is there, of whoever it is, will do. */
static int pin(struct db_txn *txn, const char *section, const struct reference *r, int64_t now_s)
{
    struct pin p;
    int err = pin_get(txn, r, &p);

    if (err == 0)
        return 0;
    p = (struct pin){.reference = *r, .pinned_at_s = now_s};
    owner_of(p.owner, section);
    return pin_put(txn, &p);
}

static int unpin(struct db_txn *txn, const char *section, const struct reference *r)
{
    char owner[PIN_OWNER_MAX];
    struct pin p;
    int err = pin_get(txn, r, &p);

    owner_of(owner, section);
    if (err != 0 || strcmp(p.owner, owner) != 0)
        return err == ERR_NOT_FOUND || err == ERR_DAMAGED ? 0 : err;
    return pin_forget(txn, r);
}

struct search {
    const char *repository_key; /* of the build, with its mark */
    size_t repository_len;
    size_t section_len;
    const struct digest *digest;
};

static int find_build(void *arg, struct db_value key, struct db_value value)
{
    const struct search *s = arg;
    const char *rest = (const char *)key.data + s->section_len;
    struct prefetch_builds b;

    if (key.size - s->section_len <= s->repository_len ||
        memcmp(rest, s->repository_key, s->repository_len) != 0 ||
        strchr(":@", rest[s->repository_len]) == NULL || decode_builds(value, &b) != 0)
        return 0;
    for (unsigned i = 0; i < b.count; i++) {
        if (digest_equal(&b.builds[i], s->digest))
            return 1;
    }
    return 0;
}

/* Unless another tag of the section leads to it too. */
static int unpin_build(struct db_txn *txn, const char *section, const struct reference *r,
                       const struct digest *d)
{
    char prefix[KEY_MAX], name[NAME_MAX_SIZE];
    size_t prefix_len = key_of(prefix, section, NULL);
    struct search s = {.repository_key = name,
                       .repository_len = name_key(&r->name, name),
                       .section_len = prefix_len,
                       .digest = d};
    struct reference build = build_of(r, d);
    int err = db_walk(txn, DB_PREFETCHES, prefix, prefix_len, NULL, 0, find_build, &s);

    return err == 0 ? unpin(txn, section, &build) : err > 0 ? 0 : err;
}

/* Put the digest before the others, if it is not the first already. */
static void add_build(struct prefetch_builds *b, const struct digest *d, int64_t now_s)
{
    unsigned at = 0;

    if (b->count > 0 && digest_equal(&b->builds[0], d))
        return;
    b->changed_at_s = now_s;
    while (at < b->count && !digest_equal(&b->builds[at], d))
        at++;
    if (at == b->count && b->count < 1 + PREFETCH_KEEP_MAX)
        b->count++;
    if (at == 1 + PREFETCH_KEEP_MAX)
        at--;
    memmove(&b->builds[1], &b->builds[0], at * sizeof b->builds[0]);
    b->builds[0] = *d;
}

int prefetch_keep(struct db_txn *txn, const char *section, const struct reference *r,
                  const struct digest *d, unsigned keep, int64_t now_s)
{
    struct prefetch_builds old = {0}, now;
    int err = prefetch_builds_get(txn, section, r, &old);

    if (err != 0)
        old.count = 0;
    if (err != 0 && err != ERR_NOT_FOUND && err != ERR_DAMAGED)
        return err;
    now = old;
    add_build(&now, d, now_s);
    if (now.count > 1 + keep)
        now.count = 1 + keep;
    err = put_builds(txn, section, r, &now);
    for (unsigned i = 0; err == 0 && i < now.count; i++) {
        struct reference build = build_of(r, &now.builds[i]);
        err = pin(txn, section, &build, now_s);
    }
    for (unsigned i = 0; err == 0 && i < old.count; i++)
        err = unpin_build(txn, section, r, &old.builds[i]);
    return err;
}

/* --- what is not wanted any more --- */

struct key {
    size_t len;
    char text[KEY_MAX];
};

struct pruning {
    const char *section;
    prefetch_wants *wants;
    void *arg;
    struct key *keys;
    size_t count;
};

/* Keys that no release has written are left alone. */
static int look_at_key(void *arg, struct db_value key, struct db_value value)
{
    struct pruning *p = arg;
    const char *text = key.data;
    size_t section_len = strnlen(text, key.size);
    struct reference r;

    (void)value;
    if (section_len == key.size || section_len >= PREFETCH_NAME_MAX || key.size > KEY_MAX)
        return 0;
    size_t rest_len = key.size - section_len - 1;
    bool has_reference = rest_len > 0;
    bool is_asked = p->section != NULL && strcmp(p->section, text) == 0;

    if (has_reference && reference_from_key(&r, text + section_len + 1, rest_len) != 0)
        return 0;
    if (p->wants(p->arg, text, NULL) && (!has_reference || !is_asked || p->wants(p->arg, text, &r)))
        return 0;
    p->keys = mem_resize(p->keys, (p->count + 1) * sizeof p->keys[0]);
    memcpy(p->keys[p->count].text, text, key.size);
    p->keys[p->count++].len = key.size;
    return 0;
}

static int forget_reference(struct db_txn *txn, const char *section, const struct reference *r)
{
    struct prefetch_builds b;
    char key[KEY_MAX];
    int err = prefetch_builds_get(txn, section, r, &b);

    if (err == ERR_DAMAGED)
        b.count = 0;
    else if (err != 0)
        return err;
    err = db_delete(txn, DB_PREFETCHES, key, key_of(key, section, r));
    for (unsigned i = 0; err == 0 && i < b.count; i++)
        err = unpin_build(txn, section, r, &b.builds[i]);
    return err;
}

static int forget_key(struct db_txn *txn, const struct key *k)
{
    size_t section_len = strlen(k->text) + 1;
    struct reference r;

    if (section_len == k->len)
        return db_delete(txn, DB_PREFETCHES, k->text, k->len);
    CHECK(reference_from_key(&r, k->text + section_len, k->len - section_len) == 0);
    return forget_reference(txn, k->text, &r);
}

int prefetch_prune(struct db_txn *txn, const char *section, prefetch_wants *wants, void *arg)
{
    struct pruning p = {.section = section, .wants = wants, .arg = arg};
    int err = db_walk(txn, DB_PREFETCHES, NULL, 0, NULL, 0, look_at_key, &p);

    for (size_t i = 0; err == 0 && i < p.count; i++)
        err = forget_key(txn, &p.keys[i]);
    free(p.keys);
    return err;
}
