/* SPDX-License-Identifier: ISC */
/*
 * How content is found: in the store, by joining a fetch, or by asking.
 *
 *   tag:      fresh record -> manifest; else ASK_TAG -> manifest; no answer: stale
 *   manifest: held -> send; else ASK_MANIFEST -> send its body
 *   blob:     held -> send; HEAD: size from a manifest, else ASK_EXISTS;
 *             GET: join or begin the fetch, send as it comes
 *   list:     ASK_LIST -> send; no answer: what was kept
 *
 * Of a private repository nothing is sent before the upstream has accepted the
 * client: then even what is held is asked for, by HEAD. A refusal without
 * credentials is asked again with the client's own, if it sent some.
 */
#include "proxy/pull_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/link.h"
#include "cache/manifest.h"
#include "proxy/absence.h"
#include "proxy/health.h"
#include "proxy/secret.h"

/* How long a client waits for a revalidation when something stale is at hand. */
#define STALE_AFTER_MS 5000

/* --- in common --- */

struct db_txn *pull_begin_read(struct request *r)
{
    struct db_txn *txn;
    int err = db_read(r->worker->reader, &txn);

    if (err == 0)
        return txn;
    log_event_about(r->worker->parts.log, LOG_ERROR, NULL, "the index cannot be read: %s",
                    err_text(err));
    request_error(r, OUT_STORE_FAILED, err_text(err), 0);
    return NULL;
}

static bool answer_unasked(struct request *r, enum ask_kind kind, const char *reference);

struct behalf pull_behalf(const struct request *r)
{
    return (struct behalf){
        .authorization = r->with_client ? r->behalf.authorization : NULL,
        .loop = r->behalf.loop ? r->behalf.loop : r->worker->parts.loop_id,
    };
}

/* Between the look into the index and the one at the questions one about this tag may have
 * been answered: then the index has the answer by now, for all who have joined this one. */
static bool answer_from_index(struct request *r, struct ask *a)
{
    struct worker *w = r->worker;
    struct tag_record tag;
    struct db_txn *txn;

    if (r->access != ACCESS_OPEN || db_read(w->reader, &txn) != 0)
        return false;
    int err = tag_get(txn, &r->target.name, r->target.tag, &tag);
    db_read_end(w->reader);
    if (err || !tag_is_fresh(&tag, w->now_s, r->tag_ttl_s))
        return false;
    struct ask_result *result = ask_answer(a);
    result->outcome = OUT_MISS;
    result->digest = tag.digest;
    result->size_bytes = tag.size_bytes;
    memcpy(result->media_type, tag.media_type, sizeof tag.media_type);
    ask_finish(w->parts.asks, a);
    return true;
}

void pull_ask(struct request *r, enum ask_kind kind, const char *reference)
{
    struct worker_parts *p = &r->worker->parts;
    struct behalf b = pull_behalf(r);
    bool created;

    if (answer_unasked(r, kind, reference))
        return;
    struct ask *a = ask_join(p->asks, kind, &r->target.name, reference, &b, &created);
    if (created && (kind != ASK_TAG || !answer_from_index(r, a)))
        upstream_ask(p->upstream, a);
    r->outcome = created ? OUT_MISS : OUT_COLLAPSED;
    if (!request_wait_ask(r, a))
        pull_answered(r);
}

/* A mirror's clients would answer a challenge with credentials that are not for us. */
void pull_send_error(struct request *r, enum outcome o, const char *why, int retry_after_s,
                     const char *challenge)
{
    if (challenge[0] && conn_listener(r->conn)->role != ROLE_MIRROR && !r->is_claimed)
        request_challenge(r, OUT_UNAUTHORIZED, challenge, why);
    else
        request_error(r, o, why, retry_after_s);
}

/* --- manifests --- */

/* Take a manifest into r->held, and find the type that this repository gave it. What is in
 * memory under the tag's own digest needs no other look into the index. */
static bool take_manifest(struct request *r, struct db_txn *txn, const struct digest *d,
                          char type[MEDIA_TYPE_MAX])
{
    const struct tag_record *tag = &r->tag;
    const char *linked;
    struct manifest_record record;

    if (r->has_tag && digest_equal(d, &tag->digest) && media_type_is_manifest(tag->media_type) &&
        pull_take_body(r, txn, d)) {
        memcpy(type, tag->media_type, MEDIA_TYPE_MAX);
        return true;
    }
    if (link_get_media_type(txn, &r->target.name, d, &linked) == 0 &&
        strlen(linked) < MEDIA_TYPE_MAX)
        memcpy(type, linked, strlen(linked) + 1);
    else if (manifest_get(txn, d, &record) == 0)
        memcpy(type, record.media_type, MEDIA_TYPE_MAX);
    else
        return false;
    return pull_take_held(r, txn, d, true);
}

/* Send a manifest that is held; false when it is not, or not for this client. */
static bool send_held_manifest(struct request *r, struct db_txn *txn, const struct digest *d,
                               enum outcome o)
{
    char type[MEDIA_TYPE_MAX];

    if (!take_manifest(r, txn, d, type))
        return false;
    db_read_end(r->worker->reader);
    request_held(r, o, type, d, false);
    return true;
}

static void ask_manifest(struct request *r, const struct digest *d)
{
    char text[DIGEST_TEXT_MAX];

    pull_ask(r, ASK_MANIFEST, digest_text(d, text));
}

/* The manifest that the tag pointed to, when there is no better answer: the newest
 * that is held. False when none is. */
static bool send_stale(struct request *r)
{
    struct db_txn *txn;

    if (!r->has_tag || db_read(r->worker->reader, &txn) != 0)
        return false;
    if (send_held_manifest(r, txn, &r->tag.digest, OUT_STALE))
        return true;
    if (r->tag.previous.alg && send_held_manifest(r, txn, &r->tag.previous, OUT_STALE))
        return true;
    db_read_end(r->worker->reader);
    return false;
}

/* The answer to a HEAD of a manifest that is known but not held. */
static void send_manifest_head(struct request *r, const struct tag_record *tag, enum outcome o)
{
    struct content c = {
        .media_type = tag->media_type,
        .digest = &tag->digest,
        .size_bytes = tag->size_bytes,
        .fd = -1,
    };

    request_content(r, o, &c);
}

static void begin_tag(struct request *r)
{
    struct db_txn *txn = pull_begin_read(r);
    const struct target *t = &r->target;

    if (!txn)
        return;
    pull_find_access(r, txn);
    r->has_tag = tag_get(txn, &t->name, t->tag, &r->tag) == 0;
    bool is_fresh = r->access != ACCESS_PROVE && r->has_tag &&
                    tag_is_fresh(&r->tag, r->worker->now_s, r->tag_ttl_s);
    if (is_fresh && send_held_manifest(r, txn, &r->tag.digest, OUT_HIT))
        return;
    db_read_end(r->worker->reader);
    if (!is_fresh)
        pull_ask(r, ASK_TAG, t->tag);
    else if (r->method == HTTP_HEAD)
        send_manifest_head(r, &r->tag, OUT_HIT);
    else
        ask_manifest(r, &r->tag.digest);
}

static void begin_manifest(struct request *r)
{
    struct db_txn *txn = pull_begin_read(r);
    char digest[DIGEST_TEXT_MAX];
    char reference[DIGEST_TEXT_MAX + 16];
    struct manifest_record record;

    if (!txn)
        return;
    pull_find_access(r, txn);
    if (send_held_manifest(r, txn, &r->target.digest, OUT_HIT))
        return;
    bool is_held = manifest_get(txn, &r->target.digest, &record) == 0;
    db_read_end(r->worker->reader);
    if (r->access != ACCESS_PROVE || !is_held) {
        ask_manifest(r, &r->target.digest);
        return;
    }
    snprintf(reference, sizeof reference, "manifests/%s", digest_text(&r->target.digest, digest));
    pull_ask(r, ASK_EXISTS, reference);
}

/* Send what an answered ask brought as its body. */
static void send_ask_body(struct request *r, const struct ask_result *result)
{
    struct content c = {
        .media_type = result->media_type,
        .digest = &result->digest,
        .size_bytes = result->body_len,
        .memory = result->body,
        .fd = -1,
    };

    storage_touch(r->worker->parts.storage, &result->digest, conn_address(r->conn), false);
    request_content(r, r->outcome, &c);
}

/* The upstream said what the tag points to. */
static void tag_answered(struct request *r, const struct ask_result *result)
{
    bool same = r->has_tag && digest_equal(&r->tag.digest, &result->digest);
    struct tag_record now = {.digest = result->digest, .size_bytes = result->size_bytes};

    if (result->body) {
        send_ask_body(r, result);
        return;
    }
    memcpy(now.media_type, result->media_type, sizeof now.media_type);
    struct db_txn *txn = pull_begin_read(r);
    if (!txn || send_held_manifest(r, txn, &now.digest, same ? OUT_REVALIDATED : r->outcome))
        return;
    db_read_end(r->worker->reader);
    if (r->method == HTTP_HEAD)
        send_manifest_head(r, &now, r->outcome);
    else
        ask_manifest(r, &now.digest);
}

/* --- answers --- */

static void exists_answered(struct request *r, const struct ask_result *result)
{
    bool was_hidden = r->is_hidden && !r->is_granted && !r->with_client;

    /* It was about something else of the repository. */
    if (r->asks_proof) {
        pull_begin_blob(r);
        return;
    }
    r->is_granted = true;
    if (was_hidden)
        pull_open_held(r, &r->target.digest);
    if (r->target.endpoint == ENDPOINT_MANIFEST)
        begin_manifest(r);
    else
        pull_blob_known(r, result->size_bytes);
}

static void answered_well(struct request *r, const struct ask_result *result)
{
    pull_access_proved(r);
    switch (ask_kind(r->ask)) {
    case ASK_TAG:
        tag_answered(r, result);
        break;
    case ASK_MANIFEST:
        send_ask_body(r, result);
        break;
    case ASK_EXISTS:
        exists_answered(r, result);
        break;
    case ASK_LIST:
        pull_list_answered(r, result);
        break;
    case ASK_PING:
        CHECK(!"not a pull");
    }
}

/* Go on without an answer of the upstream, by what is held. False when nothing is. */
static bool answer_by_held(struct request *r, enum ask_kind kind, const char *reference)
{
    switch (kind) {
    case ASK_TAG:
    case ASK_MANIFEST:
        return send_stale(r);
    case ASK_LIST:
        return pull_send_kept_list(r, reference);
    case ASK_EXISTS:
    case ASK_PING:
        break;
    }
    return false;
}

static void pull_step(struct request *r);

/* As answer_by_held; or begin again, when only the proof of access is wanting and an
 * older one counts while the upstream cannot be asked. */
static bool answer_without(struct request *r, enum ask_kind kind, const char *reference,
                           enum outcome why)
{
    if (!pull_access_in_grace(r, why) || kind != ASK_EXISTS)
        return answer_by_held(r, kind, reference);
    pull_step(r);
    return true;
}

/* --- what the upstream does not have --- */

bool pull_is_absent(struct request *r, const char *path)
{
    struct worker *w = r->worker;

    return !r->with_client && absence_is_fresh(w->parts.absences, &r->target.name, path, w->now_ms,
                                               r->not_found_ttl_ms);
}

void pull_note_absent(struct request *r, const char *path)
{
    struct worker *w = r->worker;

    if (!r->with_client)
        absence_add(w->parts.absences, &r->target.name, path, w->now_ms);
}

/* The path of what an ask is about, if its absence is worth remembering: not that of a
 * tag that is held, nor of lists. */
static bool absence_path(const struct request *r, enum ask_kind kind, const char *reference,
                         char out[ABSENCE_PATH_MAX])
{
    if (r->has_tag || kind == ASK_LIST)
        return false;
    int len =
        snprintf(out, ABSENCE_PATH_MAX, "%s%s", kind == ASK_EXISTS ? "" : "manifests/", reference);
    return len > 0 && len < ABSENCE_PATH_MAX;
}

/* The upstream said no, or could not be asked. */
static void refused(struct request *r, enum ask_kind kind, const char *reference,
                    const struct ask_result *result)
{
    if (pull_may_ask_again(r, result->outcome))
        pull_ask(r, kind, reference);
    else if (!answer_without(r, kind, reference, result->outcome))
        pull_send_error(r, result->outcome, result->why, result->retry_after_s, result->challenge);
}

/* What need not be asked: what was absent lately is so still, and of an upstream that
 * is down what is held must do, until somebody has seen that it is back. */
static bool answer_unasked(struct request *r, enum ask_kind kind, const char *reference)
{
    struct health *h = r->worker->parts.health;
    const char *registry = r->target.name.registry;
    char path[ABSENCE_PATH_MAX];

    if (absence_path(r, kind, reference, path) && pull_is_absent(r, path)) {
        struct ask_result result = {
            .outcome =
                r->target.endpoint == ENDPOINT_BLOB ? OUT_BLOB_UNKNOWN : OUT_MANIFEST_UNKNOWN,
            .why = ABSENT_TEXT,
        };
        refused(r, kind, reference, &result);
        return true;
    }
    if (!health_is_down(h, registry) || health_take_probe(h, registry, r->worker->now_ms))
        return false;
    return answer_without(r, kind, reference, OUT_UPSTREAM_REFUSED);
}

void pull_answered(struct request *r)
{
    struct ask *a = r->ask;
    const struct ask_result *result = ask_result(a);
    char path[ABSENCE_PATH_MAX];

    if (result->outcome == OUT_MISS) {
        answered_well(r, result);
        return;
    }
    /* The request may wait for another ask, or end, before all of this is said. */
    ask_ref(a);
    if (outcome_row(result->outcome)->status == 404 &&
        absence_path(r, ask_kind(a), ask_reference(a), path))
        pull_note_absent(r, path);
    refused(r, ask_kind(a), ask_reference(a), result);
    ask_unref(&a);
}

void pull_check_time(struct request *r)
{
    if (ask_kind(r->ask) != ASK_TAG || !r->has_tag || r->access == ACCESS_PROVE ||
        r->worker->now_ms - r->since_ms < STALE_AFTER_MS)
        return;
    /* The ask goes on without this client; its answer serves the next one. */
    ask_cancel(&r->asker);
    if (r->wake_posted || send_stale(r))
        return;
    r->since_ms = r->worker->now_ms;
    if (!ask_wait(&r->asker, r->ask))
        pull_answered(r);
}

/* --- the beginning --- */

static void pull_step(struct request *r)
{
    switch (r->target.endpoint) {
    case ENDPOINT_MANIFEST:
        if (r->target.by_digest)
            begin_manifest(r);
        else
            begin_tag(r);
        break;
    case ENDPOINT_BLOB:
        pull_begin_blob(r);
        break;
    case ENDPOINT_TAGS:
    case ENDPOINT_REFERRERS:
        pull_begin_list(r);
        break;
    case ENDPOINT_PING:
    case ENDPOINT_HEALTH:
    case ENDPOINT_METRICS:
    case ENDPOINT_CA:
    case ENDPOINT_SETUP:
    case ENDPOINT_READY:
    case ENDPOINT_PAGE:
    case ENDPOINT_REPORT:
    case ENDPOINT_ORDERS:
    case ENDPOINT_PREFETCH:
    case ENDPOINT_COLLECT:
    case ENDPOINT_ROOM:
    case ENDPOINT_TOKEN:
    case ENDPOINT_UPLOADS:
    case ENDPOINT_UPLOAD:
    case ENDPOINT_CATALOG:
        CHECK(!"not a pull");
    }
}

void pull_begin(struct request *r, const struct config_upstream *u)
{
    r->tag_ttl_s = u->tag_ttl_s;
    r->proof_ttl_ms = u->proof_ttl_ms;
    r->offline_grace_ms = u->offline_grace_ms;
    r->not_found_ttl_ms = u->not_found_ttl_ms;
    r->is_restricted = u->visibility == VISIBILITY_PRIVATE;
    pull_step(r);
}

void pull_disown(struct request *r)
{
    secret_free((char *)(uintptr_t)r->behalf.authorization);
    r->behalf.authorization = NULL;
    r->credential = (struct fingerprint){0};
    r->is_claimed = true;
}
