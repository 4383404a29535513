/* SPDX-License-Identifier: ISC */
#include "cache/db.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/db_trim.h"
#include "cache/err.h"

/* Of version 1 the daemons knew fewer tables, and none of the sums and relations that each
 * change has to keep up: none of them may open what was written since. */
#define DB_VERSION 2
#define DB_VERSION_OLDEST 1
#define DB_READERS_MAX 256
#define DB_FILE_MODE 0600

static const char version_key[] = "version";
/* The complement of the version: a flipped bit is damage, not another version. */
static const char version_check_key[] = "version-check";

struct db_txn {
    MDB_txn *mdb;
    const struct db *db;
};

struct db {
    MDB_env *env;
    MDB_dbi tables[DB_TABLE_COUNT];
    bool read_only;
    bool is_absent[DB_TABLE_COUNT]; /* read only: an earlier release had no such table */
    struct db_txn write;            /* mdb is NULL when none is open */
    struct db_trim *trim;           /* NULL: the map stays */
};

struct db_reader {
    struct db *db;
    struct db_txn txn;
    bool reading;
};

static const char *const table_names[DB_TABLE_COUNT] = {
#define DB_NAME(symbol, name) [symbol] = (name),
    DB_TABLES(DB_NAME)
#undef DB_NAME
};

static int err_from_mdb(int rc)
{
    switch (rc) {
    case MDB_SUCCESS:
        return 0;
    case MDB_NOTFOUND:
        return ERR_NOT_FOUND;
    case MDB_MAP_FULL:
    case MDB_TXN_FULL:
    case MDB_READERS_FULL:
        return ERR_FULL;
    case MDB_BAD_VALSIZE:
        return ERR_TOO_LARGE;
    case MDB_VERSION_MISMATCH:
        return ERR_VERSION;
    case MDB_INVALID:
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INCOMPATIBLE:
        return ERR_DAMAGED;
    default:
        return rc > 0 ? err_from_errno(rc) : ERR_IO;
    }
}

/* --- opening --- */

static int number_read(MDB_txn *txn, MDB_dbi meta, const char *name, uint32_t *number)
{
    MDB_val key = {strlen(name), (void *)name};
    MDB_val value;
    int rc = mdb_get(txn, meta, &key, &value);

    if (rc != MDB_SUCCESS)
        return err_from_mdb(rc);
    if (value.mv_size != sizeof *number)
        return ERR_DAMAGED;
    memcpy(number, value.mv_data, sizeof *number);
    *number = le32toh(*number);
    return 0;
}

static int number_write(MDB_txn *txn, MDB_dbi meta, const char *name, uint32_t number)
{
    uint32_t le = htole32(number);
    MDB_val key = {strlen(name), (void *)name};
    MDB_val value = {sizeof le, &le};

    return err_from_mdb(mdb_put(txn, meta, &key, &value, 0));
}

static int version_read(MDB_txn *txn, MDB_dbi meta, uint32_t *version)
{
    uint32_t check = 0;
    int err = number_read(txn, meta, version_key, version);

    if (err != 0 || *version == DB_VERSION)
        return err;
    err = number_read(txn, meta, version_check_key, &check);
    if (err == 0 && check != ~*version)
        return ERR_DAMAGED;
    /* Earlier releases did not write it. */
    if (err != 0 && err != ERR_NOT_FOUND)
        return err;
    return *version >= DB_VERSION_OLDEST && *version < DB_VERSION ? 0 : ERR_VERSION;
}

static int version_write(MDB_txn *txn, MDB_dbi meta)
{
    int err = number_write(txn, meta, version_key, DB_VERSION);

    return err == 0 ? number_write(txn, meta, version_check_key, ~(uint32_t)DB_VERSION) : err;
}

/* Whether the environment holds no table but the one just created. */
static bool is_new(MDB_txn *txn)
{
    MDB_dbi root;
    MDB_stat stat;

    return mdb_dbi_open(txn, NULL, 0, &root) == MDB_SUCCESS &&
           mdb_stat(txn, root, &stat) == MDB_SUCCESS && stat.ms_entries == 1;
}

/* The version is looked at before any table is created, so that the index of
 * another version is left as it is. That of an earlier one becomes ours: it lacks tables,
 * which are created, and what evict_prepare adds. */
static int tables_open(struct db *db, MDB_txn *txn)
{
    unsigned flags = db->read_only ? 0 : MDB_CREATE;
    uint32_t version = 0;
    int rc = mdb_dbi_open(txn, table_names[DB_META], flags, &db->tables[DB_META]);
    int err =
        rc == MDB_SUCCESS ? version_read(txn, db->tables[DB_META], &version) : err_from_mdb(rc);

    if (err == ERR_NOT_FOUND)
        err = !db->read_only && is_new(txn) ? 0 : ERR_DAMAGED;
    if (err == 0 && !db->read_only && version != DB_VERSION)
        err = version_write(txn, db->tables[DB_META]);
    for (int i = DB_META + 1; err == 0 && i < DB_TABLE_COUNT; i++) {
        rc = mdb_dbi_open(txn, table_names[i], flags, &db->tables[i]);
        db->is_absent[i] = rc == MDB_NOTFOUND;
        err = db->is_absent[i] ? 0 : err_from_mdb(rc);
    }
    return err;
}

/* A file that was cut short: reading a page past its end would be a SIGBUS. */
static int check_length(MDB_env *env, int fd)
{
    MDB_envinfo info;
    MDB_stat stat;
    struct stat file;

    if (fstat(fd, &file) != 0)
        return err_from_errno(errno);
    int rc = mdb_env_info(env, &info);
    if (rc == MDB_SUCCESS)
        rc = mdb_env_stat(env, &stat);
    if (rc != MDB_SUCCESS)
        return err_from_mdb(rc);
    return (uint64_t)file.st_size / stat.ms_psize > info.me_last_pgno ? 0 : ERR_DAMAGED;
}

static int env_open(struct db *db, const char *path, size_t map_bytes)
{
    unsigned flags = MDB_NOTLS | (db->read_only ? MDB_RDONLY : 0);
    int fd;
    int rc = mdb_env_create(&db->env);

    if (rc == MDB_SUCCESS)
        rc = mdb_env_set_maxdbs(db->env, DB_TABLE_COUNT);
    if (rc == MDB_SUCCESS)
        rc = mdb_env_set_maxreaders(db->env, DB_READERS_MAX);
    if (rc == MDB_SUCCESS && map_bytes > 0)
        rc = mdb_env_set_mapsize(db->env, map_bytes);
    if (rc == MDB_SUCCESS)
        rc = mdb_env_open(db->env, path, flags, DB_FILE_MODE);
    /* LMDB 0.9 leaves this one open for programs that we start. */
    if (rc == MDB_SUCCESS && mdb_env_get_fd(db->env, &fd) == MDB_SUCCESS) {
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
            return err_from_errno(errno);
        return check_length(db->env, fd);
    }
    return err_from_mdb(rc);
}

int db_open(struct db **db, const char *path, size_t map_bytes, bool read_only)
{
    struct db *opened = mem_new(sizeof *opened);
    MDB_txn *txn;
    int dead;

    opened->read_only = read_only;
    int err = env_open(opened, path, map_bytes);

    if (err == 0)
        err = err_from_mdb(mdb_reader_check(opened->env, &dead));
    if (err == 0)
        err = err_from_mdb(mdb_txn_begin(opened->env, NULL, read_only ? MDB_RDONLY : 0, &txn));
    if (err == 0) {
        err = tables_open(opened, txn);
        /* The map's size is written by a commit, and who opens it beside us goes by that. */
        if (err == 0 && map_bytes > 0 && !read_only)
            err = version_write(txn, opened->tables[DB_META]);
        if (err == 0)
            err = err_from_mdb(mdb_txn_commit(txn));
        else
            mdb_txn_abort(txn);
    }
    if (err != 0) {
        db_close(&opened);
        return err;
    }
    *db = opened;
    return 0;
}

void db_keep_small(struct db *db)
{
    int fd;

    if (db->trim == NULL && mdb_env_get_fd(db->env, &fd) == MDB_SUCCESS)
        db->trim = db_trim_new(fd);
}

void db_close(struct db **db)
{
    if (*db == NULL)
        return;
    CHECK((*db)->write.mdb == NULL);
    if ((*db)->env != NULL)
        mdb_env_close((*db)->env);
    db_trim_free(&(*db)->trim);
    free(*db);
    *db = NULL;
}

/* --- reading --- */

int db_reader_new(struct db *db, struct db_reader **r)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(db->env, NULL, MDB_RDONLY, &txn);

    if (rc == MDB_MAP_RESIZED && db->read_only) {
        rc = mdb_env_set_mapsize(db->env, 0);
        if (rc == MDB_SUCCESS)
            rc = mdb_txn_begin(db->env, NULL, MDB_RDONLY, &txn);
    }
    if (rc != MDB_SUCCESS)
        return err_from_mdb(rc);
    mdb_txn_reset(txn);
    *r = mem_new(sizeof **r);
    (*r)->db = db;
    (*r)->txn.mdb = txn;
    (*r)->txn.db = db;
    return 0;
}

void db_reader_free(struct db_reader **r)
{
    if (*r != NULL) {
        mdb_txn_abort((*r)->txn.mdb);
        free(*r);
        *r = NULL;
    }
}

int db_read(struct db_reader *r, struct db_txn **txn)
{
    CHECK(!r->reading);
    int rc = mdb_txn_renew(r->txn.mdb);

    /* The daemon grew the map under a command, which has one reader. */
    if (rc == MDB_MAP_RESIZED && r->db->read_only) {
        rc = mdb_env_set_mapsize(r->db->env, 0);
        if (rc == MDB_SUCCESS)
            rc = mdb_txn_renew(r->txn.mdb);
    }
    if (rc != MDB_SUCCESS)
        return err_from_mdb(rc);
    r->reading = true;
    *txn = &r->txn;
    return 0;
}

void db_read_end(struct db_reader *r)
{
    CHECK(r->reading);
    mdb_txn_reset(r->txn.mdb);
    r->reading = false;
}

/* --- writing --- */

int db_write(struct db *db, struct db_txn **txn)
{
    int dead;

    CHECK(db->write.mdb == NULL);
    /* A command that was killed while it read must not pin pages until the next start. */
    int rc = mdb_reader_check(db->env, &dead);

    if (rc == MDB_SUCCESS)
        rc = mdb_txn_begin(db->env, NULL, 0, &db->write.mdb);
    if (rc != MDB_SUCCESS) {
        db->write.mdb = NULL;
        return err_from_mdb(rc);
    }
    db->write.db = db;
    *txn = &db->write;
    return 0;
}

int db_commit(struct db_txn **txn)
{
    int rc = mdb_txn_commit((*txn)->mdb);

    (*txn)->mdb = NULL;
    *txn = NULL;
    return err_from_mdb(rc);
}

void db_abort(struct db_txn **txn)
{
    mdb_txn_abort((*txn)->mdb);
    (*txn)->mdb = NULL;
    *txn = NULL;
}

/* --- records --- */

int db_get(struct db_txn *txn, enum db_table table, const void *key, size_t key_len,
           struct db_value *value)
{
    MDB_val k = {key_len, (void *)key};
    MDB_val v;

    if (txn->db->is_absent[table])
        return ERR_NOT_FOUND;
    db_trim_note(txn->db->trim);
    int rc = mdb_get(txn->mdb, txn->db->tables[table], &k, &v);

    if (rc != MDB_SUCCESS)
        return err_from_mdb(rc);
    value->data = v.mv_data;
    value->size = v.mv_size;
    return 0;
}

int db_put(struct db_txn *txn, enum db_table table, const void *key, size_t key_len,
           const void *value, size_t value_len)
{
    MDB_val k = {key_len, (void *)key};
    MDB_val v = {value_len, (void *)value};

    db_trim_note(txn->db->trim);
    return err_from_mdb(mdb_put(txn->mdb, txn->db->tables[table], &k, &v, 0));
}

int db_delete(struct db_txn *txn, enum db_table table, const void *key, size_t key_len)
{
    MDB_val k = {key_len, (void *)key};

    return err_from_mdb(mdb_del(txn->mdb, txn->db->tables[table], &k, NULL));
}

static int key_compare(const void *a, size_t a_len, const void *b, size_t b_len)
{
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);

    return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

int db_walk(struct db_txn *txn, enum db_table table, const void *prefix, size_t prefix_len,
            const void *from, size_t from_len, db_visit *visit, void *arg)
{
    MDB_val k = {prefix_len, (void *)prefix};
    MDB_val v;
    MDB_cursor *cursor;
    int result = 0;

    if (txn->db->is_absent[table])
        return 0;
    if (from_len > 0 && (prefix_len == 0 || key_compare(from, from_len, prefix, prefix_len) > 0)) {
        k.mv_size = from_len;
        k.mv_data = (void *)from;
    }
    int rc = mdb_cursor_open(txn->mdb, txn->db->tables[table], &cursor);

    if (rc != MDB_SUCCESS)
        return err_from_mdb(rc);
    rc = mdb_cursor_get(cursor, &k, &v, k.mv_size > 0 ? MDB_SET_RANGE : MDB_FIRST);
    while (rc == MDB_SUCCESS && result == 0) {
        if (k.mv_size < prefix_len ||
            (prefix_len > 0 && memcmp(k.mv_data, prefix, prefix_len) != 0))
            break;
        struct db_value key = {k.mv_data, k.mv_size};
        struct db_value value = {v.mv_data, v.mv_size};

        db_trim_note(txn->db->trim);
        result = visit(arg, key, value);
        rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    if (result != 0 || rc == MDB_NOTFOUND)
        return result;
    return err_from_mdb(rc);
}

int db_count(struct db_txn *txn, enum db_table table, uint64_t *count)
{
    MDB_stat stat;

    *count = 0;
    if (txn->db->is_absent[table])
        return 0;
    int rc = mdb_stat(txn->mdb, txn->db->tables[table], &stat);

    if (rc == MDB_SUCCESS)
        *count = stat.ms_entries;
    return err_from_mdb(rc);
}
