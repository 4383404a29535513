/* SPDX-License-Identifier: ISC */
/*
 * An errand: an image, and all that belongs to it, brought into the store.
 *
 *   the tag is asked for (HEAD) -> its manifest; of an index the manifests of the platforms
 *   that are wanted -> configs and layers, one after the other, each once
 *
 * What is held is not asked for. An upstream that says 429 is left alone for as long as it
 * says, then asked again.
 */
#ifndef PROXY_ERRAND_H
#define PROXY_ERRAND_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/platform.h"
#include "cache/reference.h"
#include "proxy/courier.h"

struct errand_progress {
    int64_t resting_until_s; /* the upstream is left alone; else 0 */
    unsigned blobs, blobs_done;
    uint64_t bytes, bytes_done; /* of blobs; known when all manifests are */
    uint64_t fetched_bytes;     /* of these, what was not held */
};

struct errand {
    struct reference reference;
    const struct platform *platforms; /* that are wanted of an index */
    unsigned platform_count;          /* 0: all of it */
    bool is_background;
    void (*tell)(void *arg, const struct errand_progress *p); /* now and then */
    void *arg;
};

#define ERRAND_WHY_MAX 384

struct errand_result {
    enum outcome outcome; /* OUT_HIT: all was held; OUT_MISS: it is now; else an error row */
    struct digest digest; /* what the reference leads to; alg 0: not known */
    struct errand_progress end;
    unsigned failed; /* manifests and blobs */
    char why[ERRAND_WHY_MAX];
};

/* Run it, in the courier's thread. OUT_DRAINING: stop. */
void errand_run(struct courier *c, const struct errand *e, struct errand_result *r);

/* Ask, again and again when the upstream says 429; as courier_ask. */
struct ask *errand_ask(struct courier *c, const struct errand *e, struct errand_progress *p,
                       enum ask_kind kind, const char *reference);

#endif
