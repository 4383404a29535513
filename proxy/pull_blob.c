/* SPDX-License-Identifier: ISC */
/* Blobs: from the store, or by the fetch that brings them. */
#include "proxy/pull_private.h"

#include <stdio.h>

#include "cache/fetch_pass.h"
#include "cache/link.h"
#include "cache/manifest.h"

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

/* As the upstream knows it, within the repository. */
static const char *blob_path(const struct request *r, char out[ABSENCE_PATH_MAX])
{
    char digest[DIGEST_TEXT_MAX];

    snprintf(out, ABSENCE_PATH_MAX, "blobs/%s", digest_text(&r->target.digest, digest));
    return out;
}

/* Ask whether the repository has the blob: as a proof, or for its size. */
static void ask_exists(struct request *r)
{
    char path[ABSENCE_PATH_MAX];

    pull_ask(r, ASK_EXISTS, blob_path(r, path));
}

struct newest {
    struct db_txn *txn;
    struct digest digest; /* alg 0: none */
    int64_t seen_at_s;
};

static int take_newer(void *arg, const struct digest *d, int64_t seen_at_s)
{
    struct newest *n = arg;
    struct manifest_record record;

    if ((n->digest.alg == 0 || seen_at_s > n->seen_at_s) && manifest_get(n->txn, d, &record) == 0) {
        n->digest = *d;
        n->seen_at_s = seen_at_s;
    }
    return 0;
}

/* Of a foreign layer the registry may say "not found" to everybody: it proves nothing.
 * Then the newest manifest of the repository stands for it. False when there is none. */
static bool find_proof(struct request *r, struct db_txn *txn, char out[ABSENCE_PATH_MAX])
{
    const struct target *t = &r->target;
    struct foreign_urls urls;
    uint64_t size_bytes;
    struct newest n = {.txn = txn};
    char digest[DIGEST_TEXT_MAX];

    if (r->access != ACCESS_PROVE || source_get(txn, &t->digest, &t->name, &size_bytes) != 0 ||
        foreign_urls_get(txn, t->name.registry, &t->digest, &urls) != 0)
        return false;
    foreign_urls_clear(&urls);
    if (link_walk(txn, &t->name, take_newer, &n) != 0 || n.digest.alg == 0)
        return false;
    snprintf(out, ABSENCE_PATH_MAX, "manifests/%s", digest_text(&n.digest, digest));
    return true;
}

static void wait_for_fetch(struct request *r, struct fetch *f, enum outcome o)
{
    r->outcome = o;
    if (!request_wait_fetch(r, f))
        pull_joined(r);
}

/* Whether this client may read the fetch; if not, it asks first. The reference is
 * given back then. */
static bool admitted(struct request *r, struct fetch *f)
{
    if (!fetch_is_private(f) || r->is_granted ||
        ((r->access == ACCESS_PROVEN || r->is_restricted) && fetch_admits(f, &r->target.name)))
        return true;
    reader_cancel(&r->reader);
    fetch_unref(&f);
    ask_exists(r);
    return false;
}

/* Of what was absent lately there is no fetch. True when that was said. */
static bool answer_absent(struct request *r)
{
    char path[ABSENCE_PATH_MAX];

    if (!pull_is_absent(r, blob_path(r, path)))
        return false;
    if (pull_may_ask_again(r, OUT_BLOB_UNKNOWN))
        ask_exists(r);
    else
        request_error(r, OUT_BLOB_UNKNOWN, ABSENT_TEXT, 0);
    return true;
}

/* Between the look into the index, which had nothing, and the one at the fetches a fetch may
 * have ended: then the index has it by now. True when it was sent. */
static bool send_published(struct request *r)
{
    struct fetch *f = fetch_find(r->worker->parts.fetches, &r->target.digest);
    struct db_txn *txn;

    if (f) {
        fetch_unref(&f);
        return false;
    }
    if (db_read(r->worker->reader, &txn) != 0)
        return false;
    bool is_held = pull_take_held(r, txn, &r->target.digest, false);
    db_read_end(r->worker->reader);
    if (is_held)
        request_held(r, OUT_HIT, "application/octet-stream", &r->target.digest, true);
    return is_held;
}

/* One that has dropped what this client is to have first is in the table no more. */
static struct fetch *join_to_read(struct request *r, const struct name *only_for, bool *created)
{
    struct fetch_table *fetches = r->worker->parts.fetches;
    struct fetch *f = fetch_join(fetches, &r->target.digest, only_for, created);

    while (!reader_begin(&r->reader, f)) {
        fetch_unref(&f);
        f = fetch_join(fetches, &r->target.digest, only_for, created);
    }
    return f;
}

static void join_fetch(struct request *r, uint64_t size_bytes)
{
    struct worker_parts *p = &r->worker->parts;
    const struct name *only_for =
        r->access == ACCESS_PROVEN || r->is_restricted ? &r->target.name : NULL;
    struct behalf b = pull_behalf(r);
    bool created;

    if (answer_absent(r) || (!r->has_lost && send_published(r)))
        return;
    struct fetch *f = join_to_read(r, only_for, &created);

    if (created)
        upstream_fetch(p->upstream, f, &r->target.name, size_bytes, &b);
    if (admitted(r, f))
        wait_for_fetch(r, f, created ? OUT_MISS : OUT_COLLAPSED);
}

void pull_fetch_foreign(struct request *r, uint64_t size_bytes)
{
    struct worker_parts *p = &r->worker->parts;
    struct behalf b = pull_behalf(r);
    bool created;
    struct fetch *f = join_to_read(r, NULL, &created);

    /* Somebody fetches it for a repository of his own: nothing says that this one has it. */
    if (!created && fetch_is_private(f)) {
        reader_cancel(&r->reader);
        fetch_unref(&f);
        request_error(r, OUT_LOCAL_BLOB, NULL, 0);
        return;
    }
    if (created)
        upstream_fetch(p->upstream, f, &r->target.name, size_bytes, &b);
    /* There is no registry to be asked after it. */
    r->has_rejoined = true;
    wait_for_fetch(r, f, created ? OUT_MISS : OUT_COLLAPSED);
}

/* HEAD of a blob that is being fetched: its size is known, or soon will be. */
static bool head_of_fetch(struct request *r)
{
    struct fetch *f = fetch_find(r->worker->parts.fetches, &r->target.digest);

    if (!f)
        return false;
    if (admitted(r, f))
        wait_for_fetch(r, f, OUT_COLLAPSED);
    return true;
}

/* Whether the fetch was refused to somebody else, who set it going perhaps for another
 * repository or with other credentials: then, once, it is tried anew. */
static bool is_anothers_refusal(const struct request *r, enum outcome why)
{
    return r->outcome == OUT_COLLAPSED && !r->has_rejoined && pull_is_refusal(why);
}

/* There was no room for the rest of what an earlier fetch had left: without it, it can be
 * passed on. */
static bool is_for_want_of_room(const struct request *r, enum outcome why)
{
    return why == OUT_NO_SPACE && !r->has_rejoined && r->method == HTTP_GET;
}

static void fetch_failed(struct request *r)
{
    struct fetch_failure why;
    char path[ABSENCE_PATH_MAX];

    fetch_why(r->fetch, &why);
    if (is_anothers_refusal(r, (enum outcome)why.code) ||
        is_for_want_of_room(r, (enum outcome)why.code)) {
        r->has_rejoined = true;
        reader_cancel(&r->reader);
        fetch_unref(&r->fetch);
        pull_begin_blob(r);
        return;
    }
    if (why.code == OUT_BLOB_UNKNOWN && r->outcome == OUT_MISS)
        pull_note_absent(r, blob_path(r, path));
    if (pull_may_ask_again(r, (enum outcome)why.code))
        ask_exists(r);
    else
        pull_send_error(r, (enum outcome)why.code, why.text, why.retry_after_s, why.challenge);
}

void pull_joined(struct request *r)
{
    struct fetch_view view;

    fetch_look(r->fetch, &view);
    if (view.state == FETCH_FAILED) {
        fetch_failed(r);
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

void pull_begin_blob(struct request *r)
{
    const struct target *t = &r->target;
    struct db_txn *txn = pull_begin_read(r);
    uint64_t size_bytes = UINT64_MAX;
    char proof[ABSENCE_PATH_MAX];

    if (!txn)
        return;
    pull_find_access(r, txn);
    bool is_held = pull_take_held(r, txn, &t->digest, false);
    r->asks_proof = find_proof(r, txn, proof);
    bool is_known = is_held || source_get(txn, &t->digest, &t->name, &size_bytes) == 0;
    db_read_end(r->worker->reader);
    if (is_held)
        request_held(r, OUT_HIT, "application/octet-stream", &r->target.digest, true);
    else if (r->asks_proof)
        pull_ask(r, ASK_EXISTS, proof);
    else if (r->access == ACCESS_PROVE || r->is_hidden)
        ask_exists(r);
    else if (r->method == HTTP_GET)
        join_fetch(r, size_bytes);
    else if (is_known)
        send_blob_head(r, size_bytes, OUT_HIT);
    else if (!head_of_fetch(r))
        ask_exists(r);
}

bool pull_send_public(struct request *r)
{
    struct db_txn *txn;

    if (db_read(r->worker->reader, &txn) != 0)
        return false;
    r->access = ACCESS_OPEN;
    bool is_held = pull_take_held(r, txn, &r->target.digest, false);
    db_read_end(r->worker->reader);
    if (is_held)
        request_held(r, OUT_HIT, "application/octet-stream", &r->target.digest, true);
    return is_held;
}

void pull_blob_known(struct request *r, uint64_t size_bytes)
{
    if (r->method == HTTP_HEAD)
        send_blob_head(r, size_bytes, r->outcome);
    else
        pull_begin_blob(r);
}
