/* SPDX-License-Identifier: ISC */
#include "cache/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/beneath.h"
#include "cache/clients.h"
#include "cache/err.h"
#include "cache/loss.h"
#include "cache/record.h"
#include "cache/room.h"
#include "cache/tempfile.h"
#include "cache/usage.h"

#define BLOB_RECORD_VERSION 1
#define BLOB_RECORD_MAX 32

static int decode(struct db_value value, struct blob_record *r)
{
    struct record_in in;

    record_open(&in, value, BLOB_RECORD_VERSION);
    r->size_bytes = record_get_u64(&in);
    r->origin = (enum blob_origin)record_get_u8(&in);
    r->stored_at_s = record_get_i64(&in);
    r->used_at_s = record_get_i64(&in);
    record_require(&in, r->size_bytes <= INT64_MAX);
    record_require(&in, r->origin >= BLOB_PUBLIC && r->origin <= BLOB_PUSHED);
    return record_close(&in);
}

int blob_get(struct db_txn *txn, const struct digest *d, struct blob_record *r)
{
    uint8_t key[DIGEST_KEY_MAX];
    struct db_value value;
    int err = db_get(txn, DB_BLOBS, key, digest_to_key(d, key), &value);

    return err != 0 ? err : decode(value, r);
}

/* Before a record is written; `old` is the one that is there, if any. */
static int count_change(struct db_txn *txn, const struct digest *d, const struct blob_record *old,
                        uint64_t size_bytes)
{
    int err = 0;

    if (old != NULL && old->size_bytes == size_bytes)
        return 0;
    if (old != NULL)
        err = usage_remove_blob(txn, old->size_bytes);
    if (err == 0)
        err = usage_add_blob(txn, size_bytes);
    return err == 0 ? usage_left(txn, d) : err;
}

int blob_put(struct db_txn *txn, const struct digest *d, const struct blob_record *r)
{
    uint8_t key[DIGEST_KEY_MAX];
    uint8_t buf[BLOB_RECORD_MAX];
    struct record_out out;
    struct blob_record old;
    enum blob_origin origin = r->origin;

    int err = blob_get(txn, d, &old);

    if (err != 0 && err != ERR_NOT_FOUND && err != ERR_DAMAGED)
        return err;
    if (err == 0 && old.origin < origin)
        origin = old.origin;
    bool is_new = err != 0;

    err = count_change(txn, d, is_new ? NULL : &old, r->size_bytes);
    if (err == 0 && is_new)
        err = loss_forget(txn, d);
    if (err != 0)
        return err;
    record_start(&out, buf, sizeof buf, BLOB_RECORD_VERSION);
    record_put_u64(&out, r->size_bytes);
    record_put_u8(&out, (uint8_t)origin);
    record_put_i64(&out, r->stored_at_s);
    record_put_i64(&out, r->used_at_s);
    CHECK(record_finish(&out) == 0);
    return db_put(txn, DB_BLOBS, key, digest_to_key(d, key), buf, out.len);
}

int blob_forget(struct db_txn *txn, const struct digest *d)
{
    uint8_t key[DIGEST_KEY_MAX];
    struct blob_record old;
    int err = blob_get(txn, d, &old);

    if (err == 0)
        err = usage_remove_blob(txn, old.size_bytes);
    if (err != 0 && err != ERR_DAMAGED)
        return err;
    err = clients_forget(txn, d);
    return err != 0 ? err : db_delete(txn, DB_BLOBS, key, digest_to_key(d, key));
}

int blob_touch(struct db_txn *txn, const struct digest *d, int64_t now_s)
{
    struct blob_record r;
    int64_t idle_s;
    int err = blob_get(txn, d, &r);

    if (err != 0)
        return err == ERR_NOT_FOUND ? 0 : err;
    if (!__builtin_sub_overflow(now_s, r.used_at_s, &idle_s) && idle_s <= BLOB_TOUCH_S)
        return 0;
    r.used_at_s = now_s;
    return blob_put(txn, d, &r);
}

int blob_release(struct db_txn *txn, const struct digest *d)
{
    struct blob_record r;
    int err = blob_get(txn, d, &r);

    if (err != 0 || blob_is_released(&r))
        return err == ERR_NOT_FOUND || err == ERR_DAMAGED ? 0 : err;
    r.used_at_s = 0;
    return blob_put(txn, d, &r);
}

bool blob_is_released(const struct blob_record *r)
{
    return r->used_at_s == 0;
}

struct walk {
    blob_visit *visit;
    void *arg;
};

static int visit_record(void *arg, struct db_value key, struct db_value value)
{
    const struct walk *w = arg;
    struct blob_record r;
    struct digest d;

    if (digest_from_key(&d, key.data, key.size) != (int)key.size || decode(value, &r) != 0)
        return 0;
    return w->visit(w->arg, &d, &r);
}

int blob_walk(struct db_txn *txn, const struct digest *after, blob_visit *visit, void *arg)
{
    uint8_t from[DIGEST_KEY_MAX + 1];
    struct walk w = {visit, arg};
    size_t len = 0;

    /* The NUL makes it the first key after that of `after`. */
    if (after != NULL) {
        len = digest_to_key(after, from);
        from[len++] = 0;
    }
    return db_walk(txn, DB_BLOBS, NULL, 0, from, len, visit_record, &w);
}

/* O_NONBLOCK, for a fifo put there by hand would block the open. beneath_open would say the
 * same of a name that is hex, and cost each hit three per cent more. */
int blob_open(struct store *s, const struct digest *d, uint64_t size_bytes, int *fd)
{
    char name[DIGEST_TEXT_MAX];
    struct stat st;
    int opened = openat(store_blobs_fd(s, d->alg), store_blob_name(d, name),
                        O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (opened < 0)
        return errno == ENOENT || errno == ELOOP ? ERR_MISMATCH : err_from_errno(errno);
    if (fstat(opened, &st) != 0) {
        int err = err_from_errno(errno);

        close(opened);
        return err;
    }
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != size_bytes) {
        close(opened);
        return ERR_MISMATCH;
    }
    *fd = opened;
    return 0;
}

int blob_check(struct store *s, const struct digest *d, uint64_t size_bytes)
{
    int fd = -1;
    int err = blob_open(s, d, size_bytes, &fd);

    if (err == 0)
        close(fd);
    return err;
}

void blob_mark_public(struct store *s, const struct digest *d)
{
    char name[DIGEST_TEXT_MAX];
    struct stat st;
    int fd = beneath_open(store_blobs_fd(s, d->alg), store_blob_name(d, name),
                          O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);

    if (fd < 0)
        return;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & S_ISVTX) == 0)
        (void)fchmod(fd, (st.st_mode & 07777) | S_ISVTX);
    close(fd);
}

bool blob_is_marked_public(struct store *s, const struct digest *d)
{
    char name[DIGEST_TEXT_MAX];
    struct stat st;

    return fstatat(store_blobs_fd(s, d->alg), store_blob_name(d, name), &st, AT_SYMLINK_NOFOLLOW) ==
               0 &&
           S_ISREG(st.st_mode) && (st.st_mode & S_ISVTX) != 0;
}

static int read_all(int fd, char *out, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(fd, out + done, len - done, (off_t)done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? err_from_errno(errno) : ERR_MISMATCH;
        done += (size_t)n;
    }
    return 0;
}

int blob_read(struct store *s, const struct digest *d, uint64_t size_bytes, char **data)
{
    struct digest found;
    int fd = -1;
    int err = blob_open(s, d, size_bytes, &fd);

    if (err != 0)
        return err;
    char *read = mem_new(size_bytes + 1);

    err = read_all(fd, read, size_bytes);
    close(fd);
    if (err == 0) {
        digest_of((enum digest_alg)d->alg, read, size_bytes, &found);
        err = digest_equal(&found, d) ? 0 : ERR_MISMATCH;
    }
    if (err == 0)
        *data = read;
    else
        free(read);
    return err;
}

int blob_unlink(struct store *s, const struct digest *d)
{
    char name[DIGEST_TEXT_MAX];

    if (unlinkat(store_blobs_fd(s, d->alg), store_blob_name(d, name), 0) != 0 && errno != ENOENT)
        return err_from_errno(errno);
    return 0;
}

int blob_write(struct store *s, const struct digest *d, const void *data, size_t len)
{
    char name[DIGEST_TEXT_MAX];
    struct tempfile t;
    int err = room_has(store_room(s), len) ? tempfile_open(&t, store_partial_fd(s)) : ERR_NO_SPACE;

    if (err == ERR_NO_SPACE)
        room_refused(store_room(s), len);
    if (err != 0)
        return err;
    err = file_write(t.fd, data, len, 0);
    if (err != 0) {
        tempfile_discard(&t);
        return err;
    }
    return tempfile_publish(&t, store_blobs_fd(s, d->alg), store_blob_name(d, name));
}

int blob_restore(struct store *s, const struct digest *d, const void *data, size_t len)
{
    int err = blob_check(s, d, len);

    return err == ERR_MISMATCH ? blob_write(s, d, data, len) : err;
}
