/* SPDX-License-Identifier: ISC */
/*
 * The index: LMDB behind a few verbs (lmdb.h is included in db.c alone).
 *
 * One process-wide `struct db`. One thread writes (the storage thread); any
 * thread reads, each with a `struct db_reader` of its own, in transactions that
 * begin and end within one callback: a reader left open pins pages for ever.
 * Values point into the map and are valid until the transaction ends.
 */
#ifndef CACHE_DB_H
#define CACHE_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"

/* One row a table: symbol, its name on disk. "name" is what name_key makes of it; strings
 * in keys end with a NUL where something follows. */
#define DB_TABLES(ROW)                                                                             \
    ROW(DB_META, "meta")                 /* version of the index; what the blobs take */           \
    ROW(DB_BLOBS, "blobs")               /* digest -> blob record */                               \
    ROW(DB_MANIFESTS, "manifests")       /* digest -> manifest record */                           \
    ROW(DB_TAGS, "tags")                 /* name:tag -> tag record */                              \
    ROW(DB_LINKS, "links")               /* name, digest -> seen or deleted, when */               \
    ROW(DB_SOURCES, "sources")           /* digest, name -> size */                                \
    ROW(DB_PARENTS, "parents")           /* digest, digest of a manifest, role -> nothing */       \
    ROW(DB_DIFFS, "diffs")               /* diff_id, digest -> how it is known */                  \
    ROW(DB_CONTENTS, "contents")         /* digest -> diff_id that inflating it has shown */       \
    ROW(DB_URLS, "urls")                 /* digest, registry, number -> url of a foreign layer */  \
    ROW(DB_CLAIMS, "claims")             /* hash of a url, digest, registry -> who says so */      \
    ROW(DB_REFERRERS, "referrers")       /* name, subject digest, digest -> descriptor */          \
    ROW(DB_LISTS, "lists")               /* name, query -> kept answer */                          \
    ROW(DB_PARTIALS, "partials")         /* digest -> size and extents on disk */                  \
    ROW(DB_LEDGER, "ledger")             /* day, registry -> bytes and requests */                 \
    ROW(DB_REPOSITORIES, "repositories") /* name -> public, private or local */                    \
    ROW(DB_PINS, "pins")                 /* name:tag or name@digest -> when, whose */              \
    ROW(DB_PREFETCHES, "prefetches")     /* section, reference -> builds; section -> last run */   \
    ROW(DB_HOLDERS, "holders")           /* digest, name of a local repository -> nothing */       \
    ROW(DB_UPLOADS, "uploads")           /* id of a session -> repository, algorithm, when */      \
    ROW(DB_LEAVING, "leaving")           /* digest -> size: forgotten, the file may be there */    \
    ROW(DB_CLIENTS, "clients")           /* digest -> addresses of its latest users, when */       \
    ROW(DB_LOST, "lost")                 /* digest -> size, when and why it is not held any more */

enum db_table {
#define DB_ENUM(symbol, name) symbol,
    DB_TABLES(DB_ENUM)
#undef DB_ENUM
        DB_TABLE_COUNT
};

struct db;
struct db_txn;
struct db_reader;

struct db_value {
    const void *data;
    size_t size;
};

/* The longest key that a table takes, in bytes. */
#define DB_KEY_MAX 511

/* Open (or, unless `read_only`, create) the index in the directory `path`.
 * Clears stale readers. That of an earlier release becomes one of ours, which the earlier
 * one refuses: tables that it did not have are created; read only they are empty, and it stays
 * as it is. ERR_VERSION when a later version wrote it, ERR_DAMAGED when it is not an index. */
MUST_CHECK int db_open(struct db **db, const char *path, size_t map_bytes, bool read_only);
/* From now on what was read of the map is let go when it is much (cache/db_trim.h): for
 * commands, of one thread. */
void db_keep_small(struct db *db);
/* All readers must be freed before. NULL is legal. */
void db_close(struct db **db);

/* A reader for one thread at a time. */
MUST_CHECK int db_reader_new(struct db *db, struct db_reader **r);
void db_reader_free(struct db_reader **r);
/* Begin a read on the newest commit; the transaction belongs to the reader and
 * ends with db_read_end. While a commit is under way, LMDB may show it to one read
 * and not yet to the next; once db_commit has returned, every new read sees it. */
MUST_CHECK int db_read(struct db_reader *r, struct db_txn **txn);
void db_read_end(struct db_reader *r);

/* Begin the write transaction (storage thread only). */
MUST_CHECK int db_write(struct db *db, struct db_txn **txn);
/* Commit, durable on return; `*txn` becomes NULL whatever the result. */
MUST_CHECK int db_commit(struct db_txn **txn);
void db_abort(struct db_txn **txn);

/* ERR_NOT_FOUND when there is none. */
MUST_CHECK int db_get(struct db_txn *txn, enum db_table table, const void *key, size_t key_len,
                      struct db_value *value);
MUST_CHECK int db_put(struct db_txn *txn, enum db_table table, const void *key, size_t key_len,
                      const void *value, size_t value_len);
/* ERR_NOT_FOUND when there was none. */
MUST_CHECK int db_delete(struct db_txn *txn, enum db_table table, const void *key, size_t key_len);

/* Called for each record in key order; a result other than 0 ends the walk. */
typedef int db_visit(void *arg, struct db_value key, struct db_value value);

/* Visit every record whose key starts with the prefix, from the first key that
 * is >= `from` (NULL: the prefix itself). Returns what `visit` returned last, or
 * an error. The table must not be written to during the walk. */
MUST_CHECK int db_walk(struct db_txn *txn, enum db_table table, const void *prefix,
                       size_t prefix_len, const void *from, size_t from_len, db_visit *visit,
                       void *arg);

/* Number of records of a table. */
MUST_CHECK int db_count(struct db_txn *txn, enum db_table table, uint64_t *count);

#endif
