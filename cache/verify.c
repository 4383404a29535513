/* SPDX-License-Identifier: ISC */
#include "cache/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "cache/beneath.h"
#include "cache/blob.h"
#include "cache/err.h"

#define READ_BYTES (1024u * 1024)
/* What disks and file systems want of O_DIRECT, at most. */
#define ALIGNMENT 4096

struct reading {
    int fd;
    bool is_direct;
    void *buf;
};

/* Without O_DIRECT, which some file systems do not have: what is in memory is read from
 * there and stays, and what was not is let go of again. */
static ssize_t read_cached(const struct reading *r, off_t at)
{
    struct iovec v = {r->buf, READ_BYTES};
    ssize_t n = preadv2(r->fd, &v, 1, at, RWF_NOWAIT);

    if (n == READ_BYTES)
        return n;
    n = pread(r->fd, r->buf, READ_BYTES, at);
    if (n > 0)
        (void)posix_fadvise(r->fd, at, n, POSIX_FADV_DONTNEED);
    return n;
}

static ssize_t read_part(struct reading *r, off_t at)
{
    ssize_t n;

    do
        n = r->is_direct ? pread(r->fd, r->buf, READ_BYTES, at) : read_cached(r, at);
    while (n < 0 && errno == EINTR);
    if (n >= 0 || errno != EINVAL || !r->is_direct)
        return n;
    /* It took the flag and does not keep to it. */
    r->is_direct = false;
    (void)fcntl(r->fd, F_SETFL, 0);
    return read_part(r, at);
}

static int hash_file(struct reading *r, const struct digest *d, uint64_t size_bytes,
                     verify_pace *pace, void *arg)
{
    struct hash *h = hash_new((enum digest_alg)d->alg);
    struct digest found;
    uint64_t at = 0;
    int err = 0;

    while (err == 0 && at < size_bytes) {
        ssize_t n = read_part(r, (off_t)at);

        if (n <= 0) {
            /* Cut short while it was read, or EIO. */
            err = n == 0 ? ERR_MISMATCH : ERR_IO;
            break;
        }
        hash_update(h, r->buf, (size_t)n);
        at += (uint64_t)n;
        err = pace != NULL ? pace(arg, (uint64_t)n) : 0;
    }
    hash_final(&h, &found);
    if (err != 0)
        return err;
    return digest_equal(&found, d) && at == size_bytes ? 0 : ERR_DAMAGED;
}

static int file_open(int dir_fd, const char *name, struct reading *r, struct stat *st)
{
    static const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOATIME;

    r->is_direct = true;
    r->fd = beneath_open(dir_fd, name, flags | O_DIRECT, 0);
    if (r->fd < 0 && (errno == EINVAL || errno == EPERM)) {
        /* Not every file system has it; O_NOATIME is for the owner. */
        r->is_direct = false;
        r->fd = beneath_open(dir_fd, name, flags & ~O_NOATIME, 0);
    }
    if (r->fd < 0)
        return errno == ENOENT || errno == ELOOP ? ERR_MISMATCH : err_from_errno(errno);
    if (fstat(r->fd, st) == 0 && S_ISREG(st->st_mode))
        return 0;
    close(r->fd);
    return ERR_MISMATCH;
}

int verify_file(int dir_fd, const char *name, const struct digest *d, verify_pace *pace, void *arg,
                struct file_id *id, uint64_t *size_bytes)
{
    struct reading r = {0};
    struct stat st = {0};
    int err = file_open(dir_fd, name, &r, &st);

    if (err != 0)
        return err;
    *id = (struct file_id){st.st_dev, st.st_ino};
    if (*size_bytes != UINT64_MAX && *size_bytes != (uint64_t)st.st_size) {
        close(r.fd);
        return ERR_MISMATCH;
    }
    *size_bytes = (uint64_t)st.st_size;
    CHECK(posix_memalign(&r.buf, ALIGNMENT, READ_BYTES) == 0);
    err = hash_file(&r, d, *size_bytes, pace, arg);
    free(r.buf);
    close(r.fd);
    return err;
}

int verify_blob(struct store *s, const struct digest *d, uint64_t size_bytes, verify_pace *pace,
                void *arg, struct file_id *id)
{
    char name[DIGEST_TEXT_MAX];

    return verify_file(store_blobs_fd(s, (enum digest_alg)d->alg), store_blob_name(d, name), d,
                       pace, arg, id, &size_bytes);
}

bool verify_is_same(struct store *s, const struct digest *d, uint64_t size_bytes,
                    const struct file_id *id)
{
    char name[DIGEST_TEXT_MAX];
    struct stat st;

    if (id->number == 0)
        return blob_check(s, d, size_bytes) == ERR_MISMATCH;
    return fstatat(store_blobs_fd(s, (enum digest_alg)d->alg), store_blob_name(d, name), &st,
                   AT_SYMLINK_NOFOLLOW) == 0 &&
           st.st_dev == id->device && st.st_ino == id->number;
}
