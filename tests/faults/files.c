/* SPDX-License-Identifier: ISC */
/* The calls on files. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shim.h"

/* --- bytes --- */

/* A write of the vector at an offset; -1: where the file is. */
static ssize_t write_parts(int fd, const struct iovec *parts, int count, off_t offset)
{
    bool recorded = record_begin(is_ours(fd));
    off_t at = offset < 0 && recorded ? lseek(fd, 0, SEEK_CUR) : offset;
    ssize_t done = offset < 0 ? to_kernel(SYS_writev, fd, parts, count)
                              : to_kernel(SYS_pwritev, fd, parts, count, offset, 0L);

    if (recorded) {
        record_written(fd, parts, count, at, done);
        record_end();
    }
    return done;
}

ssize_t write(int fd, const void *data, size_t len)
{
    if (write_fails(fd, "write", &len)) {
        return -1;
    }
    return write_parts(fd, &(struct iovec){(void *)(uintptr_t)data, len}, 1, -1);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    if (write_fails(fd, "pwrite", &len)) {
        return -1;
    }
    return write_parts(fd, &(struct iovec){(void *)(uintptr_t)data, len}, 1, offset);
}

/* Half of a vector is its first part. */
static ssize_t write_vector(const char *name, int fd, const struct iovec *parts, int count,
                            off_t offset)
{
    size_t left = (size_t)count;

    if (write_fails(fd, name, &left)) {
        return -1;
    }
    return write_parts(fd, parts, (int)left, offset);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return write_vector("writev", fd, parts, count, -1);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    return write_vector("pwritev", fd, parts, count, offset);
}

ssize_t read(int fd, void *data, size_t len)
{
    if (is_ours(fd) && fails_bytes(READ, "read", &len)) {
        return -1;
    }
    return to_kernel(SYS_read, fd, data, len);
}

ssize_t pread(int fd, void *data, size_t len, off_t offset)
{
    if (is_ours(fd) && fails_bytes(READ, "pread", &len)) {
        return -1;
    }
    return to_kernel(SYS_pread64, fd, data, len, offset);
}

ssize_t preadv2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    if (is_ours(fd) && fails(READ, "preadv2")) {
        return -1;
    }
    return to_kernel(SYS_preadv2, fd, parts, count, offset, 0L, flags);
}

ssize_t sendfile(int out, int in, off_t *offset, size_t len)
{
    if (is_ours(in) && fails_bytes(READ, "sendfile", &len)) {
        return -1;
    }
    return to_kernel(SYS_sendfile, out, in, offset, len);
}

/* --- the disk --- */

static int sync_with(long number, const char *name, int fd)
{
    bool ours = is_ours(fd);

    if (ours && fails(SYNC, name)) {
        return -1;
    }
    bool recorded = record_begin(ours);
    int done = (int)to_kernel(number, fd);

    if (recorded) {
        record("sync", inode_of(fd), done, NULL, 0);
        record_end();
    }
    return done;
}

int fsync(int fd)
{
    return sync_with(SYS_fsync, "fsync", fd);
}

int fdatasync(int fd)
{
    return sync_with(SYS_fdatasync, "fdatasync", fd);
}

/* Promises nothing, so it is not recorded. */
int sync_file_range(int fd, off64_t offset, off64_t len, unsigned flags)
{
    if (is_ours(fd) && fails(SYNC, "sync_file_range")) {
        return -1;
    }
    return (int)to_kernel(SYS_sync_file_range, fd, offset, len, flags);
}

int msync(void *at, size_t len, int flags)
{
    if (fails(SYNC, "msync")) {
        return -1;
    }
    return (int)to_kernel(SYS_msync, at, len, flags);
}

int ftruncate(int fd, off_t size)
{
    bool ours = is_ours(fd);

    if (ours && fails(SPACE, "ftruncate")) {
        return -1;
    }
    bool recorded = record_begin(ours);
    int done = (int)to_kernel(SYS_ftruncate, fd, size);

    if (recorded) {
        if (done == 0) {
            record("truncate", inode_of(fd), size, NULL, 0);
        }
        record_end();
    }
    return done;
}

/* With FALLOC_FL_KEEP_SIZE no byte of the file changes, so there is nothing to record. */
int fallocate(int fd, int mode, off_t offset, off_t len)
{
    if (is_ours(fd) && fails(SPACE, "fallocate")) {
        return -1;
    }
    return (int)to_kernel(SYS_fallocate, fd, mode, offset, len);
}

void *mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset)
{
    if (fd >= 0 && is_ours(fd) && fails(MAP, "mmap")) {
        return MAP_FAILED;
    }
    return (void *)to_kernel(SYS_mmap, at, len, protection, flags, fd, offset);
}

/* --- names --- */

static bool is_there(int dir, const char *path)
{
    struct stat st;
    int saved = errno;
    bool is = fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) == 0;

    errno = saved;
    return is;
}

/* openat or openat2; the last two are what follows the path. */
static int open_by(long number, int dir, const char *path, int flags, uintptr_t how, size_t more)
{
    const char *name = number == SYS_openat2 ? "openat2" : "openat";
    bool ours = is_ours_at(dir, path);
    bool makes = ours && (flags & O_CREAT) && !is_there(dir, path);

    if (ours && fails(makes ? MAKE : OPEN, name)) {
        return -1;
    }
    bool recorded = record_begin(makes || (ours && (flags & O_TRUNC)));
    int fd = (int)to_kernel(number, dir, path, how, more);

    if (recorded) {
        if (fd >= 0 && makes) {
            record_names("create", (int64_t)inode_of(fd), dir, path, 0, NULL);
        } else if (fd >= 0) {
            record("truncate", inode_of(fd), 0, NULL, 0);
        }
        record_end();
    }
    return fd;
}

static int open_at(int dir, const char *path, int flags, mode_t mode)
{
    return open_by(SYS_openat, dir, path, flags, (uintptr_t)flags, mode);
}

long syscall(long number, ...)
{
    va_list arguments;
    long a[6];

    va_start(arguments, number);
    for (size_t i = 0; i < sizeof a / sizeof a[0]; i++) {
        a[i] = va_arg(arguments, long);
    }
    va_end(arguments);
    if (number == SYS_openat2) {
        const struct open_how *how = (const void *)a[2];

        return open_by(number, (int)a[0], (const char *)a[1], (int)how->flags, (uintptr_t)a[2],
                       (size_t)a[3]);
    }
    return to_kernel(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static mode_t mode_argument(int flags, va_list *arguments)
{
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(*arguments, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
    va_list arguments;

    va_start(arguments, flags);
    mode_t mode = mode_argument(flags, &arguments);

    va_end(arguments);
    return open_at(AT_FDCWD, path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
    va_list arguments;

    va_start(arguments, flags);
    mode_t mode = mode_argument(flags, &arguments);

    va_end(arguments);
    return open_at(dir, path, flags, mode);
}

int mkdirat(int dir, const char *path, mode_t mode)
{
    bool ours = is_ours_at(dir, path);

    if (ours && fails(MAKE, "mkdirat")) {
        return -1;
    }
    bool recorded = record_begin(ours);
    int done = (int)to_kernel(SYS_mkdirat, dir, path, mode);

    if (recorded) {
        struct stat st;

        if (done == 0 && fstatat(dir, path, &st, 0) == 0) {
            record_names("directory", (int64_t)st.st_ino, dir, path, 0, NULL);
        }
        record_end();
    }
    return done;
}

int mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}

/* `word` in the record, then the paths. */
static int two_names(const char *word, long number, int from_dir, const char *from, int to_dir,
                     const char *to, int flags)
{
    bool ours = is_ours_at(to_dir, to);

    if (ours && fails(RENAME, word)) {
        return -1;
    }
    bool recorded = record_begin(ours);
    int done = (int)to_kernel(number, from_dir, from, to_dir, to, flags);

    if (recorded) {
        if (done == 0) {
            record_names(word, flags, from_dir, from, to_dir, to);
        }
        record_end();
    }
    return done;
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    return two_names("rename", SYS_renameat2, from_dir, from, to_dir, to, (int)flags);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    return renameat2(from_dir, from, to_dir, to, 0);
}

int rename(const char *from, const char *to)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    return two_names("link", SYS_linkat, from_dir, from, to_dir, to, flags);
}

int unlinkat(int dir, const char *path, int flags)
{
    bool ours = is_ours_at(dir, path);

    if (ours && fails(REMOVE, "unlinkat")) {
        return -1;
    }
    bool recorded = record_begin(ours);
    int done = (int)to_kernel(SYS_unlinkat, dir, path, flags);

    if (recorded) {
        if (done == 0) {
            record_names("remove", flags, dir, path, 0, NULL);
        }
        record_end();
    }
    return done;
}

int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

/* --- other names of the same on machines whose off_t was once smaller --- */

#define ALIAS(type, name, of, ...) type name(__VA_ARGS__) __attribute__((alias(#of)))
ALIAS(int, open64, open, const char *, int, ...);
ALIAS(int, openat64, openat, int, const char *, int, ...);
ALIAS(ssize_t, pread64, pread, int, void *, size_t, off64_t);
ALIAS(ssize_t, pwrite64, pwrite, int, const void *, size_t, off64_t);
ALIAS(ssize_t, pwritev64, pwritev, int, const struct iovec *, int, off64_t);
ALIAS(ssize_t, preadv64v2, preadv2, int, const struct iovec *, int, off64_t, int);
ALIAS(ssize_t, sendfile64, sendfile, int, int, off64_t *, size_t);
ALIAS(int, ftruncate64, ftruncate, int, off64_t);
ALIAS(int, fallocate64, fallocate, int, int, off64_t, off64_t);
ALIAS(void *, mmap64, mmap, void *, size_t, int, int, int, off64_t);

/* And of those that check a size that the compiler knew. */
ssize_t __read_chk(int fd, void *data, size_t len, size_t size);
ssize_t __read_chk(int fd, void *data, size_t len, size_t size)
{
    return len <= size ? read(fd, data, len) : -1;
}

ssize_t __pread_chk(int fd, void *data, size_t len, off_t offset, size_t size);
ssize_t __pread_chk(int fd, void *data, size_t len, off_t offset, size_t size)
{
    return len <= size ? pread(fd, data, len, offset) : -1;
}

ALIAS(ssize_t, __pread64_chk, __pread_chk, int, void *, size_t, off64_t, size_t);

int __open_2(const char *path, int flags);
int __open_2(const char *path, int flags)
{
    return open_at(AT_FDCWD, path, flags, 0);
}

int __openat_2(int dir, const char *path, int flags);
int __openat_2(int dir, const char *path, int flags)
{
    return open_at(dir, path, flags, 0);
}

ALIAS(int, __open64_2, __open_2, const char *, int);
ALIAS(int, __openat64_2, __openat_2, int, const char *, int);
