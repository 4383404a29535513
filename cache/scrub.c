/* SPDX-License-Identifier: ISC */
#include "cache/scrub.h"

#include "cache/blob.h"
#include "cache/err.h"
#include "cache/link.h"
#include "cache/manifest.h"
#include "cache/record.h"
#include "cache/tag.h"

#define SCRUB_RECORD_VERSION 1
#define SCRUB_RECORD_MAX (1 + 1 + DIGEST_KEY_MAX + 1 + 4 * 8 + 1)

static const char state_key[] = "scrub";

/* --- where it is --- */

int scrub_get(struct db_txn *txn, struct scrub_state *s)
{
    struct db_value value;
    struct record_in in;
    int err = db_get(txn, DB_META, state_key, sizeof state_key - 1, &value);

    *s = (struct scrub_state){0};
    if (err != 0)
        return err == ERR_NOT_FOUND ? 0 : err;
    record_open(&in, value, SCRUB_RECORD_VERSION);
    if (record_get_flag(&in))
        record_get_digest(&in, &s->cursor);
    s->is_running = record_get_flag(&in);
    s->began_at_s = record_get_i64(&in);
    s->ended_at_s = record_get_i64(&in);
    s->round_blobs = record_get_u64(&in);
    s->round_bytes = record_get_u64(&in);
    s->has_marked = record_get_flag(&in);
    /* What cannot be read is begun anew. */
    if (record_close(&in) != 0)
        *s = (struct scrub_state){0};
    return 0;
}

int scrub_put(struct db_txn *txn, const struct scrub_state *s)
{
    uint8_t buf[SCRUB_RECORD_MAX];
    struct record_out out;

    record_start(&out, buf, sizeof buf, SCRUB_RECORD_VERSION);
    record_put_u8(&out, s->cursor.alg != 0);
    if (s->cursor.alg != 0)
        record_put_digest(&out, &s->cursor);
    record_put_u8(&out, s->is_running);
    record_put_i64(&out, s->began_at_s);
    record_put_i64(&out, s->ended_at_s);
    record_put_u64(&out, s->round_blobs);
    record_put_u64(&out, s->round_bytes);
    record_put_u8(&out, s->has_marked);
    CHECK(record_finish(&out) == 0);
    return db_put(txn, DB_META, state_key, sizeof state_key - 1, buf, out.len);
}

bool scrub_is_due(const struct scrub_state *s, int64_t period_s, int64_t now_s)
{
    int64_t since_s;

    if (period_s == 0 || s->is_running)
        return false;
    return s->began_at_s == 0 ||
           (!__builtin_sub_overflow(now_s, s->began_at_s, &since_s) && since_s >= period_s);
}

uint64_t scrub_rate(uint64_t bytes, int64_t period_s, uint64_t min_bytes_per_s,
                    uint64_t max_bytes_per_s)
{
    uint64_t seconds = period_s > 0 ? (uint64_t)period_s : 1;
    /* A quarter of the time is for what is found on the way, and for nights. */
    uint64_t rate = bytes / seconds + bytes / seconds / 3 + 1;

    if (rate < min_bytes_per_s)
        rate = min_bytes_per_s;
    return rate < max_bytes_per_s ? rate : max_bytes_per_s;
}

/* --- where it came from --- */

static void add_source(struct scrub_sources *s, const struct name *n)
{
    if (name_is_local(n) || s->count == SCRUB_SOURCES_MAX)
        return;
    for (unsigned i = 0; i < s->count; i++)
        if (name_equal(&s->list[i], n))
            return;
    s->list[s->count++] = *n;
}

static int take_source(void *arg, const struct name *n)
{
    add_source(arg, n);
    return 0;
}

struct tag_search {
    struct scrub_sources *sources;
    const struct digest *digest;
};

static int take_tag(void *arg, const struct name *n, const char *tag, const struct tag_record *r)
{
    const struct tag_search *search = arg;

    (void)tag;
    if (digest_equal(&r->digest, search->digest) || digest_equal(&r->previous, search->digest))
        add_source(search->sources, n);
    return 0;
}

int scrub_find_sources(struct db_txn *txn, const struct digest *d, struct scrub_sources *s)
{
    struct tag_search search = {s, d};
    struct manifest_record r;

    *s = (struct scrub_sources){0};
    int err = manifest_get(txn, d, &r);

    s->is_manifest = err == 0;
    if (err == 0 || err == ERR_NOT_FOUND || err == ERR_DAMAGED)
        err = source_walk(txn, d, take_source, s);
    if (err == 0 && s->is_manifest)
        err = tag_walk(txn, take_tag, &search);
    /* What was pulled by its digest alone. */
    return err == 0 && s->count == 0 ? link_search(txn, d, take_source, s) : err;
}

/* --- what went bad --- */

int scrub_drop(struct store *s, struct db_txn *txn, const struct loss *l,
               const struct file_id *file, bool *is_done)
{
    struct blob_record r;
    int err = blob_get(txn, &l->digest, &r);

    *is_done = false;
    if (err != 0 || !verify_is_same(s, &l->digest, l->size_bytes, file))
        return err == ERR_NOT_FOUND ? 0 : err;
    err = blob_forget(txn, &l->digest);
    if (err == 0)
        err = loss_put(txn, l);
    *is_done = err == 0;
    return err;
}
