/* SPDX-License-Identifier: ISC */
/* The records of what was imported: all in one transaction, so that nothing is half there. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/digest_map.h"
#include "cache/err.h"
#include "cache/import_private.h"
#include "cache/layout.h"
#include "cache/link.h"
#include "cache/local.h"
#include "cache/repository.h"
#include "cache/tag.h"

struct commit {
    struct import *import;
    struct db_txn *txn;
    const struct import_image *image;
    struct reference reference; /* its */
    enum blob_origin origin;
};

/* --- blobs --- */

static int put_carried(const struct commit *c, const struct import_content *content)
{
    const struct name *n = &c->reference.name;
    int64_t now_s = c->import->settings.now_s;
    struct blob_record r;
    int fd;
    int err = blob_open(c->import->settings.store, &content->digest, content->size_bytes, &fd);

    /* It was held, and is gone since. */
    if (err != 0)
        return err;
    close(fd);
    if (name_is_local(n))
        return local_put_blob(c->txn, n, &content->digest, content->size_bytes, now_s);
    if (blob_get(c->txn, &content->digest, &r) != 0 || r.size_bytes != content->size_bytes)
        r = (struct blob_record){.size_bytes = content->size_bytes, .stored_at_s = now_s};
    r.used_at_s = now_s;
    r.origin = c->origin;
    err = blob_put(c->txn, &content->digest, &r);
    if (err == 0 && c->origin == BLOB_PRIVATE)
        err = link_put(c->txn, n, &content->digest, now_s);
    return err;
}

/* What a delta rests on stays what it was, and is visible in this repository, too. */
static int put_child(const struct commit *c, const struct descriptor *child)
{
    const struct import_content *content = import_find(c->import, &child->digest);
    struct blob_record r;

    if (content != NULL)
        return put_carried(c, content);
    int err = blob_get(c->txn, &child->digest, &r);
    if (err == ERR_NOT_FOUND || err == ERR_DAMAGED)
        return 0;
    if (err == 0 && r.origin != BLOB_PUBLIC)
        err = link_put(c->txn, &c->reference.name, &child->digest, c->import->settings.now_s);
    return err;
}

/* --- manifests --- */

static int put_tag(const struct commit *c)
{
    const struct import_image *image = c->image;
    struct tag_record tag = {
        .digest = image->digest,
        .size_bytes = image->size_bytes,
        .checked_at_s = c->import->settings.now_s,
    };

    if (c->reference.by_digest)
        return 0;
    memcpy(tag.media_type, image->media_type, strlen(image->media_type) + 1);
    return tag_put(c->txn, &c->reference.name, c->reference.tag, &tag);
}

static int put_record(const struct commit *c, const struct digest *d, const struct manifest *m,
                      uint64_t size_bytes, bool is_root)
{
    const struct reference *r = &c->reference;
    const char *tag = r->tag;
    int64_t now_s = c->import->settings.now_s;

    if (name_is_local(&r->name))
        return local_put_manifest(c->txn, &r->name, d, m, size_bytes, &tag,
                                  is_root && !r->by_digest ? 1 : 0, now_s);
    int err = manifest_put(c->txn, &r->name, d, m, c->origin, size_bytes, now_s);
    return err == 0 && is_root ? put_tag(c) : err;
}

static bool is_there(const struct commit *c, const struct digest *d)
{
    struct blob_record r;

    return import_find(c->import, d) != NULL || import_held(c->import, d, &r) == 0;
}

/* What it names comes first: a tag last of all. */
static int put_manifest(const struct commit *c, const struct digest *d, const char *media_type,
                        bool is_root)
{
    char why[256];
    struct manifest *m;
    char *data;
    size_t len;
    int err = import_load(c->import, d, MANIFEST_SIZE_MAX, &data, &len);

    if (err != 0)
        return err;
    err = manifest_parse(&m, media_type, data, len, why, sizeof why);
    free(data);
    if (err != 0)
        return err;
    for (unsigned k = 0; err == 0 && k < manifest_child_count(m); k++) {
        const struct descriptor *child = manifest_child(m, k);

        if (child->role != CHILD_MANIFEST)
            err = put_child(c, child);
        else if (is_there(c, &child->digest))
            err = put_manifest(c, &child->digest, child->media_type, false);
    }
    if (err == 0)
        err = put_record(c, d, m, len, is_root);
    manifest_free(&m);
    return err;
}

/* --- images --- */

/* A repository that is known to be private here stays so: its content is then seen through
 * it alone, by whom its upstream lets in. */
static int open_repository(struct commit *c)
{
    const struct name *n = &c->reference.name;
    struct repository_record r = {REPOSITORY_PUBLIC, c->import->settings.now_s};
    struct repository_record old;

    c->origin = name_is_local(n) ? BLOB_PUSHED : BLOB_PUBLIC;
    if (name_is_local(n))
        return 0;
    int err = repository_get(c->txn, n, &old);
    if (err == 0 && old.visibility == REPOSITORY_PRIVATE) {
        c->origin = BLOB_PRIVATE;
        return 0;
    }
    return err == 0 || err == ERR_NOT_FOUND || err == ERR_DAMAGED ? repository_put(c->txn, n, &r)
                                                                  : err;
}

static int put_images(struct import *i, struct db_txn *txn)
{
    int err = 0;

    for (size_t k = 0; err == 0 && k < i->image_count; k++) {
        struct commit c = {.import = i, .txn = txn, .image = &i->images[k]};

        import_reference(c.image, &c.reference);
        err = open_repository(&c);
        if (err == 0)
            err = put_manifest(&c, &c.image->digest, c.image->media_type, true);
    }
    return err;
}

static void count_added(struct import *i)
{
    size_t count = digest_map_count(i->numbers);

    for (size_t k = 0; k < count; k++) {
        if (i->contents[k].is_needed && !i->contents[k].was_held) {
            i->added_count++;
            i->added_bytes += i->contents[k].size_bytes;
        }
    }
}

/* The daemon does so now and then, too; without it nobody would. */
static void write_index(struct import *i)
{
    struct db_txn *txn;

    if (db_read(i->reader, &txn) != 0)
        return;
    (void)!layout_write_index(i->settings.store, txn);
    db_read_end(i->reader);
}

int import_commit(struct import *i)
{
    struct db_txn *txn;
    int err = import_publish(i);

    if (err != 0)
        return err;
    err = db_write(store_db(i->settings.store), &txn);
    if (err == 0) {
        err = put_images(i, txn);
        if (err == 0)
            err = db_commit(&txn);
        else
            db_abort(&txn);
    }
    if (err == ERR_MISMATCH)
        return import_fail(i, err, "a blob that was held is gone since; import again");
    if (err != 0)
        return import_fail(i, err, "the index of %s cannot be written: %s%s",
                           store_path(i->settings.store), err_text(err),
                           err == ERR_FULL ? "; give it more room with index-size" : "");
    i->is_published = true;
    count_added(i);
    write_index(i);
    return 0;
}
