/* SPDX-License-Identifier: ISC */
#include "tools/text_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/err.h"
#include "cache/tempfile.h"

int text_read(const char *path, char **text)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_from_errno(errno);
    char *buf = mem_new(TEXT_FILE_MAX + 1);
    size_t len = 0;
    ssize_t n;
    do {
        n = read(fd, buf + len, TEXT_FILE_MAX + 1 - len);
        if (n > 0)
            len += (size_t)n;
    } while (n > 0 || (n < 0 && errno == EINTR));
    int err = n < 0 ? err_from_errno(errno) : 0;
    close(fd);
    if (err == 0 && len > TEXT_FILE_MAX)
        err = ERR_TOO_LARGE;
    if (err == 0 && memchr(buf, '\0', len) != NULL)
        err = ERR_INVALID;
    if (err == 0)
        *text = mem_copy(buf, len);
    free(buf);
    return err;
}

static int make_folders(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        bool failed = mkdir(path, 0755) != 0 && errno != EEXIST;
        *slash = '/';
        if (failed)
            return err_from_errno(errno);
    }
    return 0;
}

static int fill(int fd, const struct stat *old, const char *text)
{
    mode_t mode = old != NULL ? old->st_mode & 07777 : 0644;
    if (old != NULL && fchown(fd, old->st_uid, old->st_gid) != 0)
        return err_from_errno(errno);
    if (fchmod(fd, mode) != 0)
        return err_from_errno(errno);
    return file_write(fd, text, strlen(text), 0);
}

/* `path` has a slash, and its folder is there. */
static int replace(char *path, const char *text)
{
    struct stat st;
    struct tempfile t;
    bool is_there = stat(path, &st) == 0;
    char *slash = strrchr(path, '/');
    *slash = '\0';
    int dir_fd = open(slash == path ? "/" : path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *slash = '/';
    if (dir_fd < 0)
        return err_from_errno(errno);
    int err = tempfile_open(&t, dir_fd);
    if (err == 0) {
        err = fill(t.fd, is_there ? &st : NULL, text);
        if (err != 0)
            tempfile_discard(&t);
        else
            err = tempfile_publish(&t, dir_fd, slash + 1);
    }
    close(dir_fd);
    return err;
}

int text_write(const char *path, const char *text)
{
    char *real = realpath(path, NULL);
    char *place = real != NULL ? real : mem_copy(path, strlen(path));
    CHECK(strchr(place, '/') != NULL);
    int err = real != NULL ? 0 : make_folders(place);
    if (err == 0)
        err = replace(place, text);
    free(place);
    return err;
}

int text_remove(const char *path)
{
    return unlink(path) == 0 || errno == ENOENT ? 0 : err_from_errno(errno);
}
