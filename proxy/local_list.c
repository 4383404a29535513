/* SPDX-License-Identifier: ISC */
/* Lists of tags, of referrers and of repositories: distribution-spec 1.1.1 "Listing Tags"
 * and "Listing Referrers", and the catalog of Docker's registry API. */
#include "proxy/local_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/err.h"
#include "cache/local.h"
#include "cache/referrer.h"
#include "cache/repository.h"
#include "proxy/pull_private.h"

/* Entries in one answer, whatever a client asks for; the Link leads on. */
#define PAGE_MAX 10000u
/* Repositories that a catalog passes over, for one page, because the client may not pull
 * from them: its Link leads on then too, and names the last of so many. */
#define PASSED_MAX 20000u
#define LINK_MAX 1024
#define LAST_MAX 512

/* --- pages of names --- */

/* A JSON document as it grows. Names and tags need no escapes. */
struct page {
    struct request *request;
    unsigned count, room, passed;
    bool has_more;
    size_t len, size;
    char *text;
    char last[NAME_MAX_SIZE];
};

static void add_text(struct page *p, const char *text)
{
    size_t len = strlen(text);

    if (p->size - p->len <= len) {
        p->size = 2 * (p->len + len) + 1;
        p->text = mem_resize(p->text, p->size);
    }
    memcpy(p->text + p->len, text, len + 1);
    p->len += len;
}

/* 1 when the page is full. */
static int add_entry(struct page *p, const char *text)
{
    p->has_more = p->count == p->room;
    if (p->has_more)
        return 1;
    add_text(p, p->count > 0 ? ",\"" : "\"");
    add_text(p, text);
    add_text(p, "\"");
    p->count++;
    snprintf(p->last, sizeof p->last, "%s", text);
    return 0;
}

static unsigned wanted(const struct target *t)
{
    char text[16];
    unsigned long n = PAGE_MAX;

    if (route_query_value(t, "n", text, sizeof text))
        n = strtoul(text, NULL, 10);
    return n < PAGE_MAX ? (unsigned)n : PAGE_MAX;
}

static void page_send(struct page *p, const char *path)
{
    struct request *r = p->request;
    char link[LINK_MAX];
    struct content c = {
        .media_type = "application/json",
        .size_bytes = p->len,
        .memory = p->text,
        .fd = -1,
    };

    if (p->has_more && p->room > 0) {
        snprintf(link, sizeof link, "</v2/%s?n=%u&last=%s>; rel=\"next\"", path, p->room, p->last);
        c.link = link;
    }
    request_content(r, OUT_LOCAL, &c);
    free(p->text);
}

static int add_tag(void *arg, const struct name *n, const char *tag, const struct tag_record *t)
{
    (void)n, (void)t;
    return add_entry(arg, tag);
}

/* The list, unless the index could not be read. */
static void finish(struct page *p, int err, const char *path)
{
    db_read_end(p->request->worker->reader);
    if (err >= 0) {
        page_send(p, path);
        return;
    }
    free(p->text);
    local_send_failure(p->request, err);
}

void local_get_tags(struct request *r)
{
    const struct target *t = &r->target;
    struct page p = {.request = r, .room = wanted(t)};
    struct db_txn *txn = pull_begin_read(r);
    char path[NAME_MAX_SIZE + 16], last[LAST_MAX] = "";

    if (!txn)
        return;
    if (local_has_repository(txn, &t->name) != 0) {
        db_read_end(r->worker->reader);
        request_error(r, OUT_NAME_UNKNOWN, "there is no such local repository", 0);
        return;
    }
    (void)route_query_value(t, "last", last, sizeof last);
    snprintf(path, sizeof path, "%s/tags/list", t->name.repository);
    add_text(&p, "{\"name\":\"");
    add_text(&p, t->name.repository);
    add_text(&p, "\",\"tags\":[");
    int err = tag_walk_repository(txn, &t->name, last, add_tag, &p);
    add_text(&p, "]}\n");
    finish(&p, err, path);
}

static int add_repository(void *arg, const struct name *n)
{
    struct page *p = arg;

    if (request_may(p->request, n, RIGHT_PULL))
        return add_entry(p, n->repository);
    p->has_more = ++p->passed == PASSED_MAX;
    if (p->has_more)
        snprintf(p->last, sizeof p->last, "%s", n->repository);
    return p->has_more;
}

void local_get_catalog(struct request *r)
{
    struct page p = {.request = r, .room = wanted(&r->target)};
    struct db_txn *txn = pull_begin_read(r);
    char last[LAST_MAX] = "";

    if (!txn)
        return;
    (void)route_query_value(&r->target, "last", last, sizeof last);
    add_text(&p, "{\"repositories\":[");
    int err = repository_walk_local(txn, last, add_repository, &p);
    add_text(&p, "]}\n");
    finish(&p, err, "_catalog");
}

/* --- referrers --- */

/* What clients noted by way of a tag, before this list was there. What is under the tag may
 * be anything: then it adds nothing. */
static int add_fallback(struct request *r, struct db_txn *txn, struct referrers *list)
{
    const struct name *n = &r->target.name;
    char tag[NAME_TAG_MAX_SIZE];
    struct tag_record record;
    struct manifest_record manifest;
    struct blob_record blob;

    referrers_fallback_tag(&r->target.digest, tag);
    if (tag_get(txn, n, tag, &record) != 0 ||
        local_find_manifest(txn, n, &record.digest, &manifest) != 0 ||
        blob_get(txn, &record.digest, &blob) != 0 ||
        !pull_take_visible(r, &record.digest, &blob, true))
        return 0;
    return pull_add_fallback(r, txn, list);
}

static void send_referrers(struct request *r, struct referrers *list, bool is_filtered)
{
    char next[DIGEST_TEXT_MAX], digest[DIGEST_TEXT_MAX], link[LINK_MAX];
    char type[MEDIA_TYPE_MAX * 3] = "";
    const char *query = strstr(r->target.query, "artifactType=");
    struct content c = {
        .media_type = "application/vnd.oci.image.index.v1+json",
        .filters = is_filtered ? "artifactType" : NULL,
        .fd = -1,
    };
    size_t len;
    char *body = referrers_body(list, &len, next);

    if (query)
        snprintf(type, sizeof type, "&%.*s", (int)strcspn(query, "&"), query);
    if (next[0]) {
        snprintf(link, sizeof link, "</v2/%s/referrers/%s?n=%u&last=%s%s>; rel=\"next\"",
                 r->target.name.repository, digest_text(&r->target.digest, digest),
                 wanted(&r->target), next, type);
        c.link = link;
    }
    c.size_bytes = len;
    c.memory = body;
    request_content(r, OUT_LOCAL, &c);
    free(body);
}

void local_get_referrers(struct request *r)
{
    const struct target *t = &r->target;
    char type[MEDIA_TYPE_MAX], last[LAST_MAX] = "";
    struct db_txn *txn = pull_begin_read(r);

    if (!txn)
        return;
    bool is_filtered = route_query_value(t, "artifactType", type, sizeof type) && type[0];
    (void)route_query_value(t, "last", last, sizeof last);
    struct referrers *list = referrers_new(is_filtered ? type : NULL, last, wanted(t));
    int err = referrers_add_held(list, txn, &t->name, &t->digest);
    if (err == 0)
        err = add_fallback(r, txn, list);
    db_read_end(r->worker->reader);
    if (err)
        local_send_failure(r, err);
    else
        send_referrers(r, list, is_filtered);
    referrers_free(&list);
}
