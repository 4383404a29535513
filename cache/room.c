/* SPDX-License-Identifier: ISC */
#include "cache/room.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include <uthash.h>

#include "cache/err.h"
#include "cache/folder.h"
#include "cache/lock.h"

#define NAME_SIZE 160
#define STAT_BLOCK_BYTES 512
/* What nobody claims: manifests, the pages that a commit adds to the index. */
#define MARGIN_SHARE 32
#define MARGIN_MAX (UINT64_C(64) << 20)
/* Other processes' files are looked at again when a claim finds them older than this. */
#define COUNT_AGAIN_MS 200
/* How long it counts that the disk has refused something. */
#define REFUSED_MS 10000
/* A file system that takes no more files than this, or a share of all, lacks them. */
#define FILES_MIN 64
#define FILES_SHARE 16

struct file {
    char name[NAME_SIZE];
    uint64_t claimed_bytes;
    uint64_t disk_bytes; /* that it takes already, as far as is known */
    unsigned opens;
    bool is_there; /* while they are counted */
    UT_hash_handle hh;
};

struct room {
    int root_fd, partial_fd;
    pthread_mutex_t lock; /* guards what follows */
    struct room_limits limits;
    struct usage usage;
    struct statvfs fs; /* as it was last known; zeros: never */
    uint64_t index_bytes;
    uint64_t quarantine_bytes;
    uint64_t aside_bytes; /* of the indexes that were set aside */
    struct file *files;
    uint64_t file_bytes;      /* the sum of what they claim */
    uint64_t file_disk_bytes; /* and of what they take */
    int64_t counted_at_ms;
    uint64_t wanted_free_bytes; /* until then, as the disk has refused some */
    int64_t wanted_until_ms;
};

struct room *room_new(int root_fd, int partial_fd)
{
    struct room *r = mem_new(sizeof *r);

    r->root_fd = root_fd;
    r->partial_fd = partial_fd;
    r->limits.low_percent = 100;
    lock_init(&r->lock);
    return r;
}

void room_free(struct room **rp)
{
    struct room *r = *rp;

    if (r == NULL)
        return;
    *rp = NULL;
    struct file *f = r->files;
    /* Without the table what was in it is a list. */
    HASH_CLEAR(hh, r->files);
    while (f != NULL) {
        struct file *next = f->hh.next;

        free(f);
        f = next;
    }
    pthread_mutex_destroy(&r->lock);
    free(r);
}

void room_set_limits(struct room *r, const struct room_limits *limits)
{
    pthread_mutex_lock(&r->lock);
    r->limits = *limits;
    pthread_mutex_unlock(&r->lock);
}

/* The index, and the folders, which grow with what is in them. */
static uint64_t look_at_index(const struct room *r)
{
    static const char *const names[] = {"db/data.mdb",  "db/lock.mdb",  "index.json", ".",
                                        "blobs/sha256", "blobs/sha512", "partial"};
    struct stat st;
    uint64_t bytes = 0;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (fstatat(r->root_fd, names[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
            bytes += (uint64_t)st.st_blocks * STAT_BLOCK_BYTES;
    return bytes;
}

void room_set_usage(struct room *r, const struct usage *u)
{
    uint64_t index_bytes = look_at_index(r);

    pthread_mutex_lock(&r->lock);
    r->usage = *u;
    r->index_bytes = index_bytes;
    pthread_mutex_unlock(&r->lock);
}

static int64_t now_ms(void)
{
    struct timespec t;

    CHECK(clock_gettime(CLOCK_MONOTONIC_COARSE, &t) == 0);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* --- files; all with the lock held --- */

static struct file *find_file(struct room *r, const char *name)
{
    struct file *f;

    HASH_FIND_STR(r->files, name, f);
    return f;
}

static struct file *make_file(struct room *r, const char *name)
{
    struct file *f = find_file(r, name);

    if (f != NULL)
        return f;
    CHECK(strlen(name) < sizeof f->name);
    f = mem_new(sizeof *f);
    memcpy(f->name, name, strlen(name) + 1);
    HASH_ADD_STR(r->files, name, f);
    return f;
}

static void set_file(struct room *r, struct file *f, uint64_t claimed_bytes, uint64_t disk_bytes)
{
    if (disk_bytes > claimed_bytes)
        disk_bytes = claimed_bytes;
    r->file_bytes += claimed_bytes - f->claimed_bytes;
    r->file_disk_bytes += disk_bytes - f->disk_bytes;
    f->claimed_bytes = claimed_bytes;
    f->disk_bytes = disk_bytes;
}

static void drop_file(struct room *r, struct file *f)
{
    set_file(r, f, 0, 0);
    HASH_DEL(r->files, f); /* NOLINT(clang-analyzer-unix.Malloc) */
    free(f);
}

static bool stat_file(const struct room *r, const char *name, uint64_t *disk_bytes)
{
    struct stat st;

    if (fstatat(r->partial_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return false;
    *disk_bytes = (uint64_t)st.st_blocks * STAT_BLOCK_BYTES;
    return true;
}

static int count_file(void *arg, const char *name)
{
    struct room *r = arg;
    uint64_t disk_bytes;

    if (strlen(name) >= NAME_SIZE || !stat_file(r, name, &disk_bytes))
        return 0;
    struct file *f = make_file(r, name);

    f->is_there = true;
    if (f->opens == 0)
        set_file(r, f, disk_bytes, disk_bytes);
    else if (disk_bytes > f->disk_bytes)
        set_file(r, f, f->claimed_bytes, disk_bytes);
    return 0;
}

/* Of a folder beneath the root. */
struct folder_sum {
    int fd;
    uint64_t bytes;
};

static int add_size(void *arg, const char *name)
{
    struct folder_sum *sum = arg;
    struct stat st;

    if (fstatat(sum->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        sum->bytes += (uint64_t)st.st_blocks * STAT_BLOCK_BYTES;
    return 0;
}

/* What cannot be listed takes what it took. */
static void sum_folder(const struct room *r, const char *name, uint64_t *bytes)
{
    struct folder_sum sum = {
        .fd = openat(r->root_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};

    if (sum.fd >= 0 && folder_walk(sum.fd, add_size, &sum) == 0)
        *bytes = sum.bytes;
    else if (sum.fd < 0 && errno == ENOENT)
        *bytes = 0;
    if (sum.fd >= 0)
        close(sum.fd);
}

struct asides_sum {
    const struct room *room;
    uint64_t bytes;
};

static int add_aside(void *arg, const char *name)
{
    struct asides_sum *sum = arg;
    uint64_t bytes = 0;

    if (strncmp(name, ROOM_ASIDE_PREFIX, sizeof ROOM_ASIDE_PREFIX - 1) == 0)
        sum_folder(sum->room, name, &bytes);
    sum->bytes += bytes;
    return 0;
}

static void count_set_aside(struct room *r)
{
    struct asides_sum sum = {.room = r};

    sum_folder(r, "quarantine", &r->quarantine_bytes);
    if (folder_walk(r->root_fd, add_aside, &sum) == 0)
        r->aside_bytes = sum.bytes;
}

static void count_files(struct room *r)
{
    struct file *f, *next;

    r->counted_at_ms = now_ms();
    for (f = r->files; f != NULL; f = f->hh.next)
        f->is_there = f->opens > 0;
    /* What cannot be listed takes what it took. */
    if (folder_walk(r->partial_fd, count_file, r) != 0)
        return;
    for (f = r->files; f != NULL; f = next) {
        next = f->hh.next;
        if (!f->is_there)
            drop_file(r, f);
    }
}

void room_count_files(struct room *r)
{
    pthread_mutex_lock(&r->lock);
    count_files(r);
    count_set_aside(r);
    pthread_mutex_unlock(&r->lock);
}

void room_count_set_aside(struct room *r)
{
    pthread_mutex_lock(&r->lock);
    count_set_aside(r);
    pthread_mutex_unlock(&r->lock);
}

/* --- the sums; with the lock held --- */

static uint64_t amount_bytes(const struct room_amount *a, const struct statvfs *fs)
{
    if (a->percent == 0)
        return a->bytes;
    return (uint64_t)fs->f_blocks * fs->f_frsize / 100 * a->percent;
}

static void look(struct room *r, struct room_view *v)
{
    const struct statvfs *fs = &r->fs;
    struct statvfs now;

    *v = (struct room_view){
        .blob_bytes = r->usage.bytes,
        .blobs = r->usage.blobs,
        .index_bytes = r->index_bytes,
        .file_bytes = r->file_bytes,
        .held_bytes =
            r->usage.bytes + r->index_bytes + r->quarantine_bytes + r->aside_bytes + r->file_bytes,
        .free_bytes = UINT64_MAX,
        .disk_bytes = UINT64_MAX,
    };
    /* When it cannot be asked, the limits stay. */
    if (fstatvfs(r->root_fd, &now) == 0)
        r->fs = now;
    v->limit_bytes = amount_bytes(&r->limits.size, fs);
    v->min_free_bytes = amount_bytes(&r->limits.min_free, fs);
    if (fs->f_frsize > 0) {
        v->free_bytes = (uint64_t)fs->f_bavail * fs->f_frsize;
        v->disk_bytes = (uint64_t)fs->f_blocks * fs->f_frsize;
    }
    uint64_t files = (uint64_t)fs->f_files / FILES_SHARE;

    v->lacks_files = fs->f_files > 0 && fs->f_favail < (files < FILES_MIN ? files : FILES_MIN);
}

/* The same for who makes room: what the disk has refused counts as what is left free. */
static void look_to_evict(struct room *r, struct room_view *v)
{
    look(r, v);
    if (r->wanted_until_ms > now_ms() && v->min_free_bytes < r->wanted_free_bytes)
        v->min_free_bytes = r->wanted_free_bytes;
}

static uint64_t margin_bytes(const struct room_view *v)
{
    uint64_t share = v->limit_bytes / MARGIN_SHARE;

    return share < MARGIN_MAX ? share : MARGIN_MAX;
}

static uint64_t above(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/* What must go so that so many more fit below these marks. */
static uint64_t excess(const struct room *r, const struct room_view *v, uint64_t more_bytes,
                       uint64_t limit_bytes, uint64_t min_free_bytes)
{
    /* Promised, and not taken from the file system yet. */
    uint64_t owed_bytes = r->file_bytes - r->file_disk_bytes;
    uint64_t over = v->limit_bytes == 0 ? 0 : above(v->held_bytes + more_bytes, limit_bytes);
    uint64_t lacking = above(min_free_bytes + owed_bytes + more_bytes, v->free_bytes);

    uint64_t bytes = over > lacking ? over : lacking;

    return bytes == 0 && v->lacks_files ? 1 : bytes;
}

static uint64_t excess_now(const struct room *r, const struct room_view *v, uint64_t more_bytes)
{
    return excess(r, v, more_bytes, v->limit_bytes - margin_bytes(v), v->min_free_bytes);
}

/* Between the size and the low mark: a share of that. */
static uint64_t slack_bytes(const struct room *r, const struct room_view *v)
{
    return v->limit_bytes / 100 * (100 - r->limits.low_percent);
}

/* --- from outside --- */

void room_open(struct room *r, const char *name)
{
    uint64_t disk_bytes;

    pthread_mutex_lock(&r->lock);
    struct file *f = make_file(r, name);

    f->opens++;
    if (f->claimed_bytes == 0 && stat_file(r, name, &disk_bytes))
        set_file(r, f, disk_bytes, disk_bytes);
    pthread_mutex_unlock(&r->lock);
}

int room_claim(struct room *r, const char *name, uint64_t bytes)
{
    struct room_view v;
    int err = 0;

    pthread_mutex_lock(&r->lock);
    if (now_ms() - r->counted_at_ms >= COUNT_AGAIN_MS)
        count_files(r);
    struct file *f = find_file(r, name);

    CHECK(f != NULL && f->opens > 0);
    bytes = usage_of(bytes);
    if (bytes > f->claimed_bytes) {
        look(r, &v);
        if (excess_now(r, &v, bytes - f->claimed_bytes) > 0)
            err = ERR_NO_SPACE;
    }
    if (err == 0)
        set_file(r, f, bytes, f->disk_bytes);
    pthread_mutex_unlock(&r->lock);
    return err;
}

void room_took(struct room *r, const char *name)
{
    uint64_t disk_bytes;

    pthread_mutex_lock(&r->lock);
    struct file *f = find_file(r, name);

    if (f != NULL && stat_file(r, name, &disk_bytes))
        set_file(r, f, f->claimed_bytes, disk_bytes);
    pthread_mutex_unlock(&r->lock);
}

void room_refused(struct room *r, uint64_t bytes)
{
    struct room_view v;

    pthread_mutex_lock(&r->lock);
    look(r, &v);
    r->wanted_free_bytes = v.free_bytes + usage_of(bytes);
    r->wanted_until_ms = now_ms() + REFUSED_MS;
    pthread_mutex_unlock(&r->lock);
}

bool room_has(struct room *r, uint64_t bytes)
{
    struct room_view v;

    pthread_mutex_lock(&r->lock);
    look(r, &v);
    /* Files are created as long as the disk lets. */
    v.lacks_files = false;
    bool has = excess(r, &v, usage_of(bytes), v.limit_bytes, v.min_free_bytes / 2) == 0;
    pthread_mutex_unlock(&r->lock);
    return has;
}

void room_close(struct room *r, const char *name, uint64_t disk_bytes)
{
    pthread_mutex_lock(&r->lock);
    struct file *f = find_file(r, name);

    CHECK(f != NULL && f->opens > 0);
    f->opens--;
    /* Of two, the first to close it, having failed to open it, say, gives nothing back. */
    if (f->opens == 0 && disk_bytes > 0)
        set_file(r, f, disk_bytes, disk_bytes);
    else if (f->opens == 0)
        drop_file(r, f);
    pthread_mutex_unlock(&r->lock);
}

/* Of a fetch: uploads and imports are others' to give up. */
static bool is_droppable(const struct file *f)
{
    return f->opens == 0 && strncmp(f->name, "sha", 3) == 0;
}

bool room_drop_idle(struct room *r)
{
    struct file *f;
    bool dropped = false;

    pthread_mutex_lock(&r->lock);
    for (f = r->files; f != NULL && !is_droppable(f);)
        f = f->hh.next;
    if (f != NULL) {
        dropped = unlinkat(r->partial_fd, f->name, 0) == 0 || errno == ENOENT;
        if (dropped)
            drop_file(r, f);
    }
    pthread_mutex_unlock(&r->lock);
    return dropped;
}

uint64_t room_going(struct room *r)
{
    const struct file *f;

    pthread_mutex_lock(&r->lock);
    uint64_t bytes = r->usage.leaving_bytes;

    for (f = r->files; f != NULL; f = f->hh.next)
        if (is_droppable(f))
            bytes += f->claimed_bytes;
    pthread_mutex_unlock(&r->lock);
    return bytes;
}

void room_look(struct room *r, struct room_view *v)
{
    pthread_mutex_lock(&r->lock);
    look(r, v);
    pthread_mutex_unlock(&r->lock);
}

uint64_t room_added(struct room *r, const char *name, uint64_t bytes)
{
    uint64_t claimed_bytes = 0;

    if (name == NULL)
        return bytes;
    pthread_mutex_lock(&r->lock);
    const struct file *f = find_file(r, name);

    if (f != NULL)
        claimed_bytes = f->claimed_bytes;
    pthread_mutex_unlock(&r->lock);
    return above(usage_of(bytes), claimed_bytes);
}

uint64_t room_excess(struct room *r, uint64_t more_bytes, bool to_low)
{
    struct room_view v;

    pthread_mutex_lock(&r->lock);
    look_to_evict(r, &v);
    uint64_t bytes = excess_now(r, &v, more_bytes);

    if (to_low) {
        uint64_t slack = slack_bytes(r, &v);
        uint64_t low = excess(r, &v, 0, v.limit_bytes - slack, v.min_free_bytes + slack);

        if (low > bytes)
            bytes = low;
    }
    pthread_mutex_unlock(&r->lock);
    return bytes;
}

bool room_could_hold(struct room *r, uint64_t bytes)
{
    struct room_view v;

    pthread_mutex_lock(&r->lock);
    look(r, &v);
    uint64_t all_bytes = usage_of(bytes) + v.index_bytes;
    bool could = (v.limit_bytes == 0 || all_bytes <= v.limit_bytes - margin_bytes(&v)) &&
                 all_bytes <= above(v.disk_bytes, v.min_free_bytes);
    pthread_mutex_unlock(&r->lock);
    return could;
}

bool room_is_short(struct room *r)
{
    struct room_view v;

    pthread_mutex_lock(&r->lock);
    look_to_evict(r, &v);
    uint64_t half = slack_bytes(r, &v) / 2;
    bool is = excess(r, &v, 0, v.limit_bytes - half, v.min_free_bytes + half / 2) > 0 ||
              excess_now(r, &v, 0) > 0;
    pthread_mutex_unlock(&r->lock);
    return is;
}
