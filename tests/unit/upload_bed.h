/* SPDX-License-Identifier: ISC */
/* The engine of uploads with all that it needs. The test plays a worker: it uses uploads, and runs
 * the answers that come to its queue. */
#ifndef TESTS_UNIT_UPLOAD_BED_H
#define TESTS_UNIT_UPLOAD_BED_H

#include <dirent.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "cache/local.h"
#include "proxy/thread.h"
#include "proxy/upload_private.h"
#include "tests/unit/plug.h"
#include "tests/unit/scratch.h"

#define DEADLINE_MS 60000
#define KIB 1024u
#define MIB (1024u * 1024)
#define DATA_BYTES (8 * MIB)
#define DAY_S (24 * 3600)
#define NOT_YET 1 /* no error has this value */

struct bed {
    struct scratch *scratch;
    struct stats stats;
    struct storage *storage;
    struct uploads *uploads;
    struct queue *answers;
    uint8_t *data;
};

/* One who uses an upload. */
struct client {
    struct upload *upload;
    int err; /* the last answer, or NOT_YET */
    unsigned answers, rooms;
};

static inline void on_answered(void *arg, int err)
{
    struct client *c = arg;

    assert_int_equal(c->err, NOT_YET);
    c->answers++;
    c->err = err;
}

static inline void on_room(void *arg)
{
    ((struct client *)arg)->rooms++;
}

static const struct upload_calls upload_calls = {on_answered, on_room};

static inline void bed_start(struct bed *b, int64_t ttl_s)
{
    memset(&b->stats, 0, sizeof b->stats);
    b->storage = storage_start(b->scratch->store, &b->stats, NULL);
    b->uploads = uploads_start(b->scratch->store, b->storage, &b->stats, NULL, 2, ttl_s);
}

static inline void bed_stop(struct bed *b)
{
    uploads_stop(&b->uploads);
    storage_stop(&b->storage);
    queue_run(b->answers, b);
}

/* As a restart of the daemon. */
static inline void bed_restart(struct bed *b, int64_t ttl_s)
{
    bed_stop(b);
    store_close(&b->scratch->store);
    b->scratch->store = scratch_store(b->scratch->dir);
    bed_start(b, ttl_s);
}

static inline int setup(void **state)
{
    struct bed *b = calloc(1, sizeof *b);
    uint32_t x = 1;

    assert_non_null(b);
    b->scratch = scratch_new();
    b->answers = queue_new();
    bed_start(b, DAY_S);
    b->data = malloc(DATA_BYTES);
    assert_non_null(b->data);
    for (size_t i = 0; i < DATA_BYTES; i++) {
        x = x * 1664525 + 1013904223;
        b->data[i] = (uint8_t)(x >> 24);
    }
    *state = b;
    return 0;
}

static inline int teardown(void **state)
{
    struct bed *b = *state;

    bed_stop(b);
    queue_free(&b->answers);
    scratch_free(b->scratch);
    free(b->data);
    free(b);
    return 0;
}

/* Run answers until the condition holds. */
#define AWAIT(b, condition)                                                                        \
    do {                                                                                           \
        int64_t end_ms = clock_now_ms() + DEADLINE_MS;                                             \
        while (!(condition)) {                                                                     \
            if (clock_now_ms() > end_ms)                                                           \
                fail_msg("waited in vain for %s", #condition);                                     \
            queue_wait((b)->answers, 10);                                                          \
            queue_run((b)->answers, (b));                                                          \
        }                                                                                          \
    } while (0)

/* --- what clients do --- */

static inline struct name local_name(const char *repository)
{
    struct name n;

    assert_int_equal(name_set_local(&n, repository, strlen(repository)), 0);
    return n;
}

static inline struct upload_order order(struct bed *b, struct client *c, const char *repository)
{
    memset(c, 0, sizeof *c);
    c->err = NOT_YET;
    return (struct upload_order){local_name(repository), b->answers, &upload_calls, c, NULL};
}

static inline unsigned resting(struct bed *b, const char *owner)
{
    pthread_mutex_lock(&b->uploads->lock);
    unsigned count = upload_owners_resting(b->uploads->owners, owner);
    pthread_mutex_unlock(&b->uploads->lock);
    return count;
}

static inline int answer_of(struct bed *b, struct client *c)
{
    AWAIT(b, c->err != NOT_YET);
    return c->err;
}

static inline void ask_begin(struct bed *b, struct client *c, enum digest_alg alg)
{
    struct upload_order o = order(b, c, "team/app");

    c->upload = upload_begin(b->uploads, &o, alg);
}

static inline void begin(struct bed *b, struct client *c)
{
    ask_begin(b, c, DIGEST_SHA256);
    assert_int_equal(answer_of(b, c), 0);
    assert_true(upload_id_is_valid(upload_id(c->upload), strlen(upload_id(c->upload))));
    assert_int_equal(upload_size(c->upload), 0);
}

/* As a POST that brings nothing. */
static inline void begin_only(struct bed *b, char id[UPLOAD_ID_SIZE])
{
    struct client c;

    begin(b, &c);
    memcpy(id, upload_id(c.upload), UPLOAD_ID_SIZE);
    upload_leave(&c.upload);
}

static inline int reopen_in(struct bed *b, struct client *c, const char *id, const char *repository)
{
    struct upload_order o = order(b, c, repository);

    c->upload = upload_open(b->uploads, &o, id);
    assert_int_equal(c->err, NOT_YET);
    return answer_of(b, c);
}

static inline int reopen(struct bed *b, struct client *c, const char *id)
{
    return reopen_in(b, c, id, "team/app");
}

/* What a session is open for, or why it cannot be. */
static inline int open_error(struct bed *b, const char *id)
{
    struct client c;
    int err = reopen(b, &c, id);

    upload_leave(&c.upload);
    return err;
}

/* In pieces of many sizes, as a network gives them, and no faster than it is taken. */
static inline void write_range(struct bed *b, struct client *c, size_t from, size_t to)
{
    size_t part = 1;

    while (from < to) {
        size_t len = part < to - from ? part : to - from;
        unsigned rooms = c->rooms;
        if (!upload_write(c->upload, b->data + from, len))
            AWAIT(b, c->rooms > rooms);
        from += len;
        part = part * 7 % 140001 + 1;
    }
}

static inline int settle(struct bed *b, struct client *c)
{
    c->err = NOT_YET;
    upload_settle(c->upload);
    return answer_of(b, c);
}

static inline void ask_finish(struct client *c, const struct digest *d)
{
    c->err = NOT_YET;
    upload_finish(c->upload, d);
}

static inline int finish(struct bed *b, struct client *c, const struct digest *d)
{
    ask_finish(c, d);
    answer_of(b, c);
    int err = c->err;
    upload_leave(&c->upload);
    return err;
}

static inline int cancel(struct bed *b, struct client *c)
{
    c->err = NOT_YET;
    upload_cancel(c->upload);
    answer_of(b, c);
    int err = c->err;
    upload_leave(&c->upload);
    return err;
}

/* As a PATCH. */
static inline void append(struct bed *b, const char *id, size_t from, size_t to)
{
    struct client c;

    assert_int_equal(reopen(b, &c, id), 0);
    assert_int_equal(upload_size(c.upload), from);
    write_range(b, &c, from, to);
    assert_int_equal(upload_size(c.upload), to);
    assert_int_equal(settle(b, &c), 0);
    assert_int_equal(upload_size(c.upload), to);
    upload_leave(&c.upload);
}

/* --- what is there --- */

static inline struct digest digest_of_data(const struct bed *b, enum digest_alg alg, size_t len)
{
    struct digest d;

    digest_of(alg, b->data, len, &d);
    return d;
}

static inline unsigned files_in(struct bed *b, const char *folder)
{
    DIR *dir = opendir(scratch_path(b->scratch->dir, folder));
    struct dirent *e;
    unsigned count = 0;

    assert_non_null(dir);
    while ((e = readdir(dir)))
        count += e->d_name[0] != '.';
    closedir(dir);
    return count;
}

/* How many sessions the index has. */
static inline uint64_t records(struct bed *b)
{
    struct db_reader *reader;
    struct db_txn *txn;
    uint64_t count;

    reader = scratch_reader(b->scratch);
    assert_int_equal(db_read(reader, &txn), 0);
    assert_int_equal(db_count(txn, DB_UPLOADS, &count), 0);
    db_read_end(reader);
    db_reader_free(&reader);
    return count;
}

/* The size of a blob in the repository, or -1. */
static inline int64_t stored_size(struct bed *b, const char *repository, const struct digest *d)
{
    struct name n = local_name(repository);
    struct blob_record r;
    struct db_reader *reader;
    struct db_txn *txn;

    reader = scratch_reader(b->scratch);
    assert_int_equal(db_read(reader, &txn), 0);
    bool is_there = local_find_blob(txn, &n, d, &r) == 0;
    db_read_end(reader);
    db_reader_free(&reader);
    return is_there ? (int64_t)r.size_bytes : -1;
}

/* The blob is there, and its file has what the digest says. */
static inline void expect_stored(struct bed *b, const struct digest *d, size_t size)
{
    uint8_t *data = malloc(size + 1);
    struct digest is;
    int fd;

    assert_non_null(data);
    assert_int_equal(stored_size(b, "team/app", d), size);
    assert_int_equal(blob_open(b->scratch->store, d, size, &fd), 0);
    assert_int_equal(pread(fd, data, size + 1, 0), size);
    close(fd);
    digest_of((enum digest_alg)d->alg, data, size, &is);
    free(data);
    assert_true(digest_equal(d, &is));
}

/* Nobody uses a session, and nothing is under way. */
static inline bool is_quiet(struct bed *b)
{
    pthread_mutex_lock(&b->uploads->lock);
    bool is = !uploads_are_busy(b->uploads);
    pthread_mutex_unlock(&b->uploads->lock);
    return is;
}

/* No session is left, in no form. */
static inline void expect_no_sessions(struct bed *b)
{
    assert_int_equal(files_in(b, "partial"), 0);
    assert_int_equal(records(b), 0);
    assert_int_equal(b->stats.uploads, 0);
}

/* --- threads --- */

/* The thread that a session is with. */
static inline struct queue *thread_of(struct client *c)
{
    return c->upload->session->thread->queue;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
