/* SPDX-License-Identifier: ISC */
/*
 * Upload sessions (OCI distribution-spec 1.1.1 "Pushing blobs"): what clients push goes to
 * a file as it arrives, is hashed on the way, and becomes a blob when its digest agrees.
 *
 * One engine for all workers. A session is on disk (cache/upload.h) and lives longer than
 * any request and than the daemon; a `struct upload` is one request's use of a session, of
 * which there is one at a time. Threads of the engine append and hash; a session stays with
 * one of them while it is used. Answers come as messages to the queue of the thread that
 * uses the upload, which alone may call what takes one.
 *
 *   upload_begin, upload_open  -->  answered: 0, or an error; then only upload_leave is left
 *      |
 *   upload_write ...           (after upload_begin also before its answer)
 *      |
 *   upload_settle, upload_finish, upload_cancel  -->  answered; one at a time
 *      |
 *   upload_leave               at any time
 */
#ifndef PROXY_UPLOAD_H
#define PROXY_UPLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/digest.h"
#include "cache/name.h"
#include "cache/store.h"
#include "proxy/log.h"
#include "proxy/queue.h"
#include "proxy/stats.h"
#include "proxy/storage.h"

#define UPLOAD_THREADS_MAX 8
/* Sessions on disk: for one more, the one that has rested longest without a byte ends; else
 * it is refused. Of one owner so many may rest, with which it is the same among his own. */
#define UPLOADS_MAX 4096
#define UPLOADS_RESTING_MAX 256
#define UPLOAD_BLOCK_BYTES (512u * 1024)
/* Staged and not yet in the file: above it an upload pauses. Of one, and of all together
 * (above that each may stage what one upload_write brings, when nothing else of it is). */
#define UPLOAD_STAGED_MAX (4 * UPLOAD_BLOCK_BYTES)
#define UPLOADS_STAGED_MAX (64u * 1024 * 1024)

struct upload;
struct uploads;

/* Sessions that nobody used for longer than `ttl_s` seconds are removed, now and from time
 * to time. */
struct uploads *uploads_start(struct store *s, struct storage *st, struct stats *stats,
                              struct log *log, unsigned threads, int64_t ttl_s);
/* Every upload must have been left, and the storage still runs. What is staged is written,
 * and what is being published is; the sessions stay on disk. NULL is legal. */
void uploads_stop(struct uploads **up);
/* Any thread; from the next removal on. */
void uploads_set_ttl(struct uploads *up, int64_t ttl_s);

/* Run by the thread of `answers`; never after upload_leave, never before the call that
 * they answer has returned. */
struct upload_calls {
    void (*answered)(void *arg, int err); /* of begin, open, settle, finish, cancel */
    void (*has_room)(void *arg);          /* after upload_write said to pause */
};

struct upload_order {
    struct name name; /* a local one */
    struct queue *answers;
    const struct upload_calls *calls;
    void *arg;
    const char *owner; /* of upload_begin, not used after it: whose it is, any text */
};

/* A new session. Answered 0 once it is on disk and recorded; ERR_BUSY when there are
 * UPLOADS_MAX, or UPLOADS_RESTING_MAX of its owner, and no one had no bytes; ERR_NO_SPACE,
 * ERR_FULL, ERR_IO. */
struct upload *upload_begin(struct uploads *up, const struct upload_order *o, enum digest_alg alg);
/* Go on with one. `id` is any text that a client sent. ERR_NOT_FOUND: unknown, ended, or of
 * another repository; ERR_BUSY: another request has it, or it is being finished. What an
 * earlier run of the daemon has received is hashed again while the upload goes on. */
struct upload *upload_open(struct uploads *up, const struct upload_order *o, const char *id);

/* Lives as long as the upload. */
const char *upload_id(const struct upload *u);
/* Bytes taken so far; after upload_open once that is answered, after an upload_settle that
 * failed those that are in the file. */
uint64_t upload_size(const struct upload *u);

/* Before the writes of a request: so many bytes come, if that is known, so that room is looked
 * for at once for all of them, and nothing is evicted for what cannot be held. */
void upload_expect(struct upload *u, uint64_t bytes);
/* Takes all, copying it; false: pause until has_room. After a failed write it is dropped. */
bool upload_write(struct upload *u, const void *data, size_t len);
/* Whether a write has failed: upload_settle or upload_finish will say how, and nothing of
 * what comes until then is kept. */
bool upload_has_failed(const struct upload *u);

/* Answered when all that was written is in the file: 0; or ERR_NO_SPACE, ERR_IO when
 * some is not. Then the session has what upload_size says, and may go on from there. */
void upload_settle(struct upload *u);
/* Settle, compare with the digest, publish and record the blob: 0, and it is on disk and
 * visible in the repository. ERR_MISMATCH: it has another digest. With either, the session
 * has ended. With any other error it is as after upload_settle, or gone when that is
 * not known. A digest of another algorithm than that of upload_begin makes all of the file
 * be hashed once more. */
void upload_finish(struct upload *u, const struct digest *d);
/* End the session, and forget what it received. Answered 0. */
void upload_cancel(struct upload *u);

/* What is under way goes on: what was written reaches the file, a finish completes. A
 * session whose begin was not answered yet is removed. A message may be in the queue of
 * `answers` still, which must be run once more before it is freed. NULL is legal; leaves
 * NULL. */
void upload_leave(struct upload **u);

#endif
