/* SPDX-License-Identifier: ISC */
#include "cache/bundle_write.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/blob.h"
#include "cache/bundle_text.h"
#include "cache/err.h"
#include "cache/tar_write.h"

#define COPY_BYTES (1024u * 1024)

struct part {
    struct bundle_output *output;
    struct tar_writer tar;
    FILE *sums;
    uint8_t *buf;
};

/* --- the sums --- */

static void add_sum(const struct part *p, const char *name, const struct digest *sum)
{
    char text[DIGEST_TEXT_MAX];

    fprintf(p->sums, "%s  %s\n", strchr(digest_text(sum, text), ':') + 1, name);
}

static int write_text(struct part *p, const char *name, const void *text, size_t len)
{
    struct digest sum;

    if (text == NULL)
        return 0;
    digest_of(DIGEST_SHA256, text, len, &sum);
    add_sum(p, name, &sum);
    return tar_write_file(&p->tar, name, text, len);
}

/* --- blobs --- */

/* What a piece is hashed for. */
struct hashes {
    struct hash *sum;    /* for SHA256SUMS; NULL when the blob's digest is that */
    struct hash **whole; /* of the blob; NULL when pieces of it are missing here */
};

static int copy_block(struct part *p, int fd, uint64_t offset, size_t len, const struct hashes *h)
{
    size_t have = 0;

    while (have < len) {
        ssize_t n = pread(fd, p->buf + have, len - have, (off_t)(offset + have));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return ERR_MISMATCH;
        have += (size_t)n;
    }
    if (h->sum != NULL)
        hash_update(h->sum, p->buf, len);
    if (h->whole != NULL)
        hash_update(*h->whole, p->buf, len);
    return 0;
}

static int copy_content(struct part *p, int fd, const struct bundle_piece *piece,
                        const struct hashes *h)
{
    struct bundle_output *o = p->output;
    const struct digest *d = &o->record->items[piece->item].digest;
    uint64_t done = 0;
    int err = 0;

    if (piece->len == 0)
        return tar_write_add(&p->tar, p->buf, 0);
    while (err == 0 && done < piece->len) {
        size_t len = piece->len - done < COPY_BYTES ? (size_t)(piece->len - done) : COPY_BYTES;

        err = copy_block(p, fd, piece->offset + done, len, h);
        if (err != 0) {
            o->failed = *d;
            return err;
        }
        err = tar_write_add(&p->tar, p->buf, len);
        done += len;
        if (o->advanced != NULL)
            o->advanced(o->arg, len);
    }
    return err;
}

/* The hash of the blob, if what came before of it was hashed. */
static struct hash **whole_hash(struct bundle_output *o, const struct bundle_piece *piece)
{
    if (piece->offset == 0) {
        hash_free(&o->whole);
        o->whole = hash_new((enum digest_alg)o->record->items[piece->item].digest.alg);
        o->whole_item = piece->item;
        o->whole_bytes = 0;
    } else if (o->whole_item != piece->item || o->whole_bytes != piece->offset) {
        hash_free(&o->whole);
    }
    o->whole_bytes += piece->len;
    return o->whole != NULL ? &o->whole : NULL;
}

/* A bundle that the far side would refuse is found out here, where it can be helped. */
static int check_whole(struct bundle_output *o, const struct bundle_piece *piece)
{
    const struct bundle_item *item = &o->record->items[piece->item];
    struct digest found;

    if (o->whole == NULL || piece->offset + piece->len < item->size_bytes)
        return 0;
    hash_final(&o->whole, &found);
    if (digest_equal(&found, &item->digest))
        return 0;
    o->failed = item->digest;
    return ERR_MISMATCH;
}

static int write_content(struct part *p, const struct bundle_piece *piece, const char *name)
{
    struct bundle_output *o = p->output;
    const struct bundle_item *item = &o->record->items[piece->item];
    bool is_own_sum = item->digest.alg == DIGEST_SHA256 && piece->len == item->size_bytes;
    struct hashes h = {.whole = whole_hash(o, piece)};
    struct digest sum = item->digest;
    int fd;
    int err = blob_open(o->store, &item->digest, item->size_bytes, &fd);

    if (err != 0) {
        o->failed = item->digest;
        return err;
    }
    h.sum = is_own_sum ? NULL : hash_new(DIGEST_SHA256);
    err = tar_write_begin(&p->tar, name, piece->len);
    if (err == 0)
        err = copy_content(p, fd, piece, &h);
    if (h.sum != NULL)
        hash_final(&h.sum, &sum);
    if (err == 0)
        err = check_whole(o, piece);
    if (err == 0)
        add_sum(p, name, &sum);
    close(fd);
    return err;
}

/* --- a part --- */

static int write_texts(struct part *p, unsigned number)
{
    const struct bundle_output *o = p->output;
    size_t len;

    o->record->part = number;
    char *record = bundle_record_text(o->record, &len);
    int err = write_text(p, BUNDLE_LAYOUT_NAME, BUNDLE_LAYOUT_TEXT, strlen(BUNDLE_LAYOUT_TEXT));

    if (err == 0)
        err = write_text(p, BUNDLE_INDEX_NAME, o->index, o->index_len);
    if (err == 0)
        err = write_text(p, BUNDLE_SIGNATURE_NAME, o->signature, BUNDLE_SIGNATURE_BYTES);
    if (err == 0)
        err = write_text(p, BUNDLE_RECORD_NAME, record, len);
    if (err == 0)
        err = write_text(p, BUNDLE_SINGLES_NAME, o->singles, o->singles_len);
    free(record);
    return err;
}

static int write_part(struct part *p, unsigned number)
{
    struct bundle_output *o = p->output;
    char name[BUNDLE_ENTRY_MAX];
    int err = write_texts(p, number);

    for (size_t i = 0; err == 0 && i < o->piece_count; i++) {
        const struct bundle_piece *piece = &o->pieces[i];

        if (piece->part == number)
            err = write_content(p, piece, bundle_piece_name(o->record, piece, name));
    }
    return err;
}

int bundle_output_part(struct bundle_output *o, unsigned part, int fd)
{
    char *sums = NULL;
    size_t sums_len;
    struct part p = {.output = o, .tar = {.fd = fd}, .sums = open_memstream(&sums, &sums_len)};

    CHECK(p.sums != NULL);
    p.buf = mem_resize(NULL, COPY_BYTES);
    int err = write_part(&p, part);
    CHECK(fclose(p.sums) == 0);
    if (err == 0)
        err = tar_write_file(&p.tar, BUNDLE_SUMS_NAME, sums, sums_len);
    if (err == 0)
        err = tar_write_end(&p.tar);
    free(sums);
    free(p.buf);
    return err;
}

/* --- the whole --- */

static uint64_t fixed_bytes(const struct bundle_output *o)
{
    size_t len;
    char *record = bundle_record_text(o->record, &len);
    uint64_t bytes = tar_entry_bytes(BUNDLE_LAYOUT_NAME, strlen(BUNDLE_LAYOUT_TEXT)) +
                     tar_entry_bytes(BUNDLE_INDEX_NAME, o->index_len) +
                     tar_entry_bytes(BUNDLE_RECORD_NAME, len);

    free(record);
    if (o->signature != NULL)
        bytes += tar_entry_bytes(BUNDLE_SIGNATURE_NAME, BUNDLE_SIGNATURE_BYTES);
    /* Their lines of SHA256SUMS. */
    return bytes + 512;
}

int bundle_output_begin(struct bundle_output *o)
{
    digest_of(DIGEST_SHA256, o->index, o->index_len, &o->record->index);
    o->record->index_bytes = o->index_len;
    return bundle_cut(o->record, fixed_bytes(o), &o->pieces, &o->piece_count);
}

void bundle_output_end(struct bundle_output *o)
{
    hash_free(&o->whole);
    free(o->pieces);
    o->pieces = NULL;
}
