/* SPDX-License-Identifier: ISC */
/* Image configs: what is accepted is within the limits, and what it claims of an image of
 * as many layers is found again. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/diff.h"
#include "cache/err.h"
#include "cache/image.h"
#include "cache/manifest.h"
#include "tests/fuzz/fuzz_db.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define IMAGE "application/vnd.oci.image.manifest.v1+json"

/* Layer i of the image is the digest of i. */
static struct digest layer_digest(unsigned i)
{
    struct digest d;

    digest_of(DIGEST_SHA256, &i, sizeof i, &d);
    return d;
}

static void put_manifest(struct db_txn *txn, const struct digest *config, unsigned layers)
{
    static const struct name n = {.registry = "docker.io", .repository = "library/alpine"};
    char digest[DIGEST_TEXT_MAX];
    char why[256];
    char *text;
    size_t len;
    struct manifest *m;
    struct digest d;
    FILE *out = open_memstream(&text, &len);

    CHECK(out != NULL);
    fprintf(out, "{\"config\":{\"digest\":\"%s\",\"size\":1},\"layers\":[",
            digest_text(config, digest));
    for (unsigned i = 0; i < layers; i++) {
        struct digest layer = layer_digest(i);
        struct blob_record r = {.size_bytes = 1, .origin = BLOB_PUBLIC};

        CHECK(blob_put(txn, &layer, &r) == 0);
        fprintf(out, "%s{\"digest\":\"%s\",\"size\":1}", i > 0 ? "," : "",
                digest_text(&layer, digest));
    }
    fputs("]}", out);
    CHECK(fclose(out) == 0);
    digest_of(DIGEST_SHA256, text, len, &d);
    CHECK(manifest_parse(&m, IMAGE, text, len, why, sizeof why) == 0);
    CHECK(manifest_put(txn, &n, &d, m, BLOB_PUBLIC, len, 1) == 0);
    manifest_free(&m);
    free(text);
}

struct search {
    struct digest layer;
    bool is_found;
};

static int visit(void *arg, const struct diff_blob *blob)
{
    struct search *s = arg;

    s->is_found = s->is_found || digest_equal(&blob->digest, &s->layer);
    return 0;
}

static void check_claims(const struct image *image)
{
    struct digest config = layer_digest(UINT32_MAX);
    struct db_txn *txn = fuzz_db_write();

    put_manifest(txn, &config, image->count);
    CHECK(diff_index_config(txn, &config, image) == 0);
    for (unsigned i = 0; i < image->count; i++) {
        struct search s = {.layer = layer_digest(i)};

        CHECK(diff_walk(txn, &image->diff_ids[i], visit, &s) == 0 && s.is_found);
    }
    db_abort(&txn);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image *image;
    int err = image_parse(&image, data, size);

    CHECK(err == 0 || err == ERR_INVALID || err == ERR_TOO_LARGE);
    if (err == 0) {
        CHECK(image->count <= IMAGE_LAYERS_MAX);
        check_claims(image);
        free(image);
    }
    return 0;
}
