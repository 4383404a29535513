/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shim.h"

static int record_fd = -1;
static pthread_mutex_t record_lock = PTHREAD_MUTEX_INITIALIZER;

void record_open(const char *path)
{
    record_fd =
        (int)to_kernel(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (record_fd < 0) {
        _exit(126);
    }
}

bool record_is_open(void)
{
    return record_fd >= 0;
}

void record(const char *word, uint64_t inode, int64_t number, const void *data, size_t len)
{
    char head[128];
    int head_len = snprintf(head, sizeof head, "%s %llu %lld %zu\n", word,
                            (unsigned long long)inode, (long long)number, len);
    struct iovec parts[] = {{head, (size_t)head_len}, {(void *)(uintptr_t)data, len}};
    int saved = errno;

    if (to_kernel(SYS_writev, record_fd, parts, 2) != head_len + (ssize_t)len) {
        _exit(126);
    }
    errno = saved;
}

bool record_begin(bool wanted)
{
    if (record_fd < 0 || !wanted) {
        return false;
    }
    (void)pthread_mutex_lock(&record_lock);
    (void)flock(record_fd, LOCK_EX);
    return true;
}

void record_end(void)
{
    int saved = errno;

    (void)flock(record_fd, LOCK_UN);
    (void)pthread_mutex_unlock(&record_lock);
    errno = saved;
}

uint64_t inode_of(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 ? (uint64_t)st.st_ino : 0;
}

void record_written(int fd, const struct iovec *parts, int count, off_t offset, ssize_t done)
{
    int flags = fcntl(fd, F_GETFL);

    for (int i = 0; i < count && done > 0; i++) {
        size_t len = parts[i].iov_len < (size_t)done ? parts[i].iov_len : (size_t)done;

        record(flags & O_DSYNC ? "write-through" : "write", inode_of(fd), offset, parts[i].iov_base,
               len);
        offset += (off_t)len;
        done -= (ssize_t)len;
    }
}

void record_names(const char *word, int64_t number, int from_dir, const char *from, int to_dir,
                  const char *to)
{
    char paths[2 * PATH_MAX];
    size_t len = 0;

    if (at_path(from_dir, from, paths)) {
        len = strlen(paths) + 1;
    }
    if (to != NULL && at_path(to_dir, to, paths + len)) {
        len += strlen(paths + len) + 1;
    }
    record(word, 0, number, paths, len);
}
