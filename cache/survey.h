/* SPDX-License-Identifier: ISC */
/*
 * Surveys of images: what an image consists of, how much of it is held, and how much of
 * that no other image has. All from the index; no file is looked at.
 */
#ifndef CACHE_SURVEY_H
#define CACHE_SURVEY_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"

/* Of an image index, one that is held, whole or not. */
struct survey_platform {
    char name[96]; /* as in struct manifest_child */
    unsigned held_count;
    unsigned total_count; /* of its config and layers */
};

/* An image: a manifest or an image index with all that it leads to. A content counts once
 * however often it is named. */
struct survey {
    struct digest digest;
    bool is_held; /* its manifest; else nothing more is known of it */
    bool is_index;
    unsigned held_count, total_count; /* manifests, configs, layers */
    uint64_t held_bytes, total_bytes;
    uint64_t own_bytes;           /* of those held, what no other surveyed image has */
    unsigned own_held, own_total; /* when it is no index: config and layers */
    unsigned platforms, complete; /* of an index: that there are, that are held whole */
    struct survey_platform *some; /* those of which anything is held beside the manifest */
    unsigned some_count;
};

struct surveys;

/* The transaction must outlive it. */
struct surveys *surveys_new(struct db_txn *txn);
/* NULL is legal; leaves NULL. */
void surveys_free(struct surveys **s);

/* Survey the image with this digest, or find it among those that were; `size_bytes` is the
 * size of its manifest if that is not held. It is valid until surveys_free; own_bytes goes
 * down as more are added. Damaged records count as what is not held. */
MUST_CHECK int surveys_add(struct surveys *s, const struct digest *d, uint64_t size_bytes,
                           const struct survey **found);

/* Whether all of it is held. */
bool survey_is_complete(const struct survey *s);

#endif
