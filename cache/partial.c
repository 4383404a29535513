/* SPDX-License-Identifier: ISC */
#include "cache/partial.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/beneath.h"
#include "cache/err.h"
#include "cache/folder.h"
#include "cache/record.h"
#include "cache/room.h"
#include "cache/tempfile.h"

#define PARTIAL_RECORD_VERSION 2
#define PARTIAL_RECORD_MAX (1 + 2 + NAME_MAX_SIZE + 1 + 1 + 8 + 8 + 2 + 16 * EXTENTS_MAX)

struct partial {
    struct store *store;
    struct digest digest;
    int fd;
    bool published;
    char name[DIGEST_TEXT_MAX]; /* in partial/ */
    uint64_t claimed_bytes;
};

#define STAT_BLOCK_BYTES 512
/* So much room is asked for at a time when the size is not known. */
#define CLAIM_STEP_BYTES (UINT64_C(1) << 20)

/* --- the file --- */

static int file_open(struct partial *p, uint64_t *kept_bytes)
{
    struct stat st;

    p->fd = beneath_open(store_partial_fd(p->store), p->name,
                         O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600);
    if (p->fd < 0)
        return err_from_errno(errno);
    if (fstat(p->fd, &st) != 0 || !S_ISREG(st.st_mode))
        return ERR_IO;
    *kept_bytes = (uint64_t)st.st_size;
    p->claimed_bytes = *kept_bytes;
    return 0;
}

int partial_open(struct store *s, const struct digest *d, struct partial **p, uint64_t *kept_bytes)
{
    struct partial *opened = mem_new(sizeof *opened);

    opened->store = s;
    opened->digest = *d;
    store_partial_name(d, opened->name);
    room_open(store_room(s), opened->name);
    int err = file_open(opened, kept_bytes);

    if (err != 0) {
        partial_close(&opened);
        return err;
    }
    *p = opened;
    return 0;
}

int partial_fd(const struct partial *p)
{
    return p->fd;
}

static int claim(struct partial *p, uint64_t bytes)
{
    int err = room_claim(store_room(p->store), p->name, bytes);

    if (err == 0)
        p->claimed_bytes = bytes;
    return err;
}

static int allocate(struct partial *p, uint64_t size_bytes)
{
    while (fallocate(p->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)size_bytes) != 0) {
        switch (errno) {
        case EINTR:
            break;
        case EOPNOTSUPP:
        case ENOSYS:
            return 0;
        case EFBIG:
            return ERR_TOO_LARGE;
        default:
            return err_from_errno(errno);
        }
    }
    return 0;
}

int partial_reserve(struct partial *p, uint64_t size_bytes)
{
    if (size_bytes > INT64_MAX)
        return ERR_TOO_LARGE;
    if (size_bytes == 0)
        return 0;
    struct room *room = store_room(p->store);
    uint64_t before_bytes = p->claimed_bytes;
    int err = claim(p, size_bytes);

    if (err == 0) {
        err = allocate(p, size_bytes);
        if (err == ERR_NO_SPACE) {
            (void)!claim(p, before_bytes);
            room_refused(room, size_bytes - before_bytes);
        }
    }
    room_took(room, p->name);
    return err;
}

uint64_t partial_claim_for(uint64_t end)
{
    return end + CLAIM_STEP_BYTES - end % CLAIM_STEP_BYTES;
}

int partial_write(struct partial *p, const void *data, size_t len, uint64_t offset)
{
    if (offset > INT64_MAX || len > INT64_MAX - offset)
        return ERR_TOO_LARGE;
    if (offset + len > p->claimed_bytes) {
        int err = claim(p, partial_claim_for(offset + len));

        if (err != 0)
            return err;
    }
    return file_write(p->fd, data, len, (off_t)offset);
}

int partial_truncate(struct partial *p, uint64_t size_bytes)
{
    CHECK(size_bytes <= INT64_MAX);
    return ftruncate(p->fd, (off_t)size_bytes) == 0 ? 0 : err_from_errno(errno);
}

int partial_sync(struct partial *p)
{
    return fdatasync(p->fd) == 0 ? 0 : ERR_IO;
}

int partial_publish(struct partial *p)
{
    char to[DIGEST_TEXT_MAX];
    int partial_dir = store_partial_fd(p->store);
    int blobs_dir = store_blobs_fd(p->store, p->digest.alg);

    CHECK(!p->published);
    int err = file_sync(p->fd);

    if (err == 0 && renameat(partial_dir, p->name, blobs_dir, store_blob_name(&p->digest, to)) != 0)
        err = err_from_errno(errno);
    if (err != 0)
        return err;
    p->published = true;
    return file_sync(blobs_dir);
}

bool partial_is_published(const struct partial *p)
{
    return p->published;
}

/* What it takes while nobody has it open; as a blob, the index says. */
static void leave_room(struct partial *p)
{
    struct stat st;
    bool is_kept = p->fd >= 0 && !p->published && fstat(p->fd, &st) == 0 && st.st_nlink > 0;

    room_close(store_room(p->store), p->name,
               is_kept ? (uint64_t)st.st_blocks * STAT_BLOCK_BYTES : 0);
}

void partial_close(struct partial **p)
{
    if (*p != NULL) {
        leave_room(*p);
        if ((*p)->fd >= 0)
            close((*p)->fd);
        free(*p);
        *p = NULL;
    }
}

void partial_discard(struct partial **p)
{
    if (*p != NULL) {
        if (!(*p)->published)
            unlinkat(store_partial_fd((*p)->store), (*p)->name, 0);
        partial_close(p);
    }
}

/* --- the record --- */

bool partial_owner_admits(const struct partial_owner *kept, const struct partial_owner *now)
{
    if (kept->is_elsewhere != now->is_elsewhere || (kept->is_private && !now->is_private))
        return false;
    return (!kept->is_private && !kept->is_elsewhere) || name_equal(&kept->name, &now->name);
}

static void get_owner(struct record_in *in, struct partial_owner *o)
{
    const char *key = record_get_text(in);
    char canonical[NAME_MAX_SIZE];

    record_require(in, name_from_key(&o->name, key, strlen(key)) == 0);
    if (!in->bad) {
        name_key(&o->name, canonical);
        record_require(in, strcmp(canonical, key) == 0);
    }
    o->is_private = record_get_flag(in);
    o->is_elsewhere = record_get_flag(in);
}

static void put_owner(struct record_out *out, const struct partial_owner *o)
{
    char key[NAME_MAX_SIZE];

    name_key(&o->name, key);
    record_put_text(out, key);
    record_put_u8(out, o->is_private);
    record_put_u8(out, o->is_elsewhere);
}

static int record_decode(struct db_value value, struct partial_record *r)
{
    struct record_in in;
    uint64_t covered_to = 0;

    record_open(&in, value, PARTIAL_RECORD_VERSION);
    get_owner(&in, &r->owner);
    r->size_bytes = record_get_u64(&in);
    r->started_at_s = record_get_i64(&in);
    r->extents.count = record_get_u16(&in);
    record_require(&in, r->size_bytes <= INT64_MAX && r->extents.count <= EXTENTS_MAX);
    for (unsigned i = 0; !in.bad && i < r->extents.count; i++) {
        struct extent *e = &r->extents.list[i];

        e->start = record_get_u64(&in);
        e->end = record_get_u64(&in);
        record_require(&in, (i == 0 || e->start > covered_to) && e->start < e->end &&
                                e->end <= r->size_bytes);
        covered_to = e->end;
    }
    return record_close(&in);
}

int partial_get(struct db_txn *txn, const struct digest *d, struct partial_record *r)
{
    uint8_t key[DIGEST_KEY_MAX];
    struct db_value value;
    int err = db_get(txn, DB_PARTIALS, key, digest_to_key(d, key), &value);

    return err != 0 ? err : record_decode(value, r);
}

int partial_put(struct db_txn *txn, const struct digest *d, const struct partial_record *r)
{
    uint8_t key[DIGEST_KEY_MAX];
    uint8_t buf[PARTIAL_RECORD_MAX];
    struct record_out out;

    CHECK(r->extents.count <= EXTENTS_MAX);
    record_start(&out, buf, sizeof buf, PARTIAL_RECORD_VERSION);
    put_owner(&out, &r->owner);
    record_put_u64(&out, r->size_bytes);
    record_put_i64(&out, r->started_at_s);
    record_put_u16(&out, (uint16_t)r->extents.count);
    for (unsigned i = 0; i < r->extents.count; i++) {
        record_put_u64(&out, r->extents.list[i].start);
        record_put_u64(&out, r->extents.list[i].end);
    }
    CHECK(record_finish(&out) == 0);
    return db_put(txn, DB_PARTIALS, key, digest_to_key(d, key), buf, out.len);
}

int partial_forget(struct db_txn *txn, const struct digest *d)
{
    uint8_t key[DIGEST_KEY_MAX];
    int err = db_delete(txn, DB_PARTIALS, key, digest_to_key(d, key));

    return err == ERR_NOT_FOUND ? 0 : err;
}

/* --- the folder --- */

int partial_walk_files(struct store *s, partial_visit *visit, void *arg)
{
    return folder_walk(store_partial_fd(s), visit, arg);
}

/* --- the sweep --- */

struct sweep {
    struct store *store;
    struct db_txn *txn;
    int64_t now_s;
    int64_t older_than_s;
    struct db_value *dropped; /* keys of the records that go; copies */
    size_t dropped_count;
    struct digest *taken; /* back from blobs/ */
    size_t taken_count;
    bool imports;     /* somebody does */
    unsigned removed; /* files */
};

static bool is_too_old(const struct sweep *sweep, const struct partial_record *r)
{
    int64_t age_s;

    return __builtin_sub_overflow(sweep->now_s, r->started_at_s, &age_s) ||
           age_s > sweep->older_than_s;
}

static bool has_file(struct store *s, const struct digest *d)
{
    char name[DIGEST_TEXT_MAX];
    struct stat st;

    return fstatat(store_partial_fd(s), store_partial_name(d, name), &st, AT_SYMLINK_NOFOLLOW) ==
               0 &&
           S_ISREG(st.st_mode);
}

/* A daemon that was killed between the rename and the commit left it in blobs/, whole and
 * synced. The next fetch goes on with all of it, which is verified once more by that. */
static bool take_back(const struct sweep *sweep, const struct digest *d,
                      const struct partial_record *r)
{
    int blobs_fd = store_blobs_fd(sweep->store, (enum digest_alg)d->alg);
    char name[DIGEST_TEXT_MAX], partial_name[DIGEST_TEXT_MAX];
    uint8_t key[DIGEST_KEY_MAX];
    struct db_value record;
    struct stat st;

    return !sweep->imports &&
           db_get(sweep->txn, DB_BLOBS, key, digest_to_key(d, key), &record) == ERR_NOT_FOUND &&
           fstatat(blobs_fd, store_blob_name(d, name), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISREG(st.st_mode) && (uint64_t)st.st_size == r->size_bytes &&
           renameat2(blobs_fd, name, store_partial_fd(sweep->store),
                     store_partial_name(d, partial_name), RENAME_NOREPLACE) == 0;
}

static int sweep_record(void *arg, struct db_value key, struct db_value value)
{
    struct sweep *sweep = arg;
    struct partial_record r;
    struct digest d;
    int used = digest_from_key(&d, key.data, key.size);

    if (used == (int)key.size && record_decode(value, &r) == 0 && !is_too_old(sweep, &r) &&
        has_file(sweep->store, &d))
        return 0;
    if (used == (int)key.size && record_decode(value, &r) == 0 && take_back(sweep, &d, &r)) {
        size_t taken_size = (sweep->taken_count + 1) * sizeof *sweep->taken;

        sweep->taken = mem_resize(sweep->taken, taken_size);
        sweep->taken[sweep->taken_count++] = d;
        return 0;
    }
    size_t size = (sweep->dropped_count + 1) * sizeof *sweep->dropped;

    sweep->dropped = mem_resize(sweep->dropped, size);
    sweep->dropped[sweep->dropped_count].data = mem_copy(key.data, key.size);
    sweep->dropped[sweep->dropped_count].size = key.size;
    sweep->dropped_count++;
    return 0;
}

static int record_whole(struct db_txn *txn, const struct digest *d)
{
    struct partial_record r;
    int err = partial_get(txn, d, &r);

    if (err != 0)
        return err;
    r.extents.count = 1;
    r.extents.list[0] = (struct extent){0, r.size_bytes};
    return partial_put(txn, d, &r);
}

static int sweep_records(struct sweep *sweep)
{
    int err = db_walk(sweep->txn, DB_PARTIALS, NULL, 0, NULL, 0, sweep_record, sweep);

    for (size_t i = 0; err == 0 && i < sweep->taken_count; i++)
        err = record_whole(sweep->txn, &sweep->taken[i]);
    free(sweep->taken);
    for (size_t i = 0; i < sweep->dropped_count; i++) {
        struct db_value *key = &sweep->dropped[i];

        if (err == 0)
            err = db_delete(sweep->txn, DB_PARTIALS, key->data, key->size);
        free((void *)key->data);
    }
    free(sweep->dropped);
    return err;
}

bool partial_is_recorded(struct db_txn *txn, const char *name)
{
    struct partial_record r;
    struct digest d;

    return store_partial_digest(name, &d) && partial_get(txn, &d, &r) == 0;
}

/* An import may run beside the daemon, or be taken up again. */
static bool is_import_under_way(const struct sweep *sweep, const char *name)
{
    struct stat st;
    int64_t age_s;

    return strncmp(name, STORE_IMPORT_PREFIX, sizeof STORE_IMPORT_PREFIX - 1) == 0 &&
           fstatat(store_partial_fd(sweep->store), name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           !__builtin_sub_overflow(sweep->now_s, st.st_mtim.tv_sec, &age_s) &&
           age_s <= sweep->older_than_s;
}

static int sweep_file(void *arg, const char *name)
{
    struct sweep *sweep = arg;
    bool is_upload = strncmp(name, STORE_UPLOAD_PREFIX, sizeof STORE_UPLOAD_PREFIX - 1) == 0;

    if (is_upload || partial_is_recorded(sweep->txn, name) || is_import_under_way(sweep, name))
        return 0;
    if (unlinkat(store_partial_fd(sweep->store), name, 0) == 0)
        sweep->removed++;
    else if (errno != EISDIR)
        return err_from_errno(errno);
    return 0;
}

int partial_sweep(struct store *s, struct db_txn *txn, int64_t now_s, int64_t older_than_s,
                  unsigned *removed)
{
    struct sweep sweep = {
        .store = s,
        .txn = txn,
        .now_s = now_s,
        .older_than_s = older_than_s,
        .imports = store_is_importing(s),
    };
    int err = sweep_records(&sweep);

    if (err == 0)
        err = partial_walk_files(s, sweep_file, &sweep);
    *removed = sweep.removed;
    return err;
}
