/* SPDX-License-Identifier: ISC */
#include "cache/local.h"

#include <string.h>

#include "cache/err.h"
#include "cache/referrer.h"
#include "cache/repository.h"
#include "cache/tag.h"

/* --- what is there --- */

/* A record that cannot be read is as good as none. */
static int absent_if_damaged(int err)
{
    return err == ERR_DAMAGED ? ERR_NOT_FOUND : err;
}

int local_find_blob(struct db_txn *txn, const struct name *n, const struct digest *d,
                    struct blob_record *r)
{
    enum link_state state;
    int err = link_get_state(txn, n, d, &state);

    if (err == 0)
        err = blob_get(txn, d, r);
    if (err != 0)
        return absent_if_damaged(err);
    bool is_visible = state == LINK_HAS || (state == LINK_NONE && r->origin == BLOB_PUBLIC);

    return is_visible ? 0 : ERR_NOT_FOUND;
}

int local_find_manifest(struct db_txn *txn, const struct name *n, const struct digest *d,
                        struct manifest_record *r)
{
    int err = link_get(txn, n, d);

    if (err == 0)
        err = manifest_get_in(txn, n, d, r);
    return absent_if_damaged(err);
}

int local_has_repository(struct db_txn *txn, const struct name *n)
{
    struct repository_record r;

    return absent_if_damaged(repository_get(txn, n, &r));
}

int local_walk_missing(struct db_txn *txn, const struct name *n, const struct manifest *m,
                       missing_visit *visit, void *arg)
{
    struct blob_record r;
    int err = 0;

    for (unsigned i = 0; err == 0 && i < manifest_child_count(m); i++) {
        const struct descriptor *child = manifest_child(m, i);

        if (child->role == CHILD_MANIFEST || media_type_is_foreign(child->media_type))
            continue;
        err = local_find_blob(txn, n, &child->digest, &r);
        if (err == ERR_NOT_FOUND)
            err = visit(arg, child);
    }
    return err;
}

int local_walk_holders(struct db_txn *txn, const struct digest *d, holder_visit *visit, void *arg)
{
    struct blob_record r;
    int err = absent_if_damaged(blob_get(txn, d, &r));

    if (err != 0)
        return err == ERR_NOT_FOUND ? 0 : err;
    return link_walk_holders(txn, d, visit, arg);
}

/* --- what is pushed --- */

/* What is visible for being public would not be once its record is dropped and a private
 * copy comes; with a link it is. */
static int link_children(struct db_txn *txn, const struct name *n, const struct manifest *m,
                         int64_t now_s)
{
    struct blob_record r;
    int err = 0;

    for (unsigned i = 0; err == 0 && i < manifest_child_count(m); i++) {
        const struct descriptor *child = manifest_child(m, i);

        if (child->role == CHILD_MANIFEST || link_get(txn, n, &child->digest) == 0)
            continue;
        err = local_find_blob(txn, n, &child->digest, &r);
        if (err == 0)
            err = link_put(txn, n, &child->digest, now_s);
        else if (err == ERR_NOT_FOUND)
            err = 0;
    }
    return err;
}

int local_put_manifest(struct db_txn *txn, const struct name *n, const struct digest *d,
                       const struct manifest *m, uint64_t size_bytes, const char *const *tags,
                       unsigned tag_count, int64_t now_s)
{
    const struct repository_record repository = {REPOSITORY_LOCAL, now_s};
    struct tag_record tag = {.digest = *d, .size_bytes = size_bytes, .checked_at_s = now_s};
    const char *media_type = manifest_media_type(m);

    CHECK(name_is_local(n));
    CHECK(strlen(media_type) < sizeof tag.media_type);
    memcpy(tag.media_type, media_type, strlen(media_type) + 1);
    int err = manifest_put(txn, n, d, m, BLOB_PUSHED, size_bytes, now_s);

    if (err == 0)
        err = link_children(txn, n, m, now_s);
    if (err == 0)
        err = repository_put(txn, n, &repository);
    for (unsigned i = 0; err == 0 && i < tag_count; i++)
        err = tag_put(txn, n, tags[i], &tag);
    return err;
}

int local_put_blob(struct db_txn *txn, const struct name *n, const struct digest *d,
                   uint64_t size_bytes, int64_t now_s)
{
    struct blob_record r;
    int err = absent_if_damaged(blob_get(txn, d, &r));

    CHECK(name_is_local(n));
    if (err != 0 && err != ERR_NOT_FOUND)
        return err;
    if (err == ERR_NOT_FOUND || r.size_bytes != size_bytes)
        r = (struct blob_record){.size_bytes = size_bytes, .stored_at_s = now_s};
    r.origin = BLOB_PUSHED;
    r.used_at_s = now_s;
    err = blob_put(txn, d, &r);
    return err == 0 ? link_put(txn, n, d, now_s) : err;
}

/* What an upstream asked credentials for is nobody's to give away. */
static int find_public(struct db_txn *txn, const struct digest *d, struct blob_record *r)
{
    int err = absent_if_damaged(blob_get(txn, d, r));

    return err == 0 && r->origin != BLOB_PUBLIC ? ERR_NOT_FOUND : err;
}

int local_mount(struct db_txn *txn, const struct name *to, const struct digest *d,
                const struct name *from, int64_t now_s)
{
    struct blob_record r;
    bool is_from_local = from != NULL && name_is_local(from);
    int err = is_from_local ? local_find_blob(txn, from, d, &r) : find_public(txn, d, &r);

    CHECK(name_is_local(to));
    if (err != 0)
        return err;
    /* As if it were pushed: its manifest has as long to come. */
    r.used_at_s = now_s;
    err = blob_put(txn, d, &r);
    return err == 0 ? link_put(txn, to, d, now_s) : err;
}

/* --- what is deleted --- */

struct tag_search {
    const struct digest *digest;
    char tag[NAME_TAG_MAX_SIZE]; /* found, and where to go on */
};

static int match_tag(void *arg, const struct name *n, const char *tag, const struct tag_record *r)
{
    struct tag_search *search = arg;

    (void)n;
    if (!digest_equal(&r->digest, search->digest))
        return 0;
    memcpy(search->tag, tag, strlen(tag) + 1);
    return 1;
}

/* A walk for each tag that goes, as nothing may be written during one. */
static int forget_tags(struct db_txn *txn, const struct name *n, const struct digest *d)
{
    struct tag_search search = {.digest = d};
    int err;

    while ((err = tag_walk_repository(txn, n, search.tag, match_tag, &search)) > 0) {
        err = tag_forget(txn, n, search.tag);
        if (err != 0)
            return err;
    }
    return err;
}

/* What leads to the manifest in this repository. */
static int forget_ways(struct db_txn *txn, const struct name *n, const struct digest *d,
                       const struct manifest_record *r)
{
    int err = forget_tags(txn, n, d);

    if (err != 0 || r->subject.alg == 0)
        return err;
    err = referrer_forget(txn, n, &r->subject, d);
    return err == ERR_NOT_FOUND ? 0 : err;
}

static int delete_content(struct db_txn *txn, const struct name *n, const struct digest *d,
                          int64_t now_s)
{
    struct manifest_record r;
    int err = local_find_manifest(txn, n, d, &r);
    bool is_manifest = err == 0;

    CHECK(name_is_local(n));
    if (is_manifest)
        err = forget_ways(txn, n, d, &r);
    else if (err == ERR_NOT_FOUND)
        err = 0;
    if (err == 0)
        err = link_delete(txn, n, d, now_s);
    return err == 0 && is_manifest ? manifest_forget(txn, n, d) : err;
}

int local_delete_blob(struct db_txn *txn, const struct name *n, const struct digest *d,
                      int64_t now_s)
{
    struct blob_record r;
    int err = local_find_blob(txn, n, d, &r);

    return err == 0 ? delete_content(txn, n, d, now_s) : err;
}

int local_delete_manifest(struct db_txn *txn, const struct name *n, const struct digest *d,
                          int64_t now_s)
{
    struct manifest_record r;
    int err = local_find_manifest(txn, n, d, &r);

    return err == 0 ? delete_content(txn, n, d, now_s) : err;
}

int local_evict(struct db_txn *txn, const struct name *n, const struct digest *d)
{
    struct manifest_record r;
    int err = local_find_manifest(txn, n, d, &r);

    CHECK(name_is_local(n));
    if (err == 0)
        err = forget_ways(txn, n, d, &r);
    return err == 0 || err == ERR_NOT_FOUND ? link_forget(txn, n, d) : err;
}

int local_delete_tag(struct db_txn *txn, const struct name *n, const char *tag)
{
    CHECK(name_is_local(n));
    return tag_forget(txn, n, tag);
}
