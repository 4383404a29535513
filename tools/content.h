/* SPDX-License-Identifier: ISC */
/* What the index knows of one content. */
#ifndef TOOLS_CONTENT_H
#define TOOLS_CONTENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "cache/blob.h"
#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"
#include "cache/reference.h"

struct content {
    struct digest digest;
    bool is_held;
    uint64_t size_bytes;
    struct blob_record record; /* when it is held */
    char **sources;            /* upstreams' repositories whose manifests name it */
    size_t source_count;
    char **urls; /* of a foreign layer */
    size_t url_count;
};

/* `size_bytes` is what a manifest says, for when it is not held. Cleared by the caller when
 * this returns 0. */
MUST_CHECK int content_read(struct content *c, struct db_txn *txn, const struct digest *d,
                            uint64_t size_bytes);
void content_clear(struct content *c);

json_t *content_json(const struct content *c);

/* "pulled", "private" (pulled with credentials) or "pushed"; NULL when it is not held. */
const char *content_origin(const struct content *c);
/* Where it came from or, when it is not held, can be fetched from, of which the repository
 * `at_hand` (or NULL) goes without saying; owned by the caller. */
char *content_from_text(const struct content *c, const struct name *at_hand);

/* That of a manifest, else the role that some manifest which is held gives it, with its
 * size, else -1. */
int content_role(struct db_txn *txn, const struct digest *d, uint64_t *size_bytes);
/* "manifest", "config", "layer", or for -1 "blob". */
const char *role_name(int role);

#endif
