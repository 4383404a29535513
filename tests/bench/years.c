/* SPDX-License-Identifier: ISC */
/*
 * years: make a cache as it is after years, for the benches.
 *
 *   years CACHE REGISTRY IMAGES LAYERS
 *
 * Fills the new cache directory with IMAGES images of REGISTRY, each with a tag, a
 * manifest, a config and LAYERS layers; every hundred share their first layer. All of it
 * is held, with files and records as after pulls, but for the data fsyncs. Layers are a
 * few bytes each, true to their digests. Image n was last used n minutes after the first.
 */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cache/blob.h"
#include "cache/db.h"
#include "cache/digest.h"
#include "cache/err.h"
#include "cache/manifest.h"
#include "cache/name.h"
#include "cache/store.h"
#include "cache/tag.h"

#define MEDIA_TYPE "application/vnd.oci.image.manifest.v1+json"
#define CONFIG_TYPE "application/vnd.oci.image.config.v1+json"
#define LAYER_TYPE "application/vnd.oci.image.layer.v1.tar+gzip"

#define LAYERS_MAX 64
#define IMAGES_SHARING 100u
#define IMAGES_IN_COMMIT 2000u
#define REPOSITORIES 500u
#define MAP_BYTES (UINT64_C(8) << 30)
#define MANIFEST_MAX (512 + LAYERS_MAX * 256)

static void must(int err, const char *what)
{
    if (err != 0)
        errx(1, "%s: %s", what, err_text(err));
}

static void put_file(struct store *s, const struct digest *d, const void *data, size_t len)
{
    char name[DIGEST_TEXT_MAX];
    int fd = openat(store_blobs_fd(s, d->alg), store_blob_name(d, name),
                    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || write(fd, data, len) != (ssize_t)len || close(fd) != 0)
        err(1, "%s", name);
}

static void put_blob(struct store *s, struct db_txn *txn, const struct digest *d, const char *text,
                     int64_t used_at_s)
{
    struct blob_record r = {
        .size_bytes = strlen(text),
        .origin = BLOB_PUBLIC,
        .stored_at_s = used_at_s,
        .used_at_s = used_at_s,
    };

    put_file(s, d, text, strlen(text));
    must(blob_put(txn, d, &r), "a blob");
}

/* Store a blob of this text and append its descriptor. */
static size_t add_blob(struct store *s, struct db_txn *txn, char *manifest, const char *type,
                       const char *text, int64_t used_at_s)
{
    struct digest d;
    char digest[DIGEST_TEXT_MAX];

    digest_of(DIGEST_SHA256, text, strlen(text), &d);
    put_blob(s, txn, &d, text, used_at_s);
    return (size_t)sprintf(manifest, "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu}", type,
                           digest_text(&d, digest), strlen(text));
}

static void put_image(struct store *s, struct db_txn *txn, const char *registry, unsigned number,
                      unsigned layers, int64_t used_at_s)
{
    char body[MANIFEST_MAX], text[64], why[256], repository[32], tag[32];
    struct digest d;
    struct manifest *m;
    struct name n;
    size_t len =
        (size_t)sprintf(body, "{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_TYPE "\",\"config\":");

    sprintf(text, "{\"number\":%u}", number);
    len += add_blob(s, txn, body + len, CONFIG_TYPE, text, used_at_s);
    len += (size_t)sprintf(body + len, ",\"layers\":[");
    for (unsigned i = 0; i < layers; i++) {
        sprintf(text, "layer %u of %u\n", i, i == 0 ? number / IMAGES_SHARING : number);
        len += add_blob(s, txn, body + len, LAYER_TYPE, text, used_at_s);
        len += (size_t)sprintf(body + len, i + 1 < layers ? "," : "]}");
    }
    digest_of(DIGEST_SHA256, body, len, &d);
    put_file(s, &d, body, len);
    sprintf(repository, "years/image%u", number % REPOSITORIES);
    sprintf(tag, "v%u", number);
    must(name_set(&n, registry, strlen(registry), repository, strlen(repository)), registry);
    must(manifest_parse(&m, MEDIA_TYPE, body, len, why, sizeof why), "a manifest");
    must(manifest_put(txn, &n, &d, m, BLOB_PUBLIC, len, used_at_s), "a manifest");
    manifest_free(&m);

    struct tag_record r = {
        .digest = d, .size_bytes = len, .media_type = MEDIA_TYPE, .checked_at_s = used_at_s};
    must(tag_put(txn, &n, tag, &r), "a tag");
}

static unsigned number_of(const char *text, unsigned most)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    if (*end || end == text || n == 0 || n > most)
        errx(2, "%s: not a number from 1 to %u", text, most);
    return (unsigned)n;
}

int main(int argc, char **argv)
{
    char why[512];
    struct store *s;
    struct db_txn *txn;

    if (argc != 5)
        errx(2, "usage: years CACHE REGISTRY IMAGES LAYERS");
    unsigned images = number_of(argv[3], 10000000);
    unsigned layers = number_of(argv[4], LAYERS_MAX);
    int64_t begin_s = time(NULL) - (int64_t)images * 60;
    if (store_open(&s, argv[1], STORE_OWN, MAP_BYTES, why, sizeof why) != 0)
        errx(1, "%s", why);
    for (unsigned next = 0; next < images;) {
        must(db_write(store_db(s), &txn), "the index");
        for (unsigned i = 0; i < IMAGES_IN_COMMIT && next < images; i++, next++)
            put_image(s, txn, argv[2], next, layers, begin_s + (int64_t)next * 60);
        must(db_commit(&txn), "a commit");
    }
    store_close(&s);
    return 0;
}
