/* SPDX-License-Identifier: ISC */
#include "cache/link.h"

#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/record.h"

/* Three kinds of record, each with when: the first is what every index is full of; the
 * third is the first with a media type. */
#define LINK_HAS_VERSION 1
#define LINK_DELETED_VERSION 2
#define LINK_MANIFEST_VERSION 3
#define LINK_TYPE_MAX 256 /* with the NUL */
#define LINK_RECORD_MAX (1 + 8 + 2 + LINK_TYPE_MAX)
#define SOURCE_RECORD_VERSION 1
#define LIST_RECORD_VERSION 1
#define NAMED_KEY_MAX (NAME_MAX_SIZE + DIGEST_KEY_MAX)

/* --- links --- */

/* name NUL digest */
static size_t link_key(const struct name *n, const struct digest *d, uint8_t out[NAMED_KEY_MAX])
{
    size_t len = name_key(n, (char *)out) + 1;

    return len + digest_to_key(d, out + len);
}

/* digest name */
static size_t digest_name_key(const struct digest *d, const struct name *n,
                              uint8_t out[NAMED_KEY_MAX])
{
    size_t len = digest_to_key(d, out);

    return len + name_key(n, (char *)out + len);
}

struct link {
    enum link_state state;
    int64_t when_s;
    const char *media_type; /* in the map; "" when it is not said */
};

static int link_write(struct db_txn *txn, const struct name *n, const struct digest *d,
                      const struct link *l)
{
    uint8_t key[NAMED_KEY_MAX];
    uint8_t buf[LINK_RECORD_MAX];
    struct record_out out;
    bool has_type = l->media_type[0] != '\0';
    uint8_t has_version = has_type ? LINK_MANIFEST_VERSION : LINK_HAS_VERSION;

    record_start(&out, buf, sizeof buf,
                 l->state == LINK_DELETED ? LINK_DELETED_VERSION : has_version);
    record_put_i64(&out, l->when_s);
    if (has_type)
        record_put_text(&out, l->media_type);
    CHECK(record_finish(&out) == 0);
    return db_put(txn, DB_LINKS, key, link_key(n, d, key), buf, out.len);
}

static int link_decode(struct db_value value, struct link *l)
{
    uint8_t version = value.size > 0 ? *(const uint8_t *)value.data : 0;
    struct record_in in;

    l->state = version == LINK_DELETED_VERSION ? LINK_DELETED : LINK_HAS;
    record_open(&in, value, version);
    record_require(&in, version >= LINK_HAS_VERSION && version <= LINK_MANIFEST_VERSION);
    l->when_s = record_get_i64(&in);
    l->media_type = version == LINK_MANIFEST_VERSION ? record_get_text(&in) : "";
    record_require(&in, strlen(l->media_type) < LINK_TYPE_MAX);
    return record_close(&in);
}

static int link_read(struct db_txn *txn, const struct name *n, const struct digest *d,
                     struct link *l)
{
    uint8_t key[NAMED_KEY_MAX];
    struct db_value value;
    int err = db_get(txn, DB_LINKS, key, link_key(n, d, key), &value);

    return err == 0 ? link_decode(value, l) : err;
}

static int put_link(struct db_txn *txn, const struct name *n, const struct digest *d,
                    const struct link *l)
{
    uint8_t key[NAMED_KEY_MAX];
    int err = link_write(txn, n, d, l);

    if (err == 0 && name_is_local(n))
        err = db_put(txn, DB_HOLDERS, key, digest_name_key(d, n, key), "", 0);
    return err;
}

int link_put(struct db_txn *txn, const struct name *n, const struct digest *d, int64_t now_s)
{
    struct link l;
    char media_type[LINK_TYPE_MAX] = "";

    /* A copy, since what is in the map may move when it is written over. */
    if (link_read(txn, n, d, &l) == 0)
        memcpy(media_type, l.media_type, strlen(l.media_type) + 1);
    l = (struct link){LINK_HAS, now_s, media_type};
    return put_link(txn, n, d, &l);
}

int link_put_manifest(struct db_txn *txn, const struct name *n, const struct digest *d,
                      const char *media_type, int64_t now_s)
{
    const struct link l = {LINK_HAS, now_s, media_type};

    CHECK(strlen(media_type) < LINK_TYPE_MAX);
    return put_link(txn, n, d, &l);
}

int link_delete(struct db_txn *txn, const struct name *n, const struct digest *d, int64_t now_s)
{
    uint8_t key[NAMED_KEY_MAX];
    const struct link l = {LINK_DELETED, now_s, ""};
    int err = link_write(txn, n, d, &l);

    if (err != 0)
        return err;
    err = db_delete(txn, DB_HOLDERS, key, digest_name_key(d, n, key));
    return err == ERR_NOT_FOUND ? 0 : err;
}

int link_forget(struct db_txn *txn, const struct name *n, const struct digest *d)
{
    uint8_t key[NAMED_KEY_MAX];
    struct link l;
    int err = link_read(txn, n, d, &l);

    if (err == ERR_NOT_FOUND || (err == 0 && l.state == LINK_DELETED))
        return 0;
    if (err != 0 && err != ERR_DAMAGED)
        return err;
    err = db_delete(txn, DB_LINKS, key, link_key(n, d, key));
    if (err == 0)
        err = db_delete(txn, DB_HOLDERS, key, digest_name_key(d, n, key));
    return err == ERR_NOT_FOUND ? 0 : err;
}

int link_get_state(struct db_txn *txn, const struct name *n, const struct digest *d,
                   enum link_state *state)
{
    struct link l;
    int err = link_read(txn, n, d, &l);

    *state = err == 0 ? l.state : LINK_NONE;
    return err == ERR_NOT_FOUND ? 0 : err;
}

int link_get_media_type(struct db_txn *txn, const struct name *n, const struct digest *d,
                        const char **media_type)
{
    struct link l;
    int err = link_read(txn, n, d, &l);

    if (err != 0)
        return err;
    *media_type = l.media_type;
    return l.media_type[0] != '\0' ? 0 : ERR_NOT_FOUND;
}

int link_get(struct db_txn *txn, const struct name *n, const struct digest *d)
{
    enum link_state state;
    int err = link_get_state(txn, n, d, &state);

    if (err != 0)
        return err;
    return state == LINK_HAS ? 0 : ERR_NOT_FOUND;
}

struct walk {
    size_t prefix_len;
    link_visit *visit;
    void *arg;
};

static int visit_link(void *arg, struct db_value key, struct db_value value)
{
    const struct walk *w = arg;
    const uint8_t *rest = (const uint8_t *)key.data + w->prefix_len;
    struct digest d;
    struct link l;

    if (link_decode(value, &l) != 0 || l.state != LINK_HAS ||
        digest_from_key(&d, rest, key.size - w->prefix_len) < 0)
        return 0;
    return w->visit(w->arg, &d, l.when_s);
}

int link_walk(struct db_txn *txn, const struct name *n, link_visit *visit, void *arg)
{
    char prefix[NAME_MAX_SIZE];
    struct walk w = {.prefix_len = name_key(n, prefix) + 1, .visit = visit, .arg = arg};

    return db_walk(txn, DB_LINKS, prefix, w.prefix_len, NULL, 0, visit_link, &w);
}

struct holder_walk {
    size_t prefix_len;
    holder_visit *visit;
    void *arg;
};

static int visit_holder(void *arg, struct db_value key, struct db_value value)
{
    const struct holder_walk *w = arg;
    const char *rest = (const char *)key.data + w->prefix_len;
    struct name n;

    (void)value;
    return name_from_key(&n, rest, key.size - w->prefix_len) == 0 ? w->visit(w->arg, &n) : 0;
}

/* The names under a digest in a table whose keys are digest_name_key's. */
static int walk_names(struct db_txn *txn, enum db_table table, const struct digest *d,
                      holder_visit *visit, void *arg)
{
    uint8_t prefix[DIGEST_KEY_MAX];
    struct holder_walk w = {.prefix_len = digest_to_key(d, prefix), .visit = visit, .arg = arg};

    return db_walk(txn, table, prefix, w.prefix_len, NULL, 0, visit_holder, &w);
}

int link_walk_holders(struct db_txn *txn, const struct digest *d, holder_visit *visit, void *arg)
{
    return walk_names(txn, DB_HOLDERS, d, visit, arg);
}

struct search {
    uint8_t suffix[1 + DIGEST_KEY_MAX]; /* the NUL after the name, the digest */
    size_t suffix_len;
    holder_visit *visit;
    void *arg;
};

static int match_link(void *arg, struct db_value key, struct db_value value)
{
    const struct search *s = arg;
    const char *bytes = key.data;
    struct name n;
    struct link l;

    if (key.size <= s->suffix_len ||
        memcmp(bytes + key.size - s->suffix_len, s->suffix, s->suffix_len) != 0 ||
        link_decode(value, &l) != 0 || l.state != LINK_HAS ||
        name_from_key(&n, bytes, key.size - s->suffix_len) != 0)
        return 0;
    return s->visit(s->arg, &n);
}

int link_search(struct db_txn *txn, const struct digest *d, holder_visit *visit, void *arg)
{
    struct search s = {.visit = visit, .arg = arg};

    s.suffix_len = 1 + digest_to_key(d, s.suffix + 1);
    return db_walk(txn, DB_LINKS, NULL, 0, NULL, 0, match_link, &s);
}

/* --- sources --- */

int source_put(struct db_txn *txn, const struct digest *d, const struct name *n,
               uint64_t size_bytes)
{
    uint8_t key[NAMED_KEY_MAX];
    uint8_t buf[16];
    struct record_out out;

    record_start(&out, buf, sizeof buf, SOURCE_RECORD_VERSION);
    record_put_u64(&out, size_bytes);
    CHECK(record_finish(&out) == 0);
    return db_put(txn, DB_SOURCES, key, digest_name_key(d, n, key), buf, out.len);
}

int source_get(struct db_txn *txn, const struct digest *d, const struct name *n,
               uint64_t *size_bytes)
{
    uint8_t key[NAMED_KEY_MAX];
    struct db_value value;
    struct record_in in;
    int err = db_get(txn, DB_SOURCES, key, digest_name_key(d, n, key), &value);

    if (err != 0)
        return err;
    record_open(&in, value, SOURCE_RECORD_VERSION);
    *size_bytes = record_get_u64(&in);
    record_require(&in, *size_bytes <= INT64_MAX);
    return record_close(&in);
}

int source_forget(struct db_txn *txn, const struct digest *d, const struct name *n)
{
    uint8_t key[NAMED_KEY_MAX];

    return db_delete(txn, DB_SOURCES, key, digest_name_key(d, n, key));
}

int source_walk(struct db_txn *txn, const struct digest *d, holder_visit *visit, void *arg)
{
    return walk_names(txn, DB_SOURCES, d, visit, arg);
}

/* --- lists --- */

/* name NUL query */
static int list_key(const struct name *n, const char *query, char out[DB_KEY_MAX], size_t *key_len)
{
    size_t len = name_key(n, out) + 1;
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
    size_t prefix_len = name_key(n, prefix) + 1;
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
