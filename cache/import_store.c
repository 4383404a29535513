/* SPDX-License-Identifier: ISC */
/* The contents of an import: hashed as they come, kept in partial/ until all is well. */
#include "cache/import_private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/beneath.h"
#include "cache/digest_map.h"
#include "cache/err.h"
#include "cache/tempfile.h"

/* In partial/, after STORE_IMPORT_PREFIX: the lock, and what is not verified. */
#define LOCK_NAME STORE_IMPORT_PREFIX "lock"
#define NEW_PREFIX STORE_IMPORT_PREFIX "new-"
#define NAME_SIZE (sizeof STORE_IMPORT_PREFIX + DIGEST_TEXT_MAX)
/* So much is written before the disk is asked to begin. */
#define FLUSH_BYTES (8u * 1024 * 1024)

struct import_writer {
    struct digest digest; /* alg 0: it is not known */
    struct import_content content;
    struct hash *hash;
    uint64_t have_bytes;
    uint64_t flushed_bytes;
    int fd; /* -1: not written */
    char name[NAME_SIZE];
    bool is_spooled;
};

static char *verified_name(const struct digest *d, char out[NAME_SIZE])
{
    char text[DIGEST_TEXT_MAX];

    snprintf(out, NAME_SIZE, "%s%s", STORE_IMPORT_PREFIX, store_partial_name(d, text));
    return out;
}

static int partial_dir(const struct import *i)
{
    return store_partial_fd(i->settings.store);
}

static bool has_file(int dir_fd, const char *name, uint64_t size_bytes)
{
    struct stat st;

    return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
           (uint64_t)st.st_size == size_bytes;
}

/* --- the lock --- */

static int remove_half_done(void *arg, const char *name)
{
    const struct import *i = arg;

    if (strncmp(name, NEW_PREFIX, sizeof NEW_PREFIX - 1) == 0)
        unlinkat(partial_dir(i), name, 0);
    return 0;
}

int import_lock(struct import *i)
{
    i->lock_fd = openat(partial_dir(i), LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (i->lock_fd < 0)
        return import_fail(i, err_from_errno(errno), "%s/partial cannot be written: %s",
                           store_path(i->settings.store), strerror(errno));
    int err = file_give(i->lock_fd, partial_dir(i));
    if (err != 0)
        return import_fail(i, err, "a file in %s/partial cannot be given to its owner: %s",
                           store_path(i->settings.store), err_text(err));
    if (flock(i->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return import_fail(i, ERR_BUSY,
                           "another import into %s is under way; wait until it is done",
                           store_path(i->settings.store));
    err = partial_walk_files(i->settings.store, remove_half_done, i);
    return err == 0 ? 0
                    : import_fail(i, err, "%s/partial cannot be listed: %s",
                                  store_path(i->settings.store), err_text(err));
}

/* --- what is there --- */

struct import_content *import_find(const struct import *i, const struct digest *d)
{
    size_t number;

    return digest_map_find(i->numbers, d, &number) ? &i->contents[number] : NULL;
}

int import_held(const struct import *i, const struct digest *d, struct blob_record *r)
{
    struct db_txn *txn;
    int fd;

    if (i->reader == NULL)
        return ERR_NOT_FOUND;
    int err = db_read(i->reader, &txn);
    if (err != 0)
        return err;
    err = blob_get(txn, d, r);
    db_read_end(i->reader);
    if (err == 0)
        err = blob_open(i->settings.store, d, r->size_bytes, &fd);
    if (err == 0)
        close(fd);
    return err == ERR_MISMATCH || err == ERR_DAMAGED ? ERR_NOT_FOUND : err;
}

/* Whether it need not be written, and where it is then. */
static bool find_place(struct import *i, const struct digest *d, struct import_content *c)
{
    char name[NAME_SIZE];
    struct blob_record r;

    if (i->settings.store == NULL)
        return false;
    c->was_held = import_held(i, d, &r) == 0 && r.size_bytes == c->size_bytes;
    /* A file without a record may be one that went bad: what comes takes its place. */
    if (c->was_held)
        c->place = PLACE_BLOBS;
    else if (!i->settings.verify_only &&
             has_file(partial_dir(i), verified_name(d, name), c->size_bytes))
        c->place = PLACE_PARTIAL;
    return c->place != PLACE_NOWHERE;
}

static int fail_write(struct import *i, int err)
{
    if (err == ERR_NO_SPACE)
        i->is_refused = true;
    return import_fail(
        i, err, "%s/partial cannot be written: %s%s", store_path(i->settings.store), err_text(err),
        err == ERR_NO_SPACE ? "; make room, then import again: nothing was changed" : "");
}

/* --- arriving --- */

static int create_file(struct import *i, struct import_writer *w)
{
    uint64_t number;

    if (i->settings.need_room != NULL &&
        i->settings.need_room(i->settings.arg, w->content.size_bytes) != 0)
        return fail_write(i, ERR_NO_SPACE);
    CHECK(getrandom(&number, sizeof number, 0) == (ssize_t)sizeof number);
    snprintf(w->name, sizeof w->name, "%s%016" PRIx64, NEW_PREFIX, number);
    w->fd = beneath_open(partial_dir(i), w->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (w->fd < 0)
        return fail_write(i, err_from_errno(errno));
    int err = file_give(w->fd, partial_dir(i));
    if (err != 0)
        return fail_write(i, err);
    /* A disk that is too full says so before all was written. */
    if (w->content.size_bytes > 0 &&
        fallocate(w->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)w->content.size_bytes) != 0 &&
        (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
        return fail_write(i, ERR_NO_SPACE);
    return 0;
}

int import_begin(struct import *i, const struct digest *d, uint64_t size_bytes,
                 struct import_writer **w)
{
    struct import_writer *begun = mem_new(sizeof *begun);
    enum digest_alg alg = d != NULL ? (enum digest_alg)d->alg : DIGEST_SHA256;
    int err = 0;

    begun->fd = -1;
    begun->content.size_bytes = size_bytes;
    begun->hash = hash_new(alg);
    if (d != NULL)
        begun->digest = *d;
    bool is_there = d != NULL && find_place(i, d, &begun->content);
    if (!is_there && i->settings.verify_only)
        begun->is_spooled = size_bytes <= MANIFEST_SIZE_MAX;
    else if (!is_there)
        err = create_file(i, begun);
    begun->content.spool_offset = i->spool_bytes;
    *w = begun;
    if (err != 0)
        import_drop(i, w);
    return err;
}

/* Of what is only verified, what may be a manifest is kept at hand. */
static int add_to_spool(struct import *i, struct import_writer *w, const void *data, size_t len)
{
    if (w->have_bytes == 0 && w->content.head[0] != '{' && w->content.head[0] != ' ' &&
        w->content.head[0] != '\n') {
        w->is_spooled = false;
        return 0;
    }
    int err = file_write(i->spool_fd, data, len, w->content.spool_offset + (off_t)w->have_bytes);

    w->content.place = PLACE_SPOOL;
    return err == 0 ? 0
                    : import_fail(i, err, "a temporary file cannot be written: %s", err_text(err));
}

int import_add(struct import *i, struct import_writer *w, const void *data, size_t len)
{
    int err = 0;

    if (len == 0)
        return 0;
    for (uint64_t at = w->have_bytes; at < sizeof w->content.head && at - w->have_bytes < len; at++)
        w->content.head[at] = ((const uint8_t *)data)[at - w->have_bytes];
    hash_update(w->hash, data, len);
    if (w->is_spooled) {
        err = add_to_spool(i, w, data, len);
    } else if (w->fd >= 0) {
        err = file_write(w->fd, data, len, (off_t)w->have_bytes);
        err = err != 0 ? fail_write(i, err) : 0;
    }
    if (err != 0)
        return err;
    w->have_bytes += len;
    if (w->fd >= 0 && w->have_bytes - w->flushed_bytes >= FLUSH_BYTES) {
        (void)sync_file_range(w->fd, (off_t)w->flushed_bytes,
                              (off_t)(w->have_bytes - w->flushed_bytes), SYNC_FILE_RANGE_WRITE);
        w->flushed_bytes = w->have_bytes;
    }
    return 0;
}

/* The file is whole: it gets the name under which another import would find it. */
static int keep_file(struct import *i, struct import_writer *w)
{
    char name[NAME_SIZE];
    int err = file_sync(w->fd);

    if (err != 0)
        return fail_write(i, err);
    if (renameat(partial_dir(i), w->name, partial_dir(i), verified_name(&w->digest, name)) != 0)
        return fail_write(i, err_from_errno(errno));
    w->name[0] = '\0';
    w->content.place = PLACE_PARTIAL;
    return 0;
}

static int note_content(struct import *i, const struct digest *d, const struct import_content *c,
                        size_t *number)
{
    size_t count = digest_map_count(i->numbers);

    if (digest_map_find(i->numbers, d, number))
        return 0;
    if (count == IMPORT_CONTENTS_MAX)
        return import_fail(i, ERR_TOO_LARGE, "%s has more than %u contents", i->label,
                           IMPORT_CONTENTS_MAX);
    if (count == i->contents_room) {
        i->contents_room = count == 0 ? 64 : count * 2;
        i->contents = mem_resize(i->contents, i->contents_room * sizeof *c);
    }
    CHECK(i->contents != NULL && digest_map_add(i->numbers, d, number));
    i->contents[count] = *c;
    i->carried_bytes += c->size_bytes;
    return 0;
}

int import_end(struct import *i, struct import_writer **wp, size_t *number)
{
    struct import_writer *w = *wp;
    char said[DIGEST_TEXT_MAX];
    char text[DIGEST_TEXT_MAX];
    struct digest found;
    int err = 0;

    CHECK(w->have_bytes == w->content.size_bytes);
    hash_final(&w->hash, &found);
    if (w->digest.alg != 0 && !digest_equal(&found, &w->digest)) {
        err = import_fail(i, ERR_MISMATCH, "%s: what is under %s has the digest %s", i->label,
                          digest_text(&w->digest, said), digest_text(&found, text));
    } else if (w->digest.alg == 0) {
        w->digest = found;
        /* Now it is known, and may be there. */
        if (import_find(i, &found) != NULL || find_place(i, &found, &w->content))
            goto note;
    }
    if (err == 0 && w->fd >= 0)
        err = keep_file(i, w);
    if (w->is_spooled)
        i->spool_bytes += (off_t)w->have_bytes;
note:
    if (err == 0)
        err = note_content(i, &w->digest, &w->content, number);
    import_drop(i, wp);
    return err;
}

void import_drop(struct import *i, struct import_writer **wp)
{
    struct import_writer *w = *wp;

    if (w == NULL)
        return;
    if (w->fd >= 0) {
        close(w->fd);
        if (w->name[0] != '\0')
            unlinkat(partial_dir(i), w->name, 0);
    }
    hash_free(&w->hash);
    free(w);
    *wp = NULL;
}

int import_put(struct import *i, const void *data, size_t len, size_t *number)
{
    struct import_writer *w;
    struct digest d;

    digest_of(DIGEST_SHA256, data, len, &d);
    int err = import_begin(i, &d, len, &w);
    if (err == 0) {
        err = import_add(i, w, data, len);
        if (err == 0)
            err = import_end(i, &w, number);
        else
            import_drop(i, &w);
    }
    return err;
}

/* --- reading back --- */

static int open_content(struct import *i, const struct digest *d, const struct import_content *c,
                        int *fd, off_t *offset)
{
    char name[NAME_SIZE];

    *offset = 0;
    switch (c->place) {
    case PLACE_SPOOL:
        *fd = fcntl(i->spool_fd, F_DUPFD_CLOEXEC, 0);
        *offset = c->spool_offset;
        break;
    case PLACE_PARTIAL:
        *fd = beneath_open(partial_dir(i), verified_name(d, name), O_RDONLY | O_CLOEXEC, 0);
        break;
    case PLACE_BLOBS:
        return blob_open(i->settings.store, d, c->size_bytes, fd);
    case PLACE_NOWHERE:
        return ERR_INVALID;
    }
    return *fd >= 0 ? 0 : err_from_errno(errno);
}

int import_load(struct import *i, const struct digest *d, size_t max_bytes, char **data,
                size_t *len)
{
    const struct import_content *c = import_find(i, d);
    struct import_content held = {.place = PLACE_BLOBS};
    struct blob_record r;
    int fd;
    off_t offset;
    int err = 0;

    if (c == NULL) {
        err = import_held(i, d, &r);
        if (err != 0)
            return err;
        held.size_bytes = r.size_bytes;
        c = &held;
    }
    if (c->size_bytes > max_bytes)
        return ERR_TOO_LARGE;
    err = open_content(i, d, c, &fd, &offset);
    if (err != 0)
        return err;
    *len = (size_t)c->size_bytes;
    *data = mem_resize(NULL, *len + 1);
    ssize_t n = pread(fd, *data, *len, offset);
    close(fd);
    if (n == (ssize_t)*len)
        return 0;
    free(*data);
    *data = NULL;
    return n < 0 ? err_from_errno(errno) : ERR_MISMATCH;
}

/* --- the end --- */

static int publish_content(struct import *i, const struct digest *d)
{
    struct store *s = i->settings.store;
    char from[NAME_SIZE];
    char to[DIGEST_TEXT_MAX];
    int blobs_fd = store_blobs_fd(s, (enum digest_alg)d->alg);

    if (renameat(partial_dir(i), verified_name(d, from), blobs_fd, store_blob_name(d, to)) == 0)
        return 0;
    return import_fail(i, err_from_errno(errno), "%s cannot be renamed into %s/blobs: %s", from,
                       store_path(s), strerror(errno));
}

int import_publish(struct import *i)
{
    struct store *s = i->settings.store;
    size_t count = digest_map_count(i->numbers);
    int err = 0;

    for (size_t k = 0; err == 0 && k < count; k++) {
        struct import_content *c = &i->contents[k];

        if (!c->is_needed || c->place != PLACE_PARTIAL)
            continue;
        err = publish_content(i, digest_map_at(i->numbers, k));
        if (err == 0)
            c->place = PLACE_BLOBS;
    }
    if (err == 0 && (file_sync(store_blobs_fd(s, DIGEST_SHA256)) != 0 ||
                     file_sync(store_blobs_fd(s, DIGEST_SHA512)) != 0))
        err = import_fail(i, ERR_IO, "%s/blobs cannot be synced", store_path(s));
    return err;
}

void import_sweep(struct import *i)
{
    char name[NAME_SIZE];
    size_t count = digest_map_count(i->numbers);

    /* What no image needs is of no use the next time, either. */
    for (size_t k = 0; k < count; k++) {
        const struct import_content *c = &i->contents[k];

        if (c->place == PLACE_PARTIAL && (i->is_refused || i->is_published))
            unlinkat(partial_dir(i), verified_name(digest_map_at(i->numbers, k), name), 0);
    }
    if (i->lock_fd >= 0)
        close(i->lock_fd);
    i->lock_fd = -1;
}
