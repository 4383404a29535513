/* SPDX-License-Identifier: ISC */
/* What the configs of imported images say of their layers: so that a layer is noticed which
 * is held already, compressed otherwise (cache/diff.h). */
#include <stdlib.h>
#include <string.h>

#include "cache/diff.h"
#include "cache/err.h"
#include "cache/import_private.h"

const char *import_compression(const struct import_content *c)
{
    static const uint8_t gzip[] = {0x1f, 0x8b};
    static const uint8_t zstd[] = {0x28, 0xb5, 0x2f, 0xfd};

    if (memcmp(c->head, gzip, sizeof gzip) == 0)
        return ".gzip";
    return memcmp(c->head, zstd, sizeof zstd) == 0 ? ".zstd" : "";
}

/* A layer that came as a plain tar was hashed as such. */
static int put_plain(const struct import *i, struct db_txn *txn, const struct digest *d)
{
    const struct import_content *c = import_find(i, d);

    return c == NULL || *import_compression(c) != '\0' ? 0 : diff_put(txn, d, d, DIFF_HASHED);
}

static int put_plain_layers(const struct import *i, struct db_txn *txn, const struct image *image)
{
    int err = 0;

    for (unsigned k = 0; err == 0 && k < image->count; k++)
        err = put_plain(i, txn, &image->diff_ids[k]);
    return err;
}

static int index_config(struct import *i, struct db_txn *txn, const struct descriptor *config)
{
    struct image *image;
    char *data;
    size_t len;

    /* Of what is no image, or is not here, nothing is noted. */
    if (import_load(i, &config->digest, IMAGE_CONFIG_MAX, &data, &len) != 0)
        return 0;
    int err = image_parse(&image, data, len);
    free(data);
    if (err != 0)
        return 0;
    err = diff_index_config(txn, &config->digest, image);
    if (err == 0)
        err = put_plain_layers(i, txn, image);
    free(image);
    return err;
}

int import_note_diffs(struct import *i, struct db_txn *txn, const struct manifest *m)
{
    for (unsigned k = 0; k < manifest_child_count(m); k++) {
        const struct descriptor *child = manifest_child(m, k);

        if (child->role == CHILD_CONFIG)
            return index_config(i, txn, child);
    }
    return 0;
}
