/* SPDX-License-Identifier: ISC */
#include "proxy/errand.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "cache/manifest.h"
#include "proxy/thread.h"

/* Of one image; an index has tens of platforms, and an image tens of layers. */
#define MANIFESTS_MAX 1024
#define BLOBS_MAX 8192
/* How often an upstream that says 429 is asked again, and how long it is left alone. */
#define RESTS_MAX 20
#define REST_MIN_S 1
#define REST_MAX_S 3600

struct part {
    struct digest digest;
    uint64_t size_bytes;
};

struct parts {
    struct part *list;
    unsigned count;
};

struct walk {
    struct courier *courier;
    const struct errand *errand;
    struct errand_result *result;
    struct parts manifests, blobs;
    uint64_t before_bytes; /* of the blobs before this one */
    bool is_over;
};

/* --- failures --- */

static bool is_for_all(enum outcome o)
{
    int status = outcome_row(o)->status;

    return status != 404 && status != 403 && status != 401 && o != OUT_BAD_CONTENT &&
           o != OUT_UPSTREAM_BROKEN && o != OUT_UPSTREAM_ERROR;
}

/* The first failure is what is told; whether others would end likewise decides whether to
 * go on. */
__attribute__((format(printf, 3, 4))) static void fail(struct walk *w, enum outcome o,
                                                       const char *format, ...)
{
    struct errand_result *r = w->result;
    va_list args;

    if (r->failed++ == 0 || o == OUT_DRAINING) {
        r->outcome = o;
        va_start(args, format);
        vsnprintf(r->why, sizeof r->why, format, args);
        va_end(args);
    }
    w->is_over = w->is_over || is_for_all(o);
}

static void note_fetched(struct walk *w, uint64_t bytes)
{
    if (w->result->failed == 0)
        w->result->outcome = OUT_MISS;
    w->result->end.fetched_bytes += bytes;
}

static void tell(const struct errand *e, const struct errand_progress *p)
{
    if (e->tell)
        e->tell(e->arg, p);
}

/* --- patience --- */

/* False: stop. */
static bool rest(struct courier *c, const struct errand *e, struct errand_progress *p,
                 int retry_after_s)
{
    int64_t s = retry_after_s < REST_MIN_S   ? REST_MIN_S
                : retry_after_s > REST_MAX_S ? REST_MAX_S
                                             : retry_after_s;
    int64_t end_ms = clock_now_ms() + s * 1000;
    bool goes_on = true;

    p->resting_until_s = time(NULL) + s;
    tell(e, p);
    for (int64_t now_ms = clock_now_ms(); goes_on && now_ms < end_ms; now_ms = clock_now_ms())
        goes_on = courier_wait(c, (int)(end_ms - now_ms));
    p->resting_until_s = 0;
    tell(e, p);
    return goes_on;
}

struct ask *errand_ask(struct courier *c, const struct errand *e, struct errand_progress *p,
                       enum ask_kind kind, const char *reference)
{
    struct ask *a = NULL;

    for (unsigned rests = 0;; rests++) {
        a = courier_ask(c, kind, &e->reference.name, reference);
        if (!a || ask_result(a)->outcome != OUT_UPSTREAM_LIMITED || rests == RESTS_MAX)
            return a;
        int retry_after_s = ask_result(a)->retry_after_s;
        ask_unref(&a);
        if (!rest(c, e, p, retry_after_s))
            return NULL;
    }
}

/* The answer when it is one; else it has failed, and NULL. */
static struct ask *ask(struct walk *w, enum ask_kind kind, const char *reference)
{
    struct ask *a = errand_ask(w->courier, w->errand, &w->result->end, kind, reference);

    if (!a) {
        fail(w, OUT_DRAINING, "cachalot is shutting down");
        return NULL;
    }
    const struct ask_result *r = ask_result(a);
    if (outcome_is_error(r->outcome)) {
        fail(w, r->outcome, "%s%.120s: %s", kind == ASK_TAG ? "tag " : "manifest ", reference,
             r->why[0] ? r->why : outcome_row(r->outcome)->text);
        ask_unref(&a);
    }
    return a;
}

/* --- parts --- */

/* False when there are too many; what is there already is not added. */
static bool add_part(struct parts *p, const struct digest *d, uint64_t size_bytes, unsigned max)
{
    for (unsigned i = 0; i < p->count; i++) {
        if (digest_equal(&p->list[i].digest, d))
            return true;
    }
    if (p->count == max)
        return false;
    if ((p->count & (p->count - 1)) == 0)
        p->list = mem_resize(p->list, (p->count ? 2 * p->count : 1) * sizeof p->list[0]);
    p->list[p->count++] = (struct part){*d, size_bytes};
    return true;
}

/* Whether one of the index's is wanted; those that say no platform are signatures and the
 * like, or indexes. */
static bool is_wanted(const struct errand *e, const struct descriptor *d)
{
    struct platform has;
    int err = platform_of(&has, d);

    if (e->platform_count == 0 || err == ERR_NOT_FOUND)
        return true;
    for (unsigned i = 0; err == 0 && i < e->platform_count; i++) {
        if (platform_matches(&e->platforms[i], &has))
            return true;
    }
    return false;
}

/* What the index does have, for who asked for something else. */
static void list_platforms(const struct manifest *m, char *out, size_t size)
{
    size_t len = 0;

    out[0] = '\0';
    for (unsigned i = 0; i < manifest_child_count(m); i++) {
        char text[PLATFORM_TEXT_MAX];
        struct platform has;

        if (platform_of(&has, manifest_child(m, i)) != 0 || strcmp(has.os, "unknown") == 0)
            continue;
        size_t more = platform_text(&has, text) + (len > 0 ? 2 : 0);
        if (len + more >= size)
            return;
        len += (size_t)snprintf(out + len, size - len, "%s%s", len > 0 ? ", " : "", text);
    }
}

static void take_index(struct walk *w, const struct manifest *m)
{
    char has[200];
    bool found = manifest_child_count(m) == 0;
    bool fits = true;

    for (unsigned i = 0; fits && i < manifest_child_count(m); i++) {
        const struct descriptor *d = manifest_child(m, i);

        if (!is_wanted(w->errand, d))
            continue;
        found = true;
        fits = add_part(&w->manifests, &d->digest, d->size_bytes, MANIFESTS_MAX);
    }
    list_platforms(m, has, sizeof has);
    if (!found)
        fail(w, OUT_MANIFEST_UNKNOWN, "it has no such platform; it has %s", has);
    if (!fits)
        fail(w, OUT_UPSTREAM_BROKEN, "it has more than %d manifests", MANIFESTS_MAX);
}

static void take_image(struct walk *w, const struct manifest *m)
{
    bool fits = true;

    for (unsigned i = 0; fits && i < manifest_child_count(m); i++) {
        const struct descriptor *d = manifest_child(m, i);

        if (d->role != CHILD_MANIFEST)
            fits = add_part(&w->blobs, &d->digest, d->size_bytes, BLOBS_MAX);
    }
    if (!fits)
        fail(w, OUT_UPSTREAM_BROKEN, "it has more than %d blobs", BLOBS_MAX);
}

static void take_manifest(struct walk *w, const char *media_type, const void *body, size_t len)
{
    struct manifest *m;
    char why[160];

    if (manifest_parse(&m, media_type, body, len, why, sizeof why) != 0) {
        fail(w, OUT_UPSTREAM_BROKEN, "the manifest is not usable: %s", why);
        return;
    }
    if (manifest_is_index(m))
        take_index(w, m);
    else
        take_image(w, m);
    manifest_free(&m);
}

/* --- manifests --- */

static bool read_whole(int fd, char *buf, size_t len)
{
    size_t have = 0;

    while (have < len) {
        ssize_t n = pread(fd, buf + have, len - have, (off_t)have);

        if (n == 0 || (n < 0 && errno != EINTR))
            return false;
        have += n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* False when it is not held, whole. */
static bool take_held(struct walk *w, const struct digest *d)
{
    struct courier *c = w->courier;
    struct manifest_record record;
    struct db_txn *txn;
    bool good;
    int fd;

    if (db_read(c->reader, &txn) != 0)
        return false;
    int err = manifest_get(txn, d, &record);
    db_read_end(c->reader);
    if (err != 0 || record.size_bytes > MANIFEST_SIZE_MAX ||
        blob_open(c->parts.store, d, record.size_bytes, &fd) != 0)
        return false;
    char *body = mem_new((size_t)record.size_bytes + 1);
    good = read_whole(fd, body, (size_t)record.size_bytes);
    close(fd);
    if (good)
        take_manifest(w, record.media_type, body, (size_t)record.size_bytes);
    free(body);
    return good;
}

static void get_manifest(struct walk *w, const struct digest *d)
{
    char text[DIGEST_TEXT_MAX];

    if (take_held(w, d))
        return;
    struct ask *a = ask(w, ASK_MANIFEST, digest_text(d, text));
    if (!a)
        return;
    const struct ask_result *r = ask_result(a);
    note_fetched(w, r->body_len);
    take_manifest(w, r->media_type, r->body, r->body_len);
    ask_unref(&a);
}

/* --- blobs --- */

static void blob_grows(void *arg, uint64_t bytes)
{
    struct walk *w = arg;

    w->result->end.bytes_done = w->before_bytes + bytes;
    tell(w->errand, &w->result->end);
}

static enum outcome fetch_blob(struct walk *w, const struct part *p, struct fetch_failure *why)
{
    struct courier_blob b = {
        .name = &w->errand->reference.name,
        .digest = &p->digest,
        .size_bytes = p->size_bytes,
        .is_background = w->errand->is_background,
        .tell = blob_grows,
        .arg = w,
    };
    enum outcome o = courier_fetch(w->courier, &b, why);

    for (unsigned rests = 0; o == OUT_UPSTREAM_LIMITED && rests < RESTS_MAX; rests++) {
        if (!rest(w->courier, w->errand, &w->result->end, why->retry_after_s))
            return OUT_DRAINING;
        o = courier_fetch(w->courier, &b, why);
    }
    return o;
}

static void get_blob(struct walk *w, const struct part *p)
{
    struct fetch_failure why = {.text = "cachalot is shutting down"};
    char text[DIGEST_TEXT_MAX];

    if (!courier_holds(w->courier, &p->digest)) {
        enum outcome o = fetch_blob(w, p, &why);

        if (outcome_is_error(o)) {
            fail(w, o, "blob %s: %s", digest_text(&p->digest, text),
                 why.text[0] ? why.text : outcome_row(o)->text);
            return;
        }
        note_fetched(w, o == OUT_MISS ? p->size_bytes : 0);
    }
    w->result->end.blobs_done++;
    w->before_bytes += p->size_bytes;
    w->result->end.bytes_done = w->before_bytes;
    tell(w->errand, &w->result->end);
}

/* --- all --- */

/* What the reference leads to. False when that cannot be known. */
static bool find_digest(struct walk *w)
{
    const struct reference *ref = &w->errand->reference;

    w->result->digest = ref->digest;
    if (ref->by_digest)
        return true;
    struct ask *a = ask(w, ASK_TAG, ref->tag);
    if (!a)
        return false;
    w->result->digest = ask_result(a)->digest;
    ask_unref(&a);
    return true;
}

static void get_all(struct walk *w)
{
    struct errand_progress *p = &w->result->end;

    for (unsigned i = 0; i < w->manifests.count && !w->is_over; i++) {
        struct digest d = w->manifests.list[i].digest;
        get_manifest(w, &d);
    }
    p->blobs = w->blobs.count;
    for (unsigned i = 0; i < w->blobs.count; i++)
        p->bytes += w->blobs.list[i].size_bytes;
    tell(w->errand, p);
    for (unsigned i = 0; i < w->blobs.count && !w->is_over; i++)
        get_blob(w, &w->blobs.list[i]);
}

void errand_run(struct courier *c, const struct errand *e, struct errand_result *r)
{
    struct walk w = {.courier = c, .errand = e, .result = r};

    *r = (struct errand_result){.outcome = OUT_HIT};
    if (find_digest(&w)) {
        CHECK(add_part(&w.manifests, &r->digest, 0, MANIFESTS_MAX));
        get_all(&w);
    }
    free(w.manifests.list);
    free(w.blobs.list);
}
