/* SPDX-License-Identifier: ISC */
/* The index in its place, a new one beside it, and those that were set aside. */
#include "cache/store_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cache/err.h"
#include "cache/room.h"

static const char index_folder[] = "db";
/* Never opened again when its making was cut short. */
static const char new_folder[] = "db.new";

/* --- opening --- */

/* A command's superuser may be the first to open an index that was restored or copied
 * without LMDB's file of readers: the daemon must be able to open it, too. */
static int give_index(const struct store *s, int db_fd, const struct why *why)
{
    static const char *const files[] = {"lock.mdb", "data.mdb"};
    struct stat st;

    if (s->mode != STORE_ADD || geteuid() != 0)
        return 0;
    if (fstat(db_fd, &st) != 0)
        return store_refuse_errno(why, "look at", s->path, index_folder);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        if (fchownat(db_fd, files[i], st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) != 0)
            return store_refuse_errno(why, "give to its owner", s->path, files[i]);
    }
    return 0;
}

static void explain(const struct why *why, int err, const char *path, size_t map_bytes)
{
    if (err == ERR_VERSION)
        store_refuse(why, err,
                     "%s was written by another version of cachalot; use that version, or "
                     "remove %s to begin with an empty index",
                     path, path);
    else if (err == ERR_DAMAGED)
        store_refuse(why, err,
                     "%s is damaged; start cachalotd, which makes it anew, or run \"cachalot check "
                     "--rebuild\" without it",
                     path);
    else
        store_refuse(why, err, "cannot open the index %s with a map of %zu bytes: %s", path,
                     map_bytes, err_text(err));
}

static int index_open(struct store *s, const char *folder, size_t map_bytes, const struct why *why)
{
    int fd = -1;
    int err = store_dir_open(s, s->root_fd, folder, &fd, why);

    if (err != 0)
        return err;
    char *path = mem_format("%s/%s", s->path, folder);

    err = db_open(&s->db, path, map_bytes, s->mode == STORE_READ);
    if (err != 0)
        explain(why, err, path, map_bytes);
    else if (s->mode != STORE_OWN)
        db_keep_small(s->db);
    /* LMDB creates its files and leaves the folder to us. */
    if (err == 0 && s->mode == STORE_OWN && (fsync(fd) != 0 || fsync(s->root_fd) != 0))
        err = store_refuse_errno(why, "sync", path, "");
    if (err == 0)
        err = give_index(s, fd, why);
    free(path);
    close(fd);
    return err;
}

int store_open_index(struct store *s, size_t map_bytes, char *why_text, size_t why_size)
{
    const struct why why = {why_text, why_size};

    return index_open(s, index_folder, map_bytes, &why);
}

/* --- folders of an index --- */

/* Its files, and itself. */
static int remove_folder(const struct store *s, const char *folder)
{
    const struct dirent *entry;
    int fd = openat(s->root_fd, folder, STORE_DIR_FLAGS);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

    if (dir == NULL) {
        int errnum = errno;

        if (fd >= 0)
            close(fd);
        return errnum == ENOENT ? 0 : err_from_errno(errnum);
    }
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.')
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    closedir(dir);
    return unlinkat(s->root_fd, folder, AT_REMOVEDIR) == 0 ? 0 : err_from_errno(errno);
}

/* Those that were set aside: their names go by time, and in one second by number. */
struct asides {
    unsigned count;
    char oldest[STORE_ASIDE_SIZE];
    char newest[STORE_ASIDE_SIZE];
};

static void find_asides(const struct store *s, struct asides *a)
{
    const struct dirent *entry;
    int fd = openat(s->root_fd, ".", STORE_DIR_FLAGS);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

    *a = (struct asides){0};
    if (dir == NULL) {
        if (fd >= 0)
            close(fd);
        return;
    }
    while ((entry = readdir(dir)) != NULL) {
        size_t len = strlen(entry->d_name);

        if (strncmp(entry->d_name, ROOM_ASIDE_PREFIX, sizeof ROOM_ASIDE_PREFIX - 1) != 0 ||
            len >= STORE_ASIDE_SIZE)
            continue;
        if (a->count == 0 || strcmp(entry->d_name, a->oldest) < 0)
            memcpy(a->oldest, entry->d_name, len + 1);
        if (a->count++ == 0 || strcmp(entry->d_name, a->newest) > 0)
            memcpy(a->newest, entry->d_name, len + 1);
    }
    closedir(dir);
}

/* Keep the latest, at most so many; whether any was removed. */
static bool remove_oldest(const struct store *s, unsigned max)
{
    struct asides a;
    bool any = false;

    for (find_asides(s, &a); a.count > max; find_asides(s, &a)) {
        if (remove_folder(s, a.oldest) != 0)
            return any;
        any = true;
    }
    return any;
}

bool store_drop_asides(const struct store *s)
{
    bool any = remove_oldest(s, 0);

    if (any)
        room_count_set_aside(s->room);
    return any;
}

static int set_aside(const struct store *s, int64_t now_s, char aside[STORE_ASIDE_SIZE])
{
    char stamp[32];
    time_t now = (time_t)now_s;
    struct tm tm;
    struct asides a;
    unsigned number = 0;

    CHECK(gmtime_r(&now, &tm) != NULL);
    CHECK(strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &tm) > 0);
    int len = snprintf(aside, STORE_ASIDE_SIZE, "%s%s-", ROOM_ASIDE_PREFIX, stamp);

    find_asides(s, &a);
    if (strncmp(a.newest, aside, (size_t)len) == 0)
        number = (unsigned)strtoul(a.newest + len, NULL, 10) + 1;
    snprintf(aside + len, STORE_ASIDE_SIZE - (size_t)len, "%03u", number);
    if (renameat(s->root_fd, index_folder, s->root_fd, aside) == 0)
        return 0;
    aside[0] = '\0';
    return errno == ENOENT ? 0 : err_from_errno(errno);
}

/* --- a new index --- */

int store_begin_index(struct store *s, size_t map_bytes, char *why_text, size_t why_size)
{
    const struct why why = {why_text, why_size};

    CHECK(s->mode == STORE_OWN && s->db == NULL);
    int err = remove_folder(s, new_folder);

    if (err != 0)
        return store_refuse(&why, err, "cannot remove %s/%s: %s", s->path, new_folder,
                            err_text(err));
    return index_open(s, new_folder, map_bytes, &why);
}

int store_adopt_index(struct store *s, size_t map_bytes, int64_t now_s,
                      char aside[STORE_ASIDE_SIZE], char *why_text, size_t why_size)
{
    const struct why why = {why_text, why_size};

    db_close(&s->db);
    int err = set_aside(s, now_s, aside);

    if (err != 0)
        return store_refuse(&why, err, "cannot set %s/%s aside: %s", s->path, index_folder,
                            err_text(err));
    if (renameat(s->root_fd, new_folder, s->root_fd, index_folder) != 0)
        return store_refuse_errno(&why, "put into its place", s->path, new_folder);
    (void)remove_oldest(s, STORE_ASIDE_MAX);
    return index_open(s, index_folder, map_bytes, &why);
}
