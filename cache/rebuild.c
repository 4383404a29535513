/* SPDX-License-Identifier: ISC */
/*
 * First every file becomes a blob, and a manifest if its bytes are one; then the entries of
 * index.json say which repositories have which manifests, and what follows from that.
 */
#include "cache/rebuild.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/beneath.h"
#include "cache/blob.h"
#include "cache/err.h"
#include "cache/folder.h"
#include "cache/layout.h"
#include "cache/link.h"
#include "cache/manifest.h"
#include "cache/pin.h"
#include "cache/reference.h"
#include "cache/repository.h"
#include "cache/tag.h"
#include "cache/verify.h"

/* Records in one commit. */
#define BATCH_MAX 4096

struct builder {
    struct store *store;
    struct db_txn *txn;
    struct rebuild *result;
    int64_t now_s;
    unsigned batch;
};

/* One more record: commit now and then. */
static int step(struct builder *b)
{
    if (++b->batch < BATCH_MAX)
        return 0;
    b->batch = 0;
    int err = db_commit(&b->txn);

    return err == 0 ? db_write(store_db(b->store), &b->txn) : err;
}

static int end(struct builder *b, int err)
{
    if (b->txn == NULL)
        return err;
    if (err == 0)
        return db_commit(&b->txn);
    db_abort(&b->txn);
    return err;
}

/* --- files --- */

/* One that is damaged is no manifest: its digest is not right. */
static int take_manifest(struct builder *b, const struct digest *d, uint64_t size_bytes)
{
    struct manifest *m;
    char *data;
    int err = blob_read(b->store, d, size_bytes, &data);

    if (err != 0)
        return 0;
    err = manifest_guess(&m, data, size_bytes);
    free(data);
    if (err != 0)
        return 0;
    err = manifest_restore(b->txn, d, m, size_bytes);
    manifest_free(&m);
    b->result->manifests++;
    return err;
}

/* Whether it can be one by its first byte, for most blobs are archives. */
static bool may_be_manifest(int dir_fd, const char *name, uint64_t size_bytes)
{
    char first = 0;

    if (size_bytes == 0 || size_bytes > MANIFEST_SIZE_MAX)
        return false;
    int fd = beneath_open(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOATIME, 0);

    if (fd < 0 && errno == EPERM)
        fd = beneath_open(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
    if (fd < 0)
        return false;
    bool got = pread(fd, &first, 1, 0) == 1;

    close(fd);
    return got && (first == '{' || first == ' ' || first == '\n' || first == '\t' || first == '\r');
}

static int64_t used_at(const struct builder *b, const struct stat *st)
{
    int64_t at_s =
        st->st_atim.tv_sec > st->st_mtim.tv_sec ? st->st_atim.tv_sec : st->st_mtim.tv_sec;

    return at_s < b->now_s ? at_s : b->now_s;
}

static int take_file(struct builder *b, int dir_fd, const char *name, const struct digest *d)
{
    struct stat st;

    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
        return 0;
    bool is_public = (st.st_mode & S_ISVTX) != 0;
    const struct blob_record r = {
        .size_bytes = (uint64_t)st.st_size,
        .origin = is_public ? BLOB_PUBLIC : BLOB_PRIVATE,
        .stored_at_s = st.st_mtim.tv_sec,
        .used_at_s = used_at(b, &st),
    };
    int err = blob_put(b->txn, d, &r);

    b->result->blobs++;
    b->result->bytes += r.size_bytes;
    b->result->public_blobs += is_public;
    if (err == 0 && may_be_manifest(dir_fd, name, r.size_bytes))
        err = take_manifest(b, d, r.size_bytes);
    return err == 0 ? step(b) : err;
}

struct files {
    struct builder *builder;
    enum digest_alg alg;
};

static int take_name(void *arg, const char *name)
{
    const struct files *f = arg;
    struct digest d;

    if (!store_blob_digest(f->alg, name, &d))
        return 0;
    return take_file(f->builder, store_blobs_fd(f->builder->store, f->alg), name, &d);
}

static int take_folder(struct builder *b, enum digest_alg alg)
{
    struct files f = {b, alg};

    return folder_walk(store_blobs_fd(b->store, alg), take_name, &f);
}

/* --- manifests --- */

/* Of the type that is said, or else of the one that its bytes say. ERR_NOT_FOUND when it is
 * not there, or not right. */
static int load(struct builder *b, const struct digest *d, const char *media_type,
                struct manifest **m, struct blob_record *r)
{
    char why[256];
    char *data;
    int err = blob_get(b->txn, d, r);

    if (err != 0)
        return err == ERR_DAMAGED ? ERR_NOT_FOUND : err;
    /* One that the disk cannot read is no reason to do without all others. */
    if (r->size_bytes > MANIFEST_SIZE_MAX || blob_read(b->store, d, r->size_bytes, &data) != 0)
        return ERR_NOT_FOUND;
    err = manifest_parse(m, media_type, data, r->size_bytes, why, sizeof why);
    free(data);
    return err != 0 ? ERR_NOT_FOUND : 0;
}

/* A file that was cut is as if it were not there. It is the file that decides: whoever may
 * write a manifest may say any size in it. */
static int check_size(struct builder *b, const struct descriptor *child)
{
    struct blob_record r;
    struct file_id id;
    int err = blob_get(b->txn, &child->digest, &r);

    if (err != 0)
        return err;
    if (r.size_bytes == child->size_bytes ||
        verify_blob(b->store, &child->digest, r.size_bytes, NULL, NULL, &id) == 0)
        return 0;
    err = blob_forget(b->txn, &child->digest);
    return err == 0 ? ERR_NOT_FOUND : err;
}

/* What is linked in a local repository was pushed, unless it is public. */
static int set_pushed(struct builder *b, const struct digest *d)
{
    struct blob_record r;
    int err = blob_get(b->txn, d, &r);

    if (err != 0 || r.origin == BLOB_PUBLIC)
        return err;
    /* The more open origin stays where there is a record. */
    err = blob_forget(b->txn, d);
    r.origin = BLOB_PUSHED;
    return err == 0 ? blob_put(b->txn, d, &r) : err;
}

static int link_child(struct builder *b, const struct name *n, const struct descriptor *child)
{
    int err = check_size(b, child);

    if (err != 0)
        return err == ERR_NOT_FOUND ? 0 : err;
    if (child->role == CHILD_MANIFEST || media_type_is_foreign(child->media_type))
        return 0;
    err = set_pushed(b, &child->digest);
    return err == 0 ? link_put(b->txn, n, &child->digest, b->now_s) : err;
}

static int take_local(struct builder *b, const struct name *n, const struct digest *d,
                      const struct manifest *m, const struct blob_record *r)
{
    const struct repository_record repository = {REPOSITORY_LOCAL, b->now_s};
    int err = manifest_put(b->txn, n, d, m, BLOB_PUSHED, r->size_bytes, b->now_s);

    if (err == 0)
        err = set_pushed(b, d);
    if (err == 0)
        err = repository_put(b->txn, n, &repository);
    for (unsigned i = 0; err == 0 && i < manifest_child_count(m); i++)
        err = link_child(b, n, manifest_child(m, i));
    return err;
}

static int take_upstream(struct builder *b, const struct name *n, const struct digest *d,
                         const struct manifest *m, const struct blob_record *r, unsigned depth);

/* That an index names a manifest does not show that the repository has it. */
static int take_child(struct builder *b, const struct name *n, const struct descriptor *child,
                      unsigned depth)
{
    struct blob_record r;
    struct manifest *m;
    int err = check_size(b, child);

    if (err != 0 || child->role != CHILD_MANIFEST || depth == MANIFEST_DEPTH_MAX)
        return err == ERR_NOT_FOUND ? 0 : err;
    err = load(b, &child->digest, child->media_type, &m, &r);
    if (err != 0)
        return err == ERR_NOT_FOUND ? 0 : err;
    if (r.origin == BLOB_PUBLIC)
        err = take_upstream(b, n, &child->digest, m, &r, depth + 1);
    manifest_free(&m);
    return err;
}

static int take_upstream(struct builder *b, const struct name *n, const struct digest *d,
                         const struct manifest *m, const struct blob_record *r, unsigned depth)
{
    int err = manifest_put(b->txn, n, d, m, r->origin, r->size_bytes, b->now_s);

    for (unsigned i = 0; err == 0 && i < manifest_child_count(m); i++)
        err = take_child(b, n, manifest_child(m, i), depth);
    return err;
}

/* --- index.json --- */

static int put_tag(struct builder *b, const struct layout_entry *e)
{
    struct tag_record tag = {.digest = e->digest, .size_bytes = e->size_bytes};
    struct pin pin = {.pinned_at_s = b->now_s};

    if (e->tag[0] == '\0')
        return 0;
    b->result->tags++;
    memcpy(tag.media_type, e->media_type, sizeof tag.media_type);
    int err = tag_put(b->txn, &e->name, e->tag, &tag);

    if (err != 0 || !e->is_pinned || strlen(e->pinned_by) >= sizeof pin.owner)
        return err;
    pin.reference.name = e->name;
    memcpy(pin.reference.tag, e->tag, sizeof pin.reference.tag);
    memcpy(pin.owner, e->pinned_by, strlen(e->pinned_by) + 1);
    return pin_put(b->txn, &pin);
}

static int take_entry(void *arg, const struct layout_entry *e)
{
    struct builder *b = arg;
    struct blob_record r;
    struct manifest *m;

    int err = load(b, &e->digest, e->media_type, &m, &r);

    if (err == ERR_NOT_FOUND) {
        b->result->lost_tags += e->tag[0] != '\0';
        return 0;
    }
    if (err != 0)
        return err;
    err = name_is_local(&e->name) ? take_local(b, &e->name, &e->digest, m, &r)
                                  : take_upstream(b, &e->name, &e->digest, m, &r, 0);

    manifest_free(&m);
    if (err == 0)
        err = put_tag(b, e);
    return err == 0 ? step(b) : err;
}

static int take_index_json(struct builder *b)
{
    int err = layout_read_index(b->store, &b->result->index_json_at_s, take_entry, b);

    b->result->has_index_json = err == 0;
    return err == ERR_NOT_FOUND ? 0 : err;
}

int rebuild_index(struct store *s, int64_t now_s, struct rebuild *r)
{
    struct builder b = {.store = s, .result = r, .now_s = now_s};

    *r = (struct rebuild){0};
    int err = db_write(store_db(s), &b.txn);

    if (err == 0)
        err = take_folder(&b, DIGEST_SHA256);
    if (err == 0)
        err = take_folder(&b, DIGEST_SHA512);
    if (err == 0)
        err = take_index_json(&b);
    return end(&b, err);
}
