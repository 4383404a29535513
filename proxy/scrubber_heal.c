/* SPDX-License-Identifier: ISC */
/*
 * What has gone bad. In this order, so that no record is without its file while it is
 * served: the record is dropped; the file goes into quarantine, by which those that have it
 * open drop it; another is fetched, as for a client. The record of a loss is there from the
 * drop on, so that a daemon that ends in between tries again; the blob's new record takes
 * it away.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "cache/lineage.h"
#include "cache/loss.h"
#include "cache/quarantine.h"
#include "proxy/log.h"
#include "proxy/scrubber_private.h"

#define RETRIES_MAX 256

/* --- reading --- */

/* ERR_NOT_FOUND when it is not held, or no more. */
static int get_record(struct scrubber *s, const struct digest *d, struct blob_record *r)
{
    struct db_txn *txn;
    int err = db_read(s->courier.reader, &txn);

    if (err != 0)
        return err;
    err = blob_get(txn, d, r);
    db_read_end(s->courier.reader);
    return err;
}

/* What is bad is read twice: a file may have been cut, evicted or replaced meanwhile, and what
 * was read wrong once may be read right. `r` is read again between. ERR_NOT_FOUND when its record
 * went meanwhile, or cannot be read. */
static int verify(struct scrubber *s, const struct digest *d, struct blob_record *r,
                  struct file_id *id)
{
    struct store *store = s->courier.parts.store;
    int err = verify_blob(store, d, r->size_bytes, scrubber_pace, s, id);

    if (err >= 0)
        return err;
    if (get_record(s, d, r) != 0)
        return ERR_NOT_FOUND;
    *id = (struct file_id){0};
    return verify_blob(store, d, r->size_bytes, scrubber_pace, s, id);
}

/* Whether it tells of the blob, and not of us: a file that could not be opened, with the
 * descriptors or the memory short, may be well. */
static bool is_verdict(int err, const struct file_id *id)
{
    return err == 0 || err == ERR_DAMAGED || err == ERR_MISMATCH ||
           (err == ERR_IO && id->number != 0);
}

static const char *bad_text(int err)
{
    return err == ERR_DAMAGED ? "its bytes are not those of its digest"
           : err == ERR_IO    ? "the disk cannot read it"
                              : "its file is missing or of the wrong size";
}

/* --- dropping --- */

struct drop {
    struct store *store;
    struct loss loss;
    struct file_id file;
    bool is_done;
};

static int drop_apply(void *arg, struct db_txn *txn)
{
    struct drop *d = arg;

    return scrub_drop(d->store, txn, &d->loss, &d->file, &d->is_done);
}

/* Not log_event_about: a digest may be that of what only few may pull. */
static bool drop(struct scrubber *s, const struct digest *digest, const struct blob_record *r,
                 int why, const struct file_id *id)
{
    struct courier *c = &s->courier;
    char text[DIGEST_TEXT_MAX];
    struct drop d = {
        .store = c->parts.store,
        .loss = {*digest, r->size_bytes, time(NULL), ""},
        .file = *id,
    };

    digest_text(digest, text);
    int err = courier_write(c, drop_apply, &d);

    if (err == 0 && !d.is_done)
        return false;
    log_event(c->parts.log, LOG_WARN, "%s with %llu bytes has gone bad: %s", text,
              (unsigned long long)r->size_bytes, bad_text(why));
    STATS_ADD(c->parts.stats, scrub_bad, 1);
    if (err != 0) {
        log_event(c->parts.log, LOG_ERROR, "%s cannot be dropped: %s", text, err_text(err));
        return false;
    }
    err = id->number != 0 ? quarantine_blob(c->parts.store, digest, id) : 0;
    if (err != 0 && err != ERR_NOT_FOUND)
        log_event(c->parts.log, LOG_ERROR, "the file of %s cannot be moved to quarantine/: %s",
                  text, err_text(err));
    return true;
}

/* --- healing --- */

static void ignore_progress(void *arg, uint64_t bytes)
{
    (void)arg, (void)bytes;
}

static void fetch_manifest(struct courier *c, const struct name *n, const struct digest *d,
                           struct fetch_failure *why)
{
    char text[DIGEST_TEXT_MAX];
    struct ask *a = courier_ask(c, ASK_MANIFEST, n, digest_text(d, text));

    if (a == NULL) {
        *why = (struct fetch_failure){.code = OUT_DRAINING};
        return;
    }
    const struct ask_result *r = ask_result(a);

    *why = (struct fetch_failure){.code = (int)r->outcome};
    snprintf(why->text, sizeof why->text, "%s",
             r->why[0] != '\0' ? r->why : outcome_row(r->outcome)->text);
    ask_unref(&a);
}

static void fetch_from(struct courier *c, const struct name *n, const struct loss *l,
                       bool is_manifest, struct fetch_failure *why)
{
    const struct courier_blob b = {
        .name = n,
        .digest = &l->digest,
        .size_bytes = l->size_bytes,
        .is_background = true,
        .tell = ignore_progress,
    };

    *why = (struct fetch_failure){.code = OUT_BLOB_UNKNOWN};
    snprintf(why->text, sizeof why->text, "the settings have no upstream %.64s", n->registry);
    if (config_find_upstream(c->config, n->registry) == NULL)
        return;
    if (is_manifest)
        fetch_manifest(c, n, &l->digest, why);
    else
        (void)courier_fetch(c, &b, why);
}

/* What is shown is printable. */
static void set_why(struct loss *l, const char *text)
{
    snprintf(l->why, sizeof l->why, "%.*s", LOSS_WHY_MAX - 1, text);
    for (char *p = l->why; *p != '\0'; p++)
        if (*p < ' ' || *p > '~')
            *p = '?';
}

/* From the first that has it. OUT_DRAINING: stop. */
static enum outcome fetch(struct scrubber *s, struct loss *l)
{
    struct courier *c = &s->courier;
    struct scrub_sources sources;
    struct fetch_failure why = {.code = OUT_BLOB_UNKNOWN};
    struct db_txn *txn;

    int err = db_read(c->reader, &txn);

    if (err == 0) {
        err = scrub_find_sources(txn, &l->digest, &sources);
        db_read_end(c->reader);
    }
    if (err != 0) {
        set_why(l, err_text(err));
        return OUT_STORE_FAILED;
    }
    set_why(l, "no upstream is known to have it");
    for (unsigned i = 0; i < sources.count; i++) {
        fetch_from(c, &sources.list[i], l, sources.is_manifest, &why);
        if (!outcome_is_error((enum outcome)why.code) || why.code == OUT_DRAINING)
            break;
        set_why(l, why.text[0] != '\0' ? why.text : outcome_row((enum outcome)why.code)->text);
    }
    return (enum outcome)why.code;
}

static int note_apply(void *arg, struct db_txn *txn)
{
    const struct loss *l = arg;
    struct blob_record r;

    /* A client has it fetched, or pushed it, meanwhile. */
    return blob_get(txn, &l->digest, &r) == 0 ? 0 : loss_put(txn, l);
}

static void say_lost(struct scrubber *s, const struct loss *l)
{
    struct courier *c = &s->courier;
    char text[DIGEST_TEXT_MAX];
    struct lineage lineage;
    struct db_txn *txn;

    if (db_read(c->reader, &txn) != 0)
        return;
    int err = lineage_read(&lineage, txn, &l->digest);

    db_read_end(c->reader);
    char *images = err == 0 ? lineage_text(&lineage) : mem_format("%s", err_text(err));

    if (err == 0)
        lineage_clear(&lineage);
    log_event(c->parts.log, LOG_ERROR, "%s is lost: %s; images that need it: %s",
              digest_text(&l->digest, text), l->why, images);
    free(images);
}

static int count_loss(void *arg, const struct loss *l)
{
    (void)l;
    (*(uint64_t *)arg)++;
    return 0;
}

static void show_lost(struct scrubber *s)
{
    struct db_txn *txn;
    uint64_t count = 0;

    if (db_read(s->courier.reader, &txn) != 0)
        return;
    int err = loss_walk(txn, count_loss, &count);

    db_read_end(s->courier.reader);
    if (err == 0)
        STATS_SET(s->courier.parts.stats, lost_blobs, count);
}

/* Of what was lost before nothing is said when it still is. False: stop. */
static bool heal(struct scrubber *s, struct loss *l, bool is_new)
{
    struct courier *c = &s->courier;
    char text[DIGEST_TEXT_MAX];
    enum outcome o = fetch(s, l);

    if (o == OUT_DRAINING)
        return false;
    if (!outcome_is_error(o)) {
        STATS_ADD(c->parts.stats, scrub_healed, 1);
        log_event(c->parts.log, LOG_INFO, "%s is healed: it was fetched again",
                  digest_text(&l->digest, text));
    } else {
        int err = courier_write(c, note_apply, l);

        if (err != 0)
            log_event_about(c->parts.log, LOG_ERROR, NULL, "what is lost cannot be noted: %s",
                            err_text(err));
        if (is_new)
            say_lost(s, l);
    }
    show_lost(s);
    return true;
}

enum look scrubber_look_at(struct scrubber *s, const struct digest *d)
{
    struct stats *stats = s->courier.parts.stats;
    char text[DIGEST_TEXT_MAX];
    struct blob_record r;
    struct file_id id = {0};

    /* A record that is damaged is a miss, which the next pull mends. */
    if (get_record(s, d, &r) != 0)
        return LOOK_GONE;
    int err = verify(s, d, &r, &id);

    if (err > 0)
        return LOOK_STOP;
    if (err == ERR_NOT_FOUND)
        return LOOK_GONE;
    if (!is_verdict(err, &id)) {
        log_event(s->courier.parts.log, LOG_WARN, "%s cannot be checked: %s", digest_text(d, text),
                  err_text(err));
        return LOOK_DONE;
    }
    STATS_ADD(stats, scrub_blobs, 1);
    s->state.round_blobs++;
    if (err == 0) {
        s->state.round_bytes += r.size_bytes;
        if (r.origin == BLOB_PUBLIC)
            blob_mark_public(s->courier.parts.store, d);
        return LOOK_DONE;
    }
    struct loss l = {*d, r.size_bytes, time(NULL), ""};

    if (!drop(s, d, &r, err, &id))
        return LOOK_DONE;
    return heal(s, &l, true) ? LOOK_DONE : LOOK_STOP;
}

/* --- what is lost --- */

bool scrubber_heal_lost(struct scrubber *s, const struct digest *d)
{
    struct db_txn *txn;
    struct loss l;

    if (db_read(s->courier.reader, &txn) != 0)
        return true;
    int err = loss_get(txn, d, &l);

    db_read_end(s->courier.reader);
    return err != 0 || heal(s, &l, true);
}

struct losses {
    struct loss list[RETRIES_MAX];
    unsigned count;
};

static int take_loss(void *arg, const struct loss *l)
{
    struct losses *losses = arg;

    losses->list[losses->count++] = *l;
    return losses->count == RETRIES_MAX;
}

bool scrubber_retry_lost(struct scrubber *s)
{
    struct losses *losses = mem_new(sizeof *losses);
    struct db_txn *txn;
    bool goes_on = true;

    if (db_read(s->courier.reader, &txn) == 0) {
        int err = loss_walk(txn, take_loss, losses);

        db_read_end(s->courier.reader);
        if (err < 0)
            losses->count = 0;
    }
    for (unsigned i = 0; goes_on && i < losses->count; i++)
        goes_on = heal(s, &losses->list[i], false);
    show_lost(s);
    free(losses);
    return goes_on;
}
