/* SPDX-License-Identifier: ISC */
/*
 * The records of what was imported. LMDB keeps in memory what a transaction has written, so
 * it takes one for some images at a time, and a last one for the tags of all: no name leads
 * to anything before everything is there.
 */
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

/* Records in a transaction, of the images that are written before it is looked at. */
#define TXN_RECORDS_MAX 2000

struct commit {
    struct import *import;
    struct db_txn *txn;
    unsigned records; /* written in it */
    const struct import_image *image;
    struct reference reference; /* its */
    enum blob_origin origin;
};

/* --- blobs --- */

static int put_carried(struct commit *c, const struct digest *d,
                       const struct import_content *content)
{
    const struct name *n = &c->reference.name;
    int64_t now_s = c->import->settings.now_s;
    struct blob_record r;
    int fd;
    int err = blob_open(c->import->settings.store, d, content->size_bytes, &fd);

    /* It was held, and is gone since. */
    if (err != 0)
        return err;
    close(fd);
    c->records++;
    if (name_is_local(n))
        return local_put_blob(c->txn, n, d, content->size_bytes, now_s);
    if (blob_get(c->txn, d, &r) != 0 || r.size_bytes != content->size_bytes)
        r = (struct blob_record){.size_bytes = content->size_bytes, .stored_at_s = now_s};
    r.used_at_s = now_s;
    r.origin = c->origin;
    err = blob_put(c->txn, d, &r);
    if (err == 0 && c->origin == BLOB_PRIVATE)
        err = link_put(c->txn, n, d, now_s);
    if (err == 0 && c->origin == BLOB_PUBLIC)
        blob_mark_public(c->import->settings.store, d);
    return err;
}

/* What a delta rests on stays what it was, and is visible in this repository, too. */
static int put_child(struct commit *c, const struct descriptor *child)
{
    const struct import_content *content = import_find(c->import, &child->digest);
    struct blob_record r;

    if (content != NULL)
        return put_carried(c, &child->digest, content);
    int err = blob_get(c->txn, &child->digest, &r);
    if (err == ERR_NOT_FOUND || err == ERR_DAMAGED)
        return 0;
    if (err == 0 && r.origin != BLOB_PUBLIC)
        err = link_put(c->txn, &c->reference.name, &child->digest, c->import->settings.now_s);
    return err;
}

/* --- manifests --- */

static int put_tag(struct commit *c)
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

static int put_record(struct commit *c, const struct digest *d, const struct manifest *m,
                      uint64_t size_bytes)
{
    const struct name *n = &c->reference.name;
    int64_t now_s = c->import->settings.now_s;

    c->records++;
    if (name_is_local(n))
        return local_put_manifest(c->txn, n, d, m, size_bytes, NULL, 0, now_s);
    int err = manifest_put(c->txn, n, d, m, c->origin, size_bytes, now_s);
    if (err == 0 && c->origin == BLOB_PUBLIC)
        blob_mark_public(c->import->settings.store, d);
    return err;
}

static bool is_there(const struct commit *c, const struct digest *d)
{
    struct blob_record r;

    return import_find(c->import, d) != NULL || import_held(c->import, d, &r) == 0;
}

/* What it names comes first. */
static int put_manifest(struct commit *c, const struct digest *d, const char *media_type)
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
            err = put_manifest(c, &child->digest, child->media_type);
    }
    if (err == 0)
        err = put_record(c, d, m, len);
    if (err == 0)
        err = import_note_diffs(c->import, c->txn, m);
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

static int put_image(struct commit *c)
{
    int err = open_repository(c);

    return err == 0 ? put_manifest(c, &c->image->digest, c->image->media_type) : err;
}

/* From image `*next` on as many as one transaction is to hold. */
static int put_some(struct commit *c, size_t *next, int (*put)(struct commit *c))
{
    struct import *i = c->import;
    int err = db_write(store_db(i->settings.store), &c->txn);

    if (err != 0)
        return err;
    for (c->records = 0; err == 0 && *next < i->image_count && c->records < TXN_RECORDS_MAX;
         (*next)++) {
        c->image = &i->images[*next];
        import_reference(c->image, &c->reference);
        err = put(c);
    }
    if (err == 0)
        return db_commit(&c->txn);
    db_abort(&c->txn);
    return err;
}

static int put_all(struct import *i)
{
    struct commit c = {.import = i};
    size_t next = 0;
    int err = 0;

    while (err == 0 && next < i->image_count)
        err = put_some(&c, &next, put_image);
    next = 0;
    return err == 0 ? put_some(&c, &next, put_tag) : err;
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
    int err = import_publish(i);

    if (err != 0)
        return err;
    err = put_all(i);
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
