/* SPDX-License-Identifier: ISC */
/* Lists of tags and of referrers: asked of the upstream each time, and kept for when
 * it cannot be asked. */
#include "proxy/pull_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/link.h"

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

bool pull_send_kept_list(struct request *r, const char *reference)
{
    struct list_record kept;
    struct db_txn *txn;

    if (r->access == ACCESS_PROVE || db_read(r->worker->reader, &txn) != 0)
        return false;
    int err = list_get(txn, &r->target.name, reference, &kept);
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
