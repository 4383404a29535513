/* SPDX-License-Identifier: ISC */
#include "cache/quarantine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/beneath.h"
#include "cache/err.h"
#include "cache/folder.h"
#include "cache/room.h"
#include "cache/tempfile.h"

#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static const char folder[] = "quarantine";

static int folder_open(const struct store *s, int *fd)
{
    if (mkdirat(store_root_fd(s), folder, 0700) != 0 && errno != EEXIST)
        return err_from_errno(errno);
    *fd = openat(store_root_fd(s), folder, DIR_FLAGS);
    if (*fd < 0)
        return err_from_errno(errno);
    int err = file_give(*fd, store_root_fd(s));

    if (err != 0)
        close(*fd);
    return err;
}

/* --- its bounds --- */

struct kept {
    char name[256];
    struct timespec since;
    uint64_t size_bytes;
};

/* The latest first. */
static int compare_kept(const void *a, const void *b)
{
    const struct kept *x = a;
    const struct kept *y = b;

    if (x->since.tv_sec != y->since.tv_sec)
        return x->since.tv_sec > y->since.tv_sec ? -1 : 1;
    return x->since.tv_nsec > y->since.tv_nsec ? -1 : x->since.tv_nsec < y->since.tv_nsec;
}

struct listing {
    int fd;
    struct kept *list;
    size_t count;
};

static int keep(void *arg, const char *name)
{
    struct listing *l = arg;
    struct stat st;

    if (name[0] == '.' || fstatat(l->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return 0;
    l->list = mem_resize(l->list, (l->count + 1) * sizeof *l->list);
    struct kept *k = &l->list[l->count++];

    snprintf(k->name, sizeof k->name, "%s", name);
    k->since = st.st_ctim;
    k->size_bytes = (uint64_t)st.st_size;
    return 0;
}

/* Keep the latest, at most so many; returns how many were removed. A folder that somebody
 * put into blobs/ is nobody's to empty. The descriptor is closed. */
static unsigned remove_oldest(int fd, size_t files_max)
{
    struct listing l = {.fd = fd};
    uint64_t bytes = 0;
    unsigned removed = 0;

    /* Of what could not be listed nothing is too much: the next that comes tries again. */
    if (folder_walk(fd, keep, &l) != 0)
        l.count = 0;
    if (l.count > 0)
        qsort(l.list, l.count, sizeof *l.list, compare_kept);
    for (size_t i = 0; i < l.count; i++) {
        bytes += l.list[i].size_bytes;
        if (i >= files_max || bytes > QUARANTINE_BYTES_MAX)
            removed += unlinkat(fd, l.list[i].name, 0) == 0;
    }
    free(l.list);
    close(fd);
    return removed;
}

bool quarantine_empty(struct store *s)
{
    int fd = openat(store_root_fd(s), folder, DIR_FLAGS);

    if (fd < 0 || remove_oldest(fd, 0) == 0)
        return false;
    room_count_set_aside(store_room(s));
    return true;
}

/* --- what comes into it --- */

static int move(const struct store *s, int dir_fd, const char *name, const char *as)
{
    int fd = -1;
    int err = folder_open(s, &fd);

    if (err != 0)
        return err;
    if (renameat(dir_fd, name, fd, as) != 0) {
        err = err_from_errno(errno);
        close(fd);
        return err;
    }
    (void)remove_oldest(fd, QUARANTINE_FILES_MAX);
    room_count_set_aside(store_room(s));
    return 0;
}

static bool is_file(const struct stat *st, const struct file_id *id)
{
    return st->st_dev == id->device && st->st_ino == id->number;
}

/* Those that have it open are told. One that cannot be opened has no read permission, or they
 * learn it by reading. */
static void take_permission(int dir_fd, const char *name, const struct file_id *id)
{
    struct stat st;
    int fd = beneath_open(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);

    if (fd < 0)
        return;
    if (fstat(fd, &st) == 0 && is_file(&st, id))
        (void)fchmod(fd, 0);
    close(fd);
}

int quarantine_blob(struct store *s, const struct digest *d, const struct file_id *id)
{
    int dir_fd = store_blobs_fd(s, (enum digest_alg)d->alg);
    char name[DIGEST_TEXT_MAX];
    char as[DIGEST_TEXT_MAX];
    struct stat st;

    if (fstatat(dir_fd, store_blob_name(d, name), &st, AT_SYMLINK_NOFOLLOW) != 0)
        return err_from_errno(errno);
    if (!is_file(&st, id))
        return ERR_NOT_FOUND;
    take_permission(dir_fd, name, id);
    if (move(s, dir_fd, name, store_partial_name(d, as)) == 0)
        return 0;
    return unlinkat(dir_fd, name, 0) == 0 ? 0 : err_from_errno(errno);
}

int quarantine_foreign(struct store *s, int dir_fd, const char *name)
{
    return move(s, dir_fd, name, name);
}
