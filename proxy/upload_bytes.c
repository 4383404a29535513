/* SPDX-License-Identifier: ISC */
/*
 * The bytes of a session: from its blocks to its file and its hash.
 *
 * The hash goes in order. What is not in it yet, of an earlier run or because another
 * algorithm is asked for, is read back from the file, a step at a time between the other
 * things that the session and its thread have to do.
 */
#include "proxy/upload_session.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "cache/err.h"
#include "proxy/upload_private.h"

/* In steps: larger ones make the kernel fetch memory in the largest units, which on a
 * virtual machine may have to come back from its host first. */
#define APPEND_STEP_BYTES (64u * 1024)
/* Sent to the disk early, so that the fsync at the end has little left to do. */
#define FLUSH_BYTES (8u * 1024 * 1024)
/* Read back and hashed in one step; more than may be appended in one. */
#define CATCH_UP_STEP_BYTES (4u * 1024 * 1024)
#define CATCH_UP_READ_BYTES (256u * 1024)

/* --- bytes --- */

bool session_is_staged(const struct session *s)
{
    return s->filling || !STAILQ_EMPTY(&s->blocks);
}

static uint64_t need_bytes(struct session *s, size_t len)
{
    uint64_t step_bytes = upload_file_need(s->file, len);

    pthread_mutex_lock(&s->uploads->lock);
    uint64_t expected_bytes = s->expected_bytes;
    pthread_mutex_unlock(&s->uploads->lock);
    return expected_bytes > step_bytes ? expected_bytes : step_bytes;
}

/* Others of this thread wait, too: they could go no further either. */
static int append_with_room(struct session *s, const uint8_t *data, size_t len)
{
    int err = upload_file_append(s->file, data, len);

    if (err == ERR_NO_SPACE && storage_wait_for_room(s->uploads->storage, upload_file_name(s->file),
                                                     need_bytes(s, len)) == 0)
        err = upload_file_append(s->file, data, len);
    return err;
}

static int append_step(struct session *s, const uint8_t *data, size_t len)
{
    int err = append_with_room(s, data, len);

    if (err != 0)
        return err;
    if (s->hashed_bytes == s->written_bytes) {
        hash_update(s->hash, data, len);
        s->hashed_bytes += len;
    }
    s->written_bytes += len;
    s->unflushed_bytes += len;
    if (s->unflushed_bytes >= FLUSH_BYTES) {
        upload_file_flush_early(s->file);
        s->unflushed_bytes = 0;
    }
    return 0;
}

static void append(struct session *s, const struct upload_block *b)
{
    uint64_t before_bytes = s->written_bytes;
    int err = storage_is_writable(s->uploads->storage) ? 0 : ERR_IO;

    for (size_t done = 0; done < b->len && err == 0;) {
        size_t left = b->len - done;
        size_t step = left < APPEND_STEP_BYTES ? left : APPEND_STEP_BYTES;
        err = append_step(s, b->memory + done, step);
        done += step;
    }
    STATS_ADD(s->uploads->stats, upload_bytes, s->written_bytes - before_bytes);
    if (err == 0)
        return;
    STATS_ADD(s->uploads->stats, store_failures, 1);
    session_note_failure(s, err);
    pthread_mutex_lock(&s->uploads->lock);
    s->err = err;
    pthread_mutex_unlock(&s->uploads->lock);
}

/* The first that is full; when there is none, what there is. */
static struct upload_block *take_block(struct session *s)
{
    pthread_mutex_lock(&s->uploads->lock);
    struct upload_block *b = STAILQ_FIRST(&s->blocks);
    if (b) {
        STAILQ_REMOVE_HEAD(&s->blocks, link);
    } else {
        b = s->filling;
        s->filling = NULL;
    }
    pthread_mutex_unlock(&s->uploads->lock);
    return b;
}

void session_take_bytes(struct session *s)
{
    struct upload_block *b = take_block(s);

    if (!b)
        return;
    if (s->err == 0)
        append(s, b);
    pthread_mutex_lock(&s->uploads->lock);
    upload_block_drop(s->uploads, s, b);
    upload_drained(s);
    pthread_mutex_unlock(&s->uploads->lock);
}

/* --- hashing what is not in the hash yet --- */

bool session_is_behind(const struct session *s)
{
    return s->hashed_bytes < s->written_bytes;
}

static int catch_up_step(struct session *s)
{
    uint8_t *buf = mem_resize(NULL, CATCH_UP_READ_BYTES);
    uint64_t limit = s->hashed_bytes + CATCH_UP_STEP_BYTES;
    int err = 0;

    if (limit > s->written_bytes)
        limit = s->written_bytes;
    while (s->hashed_bytes < limit && err == 0) {
        uint64_t left = limit - s->hashed_bytes;
        size_t want = left < CATCH_UP_READ_BYTES ? (size_t)left : CATCH_UP_READ_BYTES;
        ssize_t got = pread(upload_file_fd(s->file), buf, want, (off_t)s->hashed_bytes);
        if (got > 0) {
            hash_update(s->hash, buf, (size_t)got);
            s->hashed_bytes += (uint64_t)got;
        } else if (got == 0 || errno != EINTR) {
            err = ERR_IO;
        }
    }
    free(buf);
    return err;
}

void session_catch_up(struct session *s)
{
    if (!session_is_behind(s) || s->is_unreadable || catch_up_step(s) == 0)
        return;
    STATS_ADD(s->uploads->stats, store_failures, 1);
    session_note_failure(s, ERR_IO);
    s->is_unreadable = true;
}

void session_hash_anew(struct session *s, enum digest_alg alg)
{
    hash_free(&s->hash);
    s->alg = alg;
    s->hash = hash_new(alg);
    s->hashed_bytes = 0;
}
