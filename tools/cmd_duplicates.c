/* SPDX-License-Identifier: ISC */
/* cachalot duplicates: content that is kept more than once, compressed differently. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/diff.h"
#include "cache/err.h"
#include "cache/manifest.h"
#include "cache/tag.h"
#include "tools/command.h"
#include "tools/output.h"

#define SHORT_DIGEST 12

#define ADVICE                                                                                     \
    "An image that is pulled through cachalot, then tagged and pushed keeps its\n"                 \
    "digests, and is kept once; what was loaded from a file or pulled elsewhere is\n"              \
    "compressed anew."

/* A blob of a content that has more than one. */
struct copy {
    struct digest digest;
    struct digest diff_id;
    uint64_t size_bytes;
    enum blob_origin origin;
    enum diff_proof proof;
    bool is_kept;          /* the one that the others repeat */
    uint64_t wasted_bytes; /* of all that repeat this content */
    size_t rank;
    json_t *images;
};

struct report {
    struct db_txn *txn;
    struct copy *copies; /* those of one content follow each other */
    size_t count;
    size_t room;
    struct copy **by_digest;
    /* While tags are walked. */
    const char *reference;
    unsigned depth;
};

static int add_copies(void *arg, const struct digest *diff_id, const struct diff_blob *blobs,
                      unsigned count)
{
    struct report *r = arg;
    uint64_t wasted_bytes = 0;
    for (unsigned i = 1; i < count; i++)
        wasted_bytes += blobs[i].record.size_bytes;
    for (unsigned i = 0; i < count; i++) {
        if (r->count == r->room) {
            r->room = r->room == 0 ? 64 : r->room * 2;
            r->copies = mem_resize(r->copies, r->room * sizeof r->copies[0]);
        }
        r->copies[r->count] = (struct copy){
            .digest = blobs[i].digest,
            .diff_id = *diff_id,
            .size_bytes = blobs[i].record.size_bytes,
            .origin = blobs[i].record.origin,
            .proof = blobs[i].proof,
            .is_kept = i == 0,
            .wasted_bytes = wasted_bytes,
            .rank = r->count,
            .images = json_array(),
        };
        r->count++;
    }
    return 0;
}

/* What wastes most comes first. */
static int compare_waste(const void *a, const void *b)
{
    const struct copy *x = a;
    const struct copy *y = b;
    if (x->wasted_bytes != y->wasted_bytes)
        return x->wasted_bytes > y->wasted_bytes ? -1 : 1;
    return (x->rank > y->rank) - (x->rank < y->rank);
}

/* --- which images have them --- */

static int compare_digests(const void *a, const void *b)
{
    const struct copy *const *x = a;
    const struct copy *const *y = b;
    return memcmp(&(*x)->digest, &(*y)->digest, sizeof(*x)->digest);
}

static void sort_digests(struct report *r)
{
    r->by_digest = mem_new((r->count + 1) * sizeof(struct copy *));
    for (size_t i = 0; i < r->count; i++)
        r->by_digest[i] = &r->copies[i];
    qsort(r->by_digest, r->count, sizeof(struct copy *), compare_digests);
}

/* The first of its digest: a blob may be of several contents, if configs claim so. */
static size_t find_copies(const struct report *r, const struct digest *d)
{
    size_t low = 0;
    size_t high = r->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (memcmp(&r->by_digest[middle]->digest, d, sizeof *d) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* An image comes once, though it may have the layer more than once. */
static void add_image(struct copy *c, const char *reference)
{
    size_t count = json_array_size(c->images);
    const char *last = count > 0 ? json_string_value(json_array_get(c->images, count - 1)) : NULL;
    if (last == NULL || strcmp(last, reference) != 0)
        json_array_append_new(c->images, json_string(reference));
}

static int survey(struct report *r, const struct digest *manifest);

static int visit_child(void *arg, const struct manifest_child *child)
{
    struct report *r = arg;
    if (child->role == CHILD_MANIFEST)
        return r->depth < MANIFEST_DEPTH_MAX ? survey(r, &child->digest) : 0;
    for (size_t i = find_copies(r, &child->digest);
         i < r->count && digest_equal(&r->by_digest[i]->digest, &child->digest); i++)
        add_image(r->by_digest[i], r->reference);
    return 0;
}

static int survey(struct report *r, const struct digest *manifest)
{
    r->depth++;
    int err = manifest_walk(r->txn, manifest, visit_child, r);
    r->depth--;
    return err == ERR_NOT_FOUND ? 0 : err;
}

static int visit_tag(void *arg, const struct name *n, const char *tag, const struct tag_record *t)
{
    struct report *r = arg;
    char name[NAME_MAX_SIZE];
    name_text(n, name);
    char *reference = mem_format("%s:%s", name, tag);
    r->reference = reference;
    int err = survey(r, &t->digest);
    free(reference);
    return err;
}

/* --- printing --- */

static const char *origin_text(enum blob_origin origin)
{
    return origin == BLOB_PUSHED ? "pushed" : "pulled";
}

static uint64_t total_waste(const struct report *r)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < r->count; i++)
        sum += r->copies[i].is_kept ? r->copies[i].wasted_bytes : 0;
    return sum;
}

static size_t content_count(const struct report *r)
{
    size_t sum = 0;
    for (size_t i = 0; i < r->count; i++)
        sum += r->copies[i].is_kept;
    return sum;
}

static json_t *copy_json(const struct copy *c)
{
    char digest[DIGEST_TEXT_MAX];
    return json_pack("{ss sI ss ss sb sO}", "digest", digest_text(&c->digest, digest), "size_bytes",
                     (json_int_t)c->size_bytes, "origin", origin_text(c->origin), "known_by",
                     c->proof == DIFF_HASHED ? "content" : "config", "repeats", !c->is_kept,
                     "images", c->images);
}

static void print_json(const struct report *r)
{
    json_t *contents = json_array();
    json_t *blobs = NULL;
    char diff_id[DIGEST_TEXT_MAX];
    for (size_t i = 0; i < r->count; i++) {
        const struct copy *c = &r->copies[i];
        if (c->is_kept) {
            blobs = json_array();
            json_array_append_new(
                contents, json_pack("{ss sI so}", "diff_id", digest_text(&c->diff_id, diff_id),
                                    "wasted_bytes", (json_int_t)c->wasted_bytes, "blobs", blobs));
        }
        json_array_append_new(blobs, copy_json(c));
    }
    json_print(
        json_pack("{so sI}", "contents", contents, "wasted_bytes", (json_int_t)total_waste(r)));
}

static void add_row(struct table *t, const struct copy *c)
{
    char diff_id[DIGEST_TEXT_MAX], digest[DIGEST_TEXT_MAX], size[TEXT_MAX];
    char *images = json_text_of_some(c->images, "no tag");
    digest_text(&c->diff_id, diff_id);
    digest_text(&c->digest, digest);
    table_add(t, "%.*s", c->is_kept ? SHORT_DIGEST : 0, strchr(diff_id, ':') + 1);
    table_add(t, "%.*s", SHORT_DIGEST, strchr(digest, ':') + 1);
    table_add(t, "%s", size_text(size, c->size_bytes));
    table_add(t, "%s", c->is_kept ? "-" : size);
    table_add(t, "%s", origin_text(c->origin));
    table_add(t, "%s", images);
    free(images);
}

static void print_table(const struct report *r)
{
    static const char *const heads[] = {"CONTENT", "DIGEST", "SIZE", "WASTED", "CAME", "IMAGES"};
    char wasted[TEXT_MAX];
    if (r->count == 0) {
        puts("Nothing is known to be kept more than once.");
        return;
    }
    struct table *t = table_new("llrrll");
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        table_add(t, "%s", heads[i]);
    for (size_t i = 0; i < r->count; i++)
        add_row(t, &r->copies[i]);
    table_print(t);
    table_free(&t);
    printf("\nContents kept more than once: %zu; wasted: %s\n%s\n", content_count(r),
           size_text(wasted, total_waste(r)), ADVICE);
}

enum exit_code cmd_duplicates(const struct options *o, int argc, char **argv)
{
    struct cache cache;
    (void)argc;
    (void)argv;
    enum exit_code code = cache_open(&cache, o);
    if (code != EXIT_DONE)
        return code;
    struct report r = {.txn = cache.txn};
    int err = diff_walk_duplicates(cache.txn, add_copies, &r);
    if (r.count > 1)
        qsort(r.copies, r.count, sizeof r.copies[0], compare_waste);
    if (err == 0)
        sort_digests(&r);
    if (err == 0 && r.count > 0)
        err = tag_walk(cache.txn, visit_tag, &r);
    if (err != 0)
        code = cache_complain(o, err);
    else if (!o->quiet && o->format == FORMAT_JSON)
        print_json(&r);
    else if (!o->quiet)
        print_table(&r);
    if (err == 0)
        code = output_end();
    for (size_t i = 0; i < r.count; i++)
        json_decref(r.copies[i].images);
    free(r.copies);
    free(r.by_digest);
    cache_close(&cache);
    return code;
}
