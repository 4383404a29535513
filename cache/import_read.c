/* SPDX-License-Identifier: ISC */
/* An archive's entries. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/bundle_text.h"
#include "cache/err.h"
#include "cache/import_private.h"

#define SUM_COUNT_MAX 64

/* What SHA256SUMS must say of an entry whose name does not. */
struct sum {
    char name[TAR_NAME_MAX + 1];
    struct digest digest;
};

struct archive {
    struct import *import;
    struct tar_reader *tar;
    uint64_t position;
    struct tar_entry entry;
    bool has_record, has_sums;
    bool is_first; /* no content came yet */
    size_t content_count;
    struct sum sums[SUM_COUNT_MAX];
    size_t sum_count;
};

static int fail_entry(struct archive *a, int err, const char *why)
{
    return import_fail(a->import, err, "%s: the entry %s %s", a->import->label, a->entry.name, why);
}

static int fail_tar(struct archive *a, int err)
{
    return import_fail(a->import, err, "%s: %s", a->import->label, tar_why(a->tar));
}

static void note_progress(struct archive *a)
{
    const struct import_settings *s = &a->import->settings;
    uint64_t now = tar_position(a->tar);

    if (s->advanced != NULL && now > a->position)
        s->advanced(s->arg, now - a->position);
    a->position = now;
}

/* --- texts --- */

static int read_text(struct archive *a, size_t max_bytes, char **text, size_t *len)
{
    const void *data;
    size_t n;
    int err;

    if (a->entry.size_bytes > max_bytes)
        return fail_entry(a, ERR_INVALID, "is too large");
    char *read = mem_resize(NULL, (size_t)a->entry.size_bytes + 1);
    *len = 0;
    while ((err = tar_read(a->tar, &data, &n)) == 0 && n > 0) {
        memcpy(read + *len, data, n);
        *len += n;
        note_progress(a);
    }
    read[*len] = '\0';
    if (err == 0 && strlen(read) != *len && strcmp(a->entry.name, BUNDLE_SIGNATURE_NAME) != 0)
        err = fail_entry(a, ERR_INVALID, "has a NUL in it");
    else if (err != 0)
        err = fail_tar(a, err);
    if (err != 0)
        free(read);
    else
        *text = read;
    return err;
}

static int note_sum(struct archive *a, const struct digest *d)
{
    if (a->sum_count == SUM_COUNT_MAX)
        return fail_entry(a, ERR_INVALID, "is one piece too many");
    memcpy(a->sums[a->sum_count].name, a->entry.name, sizeof a->entry.name);
    a->sums[a->sum_count++].digest = *d;
    return 0;
}

/* Parts of a bundle have the same texts. */
static int take_text(struct archive *a, size_t max_bytes, char **kept, size_t *kept_len)
{
    struct digest sum;
    char *text = NULL;
    size_t len = 0;
    int err = read_text(a, max_bytes, &text, &len);

    if (err != 0 || text == NULL)
        return err;
    digest_of(DIGEST_SHA256, text, len, &sum);
    err = note_sum(a, &sum);
    if (err == 0 && *kept != NULL && (*kept_len != len || memcmp(*kept, text, len) != 0))
        err = fail_entry(a, ERR_INVALID, "is another than in the part before");
    /* Who has an index needs no other list of its images. */
    if (err == 0 && *kept == NULL && (kept != &a->import->singles || a->import->index == NULL)) {
        *kept = text;
        *kept_len = len;
        return 0;
    }
    free(text);
    return err;
}

static int take_layout(struct archive *a)
{
    char *text = NULL;
    size_t len;
    int err = take_text(a, 4096, &text, &len);

    if (err == 0 && (text == NULL || strstr(text, "\"imageLayoutVersion\"") == NULL ||
                     strstr(text, "\"1.0.0\"") == NULL))
        err = fail_entry(a, ERR_INVALID, "is not that of an image layout of version 1.0.0");
    free(text);
    a->import->has_layout = true;
    return err;
}

static bool is_signature_good(const struct import *i)
{
    return i->signature != NULL && i->signature_len == BUNDLE_SIGNATURE_BYTES &&
           bundle_verify(i->settings.key, i->settings.key_len, i->index, i->index_len,
                         (const uint8_t *)i->signature) == 0;
}

/* Before anything is written. */
static int check_signature(struct archive *a)
{
    struct import *i = a->import;

    if (i->settings.key == NULL)
        return 0;
    if (i->index == NULL || i->signature == NULL)
        return import_fail(i, ERR_MISMATCH, "%s is not signed, and a signature is wanted",
                           i->label);
    return is_signature_good(i)
               ? 0
               : import_fail(i, ERR_MISMATCH, "%s is not signed with the key that is wanted",
                             i->label);
}

static int take_bundle(struct archive *a, struct bundle_record *r)
{
    struct import *i = a->import;
    bool is_next = r->part == i->record.part + 1 || (i->settings.verify_only && !i->is_bundle);

    if (i->is_bundle && !bundle_record_same(r, &i->record))
        return import_fail(i, ERR_INVALID, "%s is of another bundle than the part before",
                           i->label);
    if (!is_next)
        return import_fail(i, ERR_NOT_FOUND, "%s is part %u of %u, where part %u must come",
                           i->label, r->part, r->parts, i->record.part + 1);
    if (i->is_bundle) {
        i->record.part = r->part;
        bundle_record_clear(r);
    } else {
        i->has_begun_late = r->part != 1;
        i->record = *r;
        i->is_bundle = true;
    }
    return check_signature(a);
}

static int take_record(struct archive *a)
{
    struct import *i = a->import;
    struct bundle_record r = {0};
    char *text = NULL;
    char why[128];
    size_t len = 0;

    if (a->has_record || a->content_count > 0)
        return fail_entry(a, ERR_INVALID, "is there twice, or too late");
    int err = take_text(a, BUNDLE_RECORD_SIZE_MAX, &text, &len);
    if (err != 0)
        return err;
    if (bundle_record_parse(&r, text, len, why, sizeof why) != 0)
        err = fail_entry(a, ERR_INVALID, why);
    free(text);
    if (err != 0)
        return err;
    a->has_record = true;
    err = take_bundle(a, &r);
    if (err != 0 && !i->is_bundle)
        bundle_record_clear(&r);
    return err;
}

/* --- SHA256SUMS --- */

static bool is_sum_right(const struct archive *a, const char *name, const struct digest *d)
{
    char own[BUNDLE_ENTRY_MAX];

    for (size_t k = 0; k < a->sum_count; k++)
        if (strcmp(a->sums[k].name, name) == 0)
            return digest_equal(&a->sums[k].digest, d);
    return import_find(a->import, d) != NULL && strcmp(bundle_blob_entry(d, own), name) == 0;
}

/* "HEX  NAME" on each line, one for each entry before it. */
static int check_sums(struct archive *a)
{
    char *text = NULL;
    size_t len = 0;
    size_t count = 0;
    int err = read_text(a, IMPORT_TEXT_MAX, &text, &len);

    if (err != 0)
        return err;
    char *rest = text;
    char *line;
    while (err == 0 && (line = strsep(&rest, "\n")) != NULL && *line != '\0') {
        char sum[DIGEST_TEXT_MAX] = "sha256:";
        struct digest d;
        size_t hex = strcspn(line, " ");

        count++;
        if (hex == 64)
            memcpy(sum + 7, line, hex + 1), sum[7 + hex] = '\0';
        if (hex != 64 || strncmp(line + hex, "  ", 2) != 0 || digest_parse(&d, sum, 71) != 0 ||
            !is_sum_right(a, line + hex + 2, &d))
            err = fail_entry(a, ERR_MISMATCH, "does not agree with the rest");
    }
    if (err == 0 && count != a->sum_count + a->content_count)
        err = fail_entry(a, ERR_MISMATCH, "does not name every entry");
    free(text);
    a->has_sums = true;
    return err;
}

/* --- contents --- */

static int copy_content(struct archive *a, struct import_writer *w, struct hash *sum)
{
    const void *data;
    size_t len;
    int err;

    while ((err = tar_read(a->tar, &data, &len)) == 0 && len > 0) {
        if (sum != NULL)
            hash_update(sum, data, len);
        err = w != NULL ? import_add(a->import, w, data, len) : 0;
        if (err != 0)
            return err;
        note_progress(a);
    }
    return err == 0 ? 0 : fail_tar(a, err);
}

static int take_content(struct archive *a, const struct digest *d, size_t *number)
{
    struct import_writer *w;
    int err = import_begin(a->import, d, a->entry.size_bytes, &w);

    if (err != 0)
        return err;
    err = copy_content(a, w, NULL);
    if (err == 0)
        return import_end(a->import, &w, number);
    import_drop(a->import, &w);
    return err;
}

/* "<alg>/<hex>" up to the end or a slash; what follows in `*rest`. */
static int parse_digest(const char *name, struct digest *d, const char **rest)
{
    char text[DIGEST_TEXT_MAX];
    const char *slash = strchr(name, '/');

    if (slash == NULL)
        return ERR_INVALID;
    size_t len = (size_t)(slash - name) + 1 + strcspn(slash + 1, "/");
    if (len >= sizeof text)
        return ERR_INVALID;
    memcpy(text, name, len);
    text[slash - name] = ':';
    *rest = name + len;
    return digest_parse(d, text, len);
}

/* --- contents of bundles: what comes is what the record says comes --- */

/* A part that is verified alone begins anywhere. */
static void find_begin(struct archive *a, const struct digest *d, uint64_t offset)
{
    struct import *i = a->import;

    if (!i->has_begun_late || i->next_item > 0 || i->next_offset > 0)
        return;
    for (size_t k = 0; k < i->record.count; k++) {
        if (digest_equal(&i->record.items[k].digest, d)) {
            i->next_item = k;
            i->next_offset = offset;
            return;
        }
    }
}

static int check_order(struct archive *a, const struct digest *d, uint64_t offset, bool is_whole)
{
    struct import *i = a->import;

    if (a->is_first)
        find_begin(a, d, offset);
    a->is_first = false;
    a->content_count++;
    const struct bundle_item *next =
        i->next_item < i->record.count ? &i->record.items[i->next_item] : NULL;

    if (next == NULL || !digest_equal(&next->digest, d) || i->next_offset != offset)
        return fail_entry(a, ERR_INVALID, "is not what comes next by the bundle's record");
    if (a->entry.size_bytes > next->size_bytes - offset ||
        (is_whole && a->entry.size_bytes != next->size_bytes))
        return fail_entry(a, ERR_INVALID, "has another size than in the bundle's record");
    return 0;
}

static int take_whole(struct archive *a, const struct digest *d)
{
    size_t number;
    int err = check_order(a, d, 0, true);

    if (err == 0)
        err = take_content(a, d, &number);
    a->import->next_item++;
    return err;
}

/* The first piece opens the content, the last one ends it. Of a part that is verified
 * alone the sums must do. */
static int add_piece(struct archive *a, const struct bundle_item *item, uint64_t offset,
                     struct hash *sum)
{
    struct import *i = a->import;
    size_t number;
    int err = 0;

    if (offset == 0)
        err = import_begin(i, &item->digest, item->size_bytes, &i->open);
    if (err == 0)
        err = copy_content(a, i->open, sum);
    if (err != 0)
        return err;
    i->next_offset = offset + a->entry.size_bytes;
    if (i->next_offset < item->size_bytes)
        return 0;
    i->next_item++;
    i->next_offset = 0;
    return i->open != NULL ? import_end(i, &i->open, &number) : 0;
}

static int take_piece(struct archive *a, const struct digest *d, const char *rest)
{
    struct import *i = a->import;
    struct hash *sum = hash_new(DIGEST_SHA256);
    struct digest found;
    char *end;
    uint64_t offset = strtoull(rest, &end, 10);
    char name[BUNDLE_ENTRY_MAX];
    int err = 0;

    if (*end != '\0' || strcmp(bundle_piece_entry(d, offset, name), a->entry.name) != 0)
        err = fail_entry(a, ERR_INVALID, "has no offset");
    if (err == 0)
        err = check_order(a, d, offset, false);
    a->content_count--; /* its sum is noted instead */
    if (err == 0)
        err = add_piece(a, &i->record.items[i->next_item], offset, sum);
    hash_final(&sum, &found);
    return err == 0 ? note_sum(a, &found) : err;
}

/* --- entries --- */

static int take_blob(struct archive *a)
{
    const char *name = a->entry.name;
    bool is_piece = strncmp(name, BUNDLE_PIECES_PREFIX, strlen(BUNDLE_PIECES_PREFIX)) == 0;
    const char *rest;
    struct digest d;
    size_t number;

    if (parse_digest(strchr(name, '/') + 1, &d, &rest) != 0 || (*rest == '/') != is_piece)
        return fail_entry(a, ERR_INVALID, "is no blob: its name is not that of a digest");
    if (a->has_record)
        return is_piece ? take_piece(a, &d, rest + 1) : take_whole(a, &d);
    if (is_piece)
        return fail_entry(a, ERR_INVALID, "is of a bundle, whose record is missing");
    if (import_find(a->import, &d) != NULL)
        return fail_entry(a, ERR_INVALID, "is there twice");
    int err = take_content(a, &d, &number);
    /* Only a manifest.json calls it by that name. */
    return err == 0 && a->import->index == NULL ? import_add_file(a->import, name, number) : err;
}

static int take_other(struct archive *a)
{
    size_t number;

    if (a->has_record)
        return fail_entry(a, ERR_INVALID, "does not belong into a bundle");
    int err = take_content(a, NULL, &number);
    return err == 0 ? import_add_file(a->import, a->entry.name, number) : err;
}

static bool has_prefix(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

static bool is_noted(const struct archive *a)
{
    for (size_t k = 0; k < a->sum_count; k++)
        if (strcmp(a->sums[k].name, a->entry.name) == 0)
            return true;
    return false;
}

static int take_entry(struct archive *a)
{
    struct import *i = a->import;
    const char *name = a->entry.name;

    if (a->entry.kind == TAR_DIR)
        return 0;
    if (a->has_sums)
        return fail_entry(a, ERR_INVALID, "follows SHA256SUMS, which is the last of a bundle");
    if (a->entry.kind == TAR_SYMLINK)
        return a->has_record ? fail_entry(a, ERR_INVALID, "is a symbolic link")
                             : import_add_link(i, name, a->entry.link);
    if (is_noted(a))
        return fail_entry(a, ERR_INVALID, "is there twice");
    if (strcmp(name, BUNDLE_LAYOUT_NAME) == 0)
        return take_layout(a);
    if (strcmp(name, BUNDLE_INDEX_NAME) == 0)
        return take_text(a, IMPORT_TEXT_MAX, &i->index, &i->index_len);
    if (strcmp(name, BUNDLE_SINGLES_NAME) == 0)
        return take_text(a, IMPORT_TEXT_MAX, &i->singles, &i->singles_len);
    if (strcmp(name, BUNDLE_SIGNATURE_NAME) == 0)
        return take_text(a, BUNDLE_SIGNATURE_BYTES, &i->signature, &i->signature_len);
    if (strcmp(name, BUNDLE_RECORD_NAME) == 0)
        return take_record(a);
    if (strcmp(name, BUNDLE_SUMS_NAME) == 0 && a->has_record)
        return check_sums(a);
    if (has_prefix(name, BUNDLE_BLOBS_PREFIX) || has_prefix(name, BUNDLE_PIECES_PREFIX))
        return take_blob(a);
    return take_other(a);
}

static int read_entries(struct archive *a)
{
    int err;

    while ((err = tar_next(a->tar, &a->entry)) == 0) {
        err = take_entry(a);
        if (err != 0)
            return err;
        note_progress(a);
    }
    note_progress(a);
    if (err != ERR_NOT_FOUND)
        return fail_tar(a, err);
    if (a->has_record && !a->has_sums)
        return import_fail(a->import, ERR_INVALID, "%s has no SHA256SUMS, and should",
                           a->import->label);
    if (a->import->is_bundle && !a->has_record)
        return import_fail(a->import, ERR_INVALID, "%s is no part of the bundle", a->import->label);
    return a->has_record ? 0 : check_signature(a);
}

int import_archive(struct import *i, int fd, const char *label)
{
    struct archive a = {.import = i, .tar = tar_reader_new(fd), .is_first = true};

    i->label = label;
    int err = read_entries(&a);
    /* Another try with this archive would end the same. */
    if (err == ERR_INVALID || err == ERR_MISMATCH || err == ERR_TOO_LARGE)
        i->is_refused = true;
    tar_reader_free(&a.tar);
    return err;
}
