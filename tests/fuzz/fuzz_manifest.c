/* SPDX-License-Identifier: ISC */
/* Manifests: the input is a line with the media type, then the body. What is
 * accepted is recorded, and the record's children are those of the manifest. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cache/digest.h"
#include "cache/err.h"
#include "cache/json.h"
#include "cache/manifest.h"
#include "tests/fuzz/fuzz_db.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct walk {
    const struct manifest *m;
    unsigned seen;
};

static int visit(void *arg, const struct manifest_child *child)
{
    struct walk *w = arg;
    const struct descriptor *d = manifest_child(w->m, w->seen++);

    CHECK(digest_equal(&child->digest, &d->digest) && child->size_bytes == d->size_bytes);
    CHECK(child->role == (int)d->role);
    for (const char *c = child->platform; *c != '\0'; c++) {
        CHECK(*c > 0x20 && *c < 0x7f);
    }
    return 0;
}

static void check_children(const struct manifest *m)
{
    for (unsigned i = 0; i < manifest_child_count(m); i++) {
        const struct descriptor *d = manifest_child(m, i);

        CHECK((d->role == CHILD_MANIFEST) == manifest_is_index(m));
        CHECK(d->size_bytes <= INT64_MAX && d->media_type != NULL);
        CHECK(digest_size(&d->digest) >= 32 && d->url_count <= DESCRIPTOR_URLS_MAX);
        for (unsigned u = 0; u < d->url_count; u++) {
            CHECK(strncmp(d->urls[u], "http", 4) == 0 && strpbrk(d->urls[u], " \r\n") == NULL);
        }
    }
}

static void check_record(const struct manifest *m, const uint8_t *body, size_t size)
{
    static const struct name n = {.registry = "docker.io", .repository = "library/alpine"};
    struct walk w = {.m = m};
    struct manifest_record r;
    struct digest d;
    struct db_txn *txn = fuzz_db_write();

    digest_of(DIGEST_SHA256, body, size, &d);
    CHECK(manifest_put(txn, &n, &d, m, BLOB_PUBLIC, size, 1) == 0);
    CHECK(manifest_get(txn, &d, &r) == 0);
    CHECK(r.size_bytes == size && r.is_index == manifest_is_index(m));
    CHECK(strcmp(r.media_type, manifest_media_type(m)) == 0);
    CHECK(manifest_walk(txn, &d, visit, &w) == 0);
    CHECK(w.seen == manifest_child_count(m));
    db_abort(&txn);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = memchr(data, '\n', size);
    struct manifest *m;
    char why[256] = "";

    if (end == NULL) {
        return 0;
    }
    size_t type_len = (size_t)(end - data);
    size_t body_len = size - type_len - 1;
    char *type = mem_copy(data, type_len);
    int err = manifest_parse(&m, type, end + 1, body_len, why, sizeof why);

    if (err == 0) {
        check_children(m);
        check_record(m, end + 1, body_len);
        manifest_free(&m);
    } else {
        CHECK((err == ERR_INVALID || err == ERR_TOO_LARGE) && why[0] != '\0');
        for (const char *c = why; *c != '\0'; c++) {
            CHECK(*c >= 0x20 && *c < 0x7f);
        }
    }
    free(type);
    return 0;
}
