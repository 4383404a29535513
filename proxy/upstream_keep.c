/* SPDX-License-Identifier: ISC */
/*
 * Answers that are kept: a storage job judges what came, writes it, and ends the
 * ask. What could not be written is still an answer; what is wrong is none.
 */
#include "proxy/upstream_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "cache/link.h"
#include "cache/repository.h"
#include "cache/tag.h"
#include "proxy/twice.h"

#define VISIBILITY_RENEW_S 3600

struct keep {
    struct storage_job job;
    struct store *store; /* from prepare on */
    struct upstream_parts parts;
    struct ask *ask;
    struct manifest *manifest;
    bool is_judged;
    bool is_restricted; /* the upstream's content is for those whom local rules let */
};

/* Media types that say nothing of a manifest. */
static const char *const generic_types[] = {
    "", "application/json", "application/octet-stream", "binary/octet-stream", "text/plain",
};

bool keep_type_is_generic(const char *media_type)
{
    for (size_t i = 0; i < sizeof generic_types / sizeof generic_types[0]; i++) {
        if (strcasecmp(media_type, generic_types[i]) == 0)
            return true;
    }
    return false;
}

/* In the order in which a body without a mediaType is taken for one of them. */
static const char *const manifest_types[] = {
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.artifact.manifest.v1+json",
};

/* Parse by the Content-Type; by the body's own words when that says nothing. */
static int parse(struct keep *k, char *why, size_t why_size)
{
    const struct ask_result *r = ask_answer(k->ask);
    int err = ERR_INVALID;

    if (!keep_type_is_generic(r->media_type))
        return manifest_parse(&k->manifest, r->media_type, r->body, r->body_len, why, why_size);
    for (size_t i = 0; i < sizeof manifest_types / sizeof manifest_types[0] && err != 0; i++)
        err = manifest_parse(&k->manifest, manifest_types[i], r->body, r->body_len, why, why_size);
    return err;
}

static void judge_manifest(struct keep *k)
{
    struct ask_result *r = ask_answer(k->ask);
    const char *registry = ask_name(k->ask)->registry;
    struct digest got;
    char text[DIGEST_TEXT_MAX], why[160];

    digest_of((enum digest_alg)r->digest.alg, r->body, r->body_len, &got);
    if (!digest_equal(&got, &r->digest)) {
        STATS_ADD(k->parts.stats, verify_failures, 1);
        ask_fail(k->ask, OUT_BAD_CONTENT, "%s: the manifest's digest is %s", registry,
                 digest_text(&got, text));
    } else if (parse(k, why, sizeof why) != 0) {
        ask_fail(k->ask, OUT_UPSTREAM_BROKEN, "%s: the manifest is not usable: %s", registry, why);
    } else {
        snprintf(r->media_type, sizeof r->media_type, "%s", manifest_media_type(k->manifest));
        return;
    }
    log_event_about(k->parts.log, LOG_ERROR, ask_name(k->ask), "%s of %s/%s: %s",
                    ask_reference(k->ask), registry, ask_name(k->ask)->repository, r->why);
    free(r->body);
    r->body = NULL;
    r->body_len = 0;
}

/* Of an answer with a manifest; once, whatever becomes of the job. */
static void judge(struct keep *k)
{
    bool is_manifest = ask_kind(k->ask) != ASK_LIST && ask_answer(k->ask)->body;

    if (is_manifest && !k->is_judged)
        judge_manifest(k);
    k->is_judged = true;
}

static int keep_prepare(struct storage_job *j, struct store *s)
{
    struct keep *k = (struct keep *)j;
    const struct ask_result *r = ask_answer(k->ask);

    k->store = s;
    judge(k);
    return k->manifest ? blob_write(s, &r->digest, r->body, r->body_len) : 0;
}

static int apply_list(struct keep *k, struct db_txn *txn, int64_t now_s)
{
    const struct ask_result *r = ask_answer(k->ask);
    struct list_record record = {
        .fetched_at_s = now_s,
        .content_type = r->media_type,
        .link = r->link ? r->link : "",
        .body = r->body,
        .body_len = r->body_len,
    };

    int err = list_put(txn, ask_name(k->ask), ask_reference(k->ask), &record);
    /* Such a list is passed on, and not kept. */
    return err == ERR_TOO_LARGE ? 0 : err;
}

static int apply_tag(struct keep *k, struct db_txn *txn, int64_t now_s)
{
    const struct ask_result *r = ask_answer(k->ask);
    struct tag_record record = {
        .digest = r->digest,
        .size_bytes = r->size_bytes,
        .checked_at_s = now_s,
        .changed_at_s = now_s,
    };

    snprintf(record.media_type, sizeof record.media_type, "%s", r->media_type);
    int err = tag_put(txn, ask_name(k->ask), ask_reference(k->ask), &record);
    if (err != 0)
        return err;
    return media_type_is_manifest(r->media_type)
               ? link_put_manifest(txn, ask_name(k->ask), &r->digest, r->media_type, now_s)
               : link_put(txn, ask_name(k->ask), &r->digest, now_s);
}

/* Whether a client's own credentials opened it. */
static bool is_private(const struct keep *k)
{
    return ask_behalf(k->ask)->authorization != NULL;
}

static enum blob_origin origin_of(const struct keep *k)
{
    return is_private(k) || k->is_restricted ? BLOB_PRIVATE : BLOB_PUBLIC;
}

/* The upstream answered, so it is known who may read the repository. A record is
 * renewed when it says something else, or is old. */
static int apply_visibility(struct keep *k, struct db_txn *txn, int64_t now_s)
{
    struct repository_record old;
    struct repository_record now = {
        .visibility = is_private(k) ? REPOSITORY_PRIVATE : REPOSITORY_PUBLIC,
        .checked_at_s = now_s,
    };

    if (repository_get(txn, ask_name(k->ask), &old) == 0 && old.visibility == now.visibility &&
        now_s - old.checked_at_s < VISIBILITY_RENEW_S)
        return 0;
    return repository_put(txn, ask_name(k->ask), &now);
}

static int keep_apply(struct storage_job *j, struct db_txn *txn)
{
    struct keep *k = (struct keep *)j;
    const struct ask_result *r = ask_answer(k->ask);
    int64_t now_s = time(NULL);
    int err = 0;

    if (outcome_is_error(r->outcome))
        return 0;
    err = apply_visibility(k, txn, now_s);
    if (err == 0 && ask_kind(k->ask) == ASK_LIST)
        return apply_list(k, txn, now_s);
    /* A push of the same bytes that was refused may have removed the file meanwhile. */
    if (err == 0 && k->manifest)
        err = blob_restore(k->store, &r->digest, r->body, r->body_len);
    if (err == 0 && k->manifest)
        err = manifest_put(txn, ask_name(k->ask), &r->digest, k->manifest, origin_of(k),
                           r->size_bytes, now_s);
    if (err == 0 && ask_kind(k->ask) == ASK_TAG)
        err = apply_tag(k, txn, now_s);
    return err;
}

static void keep_done(struct storage_job *j, int err)
{
    struct keep *k = (struct keep *)j;
    const struct name *n = ask_name(k->ask);

    /* When nothing is written any more, nobody has judged yet. */
    judge(k);
    if (err != 0)
        log_event_about(k->parts.log, LOG_ERROR, n, "%s of %s/%s was not stored: %s",
                        ask_reference(k->ask), n->registry, n->repository, err_text(err));
    else if (k->manifest) {
        if (origin_of(k) == BLOB_PUBLIC)
            blob_mark_public(k->store, &ask_answer(k->ask)->digest);
        STATS_ADD(k->parts.stats, manifests_stored, 1);
        twice_add_manifest(k->parts.twice, n, &ask_answer(k->ask)->digest);
    }
    if (err == 0 && (k->manifest || ask_kind(k->ask) == ASK_TAG))
        storage_tags_changed(k->parts.storage);
    ask_finish(k->parts.asks, k->ask);
    manifest_free(&k->manifest);
    ask_unref(&k->ask);
    free(k);
}

void keep_answer(const struct upstream_parts *parts, struct ask *a, bool is_restricted)
{
    struct keep *k = mem_new(sizeof *k);

    k->job.prepare = keep_prepare;
    k->job.apply = keep_apply;
    k->job.done = keep_done;
    k->parts = *parts;
    k->ask = ask_ref(a);
    k->is_restricted = is_restricted;
    storage_post(parts->storage, &k->job);
}
