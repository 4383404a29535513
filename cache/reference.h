/* SPDX-License-Identifier: ISC */
/*
 * References to images, as people write them and as they are shown:
 * "[registry/]repository[:tag][@digest]". With a digest the tag says nothing; with neither
 * it is "latest".
 */
#ifndef CACHE_REFERENCE_H
#define CACHE_REFERENCE_H

#include <stdbool.h>
#include <stddef.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"
#include "cache/name.h"

struct reference {
    struct name name;
    bool by_digest;
    struct digest digest;        /* when it is by digest */
    char tag[NAME_TAG_MAX_SIZE]; /* when it is not, else empty */
};

/* With the NUL; a digest is longer than a tag. */
#define REFERENCE_TEXT_MAX (NAME_MAX_SIZE + DIGEST_TEXT_MAX)

/* Parse. A name whose first component does not look like a registry is one of `registry`,
 * or a local one when that is NULL. ERR_INVALID when it is no reference. */
MUST_CHECK int reference_parse(struct reference *r, const char *text, const char *registry);

/* The canonical form: "registry/repository:tag" or "...@digest"; returns its length. */
size_t reference_text(const struct reference *r, char out[REFERENCE_TEXT_MAX]);

/* For keys: the same with name_key's name; returns its length. */
size_t reference_key(const struct reference *r, char out[REFERENCE_TEXT_MAX]);
/* Read what reference_key wrote. ERR_INVALID for anything else. */
MUST_CHECK int reference_from_key(struct reference *r, const char *key, size_t len);

/* Parse what a person wrote, by what the index has: a name without a registry is a local
 * repository's if that has such a tag or manifest, else docker.io's. `*d` is the digest
 * that it leads to (of a tag: tag_shown). ERR_INVALID when it is no reference,
 * ERR_NOT_FOUND when the index has no such tag, or nothing of that digest in that
 * repository; then `r` is docker.io's. */
MUST_CHECK int reference_find(struct db_txn *txn, const char *text, struct reference *r,
                              struct digest *d);

#endif
