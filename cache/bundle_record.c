/* SPDX-License-Identifier: ISC */
#include "cache/bundle_record.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/bundle_text.h"
#include "cache/err.h"
#include "cache/tar_write.h"

/* A part's end is not worth a piece that is smaller. */
#define PIECE_MIN (1024u * 1024)
/* A line of SHA256SUMS: the sum, two blanks, the name, a newline. */
#define SUMS_LINE(name_len) (64 + 2 + (name_len) + 1)

static const char first_line[] = "cachalot bundle 1\n";

/* --- the text --- */

char *bundle_record_text(const struct bundle_record *r, size_t *len)
{
    char digest[DIGEST_TEXT_MAX];
    char *text = NULL;
    FILE *file = open_memstream(&text, len);

    CHECK(file != NULL);
    fprintf(file, "%spart %04u of %04u of at most %" PRIu64 " bytes\nindex %s %" PRIu64 "\n",
            first_line, r->part, r->parts, r->part_bytes, digest_text(&r->index, digest),
            r->index_bytes);
    for (size_t i = 0; i < r->count; i++)
        fprintf(file, "blob %s %" PRIu64 "\n", digest_text(&r->items[i].digest, digest),
                r->items[i].size_bytes);
    CHECK(fclose(file) == 0);
    return text;
}

struct lines {
    const char *at, *end;
};

static bool take_text(struct lines *l, const char *wanted)
{
    size_t len = strlen(wanted);

    if ((size_t)(l->end - l->at) < len || memcmp(l->at, wanted, len) != 0)
        return false;
    l->at += len;
    return true;
}

static bool take_number(struct lines *l, uint64_t max, uint64_t *value)
{
    const char *first = l->at;

    *value = 0;
    for (; l->at < l->end && *l->at >= '0' && *l->at <= '9' && l->at - first < 20; l->at++) {
        if (*value > (UINT64_MAX - 9) / 10)
            return false;
        *value = *value * 10 + (uint64_t)(*l->at - '0');
    }
    return l->at > first && *value <= max;
}

static bool take_digest(struct lines *l, struct digest *d)
{
    const char *blank = memchr(l->at, ' ', (size_t)(l->end - l->at));

    if (blank == NULL || digest_parse(d, l->at, (size_t)(blank - l->at)) != 0)
        return false;
    l->at = blank;
    return true;
}

static bool take_item(struct lines *l, const char *word, struct digest *d, uint64_t *size_bytes)
{
    return take_text(l, word) && take_digest(l, d) && take_text(l, " ") &&
           take_number(l, INT64_MAX, size_bytes) && take_text(l, "\n");
}

static bool take_head(struct lines *l, struct bundle_record *r)
{
    uint64_t part;
    uint64_t parts;

    if (!take_text(l, "part ") || !take_number(l, BUNDLE_PARTS_MAX, &part) ||
        !take_text(l, " of ") || !take_number(l, BUNDLE_PARTS_MAX, &parts) ||
        !take_text(l, " of at most ") || !take_number(l, INT64_MAX, &r->part_bytes) ||
        !take_text(l, " bytes\n"))
        return false;
    r->part = (unsigned)part;
    r->parts = (unsigned)parts;
    return part >= 1 && part <= parts && (parts == 1 || r->part_bytes > 0) &&
           take_item(l, "index ", &r->index, &r->index_bytes);
}

static bool take_items(struct lines *l, struct bundle_record *r)
{
    size_t room = 0;

    while (l->at < l->end) {
        if (r->count == BUNDLE_BLOBS_MAX)
            return false;
        if (r->count == room) {
            room = room == 0 ? 64 : room * 2;
            r->items = mem_resize(r->items, room * sizeof *r->items);
        }
        struct bundle_item *item = &r->items[r->count];

        *item = (struct bundle_item){0};
        if (!take_item(l, "blob ", &item->digest, &item->size_bytes))
            return false;
        r->count++;
    }
    return true;
}

int bundle_record_parse(struct bundle_record *r, const char *text, size_t len, char *why,
                        size_t why_size)
{
    struct lines l = {text, text + len};

    *r = (struct bundle_record){0};
    if (!take_text(&l, first_line)) {
        snprintf(why, why_size, "it is no record of a bundle of this version");
        return ERR_INVALID;
    }
    if (take_head(&l, r) && take_items(&l, r))
        return 0;
    snprintf(why, why_size, "it makes no sense at byte %zu", (size_t)(l.at - text));
    bundle_record_clear(r);
    return ERR_INVALID;
}

void bundle_record_clear(struct bundle_record *r)
{
    free(r->items);
    *r = (struct bundle_record){0};
}

bool bundle_record_same(const struct bundle_record *a, const struct bundle_record *b)
{
    if (a->parts != b->parts || a->part_bytes != b->part_bytes || a->count != b->count ||
        !digest_equal(&a->index, &b->index) || a->index_bytes != b->index_bytes)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (!digest_equal(&a->items[i].digest, &b->items[i].digest) ||
            a->items[i].size_bytes != b->items[i].size_bytes)
            return false;
    return true;
}

/* --- the parts --- */

struct cutter {
    struct bundle_record *record;
    uint64_t fixed_bytes;
    uint64_t used_bytes; /* of the part, but for SHA256SUMS */
    uint64_t sums_bytes; /* of its text */
    unsigned part;
    struct bundle_piece *pieces;
    size_t count;
};

char *bundle_piece_name(const struct bundle_record *r, const struct bundle_piece *p, char *out)
{
    const struct bundle_item *item = &r->items[p->item];

    return p->offset == 0 && p->len == item->size_bytes
               ? bundle_blob_entry(&item->digest, out)
               : bundle_piece_entry(&item->digest, p->offset, out);
}

static void begin_part(struct cutter *c)
{
    c->part++;
    c->used_bytes = c->fixed_bytes + TAR_END_BYTES;
    c->sums_bytes = 0;
}

/* Whether the part has room for an entry of this name and size. */
static bool fits(const struct cutter *c, const char *name, uint64_t size_bytes)
{
    uint64_t limit = c->record->part_bytes;
    uint64_t sums = c->sums_bytes + SUMS_LINE(strlen(name));

    if (limit == 0)
        return true;
    uint64_t all = c->used_bytes + tar_entry_bytes(BUNDLE_SUMS_NAME, sums);
    return size_bytes < limit && all < limit && tar_entry_bytes(name, size_bytes) <= limit - all;
}

static void add_piece(struct cutter *c, const char *name, size_t item, uint64_t offset,
                      uint64_t len)
{
    if ((c->count & (c->count - 1)) == 0)
        c->pieces = mem_resize(c->pieces, (c->count == 0 ? 1 : c->count * 2) * sizeof *c->pieces);
    c->pieces[c->count++] = (struct bundle_piece){item, c->part, offset, len};
    c->used_bytes += tar_entry_bytes(name, len);
    c->sums_bytes += SUMS_LINE(strlen(name));
}

/* The most of `left` that the part has room for, 0 when that is too little. */
static uint64_t largest_piece(const struct cutter *c, const char *name, uint64_t left)
{
    uint64_t limit = c->record->part_bytes;
    uint64_t taken = c->used_bytes +
                     tar_entry_bytes(BUNDLE_SUMS_NAME, c->sums_bytes + SUMS_LINE(strlen(name))) +
                     tar_entry_bytes(name, 0);

    /* A size of 8 GiB has a header more; a block is for the padding. */
    taken += 3ull * 512;
    uint64_t room = taken < limit ? (limit - taken) & ~(uint64_t)511 : 0;
    if (room >= left)
        return left;
    return room < PIECE_MIN ? 0 : room;
}

static int cut_blob(struct cutter *c, size_t i)
{
    const struct bundle_item *item = &c->record->items[i];
    char name[BUNDLE_ENTRY_MAX];
    uint64_t offset = 0;

    while (offset < item->size_bytes) {
        bundle_piece_entry(&item->digest, offset, name);
        uint64_t len = largest_piece(c, name, item->size_bytes - offset);

        if (len == 0 && c->used_bytes == c->fixed_bytes + TAR_END_BYTES)
            return ERR_TOO_LARGE;
        if (len == 0)
            begin_part(c);
        else
            add_piece(c, name, i, offset, len);
        offset += len;
        if (c->part > BUNDLE_PARTS_MAX)
            return ERR_TOO_LARGE;
    }
    return 0;
}

static int place_blob(struct cutter *c, size_t i)
{
    const struct bundle_item *item = &c->record->items[i];
    struct cutter empty = *c;
    char name[BUNDLE_ENTRY_MAX];

    bundle_blob_entry(&item->digest, name);
    if (!fits(c, name, item->size_bytes)) {
        begin_part(&empty);
        if (!fits(&empty, name, item->size_bytes))
            return cut_blob(c, i);
        begin_part(c);
    }
    add_piece(c, name, i, 0, item->size_bytes);
    return c->part > BUNDLE_PARTS_MAX ? ERR_TOO_LARGE : 0;
}

int bundle_cut(struct bundle_record *r, uint64_t fixed_bytes, struct bundle_piece **pieces,
               size_t *count)
{
    struct cutter c = {.record = r, .fixed_bytes = fixed_bytes};
    int err = 0;

    begin_part(&c);
    for (size_t i = 0; err == 0 && i < r->count; i++)
        err = place_blob(&c, i);
    if (err != 0) {
        free(c.pieces);
        return err;
    }
    r->parts = c.part;
    *pieces = c.pieces;
    *count = c.count;
    return 0;
}
