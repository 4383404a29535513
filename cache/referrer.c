/* SPDX-License-Identifier: ISC */
#include "cache/referrer.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/json.h"
#include "cache/link.h"

/* Records looked at for one page: a filter may pass over many. */
#define SCAN_MAX 16384

#define BODY_HEAD                                                                                  \
    "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\","              \
    "\"manifests\":["
#define BODY_TAIL "]}"

struct entry {
    struct digest digest;
    size_t rank; /* what was added first is believed first */
    size_t len;
    char *json;
};

struct referrers {
    const char *artifact_type; /* or NULL */
    const char *last;          /* or NULL */
    unsigned count;            /* limit */
    struct entry *entries;
    size_t entry_count;
    size_t room;
    /* Of what the index has. */
    unsigned scanned;
    unsigned held_count;
    size_t held_bytes;
    /* The index has more than was looked at: nothing after the horizon belongs here. */
    bool is_cut;
    struct digest horizon;
};

/* Of the walk of one subject. */
struct held_walk {
    struct referrers *r;
    struct db_txn *txn;
    const struct name *name;
    size_t prefix_len;
};

struct referrers *referrers_new(const char *artifact_type, const char *last, unsigned count)
{
    struct referrers *r = mem_new(sizeof *r);

    r->artifact_type = artifact_type;
    r->last = last != NULL && *last != '\0' ? last : NULL;
    r->count = count == 0 || count > REFERRERS_PAGE_MAX ? REFERRERS_PAGE_MAX : count;
    return r;
}

void referrers_free(struct referrers **rp)
{
    struct referrers *r = *rp;

    if (r == NULL)
        return;
    *rp = NULL;
    for (size_t i = 0; i < r->entry_count; i++)
        free(r->entries[i].json);
    free(r->entries);
    free(r);
}

static bool is_before_page(const struct referrers *r, const struct digest *d)
{
    char text[DIGEST_TEXT_MAX];

    return r->last != NULL && strcmp(digest_text(d, text), r->last) <= 0;
}

static bool is_wanted_type(const struct referrers *r, const char *artifact_type)
{
    return r->artifact_type == NULL || strcmp(r->artifact_type, artifact_type) == 0;
}

/* Whether it is what json_texts makes: bytes from the disk are not believed. */
static bool is_object(const char *text, size_t len)
{
    struct json_t *json;
    char why[128];

    if (json_parse(&json, text, len, why, sizeof why) != 0)
        return false;
    json_wipe(&json);
    return true;
}

/* The descriptor, owned by the caller; NULL when it cannot be said in JSON. */
static char *descriptor_text(const struct digest *d, const struct referrer_record *record)
{
    char digest[DIGEST_TEXT_MAX];
    char *media_type = json_quote(record->media_type);
    char *artifact_type = json_quote(record->artifact_type);
    bool has_type = artifact_type != NULL && record->artifact_type[0] != '\0';
    bool has_annotations =
        record->annotations_len > 0 && is_object(record->annotations, record->annotations_len);
    char *text = NULL;

    if (media_type != NULL)
        text = mem_format("{\"mediaType\":%s,\"digest\":\"%s\",\"size\":%" PRIu64 "%s%s%s%.*s}",
                          media_type, digest_text(d, digest), record->size_bytes,
                          has_type ? ",\"artifactType\":" : "", has_type ? artifact_type : "",
                          has_annotations ? ",\"annotations\":" : "",
                          has_annotations ? (int)record->annotations_len : 0,
                          has_annotations ? record->annotations : "");
    free(media_type);
    free(artifact_type);
    return text;
}

/* Returns the bytes of its text; 0 when it was left out. */
static size_t add_entry(struct referrers *r, const struct digest *d,
                        const struct referrer_record *record)
{
    char *json = descriptor_text(d, record);

    if (json == NULL)
        return 0;
    if (r->entry_count == r->room) {
        r->room = r->room == 0 ? 16 : r->room * 2;
        r->entries = mem_resize(r->entries, r->room * sizeof r->entries[0]);
    }
    struct entry *e = &r->entries[r->entry_count];

    e->digest = *d;
    e->rank = r->entry_count++;
    e->len = strlen(json);
    e->json = json;
    return e->len;
}

static bool is_full(const struct referrers *r)
{
    return r->held_count >= r->count || r->held_bytes >= REFERRERS_BODY_MAX ||
           r->scanned >= SCAN_MAX;
}

static int visit_held(void *arg, struct db_value key, struct db_value value)
{
    const struct held_walk *w = arg;
    struct referrers *r = w->r;
    struct digest d;
    struct referrer_record record;
    const uint8_t *rest = (const uint8_t *)key.data + w->prefix_len;

    if (digest_from_key(&d, rest, key.size - w->prefix_len) < 0 || is_before_page(r, &d))
        return 0;
    r->is_cut = is_full(r);
    if (r->is_cut)
        return 1;
    r->scanned++;
    r->horizon = d;
    if (referrer_read(value, &record) != 0 || !is_wanted_type(r, record.artifact_type))
        return 0;
    int err = link_get(w->txn, w->name, &d);

    if (err == 0) {
        r->held_bytes += add_entry(r, &d, &record);
        r->held_count++;
    }
    return err == ERR_NOT_FOUND || err == ERR_DAMAGED ? 0 : err;
}

int referrers_add_held(struct referrers *r, struct db_txn *txn, const struct name *n,
                       const struct digest *subject)
{
    uint8_t from[REFERRER_KEY_MAX];
    size_t prefix_len = referrer_key(n, subject, from);
    size_t from_len = prefix_len;
    struct held_walk w = {.r = r, .txn = txn, .name = n, .prefix_len = prefix_len};
    struct digest last;

    if (r->last != NULL && digest_parse(&last, r->last, strlen(r->last)) == 0)
        from_len += digest_to_key(&last, from + prefix_len);
    int err = db_walk(txn, DB_REFERRERS, from, prefix_len, from, from_len, visit_held, &w);

    return err > 0 ? 0 : err;
}

/* Size and media type are those of the manifest that is held, whatever the descriptor
 * says. */
static int add_listed(struct referrers *r, struct db_txn *txn, const struct name *n,
                      const struct descriptor *listed)
{
    struct manifest_record held;
    const char *type = referrer_type(listed->artifact_type);

    if (is_before_page(r, &listed->digest) || !is_wanted_type(r, type))
        return 0;
    int err = link_get(txn, n, &listed->digest);

    if (err == 0)
        err = manifest_get_in(txn, n, &listed->digest, &held);
    if (err != 0)
        return err == ERR_NOT_FOUND || err == ERR_DAMAGED ? 0 : err;
    char *annotations = descriptor_annotations(listed);
    struct referrer_record record = {
        .size_bytes = held.size_bytes,
        .media_type = held.media_type,
        .artifact_type = type,
        .annotations = annotations,
        .annotations_len = annotations != NULL ? strlen(annotations) : 0,
    };

    add_entry(r, &listed->digest, &record);
    free(annotations);
    return 0;
}

int referrers_add_fallback(struct referrers *r, struct db_txn *txn, const struct name *n,
                           const void *index, size_t len)
{
    struct manifest *m;
    char why[128];
    int err =
        manifest_parse(&m, "application/vnd.oci.image.index.v1+json", index, len, why, sizeof why);

    if (err != 0)
        return ERR_INVALID;
    for (unsigned i = 0; err == 0 && i < manifest_child_count(m); i++)
        err = add_listed(r, txn, n, manifest_child(m, i));
    manifest_free(&m);
    return err;
}

int referrers_add_listed(struct referrers *r, const void *index, size_t len)
{
    struct manifest *m;
    char why[128];

    if (manifest_parse(&m, "application/vnd.oci.image.index.v1+json", index, len, why,
                       sizeof why) != 0)
        return ERR_INVALID;
    for (unsigned i = 0; i < manifest_child_count(m); i++) {
        const struct descriptor *d = manifest_child(m, i);
        char *annotations = descriptor_annotations(d);
        struct referrer_record record = {
            .size_bytes = d->size_bytes,
            .media_type = d->media_type,
            .artifact_type = referrer_type(d->artifact_type),
            .annotations = annotations,
            .annotations_len = annotations != NULL ? strlen(annotations) : 0,
        };

        if (!is_before_page(r, &d->digest) && is_wanted_type(r, record.artifact_type))
            add_entry(r, &d->digest, &record);
        free(annotations);
    }
    manifest_free(&m);
    return 0;
}

size_t referrers_count(const struct referrers *r)
{
    return r->entry_count;
}

void referrers_fallback_tag(const struct digest *subject, char out[NAME_TAG_MAX_SIZE])
{
    char text[DIGEST_TEXT_MAX];
    const char *colon = strchr(digest_text(subject, text), ':');

    snprintf(out, NAME_TAG_MAX_SIZE, "%.*s-%.64s", (int)(colon - text), text, colon + 1);
}

/* As keys are ordered, which is as their texts are. */
static int compare_digests(const struct digest *a, const struct digest *b)
{
    return memcmp(a, b, sizeof *a);
}

static int compare_entries(const void *a, const void *b)
{
    const struct entry *x = a;
    const struct entry *y = b;
    int order = compare_digests(&x->digest, &y->digest);

    return order != 0 ? order : (x->rank > y->rank) - (x->rank < y->rank);
}

/* Each digest once, and nothing that a later page may have too. */
char *referrers_body(struct referrers *r, size_t *len, char next[DIGEST_TEXT_MAX])
{
    char *body = NULL;
    size_t used = sizeof BODY_HEAD BODY_TAIL - 1;
    unsigned count = 0;
    const struct digest *last = NULL;
    const struct digest *go_on = r->is_cut ? &r->horizon : NULL;
    FILE *out = open_memstream(&body, len);

    CHECK(out != NULL);
    if (r->entry_count > 1)
        qsort(r->entries, r->entry_count, sizeof r->entries[0], compare_entries);
    fputs(BODY_HEAD, out);
    for (size_t i = 0; i < r->entry_count; i++) {
        const struct entry *e = &r->entries[i];

        if (last != NULL && digest_equal(&e->digest, last))
            continue;
        if (r->is_cut && compare_digests(&e->digest, &r->horizon) > 0)
            break;
        used += e->len + 1;
        if (last != NULL && (count == r->count || used > REFERRERS_BODY_MAX)) {
            go_on = last;
            break;
        }
        fprintf(out, "%s%s", count > 0 ? "," : "", e->json);
        last = &e->digest;
        count++;
    }
    fputs(BODY_TAIL, out);
    CHECK(fclose(out) == 0);
    next[0] = '\0';
    if (go_on != NULL)
        digest_text(go_on, next);
    return body;
}
