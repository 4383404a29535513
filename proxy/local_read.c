/* SPDX-License-Identifier: ISC */
/* Manifests and blobs of local repositories, distribution-spec 1.1.1 "Pulling". */
#include "proxy/local_private.h"

#include <stdio.h>

#include "cache/err.h"
#include "cache/local.h"
#include "cache/repository.h"

/* --- manifests --- */

/* Take it into r->held. */
static bool take_manifest(struct request *r, struct db_txn *txn, const struct digest *d,
                          struct manifest_record *record)
{
    struct blob_record blob;

    return local_find_manifest(txn, &r->target.name, d, record) == 0 &&
           blob_get(txn, d, &blob) == 0 && pull_take_visible(r, d, &blob, true);
}

/* Whether the repository is there at all, when something in it is not. */
static enum outcome absence(struct request *r, struct db_txn *txn, enum outcome o)
{
    return local_has_repository(txn, &r->target.name) == 0 ? o : OUT_NAME_UNKNOWN;
}

static void send_absent(struct request *r, enum outcome o)
{
    char detail[2 * NAME_MAX_SIZE + 128];

    snprintf(detail, sizeof detail,
             "there is no local repository %s; to pull it from a registry put the registry's "
             "host before it, as in docker.io/%s",
             r->target.name.repository, r->target.name.repository);
    request_error(r, o, o == OUT_NAME_UNKNOWN ? detail : NULL, 0);
}

void local_get_manifest(struct request *r)
{
    const struct target *t = &r->target;
    struct db_txn *txn = pull_begin_read(r);
    struct manifest_record record;
    struct digest d = t->digest;

    if (!txn)
        return;
    if (!t->by_digest) {
        r->has_tag = tag_get(txn, &t->name, t->tag, &r->tag) == 0;
        d = r->tag.digest;
    }
    bool is_held = (t->by_digest || r->has_tag) && take_manifest(r, txn, &d, &record);
    enum outcome o = is_held ? OUT_HIT : absence(r, txn, OUT_LOCAL_MANIFEST);
    db_read_end(r->worker->reader);
    if (is_held)
        request_held(r, OUT_HIT, record.media_type, &d, false);
    else
        send_absent(r, o);
}

/* --- blobs --- */

/* An upstream's repository that has a blob too, and is open to everybody. */
struct origin {
    struct request *request;
    struct db_txn *txn;
    bool is_known; /* some upstream's manifest names it */
    const struct config_upstream *upstream;
    struct name name;
};

/* What a private repository names is not told to anybody else. */
static int find_origin(void *arg, const struct name *n)
{
    struct origin *o = arg;
    struct repository_record record;

    if (name_is_local(n))
        return 0;
    o->is_known = true;
    o->upstream = config_find_upstream(o->request->worker->config, n->registry);
    o->name = *n;
    return o->upstream && o->upstream->visibility == VISIBILITY_PUBLIC &&
           repository_get(o->txn, n, &record) == 0 && record.visibility == REPOSITORY_PUBLIC;
}

/* Pull it as a client of that upstream would, without credentials. */
static void pull_from(struct request *r, const struct origin *o)
{
    r->target.name = o->name;
    r->registry = stats_find_registry(r->worker->parts.stats, o->name.registry);
    pull_disown(r);
    pull_begin(r, o->upstream);
}

/* A manifest of this repository names a blob that is not held: get it where somebody else
 * has it. False when nobody is known to. What an upstream's manifest names is had from
 * there alone: a pusher's url would decide what its clients get while it is fetched. */
static bool get_elsewhere(struct request *r, struct db_txn *txn)
{
    const struct target *t = &r->target;
    struct origin o = {.request = r, .txn = txn};
    struct foreign_urls urls;
    uint64_t size_bytes;

    if (r->method != HTTP_GET || source_get(txn, &t->digest, &t->name, &size_bytes) != 0)
        return false;
    if (source_walk(txn, &t->digest, find_origin, &o) == 1) {
        db_read_end(r->worker->reader);
        pull_from(r, &o);
        return true;
    }
    if (o.is_known || foreign_urls_get(txn, t->name.registry, &t->digest, &urls) != 0)
        return false;
    foreign_urls_clear(&urls);
    db_read_end(r->worker->reader);
    pull_fetch_foreign(r, size_bytes);
    return true;
}

void local_get_blob(struct request *r)
{
    const struct target *t = &r->target;
    struct db_txn *txn = pull_begin_read(r);
    struct blob_record record;

    if (!txn)
        return;
    bool is_held = local_find_blob(txn, &t->name, &t->digest, &record) == 0 &&
                   pull_take_visible(r, &t->digest, &record, false);
    if (!is_held && get_elsewhere(r, txn))
        return;
    db_read_end(r->worker->reader);
    if (is_held)
        request_held(r, OUT_HIT, "application/octet-stream", &t->digest, true);
    else
        request_error(r, OUT_LOCAL_BLOB, NULL, 0);
}
