/* SPDX-License-Identifier: ISC */
#include "cache/manifest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/blob.h"
#include "cache/claim.h"
#include "cache/err.h"
#include "cache/link.h"
#include "cache/manifest_referrer.h"
#include "cache/parent.h"
#include "cache/record.h"

/* Version 1 has no subject. */
#define MANIFEST_RECORD_VERSION 2
#define URL_RECORD_VERSION 1
/* Whoever may push names any. */
#define LOCAL_URLS_MAX 2
#define URL_KEY_MAX (DIGEST_KEY_MAX + NAME_MAX_SIZE + 1)

#define PLATFORM_MAX sizeof(((struct manifest_child *)0)->platform)
#define TEXT_BYTES(size_with_nul) (2 + (size_with_nul))
#define HEAD_BYTES_MAX (1 + 8 + 1 + TEXT_BYTES(MEDIA_TYPE_MAX) + 1 + DIGEST_KEY_MAX + 4)
#define CHILD_BYTES_MAX (1 + DIGEST_KEY_MAX + 8 + TEXT_BYTES(PLATFORM_MAX))

/* --- reading --- */

/* The fields before the children; leaves `in` at their number. */
static void read_head(struct record_in *in, struct db_value value, struct manifest_record *r)
{
    bool is_old = value.size > 0 && *(const uint8_t *)value.data == 1;

    record_open(in, value, is_old ? 1 : MANIFEST_RECORD_VERSION);
    r->size_bytes = record_get_u64(in);
    r->is_index = record_get_flag(in);
    record_copy_text(in, r->media_type, sizeof r->media_type);
    memset(&r->subject, 0, sizeof r->subject);
    if (!is_old && record_get_flag(in))
        record_get_digest(in, &r->subject);
    record_require(in, r->size_bytes <= MANIFEST_SIZE_MAX);
}

int manifest_get(struct db_txn *txn, const struct digest *d, struct manifest_record *r)
{
    uint8_t key[DIGEST_KEY_MAX];
    struct db_value value;
    struct record_in in;
    int err = db_get(txn, DB_MANIFESTS, key, digest_to_key(d, key), &value);

    if (err != 0)
        return err;
    read_head(&in, value, r);
    return record_check(&in);
}

int manifest_get_in(struct db_txn *txn, const struct name *n, const struct digest *d,
                    struct manifest_record *r)
{
    const char *media_type;
    int err = manifest_get(txn, d, r);

    if (err != 0)
        return err;
    if (link_get_media_type(txn, n, d, &media_type) == 0 && strlen(media_type) < MEDIA_TYPE_MAX)
        memcpy(r->media_type, media_type, strlen(media_type) + 1);
    return 0;
}

int manifest_walk(struct db_txn *txn, const struct digest *d, manifest_visit *visit, void *arg)
{
    uint8_t key[DIGEST_KEY_MAX];
    struct db_value value;
    struct record_in in;
    struct manifest_record head;
    struct manifest_child child;
    int result = db_get(txn, DB_MANIFESTS, key, digest_to_key(d, key), &value);

    if (result != 0)
        return result;
    read_head(&in, value, &head);
    uint32_t count = record_get_u32(&in);

    for (uint32_t i = 0; i < count; i++) {
        child.role = record_get_u8(&in);
        record_get_digest(&in, &child.digest);
        child.size_bytes = record_get_u64(&in);
        record_copy_text(&in, child.platform, sizeof child.platform);
        record_require(&in, child.role <= CHILD_LAYER && child.size_bytes <= INT64_MAX);
        if (record_check(&in) != 0)
            return ERR_DAMAGED;
        result = visit(arg, &child);
        if (result != 0)
            return result;
    }
    return record_close(&in);
}

/* --- writing --- */

/* Whether it can be part of a platform string, which has '/' and ':' between its
 * parts and is shown to people. */
static bool is_platform_part(const char *text)
{
    static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "._+-";

    return text[0] != '\0' && text[strspn(text, chars)] == '\0';
}

static bool is_optional_part(const char *text)
{
    return text == NULL || text[0] == '\0' || is_platform_part(text);
}

static const char *or_empty(const char *text)
{
    return text != NULL ? text : "";
}

/* "os/arch[/variant][:os.version]"; empty when it is not said or cannot be written so. */
static void platform_text(const struct descriptor *d, char out[PLATFORM_MAX])
{
    const char *variant = or_empty(d->variant);
    const char *version = or_empty(d->os_version);
    int len = 0;

    out[0] = '\0';
    if (is_platform_part(or_empty(d->os)) && is_platform_part(or_empty(d->arch)) &&
        is_optional_part(variant) && is_optional_part(version)) {
        len = snprintf(out, PLATFORM_MAX, "%s/%s%s%s%s%s", d->os, d->arch,
                       variant[0] != '\0' ? "/" : "", variant, version[0] != '\0' ? ":" : "",
                       version);
    }
    if (len >= (int)PLATFORM_MAX)
        out[0] = '\0';
}

static int put_record(struct db_txn *txn, const struct digest *d, const struct manifest *m,
                      uint64_t size_bytes)
{
    uint8_t key[DIGEST_KEY_MAX];
    char platform[PLATFORM_MAX];
    unsigned count = manifest_child_count(m);
    size_t size = HEAD_BYTES_MAX + count * CHILD_BYTES_MAX;
    uint8_t *buf = mem_resize(NULL, size);
    struct record_out out;

    record_start(&out, buf, size, MANIFEST_RECORD_VERSION);
    record_put_u64(&out, size_bytes);
    record_put_u8(&out, manifest_is_index(m));
    record_put_text(&out, manifest_media_type(m));
    record_put_u8(&out, manifest_subject(m) != NULL);
    if (manifest_subject(m) != NULL)
        record_put_digest(&out, &manifest_subject(m)->digest);
    record_put_u32(&out, count);
    for (unsigned i = 0; i < count; i++) {
        const struct descriptor *child = manifest_child(m, i);

        platform_text(child, platform);
        record_put_u8(&out, (uint8_t)child->role);
        record_put_digest(&out, &child->digest);
        record_put_u64(&out, child->size_bytes);
        record_put_text(&out, platform);
    }
    CHECK(record_finish(&out) == 0);
    int err = db_put(txn, DB_MANIFESTS, key, digest_to_key(d, key), buf, out.len);

    free(buf);
    return err;
}

/* Whether the record that is there says as much as one of `m`: of a type that is unknown it
 * does not. Children are the same, whichever of the known types they were read by. */
static bool is_known_otherwise(struct db_txn *txn, const struct digest *d, const struct manifest *m)
{
    struct manifest_record r;

    return manifest_get(txn, d, &r) == 0 && strcmp(r.media_type, manifest_media_type(m)) != 0 &&
           (media_type_is_manifest(r.media_type) ||
            !media_type_is_manifest(manifest_media_type(m)));
}

static int put_blob(struct db_txn *txn, const struct digest *d, enum blob_origin origin,
                    uint64_t size_bytes, int64_t now_s)
{
    struct blob_record r;
    int err = blob_get(txn, d, &r);

    if (err == ERR_NOT_FOUND || err == ERR_DAMAGED) {
        r.size_bytes = size_bytes;
        r.stored_at_s = now_s;
        r.used_at_s = now_s;
    } else if (err != 0) {
        return err;
    }
    r.origin = origin;
    return blob_put(txn, d, &r);
}

/* digest "registry" NUL; its length. What a manifest of one registry says is not
 * believed of another's. */
static size_t urls_key(const char *registry, const struct digest *d, uint8_t key[URL_KEY_MAX])
{
    size_t len = digest_to_key(d, key);
    size_t name_len = strlen(registry) + 1;

    CHECK(name_len <= NAME_MAX_SIZE);
    memcpy(key + len, registry, name_len);
    return len + name_len;
}

static int put_urls(struct db_txn *txn, const struct name *n, const struct descriptor *d)
{
    uint8_t key[URL_KEY_MAX];
    uint8_t buf[MANIFEST_URL_MAX + 16];
    size_t len = urls_key(n->registry, &d->digest, key);
    struct record_out out;
    unsigned count = d->url_count;
    int err = 0;

    if (name_is_local(n) && count > LOCAL_URLS_MAX)
        count = LOCAL_URLS_MAX;
    for (unsigned i = 0; err == 0 && i < count; i++) {
        key[len] = (uint8_t)i;
        record_start(&out, buf, sizeof buf, URL_RECORD_VERSION);
        record_put_text(&out, d->urls[i]);
        CHECK(record_finish(&out) == 0);
        err = db_put(txn, DB_URLS, key, len + 1, buf, out.len);
        if (err == 0)
            err = claim_put(txn, d->urls[i], &d->digest, n);
    }
    return err;
}

static int add_url(void *arg, struct db_value key, struct db_value value)
{
    struct foreign_urls *u = arg;
    struct record_in in;

    (void)key;
    record_open(&in, value, URL_RECORD_VERSION);
    const char *url = record_get_text(&in);
    int err = record_close(&in);
    for (unsigned i = 0; err == 0 && i < u->count; i++) {
        if (strcmp(u->urls[i], url) == 0)
            return 0;
    }
    if (err == 0 && u->count < DESCRIPTOR_URLS_MAX)
        u->urls[u->count++] = mem_copy(url, strlen(url));
    return err;
}

int foreign_urls_get(struct db_txn *txn, const char *registry, const struct digest *d,
                     struct foreign_urls *u)
{
    uint8_t key[URL_KEY_MAX];
    size_t len = urls_key(registry, d, key);

    *u = (struct foreign_urls){0};
    int err = db_walk(txn, DB_URLS, key, len, NULL, 0, add_url, u);
    if (err == 0 && u->count > 0)
        return 0;
    foreign_urls_clear(u);
    return err ? err : ERR_NOT_FOUND;
}

void foreign_urls_clear(struct foreign_urls *u)
{
    for (unsigned i = 0; i < u->count; i++)
        free(u->urls[i]);
    u->count = 0;
}

/* What a manifest says of one of its children. */
static int put_child(struct db_txn *txn, const struct name *n, const struct digest *d,
                     const struct descriptor *child)
{
    int err = source_put(txn, &child->digest, n, child->size_bytes);

    if (err == 0)
        err = parent_put(txn, &child->digest, d, (int)child->role);
    if (err == 0 && media_type_is_foreign(child->media_type))
        err = put_urls(txn, n, child);
    return err;
}

int manifest_put(struct db_txn *txn, const struct name *n, const struct digest *d,
                 const struct manifest *m, enum blob_origin origin, uint64_t size_bytes,
                 int64_t now_s)
{
    int err = put_blob(txn, d, origin, size_bytes, now_s);

    if (err == 0 && !(origin == BLOB_PUSHED && is_known_otherwise(txn, d, m)))
        err = put_record(txn, d, m, size_bytes);
    if (err == 0)
        err = link_put_manifest(txn, n, d, manifest_media_type(m), now_s);
    if (err == 0 && manifest_subject(m) != NULL)
        err = referrer_put(txn, n, d, m, size_bytes);
    for (unsigned i = 0; err == 0 && i < manifest_child_count(m); i++)
        err = put_child(txn, n, d, manifest_child(m, i));
    return err;
}

int manifest_restore(struct db_txn *txn, const struct digest *d, const struct manifest *m,
                     uint64_t size_bytes)
{
    int err = put_record(txn, d, m, size_bytes);

    for (unsigned i = 0; err == 0 && i < manifest_child_count(m); i++) {
        const struct descriptor *child = manifest_child(m, i);

        err = parent_put(txn, &child->digest, d, (int)child->role);
    }
    return err;
}

/* --- forgetting --- */

/* Looked at for one child: what has more than these is taken to need it, too. */
#define USES_MAX 64

static int absent_is_done(int err)
{
    return err == ERR_NOT_FOUND ? 0 : err;
}

static int forget_urls(struct db_txn *txn, const char *registry, const struct digest *d)
{
    uint8_t key[URL_KEY_MAX];
    size_t len = urls_key(registry, d, key);
    int err = 0;

    for (unsigned i = 0; err == 0 && i < DESCRIPTOR_URLS_MAX; i++) {
        key[len] = (uint8_t)i;
        err = absent_is_done(db_delete(txn, DB_URLS, key, len + 1));
    }
    return err;
}

/* Who still needs what is known of a child. */
struct uses {
    struct db_txn *txn;
    const struct name *name;
    const struct digest *parent; /* that goes */
    unsigned count;
};

static int find_parent(void *arg, const struct digest *parent, int role)
{
    struct uses *u = arg;

    (void)role;
    if (digest_equal(parent, u->parent))
        return 0;
    return ++u->count > USES_MAX || link_get(u->txn, u->name, parent) == 0;
}

static int find_local(void *arg, const struct name *n)
{
    struct uses *u = arg;

    return ++u->count > USES_MAX || name_is_local(n);
}

static int find_holder(void *arg, const struct name *n)
{
    (void)arg;
    (void)n;
    return 1;
}

/* The urls are those of all local repositories. */
static int forget_source(struct db_txn *txn, const struct name *n, const struct digest *d,
                         const struct digest *child)
{
    struct uses parents = {.txn = txn, .name = n, .parent = d};
    struct uses names = {.txn = txn};
    int result = parent_walk(txn, child, find_parent, &parents);

    if (result != 0)
        return result < 0 ? result : 0;
    int err = absent_is_done(source_forget(txn, child, n));

    if (err != 0)
        return err;
    result = source_walk(txn, child, find_local, &names);
    if (result != 0)
        return result < 0 ? result : 0;
    return forget_urls(txn, n->registry, child);
}

/* Of a walk, during which nothing may be written. */
struct children {
    struct manifest_child *list;
    size_t count;
    size_t room;
};

static int keep_child(void *arg, const struct manifest_child *child)
{
    struct children *c = arg;

    if (c->count == c->room) {
        c->room = c->room == 0 ? 16 : c->room * 2;
        c->list = mem_resize(c->list, c->room * sizeof c->list[0]);
    }
    c->list[c->count++] = *child;
    return 0;
}

/* What came from an upstream stays, for its other repositories' sake. */
static int find_others(struct db_txn *txn, const struct digest *d, bool *has_others)
{
    struct blob_record r;
    int err = blob_get(txn, d, &r);

    *has_others = true;
    if (err != 0 || r.origin != BLOB_PUSHED)
        return err == ERR_DAMAGED ? 0 : absent_is_done(err);
    int result = link_walk_holders(txn, d, find_holder, NULL);

    *has_others = result != 0;
    return result < 0 ? result : 0;
}

static int forget_children(struct db_txn *txn, const struct name *n, const struct digest *d,
                           const struct children *c, bool has_others)
{
    int err = 0;

    for (size_t i = 0; err == 0 && i < c->count; i++) {
        const struct manifest_child *child = &c->list[i];

        if (!has_others)
            err = absent_is_done(parent_forget(txn, &child->digest, d, child->role));
        if (err == 0)
            err = forget_source(txn, n, d, &child->digest);
    }
    return err;
}

int manifest_forget(struct db_txn *txn, const struct name *n, const struct digest *d)
{
    uint8_t key[DIGEST_KEY_MAX];
    struct children c = {0};
    bool has_others;
    int err = find_others(txn, d, &has_others);

    CHECK(name_is_local(n));
    if (err == 0)
        err = manifest_walk(txn, d, keep_child, &c);
    if (err == 0)
        err = forget_children(txn, n, d, &c, has_others);
    if (err == 0 && !has_others)
        err = absent_is_done(db_delete(txn, DB_MANIFESTS, key, digest_to_key(d, key)));
    free(c.list);
    return err == ERR_NOT_FOUND || err == ERR_DAMAGED ? 0 : err;
}
