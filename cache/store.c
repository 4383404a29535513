/* SPDX-License-Identifier: ISC */
#include "cache/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/err.h"
#include "cache/room.h"
#include "cache/store_private.h"
#include "cache/tempfile.h"

static const char layout_file[] = "oci-layout";
static const char layout_text[] = "{\"imageLayoutVersion\":\"1.0.0\"}\n";
/* Without a tag; layout.c rewrites it. */
static const char index_file[] = "index.json";
static const char index_text[] =
    "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\","
    "\"manifests\":[]}\n";

int store_refuse(const struct why *why, int err, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why->text, why->size, format, args);
    va_end(args);
    return err;
}

int store_refuse_errno(const struct why *why, const char *doing, const char *path, const char *name)
{
    int errnum = errno;

    return store_refuse(why, err_from_errno(errnum), "cannot %s %s%s%s: %s", doing, path,
                        name[0] != '\0' ? "/" : "", name, strerror(errnum));
}

/* --- the directory itself --- */

static int check_owner(const struct store *s, const struct stat *st, const struct why *why)
{
    if (s->mode != STORE_OWN || st->st_uid == geteuid())
        return 0;
    return store_refuse(
        why, ERR_DENIED,
        "%s belongs to user %lu and this runs as user %lu; change its owner, or run as "
        "that user",
        s->path, (unsigned long)st->st_uid, (unsigned long)geteuid());
}

/* What is in it, private images too, is nobody else's. Where the file system has no such
 * permissions, or keeps them to itself, there is no cure here. */
static int close_to_others(struct store *s, const struct why *why)
{
    struct stat st;

    (void)fchmod(s->root_fd, s->found_mode & 0700);
    if (fstat(s->root_fd, &st) != 0)
        return store_refuse_errno(why, "look at", s->path, "");
    s->root_mode = st.st_mode & 07777;
    return 0;
}

static int root_open(struct store *s, const struct why *why)
{
    struct stat st;

    if (s->mode == STORE_OWN && mkdir(s->path, 0700) != 0 && errno != EEXIST)
        return store_refuse_errno(why, "create the cache directory", s->path, "");
    if (lstat(s->path, &st) != 0)
        return store_refuse_errno(why, "open the cache directory", s->path, "");
    if (!S_ISDIR(st.st_mode)) {
        return store_refuse(why, ERR_DENIED,
                            "%s is not a directory but %s; give the cache a directory of its own",
                            s->path, S_ISLNK(st.st_mode) ? "a symbolic link" : "a file");
    }
    /* Another's may be closed to us: say first whose it is. */
    if (check_owner(s, &st, why) != 0)
        return ERR_DENIED;
    s->root_fd = open(s->path, STORE_DIR_FLAGS);
    if (s->root_fd < 0 || fstat(s->root_fd, &st) != 0)
        return store_refuse_errno(why, "open the cache directory", s->path, "");
    if (check_owner(s, &st, why) != 0)
        return ERR_DENIED;
    if (s->mode == STORE_OWN && (st.st_mode & S_IWOTH) != 0) {
        return store_refuse(why, ERR_DENIED, "every user can write to %s; run chmod 0700 %s",
                            s->path, s->path);
    }
    s->found_mode = s->root_mode = st.st_mode & 07777;
    return s->mode == STORE_OWN && (st.st_mode & 077) != 0 ? close_to_others(s, why) : 0;
}

/* What may be in a directory without oci-layout: what a start that was cut short
 * leaves, and what mkfs does. */
static bool is_expected(const char *name)
{
    static const char *const expected[] = {".",    "..",         "blobs",      "partial", "db",
                                           "lock", "lost+found", "index.json", "ca"};

    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        if (strcmp(name, expected[i]) == 0)
            return true;
    return false;
}

static int check_not_foreign(const struct store *s, const struct why *why)
{
    const struct dirent *entry;
    int fd = openat(s->root_fd, ".", STORE_DIR_FLAGS);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    int err = 0;

    if (dir == NULL) {
        err = store_refuse_errno(why, "list", s->path, "");
        if (fd >= 0)
            close(fd);
        return err;
    }
    while (err == 0 && (entry = readdir(dir)) != NULL) {
        if (!is_expected(entry->d_name)) {
            err = store_refuse(
                why, ERR_INVALID,
                "%s has other files in it (%s) and no %s; give the cache a directory of "
                "its own",
                s->path, entry->d_name, layout_file);
        }
    }
    closedir(dir);
    return err;
}

/* Whether oci-layout is there: 0, ERR_NOT_FOUND, or ERR_VERSION when it is not the
 * one that is written here. */
static int check_layout(const struct store *s, const struct why *why)
{
    char text[256];
    int fd = openat(s->root_fd, layout_file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0)
        return errno == ENOENT ? ERR_NOT_FOUND
                               : store_refuse_errno(why, "read", s->path, layout_file);
    ssize_t len = read(fd, text, sizeof text - 1);

    if (len < 0) {
        int err = store_refuse_errno(why, "read", s->path, layout_file);

        close(fd);
        return err;
    }
    close(fd);
    text[len] = '\0';
    if (strstr(text, "\"imageLayoutVersion\"") == NULL || strstr(text, "\"1.0.0\"") == NULL) {
        return store_refuse(why, ERR_VERSION,
                            "%s/%s is not that of an OCI image layout of version 1.0.0", s->path,
                            layout_file);
    }
    return 0;
}

/* --- the lock --- */

static int lock_take(struct store *s, const struct why *why)
{
    char pid[32];
    int len = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());

    s->lock_fd = openat(s->root_fd, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (s->lock_fd < 0)
        return store_refuse_errno(why, "open", s->path, "lock");
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0) {
        if (ftruncate(s->lock_fd, 0) != 0 || file_write(s->lock_fd, pid, (size_t)len, 0) != 0)
            return store_refuse_errno(why, "write", s->path, "lock");
        return 0;
    }
    if (errno != EWOULDBLOCK)
        return store_refuse_errno(why, "lock", s->path, "lock");
    ssize_t got = pread(s->lock_fd, pid, sizeof pid - 1, 0);

    pid[got > 0 ? got : 0] = '\0';
    return store_refuse(
        why, ERR_BUSY,
        "%s is in use by another cachalotd (process %ld); stop it, or give this one "
        "another directory",
        s->path, strtol(pid, NULL, 10));
}

/* Shared, so that two who look do not see each other. */
bool store_is_in_use(const struct store *s)
{
    int fd = openat(s->root_fd, "lock", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return errno != ENOENT;
    bool is_free = flock(fd, LOCK_SH | LOCK_NB) == 0;

    close(fd);
    return !is_free;
}

/* On the directory itself: nobody has to be able to make a file for it. It ends with the
 * descriptor. */
static int writer_wait(const struct store *s, const struct why *why)
{
    int result;

    do
        result = flock(s->root_fd, LOCK_SH);
    while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : store_refuse_errno(why, "lock", s->path, "");
}

bool store_keep_writers_out(const struct store *s)
{
    CHECK(s->mode == STORE_OWN);
    return flock(s->root_fd, LOCK_EX | LOCK_NB) == 0;
}

void store_let_writers_in(const struct store *s)
{
    CHECK(flock(s->root_fd, LOCK_UN) == 0);
}

/* --- what is in it --- */

int store_dir_open(const struct store *s, int parent_fd, const char *name, int *fd,
                   const struct why *why)
{
    if (s->mode == STORE_OWN && mkdirat(parent_fd, name, 0700) != 0 && errno != EEXIST)
        return store_refuse_errno(why, "create", s->path, name);
    *fd = openat(parent_fd, name, STORE_DIR_FLAGS);
    return *fd >= 0 ? 0 : store_refuse_errno(why, "open", s->path, name);
}

static int write_text(const struct store *s, const char *name, const char *text,
                      const struct why *why)
{
    struct tempfile t;
    int err = tempfile_open(&t, s->partial_fd);

    if (err == 0) {
        err = file_write(t.fd, text, strlen(text), 0);
        if (err == 0)
            err = tempfile_publish(&t, s->root_fd, name);
        else
            tempfile_discard(&t);
    }
    return err == 0
               ? 0
               : store_refuse(why, err, "cannot write %s/%s: %s", s->path, name, err_text(err));
}

/* Until the directory above is synced, a power cut takes all of the new one. Whoever may write
 * there and not read cannot have it synced. */
static int sync_above(const struct store *s, const struct why *why)
{
    char *above = mem_format("%s/..", s->path);
    int fd = open(above, STORE_DIR_FLAGS);
    int err = fd >= 0 && fsync(fd) != 0 ? store_refuse_errno(why, "sync", above, "") : 0;

    if (fd >= 0)
        close(fd);
    free(above);
    return err;
}

/* oci-layout comes last: where it is, the rest is. */
static int write_layout(const struct store *s, const struct why *why)
{
    int err = sync_above(s, why);

    if (err == 0)
        err = write_text(s, index_file, index_text, why);
    return err == 0 ? write_text(s, layout_file, layout_text, why) : err;
}

static int dirs_open(struct store *s, const struct why *why)
{
    int blobs_fd = -1;
    int err = store_dir_open(s, s->root_fd, "partial", &s->partial_fd, why);

    if (err == 0)
        err = store_dir_open(s, s->root_fd, "blobs", &blobs_fd, why);
    if (err != 0)
        return err;
    err = store_dir_open(s, blobs_fd, "sha256", &s->sha256_fd, why);
    if (err == 0)
        err = store_dir_open(s, blobs_fd, "sha512", &s->sha512_fd, why);
    if (err == 0 && s->mode == STORE_OWN && fsync(blobs_fd) != 0)
        err = store_refuse_errno(why, "sync", s->path, "blobs");
    close(blobs_fd);
    return err;
}

static int contents_open(struct store *s, const struct why *why)
{
    int layout = check_layout(s, why);

    if (layout == ERR_NOT_FOUND && s->mode != STORE_OWN)
        return store_refuse(why, ERR_NOT_FOUND, "%s is not a cache: it has no %s", s->path,
                            layout_file);
    int err = layout == ERR_NOT_FOUND ? check_not_foreign(s, why) : layout;

    if (err == 0 && s->mode == STORE_OWN)
        err = lock_take(s, why);
    if (err == 0)
        err = dirs_open(s, why);
    if (err == 0 && layout == ERR_NOT_FOUND)
        err = write_layout(s, why);
    return err;
}

/* --- the whole --- */

int store_open_files(struct store **s, const char *path, enum store_mode mode, char *why_text,
                     size_t why_size)
{
    struct why why = {why_text, why_size};
    size_t len = strlen(path);

    if (len == 0)
        return store_refuse(&why, ERR_INVALID, "the path of the cache directory is empty");
    /* With a slash at its end, a symbolic link would be followed. */
    while (len > 1 && path[len - 1] == '/')
        len--;
    struct store *opened = mem_new(sizeof *opened);

    opened->path = mem_copy(path, len);
    opened->mode = mode;
    opened->root_fd = -1;
    opened->lock_fd = -1;
    opened->sha256_fd = -1;
    opened->sha512_fd = -1;
    opened->partial_fd = -1;
    int err = root_open(opened, &why);

    if (err == 0)
        err = contents_open(opened, &why);
    if (err == 0 && mode == STORE_ADD)
        err = writer_wait(opened, &why);
    if (err != 0) {
        store_close(&opened);
        return err;
    }
    opened->room = room_new(opened->root_fd, opened->partial_fd);
    *s = opened;
    return 0;
}

int store_open(struct store **s, const char *path, enum store_mode mode, size_t map_bytes,
               char *why, size_t why_size)
{
    int err = store_open_files(s, path, mode, why, why_size);

    if (err != 0)
        return err;
    err = store_open_index(*s, map_bytes, why, why_size);
    if (err != 0)
        store_close(s);
    return err;
}

static void fd_close(int fd)
{
    if (fd >= 0)
        close(fd);
}

/* The lock goes last: nothing is open any more when the next daemon may start. */
void store_close(struct store **s)
{
    if (*s == NULL)
        return;
    db_close(&(*s)->db);
    room_free(&(*s)->room);
    fd_close((*s)->partial_fd);
    fd_close((*s)->sha512_fd);
    fd_close((*s)->sha256_fd);
    fd_close((*s)->root_fd);
    fd_close((*s)->lock_fd);
    free((*s)->path);
    free(*s);
    *s = NULL;
}

struct db *store_db(struct store *s)
{
    return s->db;
}

struct room *store_room(const struct store *s)
{
    return s->room;
}

void store_permissions(const struct store *s, unsigned *found, unsigned *now)
{
    *found = s->found_mode;
    *now = s->root_mode;
}

const char *store_path(const struct store *s)
{
    return s->path;
}

int store_root_fd(const struct store *s)
{
    return s->root_fd;
}

int store_blobs_fd(const struct store *s, enum digest_alg alg)
{
    CHECK(alg == DIGEST_SHA256 || alg == DIGEST_SHA512);
    return alg == DIGEST_SHA256 ? s->sha256_fd : s->sha512_fd;
}

int store_partial_fd(const struct store *s)
{
    return s->partial_fd;
}

bool store_is_importing(const struct store *s)
{
    int fd = openat(s->partial_fd, STORE_IMPORT_PREFIX "lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0)
        return false;
    bool is = flock(fd, LOCK_SH | LOCK_NB) != 0;
    close(fd);
    return is;
}

char *store_blob_name(const struct digest *d, char out[DIGEST_TEXT_MAX])
{
    const char *hex = strchr(digest_text(d, out), ':') + 1;

    return memmove(out, hex, strlen(hex) + 1);
}

char *store_partial_name(const struct digest *d, char out[DIGEST_TEXT_MAX])
{
    *strchr(digest_text(d, out), ':') = '-';
    return out;
}

bool store_blob_digest(enum digest_alg alg, const char *name, struct digest *d)
{
    char text[DIGEST_TEXT_MAX];
    int len =
        snprintf(text, sizeof text, "%s:%s", alg == DIGEST_SHA256 ? "sha256" : "sha512", name);

    return len > 0 && (size_t)len < sizeof text && digest_parse(d, text, (size_t)len) == 0;
}

bool store_partial_digest(const char *name, struct digest *d)
{
    char text[DIGEST_TEXT_MAX];
    size_t len = strlen(name);
    const char *dash = strchr(name, '-');

    if (dash == NULL || len >= sizeof text)
        return false;
    memcpy(text, name, len);
    text[dash - name] = ':';
    return digest_parse(d, text, len) == 0;
}
