/* SPDX-License-Identifier: ISC */
/* Index records: the input is the value of a record in every table. Each decoder
 * reads it or says that it is damaged, and what was read is written back as the
 * same bytes. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cache/blob.h"
#include "cache/clients.h"
#include "cache/diff.h"
#include "cache/err.h"
#include "cache/json.h"
#include "cache/ledger.h"
#include "cache/link.h"
#include "cache/loss.h"
#include "cache/manifest.h"
#include "cache/partial.h"
#include "cache/referrer.h"
#include "cache/repository.h"
#include "cache/scrub.h"
#include "cache/tag.h"
#include "cache/upload.h"
#include "cache/usage.h"
#include "tests/fuzz/fuzz_db.h"

#define KEY_MAX (NAME_MAX_SIZE + DIGEST_KEY_MAX)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct name name = {.registry = "docker.io", .repository = "library/alpine"};

struct input {
    struct db_txn *txn;
    const uint8_t *data;
    size_t size;
    struct digest digest;
};

static void put(const struct input *in, enum db_table table, const void *key, size_t key_len)
{
    CHECK(db_put(in->txn, table, key, key_len, in->data, in->size) == 0);
}

static void expect_same(const struct input *in, enum db_table table, const void *key,
                        size_t key_len)
{
    struct db_value value;

    CHECK(db_get(in->txn, table, key, key_len, &value) == 0);
    CHECK(value.size == in->size && memcmp(value.data, in->data, in->size) == 0);
}

static bool is_read(int err)
{
    CHECK(err == 0 || err == ERR_DAMAGED);
    return err == 0;
}

static void check_blob(const struct input *in, const uint8_t *key, size_t len)
{
    struct blob_record r;

    put(in, DB_BLOBS, key, len);
    if (is_read(blob_get(in->txn, &in->digest, &r))) {
        CHECK(blob_put(in->txn, &in->digest, &r) == 0);
        expect_same(in, DB_BLOBS, key, len);
        CHECK(blob_touch(in->txn, &in->digest, r.used_at_s) == 0);
        CHECK(blob_touch(in->txn, &in->digest, INT64_MAX) == 0);
    }
}

static void check_partial(const struct input *in, const uint8_t *key, size_t len)
{
    static struct partial_record r;

    put(in, DB_PARTIALS, key, len);
    if (is_read(partial_get(in->txn, &in->digest, &r))) {
        CHECK(partial_put(in->txn, &in->digest, &r) == 0);
        expect_same(in, DB_PARTIALS, key, len);
    }
}

static int visit_child(void *arg, const struct manifest_child *child)
{
    (void)arg;
    CHECK(digest_size(&child->digest) >= 32);
    CHECK(memchr(child->platform, '\0', sizeof child->platform) != NULL);
    return 0;
}

static void check_manifest(const struct input *in, const uint8_t *key, size_t len)
{
    struct manifest_record r;

    put(in, DB_MANIFESTS, key, len);
    bool head = is_read(manifest_get(in->txn, &in->digest, &r));

    CHECK(!head || memchr(r.media_type, '\0', sizeof r.media_type) != NULL);
    CHECK(!is_read(manifest_walk(in->txn, &in->digest, visit_child, NULL)) || head);
}

static int visit_tag(void *arg, const struct name *n, const char *tag, const struct tag_record *r)
{
    (void)n;
    CHECK(strcmp(tag, "latest") == 0 && memchr(r->media_type, '\0', sizeof r->media_type) != NULL);
    ++*(unsigned *)arg;
    return 0;
}

static void check_tag(const struct input *in)
{
    static const char key[] = "docker.io/library/alpine:latest";
    struct tag_record r;
    unsigned visited = 0;

    put(in, DB_TAGS, key, strlen(key));
    bool read = is_read(tag_get(in->txn, &name, "latest", &r));

    CHECK(tag_walk(in->txn, visit_tag, &visited) == 0 && visited == (read ? 1 : 0));
    if (read) {
        (void)tag_is_fresh(&r, INT64_MIN, INT64_MAX);
        (void)tag_is_fresh(&r, INT64_MAX, INT64_MAX);
        CHECK(tag_put(in->txn, &name, "latest", &r) == 0);
        expect_same(in, DB_TAGS, key, strlen(key));
    }
}

static void check_links(const struct input *in, const uint8_t *digest_key, size_t len)
{
    static const char text[] = "docker.io/library/alpine";
    uint8_t key[KEY_MAX];
    uint64_t size_bytes;
    enum link_state state;
    const char *type;

    memcpy(key, text, sizeof text);
    memcpy(key + sizeof text, digest_key, len);
    put(in, DB_LINKS, key, sizeof text + len);
    if (is_read(link_get_state(in->txn, &name, &in->digest, &state))) {
        CHECK(state == LINK_HAS || state == LINK_DELETED);
        CHECK(link_get(in->txn, &name, &in->digest) == (state == LINK_HAS ? 0 : ERR_NOT_FOUND));
        if (link_get_media_type(in->txn, &name, &in->digest, &type) == 0)
            CHECK(state == LINK_HAS && type[0] != '\0');
    }

    memcpy(key, digest_key, len);
    memcpy(key + len, text, sizeof text - 1);
    put(in, DB_SOURCES, key, len + sizeof text - 1);
    if (is_read(source_get(in->txn, &in->digest, &name, &size_bytes))) {
        CHECK(source_put(in->txn, &in->digest, &name, size_bytes) == 0);
        expect_same(in, DB_SOURCES, key, len + sizeof text - 1);
    }
}

static int count_repository(void *arg, const struct name *n)
{
    CHECK(strcmp(n->repository, "team/app") == 0);
    ++*(unsigned *)arg;
    return 0;
}

static void check_repositories(const struct input *in)
{
    static const struct name local = {.registry = "", .repository = "team/app"};
    static const char key[] = "docker.io/library/alpine";
    static const char local_key[] = "/team/app";
    struct repository_record r;
    unsigned count = 0;

    put(in, DB_REPOSITORIES, key, strlen(key));
    put(in, DB_REPOSITORIES, local_key, strlen(local_key));
    bool read = is_read(repository_get(in->txn, &local, &r));

    CHECK(repository_walk_local(in->txn, NULL, count_repository, &count) == 0);
    CHECK(count == (read ? 1 : 0) && (!read || r.visibility == REPOSITORY_LOCAL));
    if (is_read(repository_get(in->txn, &name, &r))) {
        CHECK(!read && r.visibility != REPOSITORY_LOCAL);
        CHECK(repository_put(in->txn, &name, &r) == 0);
        expect_same(in, DB_REPOSITORIES, key, strlen(key));
    }
}

static void check_upload(const struct input *in)
{
    static const char id[] = "0123456789abcdef0123456789abcdef";
    struct upload_record r;

    put(in, DB_UPLOADS, id, strlen(id));
    if (is_read(upload_get(in->txn, id, &r))) {
        CHECK(name_is_local(&r.name));
        CHECK(upload_put(in->txn, id, &r) == 0);
        expect_same(in, DB_UPLOADS, id, strlen(id));
    }
}

/* Sums that cannot be read are counted anew; a file that is leaving leaves, whatever its size. */
static void check_usage(const struct input *in, const uint8_t *key, size_t len)
{
    struct usage u;
    bool is_leaving;

    put(in, DB_META, "usage", 5);
    put(in, DB_LEAVING, key, len);
    CHECK(usage_get(in->txn, &u) == 0);
    CHECK(usage_is_leaving(in->txn, &in->digest, &is_leaving) == 0 && is_leaving);
    CHECK(usage_left(in->txn, &in->digest) == 0);
    CHECK(usage_is_leaving(in->txn, &in->digest, &is_leaving) == 0 && !is_leaving);
    CHECK(usage_get(in->txn, &u) == 0);
}

/* Whatever the record holds, the answer is JSON. */
static void check_referrer(const struct input *in, const uint8_t *digest_key, size_t len)
{
    static const char text[] = "docker.io/library/alpine";
    uint8_t key[KEY_MAX + DIGEST_KEY_MAX];
    char next[DIGEST_TEXT_MAX], why[128];
    size_t body_len;
    struct json_t *json;

    memcpy(key, text, sizeof text);
    memcpy(key + sizeof text, digest_key, len);
    memcpy(key + sizeof text + len, digest_key, len);
    put(in, DB_REFERRERS, key, sizeof text + 2 * len);
    CHECK(link_put(in->txn, &name, &in->digest, 1) == 0);
    struct referrers *r = referrers_new(NULL, NULL, 0);

    CHECK(referrers_add_held(r, in->txn, &name, &in->digest) == 0);
    char *body = referrers_body(r, &body_len, next);

    CHECK(json_parse(&json, body, body_len, why, sizeof why) == 0 && next[0] == '\0');
    json_wipe(&json);
    free(body);
    referrers_free(&r);
}

static int visit_diff(void *arg, const struct diff_blob *blob)
{
    CHECK(blob->proof == DIFF_CLAIMED || blob->proof == DIFF_HASHED);
    ++*(unsigned *)arg;
    return 0;
}

static void check_diff(const struct input *in, const uint8_t *digest_key, size_t len)
{
    static const struct blob_record held = {.size_bytes = 1, .origin = BLOB_PUBLIC};
    uint8_t key[2 * DIGEST_KEY_MAX];
    unsigned visited = 0;
    struct digest diff_id;

    CHECK(blob_put(in->txn, &in->digest, &held) == 0);
    memcpy(key, digest_key, len);
    memcpy(key + len, digest_key, len);
    put(in, DB_DIFFS, key, 2 * len);
    CHECK(diff_walk(in->txn, &in->digest, visit_diff, &visited) == 0 && visited <= 1);
    put(in, DB_CONTENTS, digest_key, len);
    if (is_read(diff_get(in->txn, &in->digest, &diff_id))) {
        CHECK(diff_put(in->txn, &diff_id, &in->digest, DIFF_HASHED) == 0);
        expect_same(in, DB_CONTENTS, digest_key, len);
    }
}

static void check_list(const struct input *in)
{
    static const char key[] = "docker.io/library/alpine\0tags";
    struct list_record r;

    put(in, DB_LISTS, key, sizeof key - 1);
    if (is_read(list_get(in->txn, &name, "tags", &r))) {
        /* The record points into the value that the put replaces. */
        CHECK(list_put(in->txn, &name, "other", &r) == 0);
        CHECK(list_get(in->txn, &name, "other", &r) == 0);
        expect_same(in, DB_LISTS, "docker.io/library/alpine\0other", sizeof key);
    }
}

static int visit_day(void *arg, uint32_t day, const char *registry, const struct ledger_record *r)
{
    (void)day, (void)r;
    CHECK(strlen(registry) < NAME_MAX_SIZE);
    ++*(unsigned *)arg;
    return 0;
}

static void check_ledger(const struct input *in)
{
    static const struct ledger_record one = {1, 1, 1, 1, 1};
    unsigned visited = 0;

    put(in, DB_LEDGER, "\0\0\0\1docker.io", 13);
    CHECK(ledger_walk(in->txn, visit_day, &visited) == 0 && visited <= 1);
    CHECK(ledger_add(in->txn, 1, "docker.io", &one) == 0);
    visited = 0;
    CHECK(ledger_walk(in->txn, visit_day, &visited) == 0 && visited == 1);
}

static void check_loss(const struct input *in, const uint8_t *key, size_t len)
{
    struct loss l;

    put(in, DB_LOST, key, len);
    if (is_read(loss_get(in->txn, &in->digest, &l))) {
        CHECK(loss_put(in->txn, &l) == 0);
        expect_same(in, DB_LOST, key, len);
    }
}

static void check_clients(const struct input *in, const uint8_t *key, size_t len)
{
    static const struct blob_record held = {.size_bytes = 1, .origin = BLOB_PUBLIC};
    struct in6_addr addresses[CLIENTS_MAX];
    struct clients c;

    CHECK(blob_put(in->txn, &in->digest, &held) == 0);
    put(in, DB_CLIENTS, key, len);
    bool read = is_read(clients_get(in->txn, &in->digest, &c));

    CHECK(!read || c.count <= CLIENTS_MAX);
    for (size_t i = 0; read && i < c.count; i++)
        addresses[i] = c.list[i].address;
    size_t count = read ? c.count : 0;

    CHECK(clients_note(in->txn, &in->digest, addresses, count, 1) == 0);
    CHECK(clients_note(in->txn, &in->digest, &in6addr_loopback, 1, 2) == 0);
    CHECK(clients_get(in->txn, &in->digest, &c) == 0 && c.list[0].used_at_s == 2);
    CHECK(c.count >= count && c.count <= count + 1);
    CHECK(blob_forget(in->txn, &in->digest) == 0);
    CHECK(clients_get(in->txn, &in->digest, &c) == ERR_NOT_FOUND);
}

/* What cannot be read is begun anew. */
static void check_scrub(const struct input *in)
{
    struct scrub_state s, again;

    put(in, DB_META, "scrub", 5);
    CHECK(scrub_get(in->txn, &s) == 0);
    CHECK(s.cursor.alg == 0 || digest_size(&s.cursor) >= 32);
    CHECK(scrub_put(in->txn, &s) == 0 && scrub_get(in->txn, &again) == 0);
    CHECK(again.began_at_s == s.began_at_s && digest_equal(&again.cursor, &s.cursor));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {.txn = fuzz_db_write(), .data = data, .size = size};
    uint8_t key[DIGEST_KEY_MAX];

    digest_of(DIGEST_SHA256, "", 0, &in.digest);
    size_t len = digest_to_key(&in.digest, key);

    check_blob(&in, key, len);
    check_partial(&in, key, len);
    check_manifest(&in, key, len);
    check_tag(&in);
    check_links(&in, key, len);
    check_repositories(&in);
    check_upload(&in);
    check_usage(&in, key, len);
    check_loss(&in, key, len);
    check_scrub(&in);
    check_referrer(&in, key, len);
    check_diff(&in, key, len);
    check_list(&in);
    check_clients(&in, key, len);
    check_ledger(&in);
    db_abort(&in.txn);
    return 0;
}
