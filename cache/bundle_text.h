/* SPDX-License-Identifier: ISC */
/* The texts of a bundle, each NUL-terminated and owned by the caller. */
#ifndef CACHE_BUNDLE_TEXT_H
#define CACHE_BUNDLE_TEXT_H

#include <stddef.h>

#include "cache/bundle.h"
#include "cache/check.h"
#include "cache/db.h"

#define BUNDLE_LAYOUT_NAME "oci-layout"
#define BUNDLE_INDEX_NAME "index.json"
#define BUNDLE_SIGNATURE_NAME "index.json.sig"
#define BUNDLE_SINGLES_NAME "manifest.json"
#define BUNDLE_RECORD_NAME "cachalot-bundle"
#define BUNDLE_SUMS_NAME "SHA256SUMS"
#define BUNDLE_BLOBS_PREFIX "blobs/"
#define BUNDLE_PIECES_PREFIX "pieces/"

#define BUNDLE_LAYOUT_TEXT "{\"imageLayoutVersion\":\"1.0.0\"}\n"

/* Annotations of an image in index.json: its full reference, twice, as loaders differ in
 * which they look at; and that an index has children that are not in the bundle. What goes
 * along with an image has its reference where other loaders do not look: they would take it
 * for an image to unpack. */
#define BUNDLE_REF_NAME "org.opencontainers.image.ref.name"
#define BUNDLE_IMAGE_NAME "io.containerd.image.name"
#define BUNDLE_SPARSE "cachalot.sparse"
#define BUNDLE_ATTACHED "cachalot.attached"

/* index.json. */
char *bundle_index_text(const struct bundle *b, size_t *len);

/* manifest.json, by which docker and podman load: one image for each tag, those for Linux
 * first. Reads the index. */
MUST_CHECK int bundle_singles_text(const struct bundle *b, struct db_txn *txn, char **text,
                                   size_t *len);

/* "blobs/<alg>/<hex>", or with "pieces/" and the piece's offset that of a piece. */
#define BUNDLE_ENTRY_MAX (DIGEST_TEXT_MAX + 32)
char *bundle_blob_entry(const struct digest *d, char out[BUNDLE_ENTRY_MAX]);
char *bundle_piece_entry(const struct digest *d, uint64_t offset, char out[BUNDLE_ENTRY_MAX]);

#endif
