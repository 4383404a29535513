/* SPDX-License-Identifier: ISC */
#include "cache/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/beneath.h"
#include "cache/err.h"
#include "cache/partial.h"
#include "cache/record.h"
#include "cache/room.h"
#include "cache/tempfile.h"

#define UPLOAD_RECORD_VERSION 1
#define UPLOAD_RECORD_MAX (1 + 2 + NAME_MAX_SIZE + 1 + 8)
#define ID_LEN (UPLOAD_ID_SIZE - 1)
#define PREFIX_LEN (sizeof STORE_UPLOAD_PREFIX - 1)
#define FILE_NAME_SIZE (PREFIX_LEN + UPLOAD_ID_SIZE)
/* How young a file without a record may be: its record is not committed yet. */
#define ORPHAN_AGE_S 60
#define STAT_BLOCK_BYTES 512
/* Room is asked for in steps: a share of what there is, between these. */
#define CLAIM_SHARE 4
#define CLAIM_MIN_BYTES (UINT64_C(64) << 10)
#define CLAIM_MAX_BYTES (UINT64_C(8) << 20)

/* --- ids --- */

void upload_id_make(char id[UPLOAD_ID_SIZE])
{
    uint8_t random[ID_LEN / 2];

    CHECK(getrandom(random, sizeof random, 0) == (ssize_t)sizeof random);
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(id + 2 * i, 3, "%02x", random[i]);
}

bool upload_id_is_valid(const char *text, size_t len)
{
    static const char digits[] = "0123456789abcdef";

    if (len != ID_LEN)
        return false;
    for (size_t i = 0; i < len; i++)
        if (memchr(digits, text[i], sizeof digits - 1) == NULL)
            return false;
    return true;
}

static bool is_id(const char *id)
{
    return upload_id_is_valid(id, strlen(id));
}

/* --- the record --- */

static int record_decode(struct db_value value, struct upload_record *r)
{
    struct record_in in;

    record_open(&in, value, UPLOAD_RECORD_VERSION);
    const char *repository = record_get_text(&in);

    r->alg = (enum digest_alg)record_get_u8(&in);
    r->started_at_s = record_get_i64(&in);
    record_require(&in, r->alg == DIGEST_SHA256 || r->alg == DIGEST_SHA512);
    record_require(&in, name_set_local(&r->name, repository, strlen(repository)) == 0);
    return record_close(&in);
}

int upload_get(struct db_txn *txn, const char *id, struct upload_record *r)
{
    struct db_value value;
    int err = is_id(id) ? db_get(txn, DB_UPLOADS, id, ID_LEN, &value) : ERR_NOT_FOUND;

    return err != 0 ? err : record_decode(value, r);
}

int upload_put(struct db_txn *txn, const char *id, const struct upload_record *r)
{
    uint8_t buf[UPLOAD_RECORD_MAX];
    struct record_out out;

    CHECK(is_id(id) && name_is_local(&r->name));
    record_start(&out, buf, sizeof buf, UPLOAD_RECORD_VERSION);
    record_put_text(&out, r->name.repository);
    record_put_u8(&out, (uint8_t)r->alg);
    record_put_i64(&out, r->started_at_s);
    CHECK(record_finish(&out) == 0);
    return db_put(txn, DB_UPLOADS, id, ID_LEN, buf, out.len);
}

int upload_forget(struct db_txn *txn, const char *id)
{
    int err = is_id(id) ? db_delete(txn, DB_UPLOADS, id, ID_LEN) : 0;

    return err == ERR_NOT_FOUND ? 0 : err;
}

/* --- the file --- */

struct upload_file {
    struct store *store;
    char name[FILE_NAME_SIZE];
    int fd;
    uint64_t size_bytes;
    uint64_t flushed_bytes;
    uint64_t claimed_bytes; /* of the room */
    bool has_rest;          /* of a failed append, past the size */
    bool published;
};

static void file_name(const char *id, char out[FILE_NAME_SIZE])
{
    CHECK(is_id(id));
    memcpy(out, STORE_UPLOAD_PREFIX, PREFIX_LEN);
    memcpy(out + PREFIX_LEN, id, UPLOAD_ID_SIZE);
}

static int file_open(struct store *s, const char *id, int flags, struct upload_file **f)
{
    struct upload_file *opened = mem_new(sizeof *opened);
    struct stat st;

    opened->store = s;
    file_name(id, opened->name);
    room_open(store_room(s), opened->name);
    opened->fd = beneath_open(store_partial_fd(s), opened->name,
                              O_RDWR | O_CLOEXEC | O_NONBLOCK | flags, 0600);
    if (opened->fd < 0) {
        int err = err_from_errno(errno);

        upload_file_close(&opened);
        return err;
    }
    if (fstat(opened->fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        upload_file_close(&opened);
        return ERR_IO;
    }
    opened->size_bytes = (uint64_t)st.st_size;
    opened->claimed_bytes = opened->size_bytes;
    *f = opened;
    return 0;
}

int upload_file_create(struct store *s, const char *id, struct upload_file **f)
{
    return file_open(s, id, O_CREAT | O_EXCL, f);
}

int upload_file_open(struct store *s, const char *id, struct upload_file **f, uint64_t *size_bytes)
{
    int err = is_id(id) ? file_open(s, id, 0, f) : ERR_NOT_FOUND;

    if (err == 0)
        *size_bytes = (*f)->size_bytes;
    return err;
}

/* The size of the file is what was received: what a failed append left goes. */
static int drop_rest(struct upload_file *f)
{
    if (f->has_rest && ftruncate(f->fd, (off_t)f->size_bytes) != 0)
        return err_from_errno(errno);
    f->has_rest = false;
    return 0;
}

static int claim(struct upload_file *f, uint64_t size_bytes)
{
    uint64_t step = size_bytes / CLAIM_SHARE;

    if (size_bytes <= f->claimed_bytes)
        return 0;
    if (step < CLAIM_MIN_BYTES)
        step = CLAIM_MIN_BYTES;
    if (step > CLAIM_MAX_BYTES)
        step = CLAIM_MAX_BYTES;
    uint64_t bytes = size_bytes - 1 + step - (size_bytes - 1) % step;
    int err = room_claim(store_room(f->store), f->name, bytes);

    /* The last of the room is not for steps. */
    if (err == ERR_NO_SPACE) {
        bytes = size_bytes;
        err = room_claim(store_room(f->store), f->name, bytes);
    }
    if (err == 0)
        f->claimed_bytes = bytes;
    return err;
}

int upload_file_append(struct upload_file *f, const void *data, size_t len)
{
    CHECK(!f->published);
    if (len > INT64_MAX - f->size_bytes)
        return ERR_TOO_LARGE;
    int err = drop_rest(f);

    if (err == 0)
        err = claim(f, f->size_bytes + len);
    if (err == 0)
        err = file_write(f->fd, data, len, (off_t)f->size_bytes);
    if (err == 0) {
        f->size_bytes += len;
        return 0;
    }
    if (err == ERR_NO_SPACE && f->claimed_bytes >= f->size_bytes + len)
        room_refused(store_room(f->store), len);
    /* Should it fail now, it is tried again by the next call. */
    f->has_rest = true;
    (void)drop_rest(f);
    return err;
}

const char *upload_file_name(const struct upload_file *f)
{
    return f->name;
}

uint64_t upload_file_need(const struct upload_file *f, size_t len)
{
    return f->size_bytes + len;
}

int upload_file_fd(const struct upload_file *f)
{
    return f->fd;
}

void upload_file_flush_early(struct upload_file *f)
{
    (void)sync_file_range(f->fd, (off_t)f->flushed_bytes, (off_t)(f->size_bytes - f->flushed_bytes),
                          SYNC_FILE_RANGE_WRITE);
    f->flushed_bytes = f->size_bytes;
}

int upload_file_publish(struct upload_file *f, const struct digest *d)
{
    char to[DIGEST_TEXT_MAX];
    int blobs_dir = store_blobs_fd(f->store, d->alg);

    CHECK(!f->published);
    int err = drop_rest(f);

    if (err == 0)
        err = file_sync(f->fd);
    if (err == 0 &&
        renameat(store_partial_fd(f->store), f->name, blobs_dir, store_blob_name(d, to)) != 0)
        err = err_from_errno(errno);
    if (err != 0)
        return err;
    f->published = true;
    return file_sync(blobs_dir);
}

void upload_file_close(struct upload_file **f)
{
    struct stat st;

    if (*f != NULL) {
        bool is_kept =
            (*f)->fd >= 0 && !(*f)->published && fstat((*f)->fd, &st) == 0 && st.st_nlink > 0;

        room_close(store_room((*f)->store), (*f)->name,
                   is_kept ? (uint64_t)st.st_blocks * STAT_BLOCK_BYTES : 0);
        if ((*f)->fd >= 0)
            close((*f)->fd);
        free(*f);
        *f = NULL;
    }
}

void upload_file_discard(struct upload_file **f)
{
    if (*f != NULL) {
        if (!(*f)->published)
            unlinkat(store_partial_fd((*f)->store), (*f)->name, 0);
        upload_file_close(f);
    }
}

/* --- the sweep --- */

struct sweep {
    struct store *store;
    struct db_txn *txn;
    int64_t now_s;
    int64_t older_than_s;
    struct db_value *dropped; /* keys of the records that go; copies */
    size_t dropped_count;
    unsigned removed;
};

static bool is_older(const struct sweep *sweep, int64_t then_s, int64_t limit_s)
{
    int64_t age_s;

    return __builtin_sub_overflow(sweep->now_s, then_s, &age_s) || age_s > limit_s;
}

/* When the file was appended to last; false when there is none. */
static bool changed_at(const struct sweep *sweep, const char *name, int64_t *when_s)
{
    struct stat st;

    if (fstatat(store_partial_fd(sweep->store), name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISREG(st.st_mode))
        return false;
    *when_s = st.st_mtim.tv_sec;
    return true;
}

/* A session to which nothing came counts from its begin. */
static bool is_alive(const struct sweep *sweep, struct db_value key, struct db_value value)
{
    char id[UPLOAD_ID_SIZE] = "";
    char name[FILE_NAME_SIZE];
    struct upload_record r;
    int64_t used_at_s;

    if (!upload_id_is_valid(key.data, key.size) || record_decode(value, &r) != 0)
        return false;
    memcpy(id, key.data, ID_LEN);
    file_name(id, name);
    if (!changed_at(sweep, name, &used_at_s))
        return false;
    if (used_at_s < r.started_at_s)
        used_at_s = r.started_at_s;
    return !is_older(sweep, used_at_s, sweep->older_than_s);
}

static int sweep_record(void *arg, struct db_value key, struct db_value value)
{
    struct sweep *sweep = arg;

    if (is_alive(sweep, key, value))
        return 0;
    size_t size = (sweep->dropped_count + 1) * sizeof *sweep->dropped;

    sweep->dropped = mem_resize(sweep->dropped, size);
    sweep->dropped[sweep->dropped_count].data = mem_copy(key.data, key.size);
    sweep->dropped[sweep->dropped_count].size = key.size;
    sweep->dropped_count++;
    return 0;
}

static int remove_file(struct store *s, const char *name)
{
    if (unlinkat(store_partial_fd(s), name, 0) != 0 && errno != ENOENT && errno != EISDIR)
        return err_from_errno(errno);
    return 0;
}

/* The record and its file. */
static int drop_session(struct sweep *sweep, const struct db_value *key)
{
    char name[FILE_NAME_SIZE];
    int err = db_delete(sweep->txn, DB_UPLOADS, key->data, key->size);

    if (err != 0)
        return err;
    sweep->removed++;
    if (!upload_id_is_valid(key->data, key->size))
        return 0;
    file_name(key->data, name);
    return remove_file(sweep->store, name);
}

static int sweep_records(struct sweep *sweep)
{
    int err = db_walk(sweep->txn, DB_UPLOADS, NULL, 0, NULL, 0, sweep_record, sweep);

    for (size_t i = 0; i < sweep->dropped_count; i++) {
        struct db_value *key = &sweep->dropped[i];

        if (err == 0)
            err = drop_session(sweep, key);
        free((void *)key->data);
    }
    free(sweep->dropped);
    return err;
}

static int sweep_file(void *arg, const char *name)
{
    struct sweep *sweep = arg;
    struct upload_record r;
    int64_t changed_at_s;

    if (strncmp(name, STORE_UPLOAD_PREFIX, PREFIX_LEN) != 0)
        return 0;
    int err = upload_get(sweep->txn, name + PREFIX_LEN, &r);

    if (err != ERR_NOT_FOUND)
        return err;
    if (!changed_at(sweep, name, &changed_at_s) || !is_older(sweep, changed_at_s, ORPHAN_AGE_S))
        return 0;
    err = remove_file(sweep->store, name);
    if (err == 0)
        sweep->removed++;
    return err;
}

int upload_sweep(struct store *s, struct db_txn *txn, int64_t now_s, int64_t older_than_s,
                 unsigned *removed)
{
    struct sweep sweep = {.store = s, .txn = txn, .now_s = now_s, .older_than_s = older_than_s};
    int err = sweep_records(&sweep);

    if (err == 0)
        err = partial_walk_files(s, sweep_file, &sweep);
    *removed = sweep.removed;
    return err;
}
