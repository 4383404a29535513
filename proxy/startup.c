/* SPDX-License-Identifier: ISC */
#include "proxy/startup.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "cache/recover.h"

static const char *cause_text(enum recovery_cause cause)
{
    return cause == RECOVERY_MISSING ? "was missing" : "was damaged";
}

/* What a person must know: what is back, and what is not. */
static void say_rebuilt(const struct recovery *r, const struct store *s, struct log *log)
{
    const struct rebuild *b = &r->rebuild;
    char since[64] = "there was no index.json, so all tags are lost";
    time_t written = (time_t)b->index_json_at_s;
    struct tm tm;

    if (b->has_index_json && gmtime_r(&written, &tm) != NULL)
        (void)strftime(since, sizeof since, "tags younger than %Y-%m-%dT%H:%M:%SZ are lost", &tm);
    log_event_about(
        log, LOG_WARN, NULL,
        "the index in %s %s and was made anew from blobs/ and index.json: %" PRIu64
        " blobs with %" PRIu64 " bytes, %" PRIu64 " of them manifests, %" PRIu64 " tags; %s, "
        "and so are last uses, what is known to be private, downloads under way and the "
        "ledger%s%s",
        store_path(s), cause_text(r->cause), b->blobs, b->bytes, b->manifests, b->tags, since,
        r->aside[0] != '\0' ? "; the old one is kept as " : "", r->aside);
    if (b->lost_tags > 0)
        log_event_about(log, LOG_WARN, NULL,
                        "%" PRIu64 " tags of index.json lead to manifests that are gone",
                        b->lost_tags);
}

static void say_permissions(const struct store *s, struct log *log)
{
    unsigned found, now;

    store_permissions(s, &found, &now);
    if ((now & 077) != 0)
        log_event_about(log, LOG_WARN, NULL,
                        "%s is open to other users of this machine (mode %04o), and the file "
                        "system does not let it be closed",
                        store_path(s), now);
    else if (found != now)
        log_event_about(log, LOG_WARN, NULL,
                        "%s was open to other users of this machine (mode %04o); now it is not "
                        "(%04o)",
                        store_path(s), found, now);
}

int startup_open_store(struct store **s, const struct config *c, struct stats *stats,
                       struct log *log, char *why, size_t why_size)
{
    struct recovery r;
    int err = recover_open(s, c->path, (size_t)c->index_size_bytes, time(NULL), &r, why, why_size);

    if (err == 0)
        say_permissions(*s, log);
    if (err == 0 && r.cause != RECOVERY_NONE) {
        STATS_ADD(stats, index_rebuilds, 1);
        say_rebuilt(&r, *s, log);
    }
    return err;
}
