/* SPDX-License-Identifier: ISC */
/* What is deleted from a repository, distribution-spec 1.1.1 "Content Management": it is no
 * longer there at once; the bytes stay as long as somebody else has them. */
#include "proxy/local_private.h"

#include <string.h>
#include <time.h>

#include "cache/err.h"
#include "cache/local.h"

static int delete_apply(struct storage_job *s, struct db_txn *txn)
{
    struct local_job *j = (struct local_job *)s;
    int64_t now_s = time(NULL);
    int err;

    if (j->tag[0])
        err = local_delete_tag(txn, &j->name, j->tag);
    else if (j->is_manifest)
        err = local_delete_manifest(txn, &j->name, &j->digest, now_s);
    else
        err = local_delete_blob(txn, &j->name, &j->digest, now_s);
    j->is_absent = err == ERR_NOT_FOUND;
    return j->is_absent ? 0 : err;
}

static void on_deleted(struct request *r, struct local_job *j, int err)
{
    if (err) {
        local_send_failure(r, err);
    } else if (j->is_absent) {
        request_error(r, j->is_manifest ? OUT_LOCAL_MANIFEST : OUT_LOCAL_BLOB, NULL, 0);
    } else {
        if (j->is_manifest)
            storage_tags_changed(r->worker->parts.storage);
        if (!j->tag[0])
            storage_collect(r->worker->parts.storage, false);
        request_done(r, OUT_DELETED, 202, NULL);
    }
}

static void post(struct request *r, bool is_manifest)
{
    struct local_job *j = local_job_new(r);

    j->is_manifest = is_manifest;
    if (!r->target.by_digest)
        memcpy(j->tag, r->target.tag, sizeof j->tag);
    j->job.apply = delete_apply;
    local_job_post(j, on_deleted);
}

void local_remove_manifest(struct request *r)
{
    post(r, true);
}

void local_remove_blob(struct request *r)
{
    post(r, false);
}
