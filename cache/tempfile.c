/* SPDX-License-Identifier: ISC */
#include "cache/tempfile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/beneath.h"
#include "cache/err.h"

int tempfile_open(struct tempfile *t, int dir_fd)
{
    uint64_t number;

    t->dir_fd = dir_fd;
    do {
        CHECK(getrandom(&number, sizeof number, 0) == (ssize_t)sizeof number);
        snprintf(t->name, sizeof t->name, "tmp-%016" PRIx64, number);
        t->fd = beneath_open(dir_fd, t->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    } while (t->fd < 0 && errno == EEXIST);
    if (t->fd < 0)
        return err_from_errno(errno);
    int err = file_give(t->fd, dir_fd);

    if (err != 0)
        tempfile_discard(t);
    return err;
}

int tempfile_publish(struct tempfile *t, int dir_fd, const char *name)
{
    int err = file_sync(t->fd);

    if (err == 0 && renameat(t->dir_fd, t->name, dir_fd, name) != 0)
        err = err_from_errno(errno);
    if (err != 0) {
        tempfile_discard(t);
        return err;
    }
    close(t->fd);
    t->fd = -1;
    return file_sync(dir_fd);
}

void tempfile_discard(struct tempfile *t)
{
    close(t->fd);
    t->fd = -1;
    unlinkat(t->dir_fd, t->name, 0);
}

int file_give(int fd, int dir_fd)
{
    struct stat st;

    if (geteuid() != 0)
        return 0;
    if (fstat(dir_fd, &st) != 0)
        return err_from_errno(errno);
    if (st.st_uid == 0 && st.st_gid == 0)
        return 0;
    return fchown(fd, st.st_uid, st.st_gid) == 0 ? 0 : err_from_errno(errno);
}

int file_write(int fd, const void *data, size_t len, off_t offset)
{
    const char *at = data;

    while (len > 0) {
        ssize_t n = pwrite(fd, at, len, offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_from_errno(errno);
        at += n;
        offset += n;
        len -= (size_t)n;
    }
    return 0;
}

int file_sync(int fd)
{
    return fsync(fd) == 0 ? 0 : ERR_IO;
}
