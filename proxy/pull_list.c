/* SPDX-License-Identifier: ISC */
/* Lists of tags and of referrers: asked of the upstream each time, and kept for when
 * it cannot be asked. */
#include "proxy/pull_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/err.h"
#include "cache/link.h"
#include "cache/manifest.h"
#include "cache/tag.h"
#include "proxy/route.h"

void pull_begin_list(struct request *r)
{
    const struct target *t = &r->target;
    char reference[ASK_REFERENCE_MAX];
    char digest[DIGEST_TEXT_MAX];
    const char *mark = t->query[0] ? "?" : "";
    struct db_txn *txn = pull_begin_read(r);

    if (!txn)
        return;
    pull_find_access(r, txn);
    db_read_end(r->worker->reader);
    if (t->endpoint == ENDPOINT_TAGS)
        snprintf(reference, sizeof reference, "tags/list%s%s", mark, t->query);
    else
        snprintf(reference, sizeof reference, "referrers/%s%s%s", digest_text(&t->digest, digest),
                 mark, t->query);
    pull_ask(r, ASK_LIST, reference);
}

/* The upstream's Link names its own path; keep its query, under the path by which
 * this client came. Empty when there is none, or it is not of the usual form. */
static void rewrite_link(const struct request *r, const char *link, char *out, size_t out_size)
{
    const struct target *t = &r->target;
    const char *close = link ? strchr(link, '>') : NULL;
    const char *query = link ? strchr(link, '?') : NULL;
    char digest[DIGEST_TEXT_MAX];
    char tail[16 + DIGEST_TEXT_MAX] = "tags/list";

    out[0] = '\0';
    if (!close || link[0] != '<' || !query || query > close)
        return;
    if (t->endpoint == ENDPOINT_REFERRERS)
        snprintf(tail, sizeof tail, "referrers/%s", digest_text(&t->digest, digest));
    bool with_registry = t->door == DOOR_PREFIX;
    int n = snprintf(out, out_size, "</v2/%s%s%s/%s%.*s%s%s>; rel=\"next\"",
                     with_registry ? t->name.registry : "", with_registry ? "/" : "",
                     t->name.repository, tail, (int)(close - query), query, t->ns[0] ? "&ns=" : "",
                     t->ns);
    if (n < 0 || (size_t)n >= out_size || strcspn(out, "\r\n") != (size_t)n)
        out[0] = '\0';
}

static void send_list(struct request *r, enum outcome o, const struct list_record *list,
                      const char *filters)
{
    char rewritten[2048];
    struct content c = {
        .media_type = list->content_type,
        .size_bytes = list->body_len,
        .memory = list->body_len ? list->body : "",
        .filters = filters && filters[0] ? filters : NULL,
        .fd = -1,
    };

    rewrite_link(r, list->link, rewritten, sizeof rewritten);
    c.link = rewritten[0] ? rewritten : NULL;
    request_content(r, o, &c);
}

void pull_list_answered(struct request *r, const struct ask_result *result)
{
    struct list_record list = {
        .content_type = result->media_type,
        .link = result->link,
        .body = result->body,
        .body_len = result->body_len,
    };

    send_list(r, r->outcome, &list, result->filters);
}

/* --- without the upstream --- */

/* An index under a fallback tag is parsed while other clients of the worker wait. */
#define FALLBACK_BYTES_MAX (256u * 1024)

int pull_add_fallback(struct request *r, struct db_txn *txn, struct referrers *list)
{
    const struct name *n = &r->target.name;
    size_t len = (size_t)r->held->size_bytes;
    int err = ERR_IO;

    if (len > FALLBACK_BYTES_MAX) {
        err = 0;
    } else if (r->held->body) {
        err = referrers_add_fallback(list, txn, n, r->held->body, len);
    } else {
        char *body = mem_new(len + 1);

        if (pread(r->held->fd, body, len, 0) == (ssize_t)len)
            err = referrers_add_fallback(list, txn, n, body, len);
        free(body);
    }
    shelf_return(&r->held);
    return err == ERR_INVALID ? 0 : err;
}

/* What is under the fallback tag of the subject, if that is held. */
static int add_tagged(struct request *r, struct db_txn *txn, struct referrers *list)
{
    const struct name *n = &r->target.name;
    char tag[NAME_TAG_MAX_SIZE];
    struct tag_record record;

    referrers_fallback_tag(&r->target.digest, tag);
    if (tag_get(txn, n, tag, &record) != 0 || link_get(txn, n, &record.digest) != 0 ||
        !pull_take_held(r, txn, &record.digest, true))
        return 0;
    return pull_add_fallback(r, txn, list);
}

/* Those of this type (NULL: of any) that are held: an import brought them, or they were
 * pulled. */
static int find_held(struct request *r, struct db_txn *txn, const char *type,
                     struct referrers **list)
{
    *list = referrers_new(type, NULL, 0);
    int err = referrers_add_held(*list, txn, &r->target.name, &r->target.digest);

    return err ? err : add_tagged(r, txn, *list);
}

/* Whether there are any, though they may be of other types than the one that is asked for. */
static bool has_held(struct request *r, struct db_txn *txn)
{
    struct referrers *all;
    bool has = find_held(r, txn, NULL, &all) == 0 && referrers_count(all) > 0;

    referrers_free(&all);
    return has;
}

/* The list of these and of what the list that was kept says (NULL: none was). NULL when none
 * is held; owned by the caller. */
static char *held_referrers(struct request *r, struct db_txn *txn, const struct list_record *kept,
                            bool *is_filtered, size_t *len)
{
    char type[MEDIA_TYPE_MAX];
    char next[DIGEST_TEXT_MAX];
    char *body = NULL;
    struct referrers *list;

    *is_filtered = route_query_value(&r->target, "artifactType", type, sizeof type) && type[0];
    int err = find_held(r, txn, *is_filtered ? type : NULL, &list);
    if (err == 0 && (referrers_count(list) > 0 || (*is_filtered && has_held(r, txn)))) {
        if (kept)
            (void)!referrers_add_listed(list, kept->body, kept->body_len);
        body = referrers_body(list, len, next);
    }
    referrers_free(&list);
    return body;
}

/* Ends the read of the index, unless there is nothing to send. */
static bool send_held_referrers(struct request *r, struct db_txn *txn,
                                const struct list_record *kept)
{
    bool is_filtered;
    struct list_record list = {
        .content_type = "application/vnd.oci.image.index.v1+json",
        .link = "",
    };
    char *body = held_referrers(r, txn, kept, &is_filtered, &list.body_len);

    if (!body)
        return false;
    db_read_end(r->worker->reader);
    list.body = body;
    send_list(r, OUT_STALE, &list, is_filtered ? "artifactType" : NULL);
    free(body);
    return true;
}

bool pull_send_kept_list(struct request *r, const char *reference)
{
    struct list_record kept;
    struct db_txn *txn;

    if (r->access == ACCESS_PROVE || db_read(r->worker->reader, &txn) != 0)
        return false;
    int err = list_get(txn, &r->target.name, reference, &kept);
    /* Of several pages each is sent as it was. */
    if (r->target.endpoint == ENDPOINT_REFERRERS && (err || !kept.link[0]) &&
        send_held_referrers(r, txn, err ? NULL : &kept))
        return true;
    if (err) {
        db_read_end(r->worker->reader);
        return false;
    }
    /* Copied: sending may go on to the next request, which reads the index too. */
    char *body = mem_copy(kept.body, kept.body_len);
    char *media_type = mem_format("%s", kept.content_type);
    char *link = mem_format("%s", kept.link);
    db_read_end(r->worker->reader);
    kept.body = body;
    kept.content_type = media_type;
    kept.link = link;
    /* Whether it was filtered is not kept; without the field a client filters itself. */
    send_list(r, OUT_STALE, &kept, NULL);
    free(body);
    free(media_type);
    free(link);
    return true;
}
