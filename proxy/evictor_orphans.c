/* SPDX-License-Identifier: ISC */
/*
 * Files in blobs/ that no record names: a daemon that was killed between the rename and the
 * commit leaves them. They are looked for once, after the start, beside all else; those that
 * came since then are on their way into the index, and those of an import beside us, too.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cache/err.h"
#include "cache/folder.h"
#include "proxy/evictor_private.h"

struct sweep {
    struct evictor *evictor;
    enum digest_alg alg;
    int64_t before_s;
    unsigned seen;
    struct digest *list;
    size_t count;
};

/* Looked at before it is looked whether somebody wants room. */
#define NAMES_BETWEEN 4096

static bool is_recorded(struct evictor *e, const struct digest *d)
{
    struct blob_record r;
    struct db_txn *txn;

    if (db_read(e->reader, &txn) != 0)
        return true;
    int err = blob_get(txn, d, &r);
    db_read_end(e->reader);
    return err != ERR_NOT_FOUND;
}

static bool is_old(const struct sweep *s, const struct digest *d)
{
    char name[DIGEST_TEXT_MAX];
    struct stat st;

    return fstatat(store_blobs_fd(s->evictor->store, (enum digest_alg)d->alg),
                   store_blob_name(d, name), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISREG(st.st_mode) && st.st_ctim.tv_sec < s->before_s;
}

static void serve(struct evictor *e)
{
    queue_run(e->queue, e);
    if (!e->stopping)
        evictor_do_due(e);
}

static int look_at(void *arg, const char *name)
{
    struct sweep *s = arg;
    struct evictor *e = s->evictor;
    struct digest d;

    if (store_blob_digest(s->alg, name, &d) && !is_recorded(e, &d) && is_old(s, &d)) {
        s->list = mem_resize(s->list, (s->count + 1) * sizeof s->list[0]);
        s->list[s->count++] = d;
    }
    if (++s->seen % NAMES_BETWEEN == 0)
        serve(e);
    return e->stopping ? 1 : 0;
}

/* Two batches for each: the second removes what the first has noted. What came into the index
 * meanwhile is left out, and what was written again; an import that begins ends it all. */
static void remove_all(struct sweep *s)
{
    struct evictor *e = s->evictor;
    struct batch *b = &e->batch;
    size_t removed = 0;
    int err = 0;

    for (size_t i = 0; err == 0 && i < s->count && !e->stopping && !store_is_importing(e->store);) {
        for (b->count = 0; b->count < BATCH_UNITS && i < s->count; i++)
            if (is_old(s, &s->list[i]))
                b->units[b->count++] = s->list[i];
        b->are_orphans = true;
        err = evictor_run_batch(e);
        b->are_orphans = false;
        removed += err == 0 ? b->leaving.count - b->waiting.count : 0;
        b->count = 0;
        serve(e);
    }
    if (err == 0 && b->leaving.count > 0)
        err = evictor_run_batch(e);
    if (err == 0 && removed > 0)
        log_event(e->log, LOG_INFO, "removed %zu files that no record named", removed);
}

static void look_through(struct sweep *s)
{
    struct evictor *e = s->evictor;
    int err = folder_walk(store_blobs_fd(e->store, s->alg), look_at, s);

    if (err < 0)
        log_event_about(e->log, LOG_WARN, NULL, "blobs/ cannot be read: %s", err_text(err));
}

void evictor_remove_orphans(struct evictor *e, int64_t before_s)
{
    struct sweep s = {.evictor = e, .before_s = before_s};

    if (store_is_importing(e->store))
        return;
    for (s.alg = DIGEST_SHA256; s.alg <= DIGEST_SHA512 && !e->stopping; s.alg++)
        look_through(&s);
    remove_all(&s);
    free(s.list);
}
