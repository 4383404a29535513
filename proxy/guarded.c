/* SPDX-License-Identifier: ISC */
#include "proxy/guarded.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/err.h"

static int check(const char *path, enum guard guard, int fd, char *why, size_t why_size)
{
    struct stat st;

    if (fstat(fd, &st) != 0) {
        int err = err_from_errno(errno);
        snprintf(why, why_size, "%s cannot be read: %s", path, strerror(errno));
        return err;
    }
    if (!S_ISREG(st.st_mode))
        snprintf(why, why_size, "%s is not a regular file", path);
    else if (guard == GUARD_SECRET && (st.st_mode & (S_IROTH | S_IWOTH)))
        snprintf(why, why_size, "%s is open to every user: chmod o-rw would make it a secret",
                 path);
    else if (st.st_mode & S_IWOTH)
        snprintf(why, why_size, "%s can be written to by every user: chmod o-w would guard it",
                 path);
    else
        return 0;
    return ERR_DENIED;
}

int guarded_open(const char *path, enum guard guard, int *fd, char *why, size_t why_size)
{
    /* A FIFO must not hold us up. */
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (*fd < 0) {
        int err = err_from_errno(errno);
        snprintf(why, why_size, "%s cannot be read: %s", path, strerror(errno));
        return err;
    }
    int err = check(path, guard, *fd, why, why_size);
    if (err != 0) {
        close(*fd);
        *fd = -1;
    }
    return err;
}
