/* SPDX-License-Identifier: ISC */
#include "cache/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int beneath_open(int dir_fd, const char *name, int flags, mode_t mode)
{
    struct open_how how = {
        .flags = (uint64_t)(flags | O_NOFOLLOW),
        .mode = (flags & O_CREAT) ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
    };
    long fd = syscall(SYS_openat2, dir_fd, name, &how, sizeof how);

    /* A kernel before 5.6 has no such call, and filters that do not know it deny it. With one
     * part a name of ours says no more than that. */
    if (fd < 0 && (errno == ENOSYS || errno == EPERM)) {
        if (strchr(name, '/') != NULL || strcmp(name, "..") == 0) {
            errno = EXDEV;
            return -1;
        }
        return openat(dir_fd, name, flags | O_NOFOLLOW, mode);
    }
    return (int)fd;
}
