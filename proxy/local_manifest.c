/* SPDX-License-Identifier: ISC */
/*
 * Pushing manifests, distribution-spec 1.1.1 "Pushing Manifests".
 *
 *   body -> examine -> write the file (storage thread) -> examine again, record -> 201
 *
 * It is examined before anything is written, so that a manifest which is refused leaves no
 * file, and again in the transaction that records it, since blobs may have been deleted
 * meanwhile. So may its own file have been, by another job with the same bytes that was
 * refused: it is written again there.
 */
#include "proxy/local_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache/err.h"
#include "cache/local.h"
#include "proxy/twice.h"

/* A larger one would keep other clients of its worker waiting. */
#define SMALL_BYTES (64u * 1024)
#define FIRST_BYTES 4096u
/* What all large ones together may hold, from their first byte to their answer. */
#define LARGE_BYTES_MAX (64u << 20)
#define CROWDED_RETRY_S 5
/* Each costs the storage thread several records. */
#define CHILDREN_MAX 4096u

/* --- examine --- */

__attribute__((format(printf, 3, 4))) static void refuse(struct local_job *j, enum outcome o,
                                                         const char *format, ...)
{
    va_list args;

    j->refusal = o;
    va_start(args, format);
    vsnprintf(j->why, sizeof j->why, format, args);
    va_end(args);
}

/* List what is missing, as far as there is room. */
static int add_missing(void *arg, const struct descriptor *d)
{
    struct local_job *j = arg;
    char digest[DIGEST_TEXT_MAX];
    size_t len = strlen(j->why);
    bool is_first = j->refusal != OUT_MANIFEST_BLOB;

    j->refusal = OUT_MANIFEST_BLOB;
    if (is_first)
        len = 0;
    snprintf(j->why + len, sizeof j->why - len, "%s%s", is_first ? "" : ", ",
             digest_text(&d->digest, digest));
    return strlen(j->why) + DIGEST_TEXT_MAX + 2 < sizeof j->why ? 0 : 1;
}

static int find_missing(struct local_job *j, struct db_txn *txn)
{
    int err = local_walk_missing(txn, &j->name, j->manifest, add_missing, j);

    return err < 0 ? err : 0;
}

/* The same of what is recorded and lost: its client must push it again. What may be absent
 * may be lost, too. */
static void find_lost(struct local_job *j, struct db_txn *txn)
{
    for (unsigned i = 0; i < manifest_child_count(j->manifest); i++) {
        const struct descriptor *d = manifest_child(j->manifest, i);

        if (d->role != CHILD_MANIFEST && !media_type_is_foreign(d->media_type) &&
            !local_has_file(j, txn, &d->digest) && add_missing(j, d) != 0)
            break;
    }
}

/* What it is, and whether the repository may have it: j->refusal says why not. */
static int examine(struct local_job *j, struct db_txn *txn)
{
    struct digest d;
    char text[DIGEST_TEXT_MAX];
    int err;

    digest_of(j->digest.alg, j->body, j->body_len, &d);
    if (!j->tag[0] && !digest_equal(&d, &j->digest)) {
        refuse(j, OUT_UPLOAD_DIGEST, "it is %s", digest_text(&d, text));
        return 0;
    }
    j->digest = d;
    err = manifest_parse(&j->manifest, j->media_type, j->body, j->body_len, j->why, sizeof j->why);
    if (err) {
        j->refusal = err == ERR_TOO_LARGE ? OUT_MANIFEST_TOO_LARGE : OUT_MANIFEST_INVALID;
        return 0;
    }
    if (manifest_child_count(j->manifest) > CHILDREN_MAX) {
        refuse(j, OUT_MANIFEST_INVALID, "it has %u descriptors, more than the %u that are taken",
               manifest_child_count(j->manifest), CHILDREN_MAX);
        return 0;
    }
    err = find_missing(j, txn);
    if (err == 0 && !j->refusal)
        find_lost(j, txn);
    return err;
}

/* --- the storage thread --- */

/* A large one is examined beside the storage thread. */
static int prepare(struct storage_job *s, struct store *store)
{
    struct local_job *j = (struct local_job *)s;
    struct db_reader *reader;
    struct db_txn *txn;
    int err = 0;

    if (!j->manifest) {
        err = db_reader_new(store_db(store), &reader);
        if (err)
            return err;
        err = db_read(reader, &txn);
        if (err == 0) {
            err = examine(j, txn);
            db_read_end(reader);
        }
        db_reader_free(&reader);
    }
    if (err || j->refusal)
        return err;
    err = blob_write(store, &j->digest, j->body, j->body_len);
    j->is_written = err == 0;
    return err;
}

static int apply(struct storage_job *s, struct db_txn *txn)
{
    struct local_job *j = (struct local_job *)s;
    const char *tags[ROUTE_TAGS_MAX + 1];
    unsigned count = 0;

    if (j->refusal)
        return 0;
    int err = find_missing(j, txn);
    if (err || j->refusal)
        return err;
    err = blob_restore(j->worker->parts.store, &j->digest, j->body, j->body_len);
    if (err)
        return err;
    if (j->tag[0])
        tags[count++] = j->tag;
    for (unsigned i = 0; i < j->push.tag_count; i++)
        tags[count++] = j->push.tags[i];
    return local_put_manifest(txn, &j->name, &j->digest, j->manifest, j->body_len, tags, count,
                              time(NULL));
}

/* --- the answer --- */

static void send_made(struct request *r, const struct local_job *j)
{
    struct reply_extra fields[4 + ROUTE_TAGS_MAX];
    char location[NAME_MAX_SIZE + DIGEST_TEXT_MAX + 32];
    char digest[DIGEST_TEXT_MAX], subject[DIGEST_TEXT_MAX];
    const struct descriptor *s = manifest_subject(j->manifest);
    unsigned n = 0;

    digest_text(&j->digest, digest);
    snprintf(location, sizeof location, "/v2/%s/manifests/%s", j->name.repository, digest);
    fields[n++] = (struct reply_extra){"Location", location};
    fields[n++] = (struct reply_extra){"Docker-Content-Digest", digest};
    if (s)
        fields[n++] = (struct reply_extra){"OCI-Subject", digest_text(&s->digest, subject)};
    for (unsigned i = 0; i < j->push.tag_count; i++)
        fields[n++] = (struct reply_extra){"OCI-Tag", j->push.tags[i]};
    fields[n] = (struct reply_extra){NULL, NULL};
    request_done(r, OUT_STORED, 201, fields);
}

static void on_stored(struct request *r, struct local_job *j, int err)
{
    const struct worker_parts *p = &r->worker->parts;

    if (err) {
        local_send_failure(r, err);
        return;
    }
    if (j->refusal) {
        request_error(r, j->refusal, j->why, 0);
        return;
    }
    if (j->tag[0] || j->push.tag_count > 0)
        storage_tags_changed(p->storage);
    twice_add_manifest(p->twice, &j->name, &j->digest);
    send_made(r, j);
}

/* --- the body --- */

static void refuse_crowded(struct request *r)
{
    request_error(r, OUT_OVERLOADED, "too many large manifests are under way", CROWDED_RETRY_S);
}

/* A client that says what it will send is told at once; room is claimed as the bytes come,
 * so that those who only announce them keep nobody out. */
void local_receive_manifest(struct request *r)
{
    struct local *l = r->local;
    uint64_t held_bytes = atomic_load(&r->worker->parts.stats->manifest_bytes);

    if (!l->content_type[0])
        request_error(r, OUT_MANIFEST_INVALID, "the field Content-Type is missing", 0);
    else if (l->content_length > (int64_t)MANIFEST_SIZE_MAX)
        request_error(r, OUT_MANIFEST_TOO_LARGE, NULL, 0);
    else if (l->content_length > (int64_t)SMALL_BYTES &&
             held_bytes + (uint64_t)l->content_length > LARGE_BYTES_MAX)
        refuse_crowded(r);
    else
        conn_read_body(r->conn);
}

static bool claim(struct request *r, size_t size)
{
    struct local *l = r->local;
    struct stats *stats = r->worker->parts.stats;

    if (size <= SMALL_BYTES)
        return true;
    size_t more = size - l->body_claim;
    if (STATS_ADD(stats, manifest_bytes, more) + more > LARGE_BYTES_MAX) {
        STATS_SUB(stats, manifest_bytes, more);
        return false;
    }
    l->body_claim = size;
    return true;
}

/* False when too much is under way. */
static bool make_room(struct request *r, size_t len)
{
    struct local *l = r->local;
    size_t size = l->body_size < FIRST_BYTES ? FIRST_BYTES : l->body_size;

    if (l->body && len <= l->body_size)
        return true;
    while (size < len)
        size *= 2;
    if (l->content_length >= (int64_t)len && size > (size_t)l->content_length)
        size = (size_t)l->content_length;
    if (!claim(r, size))
        return false;
    l->body = mem_resize(l->body, size);
    l->body_size = size;
    return true;
}

static void drop_body(struct request *r)
{
    struct local *l = r->local;

    STATS_SUB(r->worker->parts.stats, manifest_bytes, l->body_claim);
    l->body_claim = 0;
    free(l->body);
    l->body = NULL;
    l->body_size = 0;
}

/* What cannot be taken is read to its end, and dropped. */
bool local_manifest_body(struct request *r, const char *p, size_t len)
{
    struct local *l = r->local;

    if (l->is_crowded)
        return true;
    if (l->body_bytes > MANIFEST_SIZE_MAX) {
        drop_body(r);
        return true;
    }
    l->is_crowded = !make_room(r, (size_t)l->body_bytes);
    if (l->is_crowded)
        drop_body(r);
    else
        memcpy(l->body + l->body_bytes - len, p, len);
    return true;
}

static struct local_job *make_job(struct request *r)
{
    struct local *l = r->local;
    struct local_job *j = local_job_new(r);

    if (!r->target.by_digest) {
        memcpy(j->tag, r->target.tag, sizeof j->tag);
        j->digest.alg = DIGEST_SHA256;
    }
    memcpy(j->media_type, l->content_type, sizeof j->media_type);
    j->push = l->push;
    j->body = l->body;
    j->body_len = (size_t)l->body_bytes;
    j->body_claim = l->body_claim;
    l->body = NULL;
    l->body_claim = 0;
    j->job.prepare = prepare;
    j->job.apply = apply;
    return j;
}

void local_manifest_body_end(struct request *r)
{
    struct db_txn *txn;

    if (r->local->body_bytes > MANIFEST_SIZE_MAX) {
        request_error(r, OUT_MANIFEST_TOO_LARGE, NULL, 0);
        return;
    }
    if (r->local->is_crowded) {
        refuse_crowded(r);
        return;
    }
    if (r->local->body_bytes > SMALL_BYTES) {
        struct local_job *j = make_job(r);

        j->job.is_heavy = true;
        local_job_post(j, on_stored);
        return;
    }
    txn = pull_begin_read(r);
    if (!txn)
        return;
    struct local_job *j = make_job(r);
    int err = examine(j, txn);
    db_read_end(r->worker->reader);
    if (err == 0 && !j->refusal) {
        local_job_post(j, on_stored);
        return;
    }
    r->local->job = NULL;
    on_stored(r, j, err);
    local_job_free(j);
}
