/* SPDX-License-Identifier: ISC */
#include "cache/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "cache/err.h"

static int walk_entries(DIR *dir, folder_visit *visit, void *arg)
{
    const struct dirent *entry;
    int err = 0;

    while (err == 0 && (errno = 0, entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            err = visit(arg, entry->d_name);
    }
    if (err != 0)
        return err;
    return errno == 0 ? 0 : err_from_errno(errno);
}

int folder_walk(int dir_fd, folder_visit *visit, void *arg)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return err_from_errno(errno);
    DIR *dir = fdopendir(fd);

    if (dir == NULL) {
        int err = err_from_errno(errno);

        close(fd);
        return err;
    }
    int err = walk_entries(dir, visit, arg);

    closedir(dir);
    return err;
}
