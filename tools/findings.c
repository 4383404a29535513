/* SPDX-License-Identifier: ISC */
#include "tools/findings.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/lineage.h"
#include "tools/output.h"

/* All manifests are looked at for each: of more findings the images are not named. */
#define NAMED_MAX 100

static const char *const table_names[DB_TABLE_COUNT] = {
#define TABLE_NAME(symbol, name) [symbol] = (name),
    DB_TABLES(TABLE_NAME)
#undef TABLE_NAME
};

bool findings_are_damage(const struct audit *a)
{
    for (size_t i = 0; i < a->count; i++) {
        if (audit_row(a->findings[i].kind)->is_damage && !a->findings[i].is_repaired)
            return true;
    }
    return false;
}

/* --- what a finding is about --- */

/* The tags whose images need the blob. */
static json_t *images_of(struct cache *cache, const struct finding *f)
{
    json_t *images = json_array();
    struct lineage l;
    if (f->digest.alg == 0 || db_read(cache->reader, &cache->txn) != 0)
        return images;
    if (lineage_read(&l, cache->txn, &f->digest) == 0) {
        for (size_t i = 0; i < l.tag_count; i++) {
            char text[REFERENCE_TEXT_MAX];
            reference_text(&l.tags[i].reference, text);
            json_array_append_new(images, json_string(text));
        }
        lineage_clear(&l);
    }
    cache_end_read(cache);
    return images;
}

/* Owned by the caller. */
static char *subject_text(const struct finding *f)
{
    char digest[DIGEST_TEXT_MAX];
    if (f->name != NULL)
        return printable(f->name);
    if (f->digest.alg != 0)
        return mem_format("%s", digest_text(&f->digest, digest));
    return mem_format("in %s", table_names[f->table]);
}

/* What the other words leave open; owned by the caller. */
static char *detail_text(const struct finding *f)
{
    char size[TEXT_MAX], found[TEXT_MAX], digest[DIGEST_TEXT_MAX];
    if (f->kind == AUDIT_FILE_SIZE)
        return mem_format("%s, not %s", size_text(found, f->found_bytes),
                          size_text(size, f->size_bytes));
    if (f->kind == AUDIT_IMAGE_INCOMPLETE)
        return mem_format("lacks %s of %s", digest_text(&f->digest, digest),
                          size_text(size, f->size_bytes));
    return f->size_bytes > 0 ? mem_format("%s", size_text(size, f->size_bytes))
                             : mem_format("%s", "");
}

/* --- tables --- */

static void add_row(struct table *t, struct cache *cache, const struct finding *f, bool is_named)
{
    json_t *images = is_named && f->name == NULL ? images_of(cache, f) : json_array();
    char *subject = subject_text(f);
    char *detail = detail_text(f);
    char *named = json_text_of_some(images, "");
    table_add(t, "  %s", subject);
    table_add(t, "%s", detail);
    table_add(t, "%s", named);
    free(named);
    free(detail);
    free(subject);
    json_decref(images);
}

static size_t count_repaired(const struct audit *a, enum audit_kind kind, size_t *count)
{
    size_t repaired = 0;
    *count = 0;
    for (size_t i = 0; i < a->count; i++) {
        *count += a->findings[i].kind == kind;
        repaired += a->findings[i].kind == kind && a->findings[i].is_repaired;
    }
    return repaired;
}

static void print_kind(struct cache *cache, const struct audit *a, enum audit_kind kind)
{
    const struct audit_row *row = audit_row(kind);
    size_t count;
    size_t repaired = count_repaired(a, kind, &count);
    if (count == 0)
        return;
    printf("%s: %zu\n  %s\n", row->word, count, row->meaning);
    if (repaired == count)
        puts("  Repaired.");
    else if (repaired > 0)
        printf("  Repaired: %zu of them.\n", repaired);
    else
        printf("  --fix %s.\n", row->fix);
    struct table *t = table_new("mll");
    for (size_t i = 0; i < a->count; i++) {
        if (a->findings[i].kind == kind)
            add_row(t, cache, &a->findings[i], table_rows(t) < NAMED_MAX);
    }
    table_print_plain(t);
    table_free(&t);
    putchar('\n');
}

static void print_table(struct cache *cache, const struct audit *a)
{
    char bytes[TEXT_MAX];
    for (int kind = 0; kind < AUDIT_KIND_COUNT; kind++)
        print_kind(cache, a, (enum audit_kind)kind);
    printf("Checked %" PRIu64 " blobs with %s, %" PRIu64 " manifests and %" PRIu64 " tags: ",
           a->blobs, size_text(bytes, a->blob_bytes), a->manifests, a->tags);
    if (a->count == 0)
        puts("all is well.");
    else
        printf("%zu finding%s.\n", a->count, a->count == 1 ? "" : "s");
}

/* --- JSON --- */

static json_t *finding_json(struct cache *cache, const struct finding *f, bool is_named)
{
    const struct audit_row *row = audit_row(f->kind);
    char digest[DIGEST_TEXT_MAX];
    json_t *json = json_pack("{ss sb ss ss sb}", "finding", row->word, "damage", row->is_damage,
                             "meaning", row->meaning, "fix", row->fix, "repaired", f->is_repaired);
    if (f->digest.alg != 0)
        json_object_set_new(json, "digest", json_string(digest_text(&f->digest, digest)));
    if (f->name != NULL) {
        char *name = printable(f->name);
        json_object_set_new(json, "name", json_string(name));
        free(name);
    }
    if (f->key_len > 0)
        json_object_set_new(json, "table", json_string(table_names[f->table]));
    if (f->size_bytes > 0)
        json_object_set_new(json, "size_bytes", json_integer((json_int_t)f->size_bytes));
    if (f->kind == AUDIT_FILE_SIZE)
        json_object_set_new(json, "found_bytes", json_integer((json_int_t)f->found_bytes));
    if (is_named && f->name == NULL)
        json_object_set_new(json, "images", images_of(cache, f));
    return json;
}

static void print_json(struct cache *cache, const struct audit *a)
{
    json_t *findings = json_array();
    for (size_t i = 0; i < a->count; i++)
        json_array_append_new(findings, finding_json(cache, &a->findings[i], i < NAMED_MAX));
    json_print(json_pack("{s{sI sI sI sI} so}", "checked", "blobs", (json_int_t)a->blobs, "bytes",
                         (json_int_t)a->blob_bytes, "manifests", (json_int_t)a->manifests, "tags",
                         (json_int_t)a->tags, "findings", findings));
}

void findings_print(const struct options *o, struct cache *cache, const struct audit *a)
{
    if (o->quiet)
        return;
    if (o->format == FORMAT_JSON)
        print_json(cache, a);
    else
        print_table(cache, a);
}
