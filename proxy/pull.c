/* SPDX-License-Identifier: ISC */
/*
 * How content is found: in the store, by joining a fetch, or by asking.
 *
 *   tag:      fresh record -> manifest; else ASK_TAG -> manifest; no answer: stale
 *   manifest: held -> send; else ASK_MANIFEST -> send its body
 *   blob:     held -> send; HEAD: size from a manifest, else ASK_BLOB;
 *             GET: join or begin the fetch, send as it comes
 *   list:     ASK_LIST -> send; no answer: what was kept
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "cache/manifest.h"
#include "proxy/request_private.h"

/* How long a client waits for a revalidation when something stale is at hand. */
#define STALE_AFTER_MS 5000
/* How old a last use may get before it is written again. */
#define TOUCH_AFTER_S 3600

/* --- what is held --- */

struct forget {
    struct storage_job job;
    struct digest digest;
    struct store *store;
};

/* Only if the file is still not what the record says: it may have been fetched
 * anew since. */
static int forget_apply(struct storage_job *j, struct db_txn *txn)
{
    struct forget *f = (struct forget *)j;
    struct blob_record record;
    int fd;
    int err = blob_get(txn, &f->digest, &record);

    if (err)
        return err == ERR_NOT_FOUND ? 0 : err;
    err = blob_open(f->store, &f->digest, record.size_bytes, &fd);
    if (err == 0) {
        close(fd);
        return 0;
    }
    return err == ERR_MISMATCH ? blob_forget(txn, &f->digest) : 0;
}

static void forget_done(struct storage_job *j, int err)
{
    (void)err;
    free(j);
}

/* A recorded blob whose file is gone or wrong: it is a miss from now on. */
static void forget_blob(struct worker *w, const struct digest *d)
{
    struct forget *f = mem_new(sizeof *f);
    char text[DIGEST_TEXT_MAX];

    STATS_ADD(w->parts.stats, blobs_lost, 1);
    log_event(w->parts.log, LOG_WARN, "lost blob %s: its file is missing or wrong; fetching anew",
              digest_text(d, text));
    f->job.apply = forget_apply;
    f->job.done = forget_done;
    f->digest = *d;
    f->store = w->parts.store;
    storage_post(w->parts.storage, &f->job);
}

/* Take the blob into r->held if the store has it, whole. */
static bool take_held(struct request *r, struct db_txn *txn, const struct digest *d,
                      bool in_memory)
{
    struct worker *w = r->worker;
    struct blob_record record;

    if (blob_get(txn, d, &record) != 0)
        return false;
    int err = shelf_take(w->shelf, d, record.size_bytes, in_memory, &r->held);
    if (err == ERR_MISMATCH)
        forget_blob(w, d);
    if (err)
        return false;
    if (w->now_s - record.used_at_s >= TOUCH_AFTER_S)
        storage_touch(w->parts.storage, d);
    return true;
}

/* Send a manifest that is held; false when it is not. */
static bool send_held_manifest(struct request *r, struct db_txn *txn, const struct digest *d,
                               enum outcome o)
{
    struct manifest_record record;

    if (manifest_get(txn, d, &record) != 0 || !take_held(r, txn, d, true))
        return false;
    db_read_end(r->worker->reader);
    struct content c = {
        .media_type = record.media_type,
        .digest = d,
        .size_bytes = r->held->size_bytes,
        .memory = r->held->body,
        .fd = r->held->fd,
        .sendable_bytes = r->held->size_bytes,
    };
    request_content(r, o, &c);
    return true;
}

/* --- errors --- */

static void send_ask_error(struct request *r, const struct ask_result *result)
{
    request_error(r, result->outcome, result->why, result->retry_after_s);
}

/* Begin a read of the index; an index that cannot be read is answered. */
static struct db_txn *begin_read(struct request *r)
{
    struct db_txn *txn;
    int err = db_read(r->worker->reader, &txn);

    if (err == 0)
        return txn;
    log_event(r->worker->parts.log, LOG_ERROR, "the index cannot be read: %s", err_text(err));
    request_error(r, OUT_STORE_FAILED, err_text(err), 0);
    return NULL;
}

/* --- manifests --- */

/* Ask, or join who asks; when the answer is there already, go on with it. */
static void ask(struct request *r, enum ask_kind kind, const char *reference)
{
    bool created;
    struct ask *a = ask_join(r->worker->parts.asks, kind, &r->target.name, reference, &created);

    if (created)
        upstream_ask(r->worker->parts.upstream, a);
    r->outcome = created ? OUT_MISS : OUT_COLLAPSED;
    if (!request_wait_ask(r, a))
        pull_answered(r);
}

static void ask_manifest(struct request *r, const struct digest *d)
{
    char text[DIGEST_TEXT_MAX];

    ask(r, ASK_MANIFEST, digest_text(d, text));
}

/* The manifest that the tag pointed to, when there is no better answer: the newest
 * that is held. False when none is. */
static bool send_stale(struct request *r)
{
    struct db_txn *txn;

    if (!r->has_tag || db_read(r->worker->reader, &txn) != 0)
        return false;
    if (send_held_manifest(r, txn, &r->tag.digest, OUT_STALE))
        return true;
    if (r->tag.previous.alg && send_held_manifest(r, txn, &r->tag.previous, OUT_STALE))
        return true;
    db_read_end(r->worker->reader);
    return false;
}

/* The answer to a HEAD of a manifest that is known but not held. */
static void send_manifest_head(struct request *r, const struct tag_record *tag, enum outcome o)
{
    struct content c = {
        .media_type = tag->media_type,
        .digest = &tag->digest,
        .size_bytes = tag->size_bytes,
        .fd = -1,
    };

    request_content(r, o, &c);
}

static void begin_tag(struct request *r)
{
    struct db_txn *txn = begin_read(r);
    const struct target *t = &r->target;

    if (!txn)
        return;
    r->has_tag = tag_get(txn, &t->name, t->tag, &r->tag) == 0;
    if (r->has_tag && tag_is_fresh(&r->tag, r->worker->now_s, r->tag_ttl_s)) {
        if (send_held_manifest(r, txn, &r->tag.digest, OUT_HIT))
            return;
        db_read_end(r->worker->reader);
        if (r->method == HTTP_HEAD)
            send_manifest_head(r, &r->tag, OUT_HIT);
        else
            ask_manifest(r, &r->tag.digest);
        return;
    }
    db_read_end(r->worker->reader);
    ask(r, ASK_TAG, t->tag);
}

static void begin_manifest(struct request *r)
{
    struct db_txn *txn = begin_read(r);

    if (!txn || send_held_manifest(r, txn, &r->target.digest, OUT_HIT))
        return;
    db_read_end(r->worker->reader);
    ask_manifest(r, &r->target.digest);
}

/* Send what an answered ask brought as its body. */
static void send_ask_body(struct request *r, const struct ask_result *result)
{
    struct content c = {
        .media_type = result->media_type,
        .digest = &result->digest,
        .size_bytes = result->body_len,
        .memory = result->body,
        .fd = -1,
    };

    request_content(r, r->outcome, &c);
}

/* The upstream said what the tag points to. */
static void tag_answered(struct request *r, const struct ask_result *result)
{
    bool same = r->has_tag && digest_equal(&r->tag.digest, &result->digest);
    struct tag_record now = {.digest = result->digest, .size_bytes = result->size_bytes};

    if (result->body) {
        send_ask_body(r, result);
        return;
    }
    memcpy(now.media_type, result->media_type, sizeof now.media_type);
    struct db_txn *txn = begin_read(r);
    if (!txn || send_held_manifest(r, txn, &now.digest, same ? OUT_REVALIDATED : r->outcome))
        return;
    db_read_end(r->worker->reader);
    if (r->method == HTTP_HEAD)
        send_manifest_head(r, &now, r->outcome);
    else
        ask_manifest(r, &now.digest);
}

/* --- blobs --- */

static void send_blob_head(struct request *r, uint64_t size_bytes, enum outcome o)
{
    struct content c = {
        .media_type = "application/octet-stream",
        .digest = &r->target.digest,
        .size_bytes = size_bytes,
        .fd = -1,
        .has_ranges = true,
    };

    request_content(r, o, &c);
}

static void wait_for_fetch(struct request *r, struct fetch *f, enum outcome o)
{
    r->outcome = o;
    if (!request_wait_fetch(r, f))
        pull_joined(r);
}

static void join_fetch(struct request *r, uint64_t size_bytes)
{
    struct worker_parts *p = &r->worker->parts;
    bool created;
    struct fetch *f = fetch_join(p->fetches, &r->target.digest, &created);

    if (created)
        upstream_fetch(p->upstream, f, &r->target.name, size_bytes);
    wait_for_fetch(r, f, created ? OUT_MISS : OUT_COLLAPSED);
}

/* HEAD of a blob that is being fetched: its size is known, or soon will be. */
static bool head_of_fetch(struct request *r)
{
    struct fetch *f = fetch_find(r->worker->parts.fetches, &r->target.digest);

    if (f)
        wait_for_fetch(r, f, OUT_COLLAPSED);
    return f != NULL;
}

void pull_joined(struct request *r)
{
    struct fetch_view view;
    struct fetch_failure why;

    fetch_look(r->fetch, &view);
    if (view.state == FETCH_FAILED) {
        fetch_why(r->fetch, &why);
        request_error(r, (enum outcome)why.code, why.text, why.retry_after_s);
        return;
    }
    struct content c = {
        .media_type = "application/octet-stream",
        .digest = &r->target.digest,
        .size_bytes = view.size_bytes,
        .fd = view.fd,
        .sendable_bytes = view.sendable_bytes,
        .has_ranges = true,
    };
    request_content(r, r->outcome, &c);
}

static void begin_blob(struct request *r)
{
    const struct target *t = &r->target;
    struct db_txn *txn = begin_read(r);
    uint64_t size_bytes = UINT64_MAX;

    if (!txn)
        return;
    bool is_held = take_held(r, txn, &t->digest, false);
    bool is_known = is_held || source_get(txn, &t->digest, &t->name, &size_bytes) == 0;
    db_read_end(r->worker->reader);
    if (is_held) {
        struct content c = {
            .media_type = "application/octet-stream",
            .digest = &t->digest,
            .size_bytes = r->held->size_bytes,
            .memory = r->held->body,
            .fd = r->held->fd,
            .sendable_bytes = r->held->size_bytes,
            .has_ranges = true,
        };
        request_content(r, OUT_HIT, &c);
    } else if (r->method == HTTP_GET) {
        join_fetch(r, size_bytes);
    } else if (is_known) {
        send_blob_head(r, size_bytes, OUT_HIT);
    } else if (!head_of_fetch(r)) {
        char text[DIGEST_TEXT_MAX];

        ask(r, ASK_BLOB, digest_text(&t->digest, text));
    }
}

/* --- lists --- */

static void begin_list(struct request *r)
{
    const struct target *t = &r->target;
    char reference[ASK_REFERENCE_MAX];
    char digest[DIGEST_TEXT_MAX];
    const char *mark = t->query[0] ? "?" : "";

    if (t->endpoint == ENDPOINT_TAGS)
        snprintf(reference, sizeof reference, "tags/list%s%s", mark, t->query);
    else
        snprintf(reference, sizeof reference, "referrers/%s%s%s", digest_text(&t->digest, digest),
                 mark, t->query);
    ask(r, ASK_LIST, reference);
}

/* The upstream's Link names its own path; keep its query, under the path by which
 * this client came. Empty when there is none, or it is not of the usual form. */
static void rewrite_link(const struct request *r, const char *link, char *out, size_t out_size)
{
    const struct target *t = &r->target;
    const char *close = link ? strchr(link, '>') : NULL;
    const char *query = link ? strchr(link, '?') : NULL;
    char digest[DIGEST_TEXT_MAX];
    char tail[16 + DIGEST_TEXT_MAX] = "tags/list";

    out[0] = '\0';
    if (!close || link[0] != '<' || !query || query > close)
        return;
    if (t->endpoint == ENDPOINT_REFERRERS)
        snprintf(tail, sizeof tail, "referrers/%s", digest_text(&t->digest, digest));
    bool with_registry = t->door == DOOR_PREFIX;
    int n = snprintf(out, out_size, "</v2/%s%s%s/%s%.*s%s%s>; rel=\"next\"",
                     with_registry ? t->name.registry : "", with_registry ? "/" : "",
                     t->name.repository, tail, (int)(close - query), query,
                     t->ns[0] ? "&ns=" : "", t->ns);
    if (n < 0 || (size_t)n >= out_size || strcspn(out, "\r\n") != (size_t)n)
        out[0] = '\0';
}

static void send_list(struct request *r, enum outcome o, const char *media_type, const char *link,
                      const void *body, size_t body_len)
{
    char rewritten[2048];
    struct content c = {
        .media_type = media_type,
        .size_bytes = body_len,
        .memory = body_len ? body : "",
        .fd = -1,
    };

    rewrite_link(r, link, rewritten, sizeof rewritten);
    c.link = rewritten[0] ? rewritten : NULL;
    request_content(r, o, &c);
}

static void list_answered(struct request *r, const struct ask_result *result)
{
    struct list_record kept;
    struct db_txn *txn;

    if (result->outcome == OUT_MISS) {
        send_list(r, r->outcome, result->media_type, result->link, result->body,
                  result->body_len);
        return;
    }
    if (db_read(r->worker->reader, &txn) != 0) {
        send_ask_error(r, result);
        return;
    }
    if (list_get(txn, &r->target.name, ask_reference(r->ask), &kept) != 0) {
        db_read_end(r->worker->reader);
        send_ask_error(r, result);
        return;
    }
    /* Copied: sending may go on to the next request, which reads the index too. */
    char *body = mem_copy(kept.body, kept.body_len);
    char *media_type = mem_format("%s", kept.content_type);
    char *link = mem_format("%s", kept.link);
    size_t len = kept.body_len;
    db_read_end(r->worker->reader);
    send_list(r, OUT_STALE, media_type, link, body, len);
    free(body);
    free(media_type);
    free(link);
}

/* --- entries --- */

void pull_answered(struct request *r)
{
    const struct ask_result *result = ask_result(r->ask);
    bool failed = result->outcome != OUT_MISS;

    switch (ask_kind(r->ask)) {
    case ASK_TAG:
        if (!failed)
            tag_answered(r, result);
        else if (!send_stale(r))
            send_ask_error(r, result);
        break;
    case ASK_MANIFEST:
        if (!failed)
            send_ask_body(r, result);
        else if (!send_stale(r))
            send_ask_error(r, result);
        break;
    case ASK_BLOB:
        if (failed)
            send_ask_error(r, result);
        else
            send_blob_head(r, result->size_bytes, r->outcome);
        break;
    case ASK_LIST:
        list_answered(r, result);
        break;
    }
}

void pull_check_time(struct request *r)
{
    if (ask_kind(r->ask) != ASK_TAG || r->worker->now_ms - r->since_ms < STALE_AFTER_MS)
        return;
    if (!r->has_tag)
        return;
    /* The ask goes on without this client; its answer serves the next one. */
    ask_cancel(&r->asker);
    if (r->wake_posted || send_stale(r))
        return;
    r->since_ms = r->worker->now_ms;
    if (!ask_wait(&r->asker, r->ask))
        pull_answered(r);
}

void pull_begin(struct request *r, const struct config_upstream *u)
{
    r->tag_ttl_s = u->tag_ttl_s;
    switch (r->target.endpoint) {
    case ENDPOINT_MANIFEST:
        if (r->target.by_digest)
            begin_manifest(r);
        else
            begin_tag(r);
        break;
    case ENDPOINT_BLOB:
        begin_blob(r);
        break;
    case ENDPOINT_TAGS:
    case ENDPOINT_REFERRERS:
        begin_list(r);
        break;
    case ENDPOINT_PING:
    case ENDPOINT_HEALTH:
    case ENDPOINT_METRICS:
        CHECK(!"not a pull");
    }
}
