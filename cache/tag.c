/* SPDX-License-Identifier: ISC */
#include "cache/tag.h"

#include <string.h>

#include "cache/err.h"
#include "cache/record.h"

#define TAG_RECORD_VERSION 1
#define TAG_RECORD_MAX (1 + 2 * DIGEST_KEY_MAX + 8 + 2 + MEDIA_TYPE_MAX + 8 + 8 + 1)
#define TAG_KEY_MAX (NAME_MAX_SIZE + NAME_TAG_MAX_SIZE)

/* name:tag */
static size_t tag_key(const struct name *n, const char *tag, char out[TAG_KEY_MAX])
{
    size_t len = name_key(n, out);
    size_t tag_len = strlen(tag);

    CHECK(tag_len < NAME_TAG_MAX_SIZE);
    out[len] = ':';
    memcpy(out + len + 1, tag, tag_len);
    return len + 1 + tag_len;
}

static int tag_decode(struct db_value value, struct tag_record *r)
{
    struct record_in in;

    record_open(&in, value, TAG_RECORD_VERSION);
    record_get_digest(&in, &r->digest);
    r->size_bytes = record_get_u64(&in);
    record_copy_text(&in, r->media_type, sizeof r->media_type);
    r->checked_at_s = record_get_i64(&in);
    r->changed_at_s = record_get_i64(&in);
    if (record_get_flag(&in))
        record_get_digest(&in, &r->previous);
    else
        memset(&r->previous, 0, sizeof r->previous);
    record_require(&in, r->size_bytes <= INT64_MAX);
    return record_close(&in);
}

int tag_get(struct db_txn *txn, const struct name *n, const char *tag, struct tag_record *r)
{
    char key[TAG_KEY_MAX];
    struct db_value value;
    int err = db_get(txn, DB_TAGS, key, tag_key(n, tag, key), &value);

    return err != 0 ? err : tag_decode(value, r);
}

static bool is_held(struct db_txn *txn, const struct digest *d)
{
    struct manifest_record r;

    return manifest_get(txn, d, &r) == 0;
}

int tag_put(struct db_txn *txn, const struct name *n, const char *tag, const struct tag_record *r)
{
    char key[TAG_KEY_MAX];
    uint8_t buf[TAG_RECORD_MAX];
    struct tag_record old;
    struct record_out out;
    int64_t changed_at_s = r->checked_at_s;
    struct digest previous = {0};
    int err = tag_get(txn, n, tag, &old);

    if (err != 0 && err != ERR_NOT_FOUND && err != ERR_DAMAGED)
        return err;
    if (err == 0 && digest_equal(&old.digest, &r->digest)) {
        changed_at_s = old.changed_at_s;
        previous = old.previous;
    } else if (err == 0) {
        previous = is_held(txn, &old.digest) ? old.digest : old.previous;
    }
    record_start(&out, buf, sizeof buf, TAG_RECORD_VERSION);
    record_put_digest(&out, &r->digest);
    record_put_u64(&out, r->size_bytes);
    record_put_text(&out, r->media_type);
    record_put_i64(&out, r->checked_at_s);
    record_put_i64(&out, changed_at_s);
    record_put_u8(&out, previous.alg != 0);
    if (previous.alg != 0)
        record_put_digest(&out, &previous);
    CHECK(record_finish(&out) == 0);
    return db_put(txn, DB_TAGS, key, tag_key(n, tag, key), buf, out.len);
}

bool tag_shown(struct db_txn *txn, const struct tag_record *r, struct digest *d)
{
    bool is_previous =
        r->previous.alg != 0 && !is_held(txn, &r->digest) && is_held(txn, &r->previous);

    *d = is_previous ? r->previous : r->digest;
    return is_previous;
}

int tag_forget(struct db_txn *txn, const struct name *n, const char *tag)
{
    char key[TAG_KEY_MAX];

    return db_delete(txn, DB_TAGS, key, tag_key(n, tag, key));
}

int tag_expire(struct db_txn *txn, const struct name *n, const char *tag)
{
    struct tag_record r;
    int err = tag_get(txn, n, tag, &r);

    if (err)
        return err == ERR_NOT_FOUND ? 0 : err;
    r.checked_at_s = 0;
    return tag_put(txn, n, tag, &r);
}

bool tag_is_fresh(const struct tag_record *r, int64_t now_s, int64_t ttl_s)
{
    int64_t age_s;

    return !__builtin_sub_overflow(now_s, r->checked_at_s, &age_s) && age_s >= 0 && age_s < ttl_s;
}

struct tag_walk_state {
    tag_visit *visit;
    void *arg;
};

/* Split a key into its name and the tag, which stays in `text`; NULL when it is
 * not one that tag_key makes. */
static const char *tag_key_parse(struct db_value key, struct name *n, char text[TAG_KEY_MAX])
{
    if (key.size >= TAG_KEY_MAX || memchr(key.data, '\0', key.size) != NULL)
        return NULL;
    memcpy(text, key.data, key.size);
    text[key.size] = '\0';
    const char *colon = strrchr(text, ':');

    if (colon == NULL || !name_is_tag(colon + 1, strlen(colon + 1)) ||
        name_from_key(n, text, (size_t)(colon - text)) != 0)
        return NULL;
    return colon + 1;
}

static int tag_walk_record(void *arg, struct db_value key, struct db_value value)
{
    struct tag_walk_state *walk = arg;
    char text[TAG_KEY_MAX];
    struct name n;
    struct tag_record r;
    const char *tag = tag_key_parse(key, &n, text);

    if (tag == NULL || tag_decode(value, &r) != 0)
        return 0;
    return walk->visit(walk->arg, &n, tag, &r);
}

int tag_read(struct db_value key, struct db_value value, struct name *n,
             char tag[NAME_TAG_MAX_SIZE], struct tag_record *r)
{
    char text[TAG_KEY_MAX];
    const char *found = tag_key_parse(key, n, text);

    if (found == NULL)
        return ERR_DAMAGED;
    memcpy(tag, found, strlen(found) + 1);
    return tag_decode(value, r);
}

int tag_walk(struct db_txn *txn, tag_visit *visit, void *arg)
{
    struct tag_walk_state walk = {visit, arg};

    return db_walk(txn, DB_TAGS, NULL, 0, NULL, 0, tag_walk_record, &walk);
}

int tag_walk_repository(struct db_txn *txn, const struct name *n, const char *after,
                        tag_visit *visit, void *arg)
{
    struct tag_walk_state walk = {visit, arg};
    char from[TAG_KEY_MAX + 1];
    size_t prefix_len = name_key(n, from);
    /* No tag is longer, so that what is cut off decides nothing. */
    size_t len = after != NULL ? strnlen(after, NAME_TAG_MAX_SIZE) : 0;
    char prefix[NAME_MAX_SIZE];

    from[prefix_len++] = ':';
    memcpy(prefix, from, prefix_len);
    if (len == 0)
        return db_walk(txn, DB_TAGS, prefix, prefix_len, NULL, 0, tag_walk_record, &walk);
    memcpy(from + prefix_len, after, len);
    /* The NUL makes it the first key after that of `after`. */
    from[prefix_len + len] = '\0';
    return db_walk(txn, DB_TAGS, prefix, prefix_len, from, prefix_len + len + 1, tag_walk_record,
                   &walk);
}
