/* SPDX-License-Identifier: ISC */
/* How a verified partial becomes a blob: storage jobs of the write thread. */
#include "proxy/intake_write.h"

#include <stdlib.h>
#include <time.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "cache/link.h"
#include "proxy/twice.h"

/* The fsync of a file as large as this is not for others to wait for. */
#define SLOW_BYTES (1024u * 1024)

struct publish {
    struct storage_job job;
    struct store *store; /* from prepare on */
    struct storage *storage;
    struct fetch_table *fetches;
    struct twice *twice;
    struct stats *stats;
    struct log *log;
    struct partial *partial;
    struct fetch *fetch;
    struct name name;
    struct blob_record record;
};

static int publish_prepare(struct storage_job *j, struct store *s)
{
    struct publish *p = (struct publish *)j;

    p->store = s;
    return partial_publish(p->partial);
}

static int publish_apply(struct storage_job *j, struct db_txn *txn)
{
    struct publish *p = (struct publish *)j;
    const struct digest *d = fetch_digest(p->fetch);

    /* Another that failed to record the same blob may have removed the file meanwhile. */
    int err = blob_check(p->store, d, p->record.size_bytes);
    if (err == 0)
        err = blob_put(txn, d, &p->record);
    if (err == 0)
        err = link_put(txn, &p->name, d, p->record.stored_at_s);
    if (err == 0)
        err = partial_forget(txn, d);
    return err;
}

static void publish_done(struct storage_job *j, int err)
{
    struct publish *p = (struct publish *)j;
    const struct digest *d = fetch_digest(p->fetch);
    char text[DIGEST_TEXT_MAX];

    if (err == 0) {
        if (p->record.origin == BLOB_PUBLIC)
            blob_mark_public(p->store, d);
        STATS_ADD(p->stats, blobs_stored, 1);
        twice_add_fetched(p->twice, &p->name, d, p->record.size_bytes);
        log_event(p->log, LOG_INFO, "stored %s of %s/%s, %llu bytes", digest_text(d, text),
                  p->name.registry, p->name.repository, (unsigned long long)p->record.size_bytes);
    } else {
        log_event_about(p->log, LOG_ERROR, &p->name, "%s of %s/%s was not stored: %s",
                        digest_text(d, text), p->name.registry, p->name.repository, err_text(err));
        if (partial_is_published(p->partial))
            storage_remove_unrecorded(p->storage, d);
        partial_discard(&p->partial);
    }
    partial_close(&p->partial);
    fetch_retire(p->fetches, p->fetch);
    STATS_SUB(p->stats, fetches, 1);
    fetch_unref(&p->fetch);
    free(p);
}

void publish_post(struct hasher *h, struct partial *partial, struct fetch *f, const struct name *n,
                  uint64_t size_bytes)
{
    struct publish *p = mem_new(sizeof *p);
    int64_t now_s = time(NULL);

    p->job.is_slow = size_bytes >= SLOW_BYTES;
    p->job.publishes = fetch_digest(f);
    p->job.prepare = publish_prepare;
    p->job.apply = publish_apply;
    p->job.done = publish_done;
    p->storage = h->storage;
    p->fetches = h->fetches;
    p->twice = h->twice;
    p->stats = h->stats;
    p->log = h->log;
    p->partial = partial;
    p->fetch = f;
    p->name = *n;
    p->record = (struct blob_record){
        .size_bytes = size_bytes,
        .origin = fetch_is_private(f) ? BLOB_PRIVATE : BLOB_PUBLIC,
        .stored_at_s = now_s,
        .used_at_s = now_s,
    };
    storage_post(h->storage, &p->job);
}

struct forget {
    struct storage_job job;
    struct digest digest;
};

static int forget_apply(struct storage_job *j, struct db_txn *txn)
{
    return partial_forget(txn, &((struct forget *)j)->digest);
}

static void forget_done(struct storage_job *j, int err)
{
    /* A record without a file is harmless: the next fetch starts from nothing. */
    (void)err;
    free(j);
}

void publish_forget(struct hasher *h, const struct digest *d)
{
    struct forget *f = mem_new(sizeof *f);

    f->job.apply = forget_apply;
    f->job.done = forget_done;
    f->digest = *d;
    storage_post(h->storage, &f->job);
}
