/* SPDX-License-Identifier: ISC */
#include "proxy/spoilt.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "cache/err.h"
#include "cache/quarantine.h"
#include "cache/scrub.h"
#include "proxy/log.h"
#include "proxy/scrubber.h"
#include "proxy/storage.h"

struct spoilt {
    struct storage_job job;
    struct store *store;
    struct scrubber *scrubber;
    struct log *log;
    struct loss loss;
    struct file_id file;
};

static int spoilt_apply(struct storage_job *j, struct db_txn *txn)
{
    const struct spoilt *s = (struct spoilt *)j;
    bool is_done;

    return scrub_drop(s->store, txn, &s->loss, &s->file, &is_done);
}

/* A file that cannot be moved has no record, and is written over by the next. */
static void spoilt_done(struct storage_job *j, int err)
{
    struct spoilt *s = (struct spoilt *)j;
    char text[DIGEST_TEXT_MAX];

    digest_text(&s->loss.digest, text);
    if (err != 0) {
        log_event(s->log, LOG_ERROR, "%s cannot be dropped: %s", text, err_text(err));
    } else {
        int moved = quarantine_blob(s->store, &s->loss.digest, &s->file);

        if (moved != 0 && moved != ERR_NOT_FOUND)
            log_event(s->log, LOG_ERROR, "the file of %s cannot be moved to quarantine/: %s", text,
                      err_text(moved));
        scrubber_suspect(s->scrubber, &s->loss.digest);
    }
    free(s);
}

void spoilt_drop(struct worker *w, const struct held *held)
{
    struct stat st;
    char text[DIGEST_TEXT_MAX];

    if (held->fd < 0 || fstat(held->fd, &st) != 0)
        return;
    struct spoilt *s = mem_new(sizeof *s);

    s->job.apply = spoilt_apply;
    s->job.done = spoilt_done;
    s->store = w->parts.store;
    s->scrubber = w->parts.scrubber;
    s->log = w->parts.log;
    s->loss = (struct loss){held->digest, held->size_bytes, w->now_s, ""};
    s->file = (struct file_id){st.st_dev, st.st_ino};
    STATS_ADD(w->parts.stats, blobs_dropped, 1);
    log_event(w->parts.log, LOG_WARN, "%s cannot be read: its answer was cut short",
              digest_text(&held->digest, text));
    storage_post(w->parts.storage, &s->job);
}
