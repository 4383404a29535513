/* SPDX-License-Identifier: ISC */
/*
 * Upload sessions on disk: a file partial/upload-<id> that a blob grows in as a client
 * sends it, and a record of what the session is. The size of the file is how much was
 * received; nothing of it is verified. Sessions survive a restart.
 *
 * Order: the file is made before its record is committed, and published before the record
 * is forgotten. So a file without a record, or a record without a file, is a session that
 * was cut short at its begin or at its end; upload_sweep removes both.
 */
#ifndef CACHE_UPLOAD_H
#define CACHE_UPLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"
#include "cache/name.h"
#include "cache/store.h"

/* 32 lower-case hexadecimal digits, NUL. Whoever knows an id may go on with the session:
 * it is random. */
#define UPLOAD_ID_SIZE 33

void upload_id_make(char id[UPLOAD_ID_SIZE]);
bool upload_id_is_valid(const char *text, size_t len);

/* --- the record --- */

struct upload_record {
    struct name name;     /* a local one */
    enum digest_alg alg;  /* what is hashed while it arrives */
    int64_t started_at_s; /* Unix time */
};

/* ERR_NOT_FOUND when there is no such session. The id is valid in all of these. */
MUST_CHECK int upload_get(struct db_txn *txn, const char *id, struct upload_record *r);
MUST_CHECK int upload_put(struct db_txn *txn, const char *id, const struct upload_record *r);
/* 0 also when there was none. */
MUST_CHECK int upload_forget(struct db_txn *txn, const char *id);

/* --- the file --- */

/* One user at a time, from one thread at a time. */
struct upload_file;

MUST_CHECK int upload_file_create(struct store *s, const char *id, struct upload_file **f);
/* ERR_NOT_FOUND when it is gone. */
MUST_CHECK int upload_file_open(struct store *s, const char *id, struct upload_file **f,
                                uint64_t *size_bytes);
/* Append all of the buffer. On failure nothing is kept of it (ERR_NO_SPACE: go on when
 * there is room again). */
MUST_CHECK int upload_file_append(struct upload_file *f, const void *data, size_t len);
/* Its name in partial/, and how large it must be allowed to grow for so many bytes more. */
const char *upload_file_name(const struct upload_file *f);
uint64_t upload_file_need(const struct upload_file *f, size_t len);
/* A descriptor for reading, from any offset below the size, that lives as long as the
 * file is open. */
int upload_file_fd(const struct upload_file *f);
/* Start to write what was appended since the last call to the disk, without waiting for
 * it, so that publishing has little left to wait for. A hint. */
void upload_file_flush_early(struct upload_file *f);
/* fsync, rename into blobs/ (over the same content, if it is there), fsync the folder. The
 * digest must be verified. From the rename on the session's file is gone, whatever the
 * result, and only closing and discarding are legal. ERR_IO when something was not synced:
 * the caller stops writing. ERR_NOT_FOUND when the file was swept away. */
MUST_CHECK int upload_file_publish(struct upload_file *f, const struct digest *d);
/* Close and keep the file for later. NULL is legal. */
void upload_file_close(struct upload_file **f);
/* Close and remove the file, unless it was published. NULL is legal. */
void upload_file_discard(struct upload_file **f);

/* --- the sweep --- */

/* At start-up and from time to time: remove sessions to which nothing was appended for
 * longer than `older_than_s`, records whose file is gone or that are damaged, and files
 * without a record (those of the last minute are spared: their record may be under way).
 * Returns the number of sessions, whole or half, in `*removed`. Runs inside the write
 * transaction; the files go at once, so that an abort leaves records for the next sweep. */
MUST_CHECK int upload_sweep(struct store *s, struct db_txn *txn, int64_t now_s,
                            int64_t older_than_s, unsigned *removed);

#endif
