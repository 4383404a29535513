/* SPDX-License-Identifier: ISC */
#include "cache/link.h"

#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/record.h"

#define LINK_RECORD_VERSION 1
#define SOURCE_RECORD_VERSION 1
#define LIST_RECORD_VERSION 1
#define NAMED_KEY_MAX (NAME_MAX_SIZE + DIGEST_KEY_MAX)

/* --- links --- */

/* "registry/repository" NUL digest */
static size_t link_key(const struct name *n, const struct digest *d, uint8_t out[NAMED_KEY_MAX])
{
    size_t len = name_text(n, (char *)out) + 1;

    return len + digest_to_key(d, out + len);
}

int link_put(struct db_txn *txn, const struct name *n, const struct digest *d, int64_t now_s)
{
    uint8_t key[NAMED_KEY_MAX];
    uint8_t buf[16];
    struct record_out out;

    record_start(&out, buf, sizeof buf, LINK_RECORD_VERSION);
    record_put_i64(&out, now_s);
    CHECK(record_finish(&out) == 0);
    return db_put(txn, DB_LINKS, key, link_key(n, d, key), buf, out.len);
}

int link_get(struct db_txn *txn, const struct name *n, const struct digest *d)
{
    uint8_t key[NAMED_KEY_MAX];
    struct db_value value;
    struct record_in in;
    int err = db_get(txn, DB_LINKS, key, link_key(n, d, key), &value);

    if (err != 0)
        return err;
    record_open(&in, value, LINK_RECORD_VERSION);
    (void)record_get_i64(&in);
    return record_close(&in);
}

struct walk {
    size_t prefix_len;
    link_visit *visit;
    void *arg;
};

static int visit_link(void *arg, struct db_value key, struct db_value value)
{
    const struct walk *w = arg;
    struct digest d;
    struct record_in in;

    record_open(&in, value, LINK_RECORD_VERSION);
    int64_t seen_at_s = record_get_i64(&in);
    const uint8_t *rest = (const uint8_t *)key.data + w->prefix_len;
    if (record_close(&in) != 0 || digest_from_key(&d, rest, key.size - w->prefix_len) < 0)
        return 0;
    return w->visit(w->arg, &d, seen_at_s);
}

int link_walk(struct db_txn *txn, const struct name *n, link_visit *visit, void *arg)
{
    char prefix[NAME_MAX_SIZE];
    struct walk w = {.prefix_len = name_text(n, prefix) + 1, .visit = visit, .arg = arg};

    return db_walk(txn, DB_LINKS, prefix, w.prefix_len, NULL, 0, visit_link, &w);
}

/* --- sources --- */

/* digest "registry/repository" */
static size_t source_key(const struct digest *d, const struct name *n, uint8_t out[NAMED_KEY_MAX])
{
    size_t len = digest_to_key(d, out);

    return len + name_text(n, (char *)out + len);
}

int source_put(struct db_txn *txn, const struct digest *d, const struct name *n,
               uint64_t size_bytes)
{
    uint8_t key[NAMED_KEY_MAX];
    uint8_t buf[16];
    struct record_out out;

    record_start(&out, buf, sizeof buf, SOURCE_RECORD_VERSION);
    record_put_u64(&out, size_bytes);
    CHECK(record_finish(&out) == 0);
    return db_put(txn, DB_SOURCES, key, source_key(d, n, key), buf, out.len);
}

int source_get(struct db_txn *txn, const struct digest *d, const struct name *n,
               uint64_t *size_bytes)
{
    uint8_t key[NAMED_KEY_MAX];
    struct db_value value;
    struct record_in in;
    int err = db_get(txn, DB_SOURCES, key, source_key(d, n, key), &value);

    if (err != 0)
        return err;
    record_open(&in, value, SOURCE_RECORD_VERSION);
    *size_bytes = record_get_u64(&in);
    record_require(&in, *size_bytes <= INT64_MAX);
    return record_close(&in);
}

/* --- lists --- */

/* "registry/repository" NUL query */
static int list_key(const struct name *n, const char *query, char out[DB_KEY_MAX], size_t *key_len)
{
    size_t len = name_text(n, out) + 1;
    size_t query_len = strlen(query);

    if (query_len > DB_KEY_MAX - len)
        return ERR_TOO_LARGE;
    memcpy(out + len, query, query_len);
    *key_len = len + query_len;
    return 0;
}

int list_get(struct db_txn *txn, const struct name *n, const char *query, struct list_record *r)
{
    char key[DB_KEY_MAX];
    size_t key_len;
    struct db_value value;
    struct record_in in;
    int err = list_key(n, query, key, &key_len);

    if (err == 0)
        err = db_get(txn, DB_LISTS, key, key_len, &value);
    if (err != 0)
        return err;
    record_open(&in, value, LIST_RECORD_VERSION);
    r->fetched_at_s = record_get_i64(&in);
    r->content_type = record_get_text(&in);
    r->link = record_get_text(&in);
    r->body_len = record_get_u32(&in);
    r->body = record_get_bytes(&in, r->body_len);
    return record_close(&in);
}

static int count_list(void *arg, struct db_value key, struct db_value value)
{
    unsigned *count = arg;

    (void)key;
    (void)value;
    (*count)++;
    return *count < LISTS_MAX ? 0 : 1;
}

/* Whether the repository has room for a list under this key. */
static bool has_room(struct db_txn *txn, const struct name *n, const char *key, size_t key_len)
{
    char prefix[NAME_MAX_SIZE];
    size_t prefix_len = name_text(n, prefix) + 1;
    struct db_value old;
    unsigned count = 0;

    if (db_get(txn, DB_LISTS, key, key_len, &old) == 0)
        return true;
    return db_walk(txn, DB_LISTS, prefix, prefix_len, NULL, 0, count_list, &count) == 0;
}

int list_put(struct db_txn *txn, const struct name *n, const char *query,
             const struct list_record *r)
{
    char key[DB_KEY_MAX];
    size_t key_len;
    struct record_out out;
    int err = list_key(n, query, key, &key_len);

    if (err != 0)
        return err;
    if (r->body_len > LIST_BODY_MAX || !has_room(txn, n, key, key_len))
        return ERR_TOO_LARGE;
    size_t size = 1 + 8 + 3 + strlen(r->content_type) + 3 + strlen(r->link) + 4 + r->body_len;
    uint8_t *buf = mem_resize(NULL, size);

    record_start(&out, buf, size, LIST_RECORD_VERSION);
    record_put_i64(&out, r->fetched_at_s);
    record_put_text(&out, r->content_type);
    record_put_text(&out, r->link);
    record_put_u32(&out, (uint32_t)r->body_len);
    record_put_bytes(&out, r->body, r->body_len);
    err = record_finish(&out);
    if (err == 0)
        err = db_put(txn, DB_LISTS, key, key_len, buf, out.len);
    free(buf);
    return err;
}
