/* SPDX-License-Identifier: ISC */
#include "proxy/local_private.h"

#include <stdlib.h>

#include "cache/err.h"

/* In the storage thread. */
static void job_done(struct storage_job *s, int err)
{
    struct local_job *j = (struct local_job *)s;

    j->err = err;
    if (j->is_written && (err || j->refusal))
        storage_remove_unrecorded(j->worker->parts.storage, &j->digest);
    queue_post(j->worker->queue, &j->answer);
}

void local_job_free(struct local_job *j)
{
    manifest_free(&j->manifest);
    STATS_SUB(j->worker->parts.stats, manifest_bytes, j->body_claim);
    free(j->body);
    free(j->from);
    free(j);
}

static void on_answer(struct msg *m, void *owner)
{
    struct local_job *j = CONTAINER_OF(m, struct local_job, answer);
    struct request *r = j->request;

    worker_clock(owner);
    j->worker->requests--;
    if (r) {
        r->local->job = NULL;
        j->done(r, j, j->err);
    }
    local_job_free(j);
}

struct local_job *local_job_new(struct request *r)
{
    struct local_job *j = mem_new(sizeof *j);

    CHECK(!r->local->job);
    r->local->job = j;
    j->job.done = job_done;
    j->answer.run = on_answer;
    j->worker = r->worker;
    j->request = r;
    j->name = r->target.name;
    j->digest = r->target.digest;
    return j;
}

void local_job_post(struct local_job *j, void (*done)(struct request *, struct local_job *, int))
{
    j->done = done;
    /* As a request does, it keeps the worker until its message has come. */
    j->worker->requests++;
    request_enter(j->request, REQUEST_WORKING);
    storage_post(j->worker->parts.storage, &j->job);
}

void local_job_abandon(struct local_job *j)
{
    j->request = NULL;
}

bool local_has_file(const struct local_job *j, struct db_txn *txn, const struct digest *d)
{
    struct blob_record record;

    return blob_get(txn, d, &record) == 0 &&
           blob_check(j->worker->parts.store, d, record.size_bytes) == 0;
}

void local_send_failure(struct request *r, int err)
{
    enum outcome o = err == ERR_NO_SPACE || err == ERR_FULL ? OUT_UPLOAD_SPACE : OUT_STORE_FAILED;

    request_error(r, o, err_text(err), 0);
}
