/* SPDX-License-Identifier: ISC */
#include "cache/bundle_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/json.h"

/* --- names --- */

static char *entry_name(const char *prefix, const struct digest *d, char out[BUNDLE_ENTRY_MAX])
{
    char text[DIGEST_TEXT_MAX];

    digest_text(d, text);
    snprintf(out, BUNDLE_ENTRY_MAX, "%s%s/%s", prefix, digest_alg_name(d), strchr(text, ':') + 1);
    return out;
}

char *bundle_blob_entry(const struct digest *d, char out[BUNDLE_ENTRY_MAX])
{
    return entry_name(BUNDLE_BLOBS_PREFIX, d, out);
}

char *bundle_piece_entry(const struct digest *d, uint64_t offset, char out[BUNDLE_ENTRY_MAX])
{
    size_t len = strlen(entry_name(BUNDLE_PIECES_PREFIX, d, out));

    snprintf(out + len, BUNDLE_ENTRY_MAX - len, "/%" PRIu64, offset);
    return out;
}

/* --- index.json --- */

static void write_image(FILE *file, const struct bundle_image *image)
{
    char digest[DIGEST_TEXT_MAX];
    char reference[REFERENCE_TEXT_MAX];
    /* A record's media type is valid by its grammar, which has no other characters. */
    char *media_type = json_quote(image->media_type);

    struct reference r;

    bundle_reference(image, &r);
    reference_text(&r, reference);
    fprintf(file, "{\"mediaType\":%s,\"digest\":\"%s\",\"size\":%" PRIu64 ",\"annotations\":{",
            media_type != NULL ? media_type : "\"\"", digest_text(&image->digest, digest),
            image->size_bytes);
    if (image->is_attached)
        fprintf(file, "\"" BUNDLE_ATTACHED "\":\"%s\"", reference);
    else
        fprintf(file, "\"" BUNDLE_REF_NAME "\":\"%s\",\"" BUNDLE_IMAGE_NAME "\":\"%s\"", reference,
                reference);
    fputs(image->is_sparse ? ",\"" BUNDLE_SPARSE "\":\"true\"}}" : "}}", file);
    free(media_type);
}

char *bundle_index_text(const struct bundle *b, size_t *len)
{
    char *text = NULL;
    FILE *file = open_memstream(&text, len);

    CHECK(file != NULL);
    fputs("{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\","
          "\"manifests\":[",
          file);
    for (size_t i = 0; i < b->image_count; i++) {
        fputs(i > 0 ? ",\n" : "\n", file);
        write_image(file, &b->images[i]);
    }
    fputs("\n]}\n", file);
    CHECK(fclose(file) == 0);
    return text;
}

/* --- manifest.json --- */

struct singles {
    FILE *file;
    unsigned layers;
};

static int write_config(void *arg, const struct manifest_child *child)
{
    struct singles *s = arg;
    char name[BUNDLE_ENTRY_MAX];

    if (child->role == CHILD_CONFIG)
        fprintf(s->file, "{\"Config\":\"%s\"", bundle_blob_entry(&child->digest, name));
    return 0;
}

static int write_layer(void *arg, const struct manifest_child *child)
{
    struct singles *s = arg;
    char name[BUNDLE_ENTRY_MAX];

    if (child->role == CHILD_LAYER)
        fprintf(s->file, "%s\"%s\"", s->layers++ > 0 ? "," : "",
                bundle_blob_entry(&child->digest, name));
    return 0;
}

static int write_single(struct singles *s, struct db_txn *txn, const struct bundle_image *image)
{
    char reference[REFERENCE_TEXT_MAX];
    struct reference r;
    int err = manifest_walk(txn, &image->single, write_config, s);

    bundle_reference(image, &r);
    reference_text(&r, reference);
    fprintf(s->file, ",\"RepoTags\":[\"%s\"],\"Layers\":[", reference);
    s->layers = 0;
    if (err == 0)
        err = manifest_walk(txn, &image->single, write_layer, s);
    fputs("]}", s->file);
    return err;
}

static bool is_by_digest(const struct bundle_image *image)
{
    struct reference r;

    bundle_reference(image, &r);
    return r.by_digest;
}

static int write_singles(struct singles *s, const struct bundle *b, struct db_txn *txn)
{
    unsigned count = 0;
    int err = 0;

    fputs("[", s->file);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; err == 0 && i < b->image_count; i++) {
            const struct bundle_image *image = &b->images[i];

            if (image->single.alg == 0 || image->is_attached || is_by_digest(image) ||
                image->is_linux != (pass == 0))
                continue;
            fputs(count++ > 0 ? ",\n" : "\n", s->file);
            err = write_single(s, txn, image);
        }
    }
    fputs("\n]\n", s->file);
    return err;
}

int bundle_singles_text(const struct bundle *b, struct db_txn *txn, char **text, size_t *len)
{
    struct singles s = {.file = open_memstream(text, len)};

    CHECK(s.file != NULL);
    int err = write_singles(&s, b, txn);
    CHECK(fclose(s.file) == 0);
    if (err == 0)
        return 0;
    free(*text);
    *text = NULL;
    return err;
}
