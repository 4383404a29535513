/* SPDX-License-Identifier: ISC */
/*
 * Fill an index as a large cache has it: index DIR BLOBS TAGS. Each tag is an image with a
 * config and layers of its own; manifests count as blobs. There are no files behind them.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/blob.h"
#include "cache/db.h"
#include "cache/link.h"
#include "cache/manifest.h"
#include "cache/store.h"
#include "cache/tag.h"

#define MAP_BYTES (4ull << 30)
#define IMAGES_A_COMMIT 1000
#define IMAGES_A_REPOSITORY 10
#define NOW_S 1750000000

static const char media_type[] = "application/vnd.oci.image.manifest.v1+json";

struct filling {
    struct store *store;
    struct db_txn *txn;
    unsigned long blobs; /* so far */
};

static struct digest digest_number(unsigned long number)
{
    char text[64];
    struct digest d;
    int len = snprintf(text, sizeof text, "blob %lu", number);

    digest_of(DIGEST_SHA256, text, (size_t)len, &d);
    return d;
}

/* The next blob, and the descriptor of it. */
static void put_blob(struct filling *f, const struct name *n, FILE *out, const char *before)
{
    const struct blob_record r = {1000 + f->blobs % 100000, BLOB_PUBLIC, NOW_S, NOW_S};
    struct digest d = digest_number(f->blobs++);
    char digest[DIGEST_TEXT_MAX];

    CHECK(blob_put(f->txn, &d, &r) == 0);
    CHECK(link_put(f->txn, n, &d, NOW_S) == 0);
    fprintf(out, "%s{\"digest\":\"%s\",\"size\":%" PRIu64 "}", before, digest_text(&d, digest),
            r.size_bytes);
}

/* The text of an image's manifest, owned by the caller. */
static char *put_blobs(struct filling *f, const struct name *n, unsigned long count, size_t *len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, len);

    CHECK(out != NULL && count > 0);
    put_blob(f, n, out, "{\"config\":");
    for (unsigned long i = 1; i < count; i++)
        put_blob(f, n, out, i == 1 ? ",\"layers\":[" : ",");
    fputs(count > 1 ? "]}" : ",\"layers\":[]}", out);
    CHECK(fclose(out) == 0);
    return text;
}

static void put_image(struct filling *f, unsigned long number, unsigned long count)
{
    struct tag_record tag = {.checked_at_s = NOW_S};
    char repository[64], label[32], why[256];
    struct manifest *m;
    struct name n;
    size_t len;

    snprintf(repository, sizeof repository, "library/app-%lu", number / IMAGES_A_REPOSITORY);
    snprintf(label, sizeof label, "v%lu", number % IMAGES_A_REPOSITORY);
    CHECK(name_set(&n, "docker.io", 9, repository, strlen(repository)) == 0);
    char *text = put_blobs(f, &n, count, &len);

    CHECK(manifest_parse(&m, media_type, text, len, why, sizeof why) == 0);
    digest_of(DIGEST_SHA256, text, len, &tag.digest);
    tag.size_bytes = len;
    memcpy(tag.media_type, media_type, sizeof media_type);
    CHECK(manifest_put(f->txn, &n, &tag.digest, m, BLOB_PUBLIC, len, NOW_S) == 0);
    CHECK(tag_put(f->txn, &n, label, &tag) == 0);
    manifest_free(&m);
    free(text);
}

int main(int argc, char **argv)
{
    struct filling f = {0};
    char why[512];

    if (argc != 4) {
        fputs("usage: index DIR BLOBS TAGS\n", stderr);
        return 2;
    }
    unsigned long blobs = strtoul(argv[2], NULL, 10);
    unsigned long tags = strtoul(argv[3], NULL, 10);

    CHECK(tags > 0 && blobs / tags > 1);
    if (store_open(&f.store, argv[1], STORE_OWN, MAP_BYTES, why, sizeof why) != 0) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    for (unsigned long i = 0; i < tags; i++) {
        if (i % IMAGES_A_COMMIT == 0)
            CHECK(db_write(store_db(f.store), &f.txn) == 0);
        put_image(&f, i, blobs / tags - 1);
        if (i % IMAGES_A_COMMIT == IMAGES_A_COMMIT - 1 || i == tags - 1)
            CHECK(db_commit(&f.txn) == 0);
    }
    store_close(&f.store);
    return 0;
}
