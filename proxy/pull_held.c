/* SPDX-License-Identifier: ISC */
/*
 * What is held, and who may see it.
 *
 * A repository that its upstream opened to nobody but clients with credentials is
 * private: whoever asks for its content proves first that the upstream accepts
 * him for that repository (permit.h). Bytes that came from a private repository
 * alone are seen through that repository alone; bytes that were public anywhere
 * are no secret.
 */
#include "proxy/pull_private.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "cache/link.h"
#include "cache/repository.h"
#include "proxy/scrubber.h"

/* --- access --- */

static bool has_proof(struct request *r, int64_t ttl_ms)
{
    return r->behalf.authorization && permit_is_fresh(r->worker->parts.permits, &r->credential,
                                                      &r->target.name, r->worker->now_ms, ttl_ms);
}

void pull_find_access(struct request *r, struct db_txn *txn)
{
    struct repository_record record;
    int err;

    if (r->access != ACCESS_UNKNOWN)
        return;
    err = repository_get(txn, &r->target.name, &record);
    /* A record that cannot be read opens nothing. */
    if (err == ERR_NOT_FOUND || (err == 0 && record.visibility == REPOSITORY_PUBLIC)) {
        r->access = ACCESS_OPEN;
        r->is_public = err == 0;
        return;
    }
    r->with_client = r->behalf.authorization != NULL;
    r->access = has_proof(r, r->proof_ttl_ms) ? ACCESS_PROVEN : ACCESS_PROVE;
}

void pull_access_proved(struct request *r)
{
    if (r->with_client) {
        permit_add(r->worker->parts.permits, &r->credential, &r->target.name, r->worker->now_ms);
        r->access = ACCESS_PROVEN;
    } else {
        r->access = ACCESS_OPEN;
        r->is_public = true;
    }
}

/* Registries say 401, 403 or 404 of what they hide. */
bool pull_is_refusal(enum outcome why)
{
    int status = outcome_row(why)->status;

    return status == 401 || status == 403 || status == 404;
}

bool pull_may_ask_again(struct request *r, enum outcome why)
{
    if (!pull_is_refusal(why))
        return false;
    if (r->with_client) {
        permit_drop(r->worker->parts.permits, &r->credential, &r->target.name);
        /* What was granted before counts no longer, not even for what is stale. */
        r->access = ACCESS_PROVE;
        r->is_granted = false;
        return false;
    }
    r->with_client = r->behalf.authorization != NULL;
    return r->with_client;
}

bool pull_access_in_grace(struct request *r, enum outcome why)
{
    if (r->access != ACCESS_PROVE || pull_is_refusal(why) ||
        !has_proof(r, r->proof_ttl_ms + r->offline_grace_ms))
        return false;
    r->access = ACCESS_PROVEN;
    return true;
}

/* --- lost blobs --- */

struct blob_job {
    struct storage_job job;
    struct digest digest;
    struct name name;
    struct store *store;
};

static void job_done(struct storage_job *j, int err)
{
    (void)err;
    free(j);
}

static void post_job(struct request *r, const struct digest *d,
                     int (*apply)(struct storage_job *, struct db_txn *),
                     void (*done)(struct storage_job *, int))
{
    struct blob_job *b = mem_new(sizeof *b);

    b->job.apply = apply;
    b->job.done = done;
    b->digest = *d;
    b->name = r->target.name;
    b->store = r->worker->parts.store;
    storage_post(r->worker->parts.storage, &b->job);
}

/* Only if the file is still not what the record says: it may have been fetched
 * anew since. */
static int forget_apply(struct storage_job *j, struct db_txn *txn)
{
    struct blob_job *b = (struct blob_job *)j;
    struct blob_record record;
    int fd;
    int err = blob_get(txn, &b->digest, &record);

    if (err)
        return err == ERR_NOT_FOUND ? 0 : err;
    err = blob_open(b->store, &b->digest, record.size_bytes, &fd);
    if (err == 0) {
        close(fd);
        return 0;
    }
    return err == ERR_MISMATCH ? blob_forget(txn, &b->digest) : 0;
}

/* A recorded blob whose file is gone or wrong: it is a miss from now on. */
static void forget_blob(struct request *r, const struct digest *d)
{
    char text[DIGEST_TEXT_MAX];

    STATS_ADD(r->worker->parts.stats, blobs_dropped, 1);
    log_event_about(r->worker->parts.log, LOG_WARN, &r->target.name,
                    "lost blob %s: its file is missing or wrong", digest_text(d, text));
    post_job(r, d, forget_apply, job_done);
    /* A manifest whose bytes are wrong has a file of the right size. */
    scrubber_suspect(r->worker->parts.scrubber, d);
}

/* --- what the store has --- */

static bool is_visible(struct request *r, struct db_txn *txn, const struct digest *d,
                       enum blob_origin origin)
{
    if (r->access == ACCESS_PROVE)
        return false;
    if (origin == BLOB_PUBLIC || r->is_granted)
        return true;
    return (r->access == ACCESS_PROVEN || r->is_public) && link_get(txn, &r->target.name, d) == 0;
}

/* A manifest at hand; what is hidden by it is looked up again, for the origin may
 * have become more open. */
static bool take_body(struct request *r, struct db_txn *txn, const struct digest *d)
{
    r->held = shelf_take_body(r->worker->shelf, d);
    if (r->held && !is_visible(r, txn, d, r->held->origin))
        shelf_return(&r->held);
    return r->held != NULL;
}

static bool take_file(struct request *r, const struct digest *d, const struct blob_record *record,
                      bool in_memory)
{
    int err = shelf_take(r->worker->shelf, d, record, in_memory, &r->held);

    r->has_lost = err == ERR_MISMATCH;
    if (r->has_lost)
        forget_blob(r, d);
    return err == 0;
}

static bool take_recorded(struct request *r, struct db_txn *txn, const struct digest *d,
                          bool in_memory)
{
    struct blob_record record;

    r->is_hidden = false;
    if (blob_get(txn, d, &record) != 0)
        return false;
    r->is_hidden = !is_visible(r, txn, d, record.origin);
    if (r->is_hidden)
        return false;
    return take_file(r, d, &record, in_memory);
}

static void note_use(struct request *r, const struct digest *d)
{
    struct worker *w = r->worker;
    const struct in6_addr *client = conn_address(r->conn);
    bool is_due = w->now_s - r->held->used_at_s >= BLOB_TOUCH_S;

    if (is_due || !IN6_ARE_ADDR_EQUAL(client, &r->held->used_by)) {
        storage_touch(w->parts.storage, d, client, is_due);
        shelf_used(r->held, client, is_due ? w->now_s : r->held->used_at_s);
    }
}

bool pull_take_body(struct request *r, struct db_txn *txn, const struct digest *d)
{
    if (!take_body(r, txn, d))
        return false;
    note_use(r, d);
    return true;
}

bool pull_take_held(struct request *r, struct db_txn *txn, const struct digest *d, bool in_memory)
{
    if (!(in_memory && take_body(r, txn, d)) && !take_recorded(r, txn, d, in_memory))
        return false;
    note_use(r, d);
    return true;
}

bool pull_take_visible(struct request *r, const struct digest *d, const struct blob_record *record,
                       bool in_memory)
{
    r->held = in_memory ? shelf_take_body(r->worker->shelf, d) : NULL;
    if (!r->held && !take_file(r, d, record, in_memory))
        return false;
    note_use(r, d);
    return true;
}

static int open_apply(struct storage_job *j, struct db_txn *txn)
{
    struct blob_job *b = (struct blob_job *)j;
    struct blob_record record;
    int err = blob_get(txn, &b->digest, &record);

    if (err)
        return err == ERR_NOT_FOUND ? 0 : err;
    record.origin = BLOB_PUBLIC;
    err = blob_put(txn, &b->digest, &record);
    return err ? err : link_put(txn, &b->name, &b->digest, time(NULL));
}

static void open_done(struct storage_job *j, int err)
{
    const struct blob_job *b = (struct blob_job *)j;

    if (err == 0)
        blob_mark_public(b->store, &b->digest);
    job_done(j, err);
}

void pull_open_held(struct request *r, const struct digest *d)
{
    post_job(r, d, open_apply, open_done);
}
