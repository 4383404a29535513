/* SPDX-License-Identifier: ISC */
/* Layers are compressed by libarchive itself; what twice finds is waited for. */
#include "proxy/twice.h"

#include <archive.h>
#include <archive_entry.h>
#include <poll.h>
#include <semaphore.h>
#include <time.h>

#include "cache/blob.h"
#include "cache/diff.h"
#include "cache/err.h"
#include "cache/manifest.h"
#include "tests/unit/scratch.h"

#define DEADLINE_S 20
#define IMAGE "application/vnd.oci.image.manifest.v1+json"

struct bed {
    struct scratch *scratch;
    struct stats stats;
    struct log *log;
    struct storage *storage;
    struct twice *twice;
    struct name name;
    struct db_reader *reader;
};

static int setup(void **state)
{
    struct bed *b = calloc(1, sizeof *b);

    assert_non_null(b);
    b->scratch = scratch_new();
    assert_int_equal(
        log_open(&b->log, scratch_path(b->scratch->dir, "log"), LOG_TEXT, LOG_INFO, false), 0);
    b->storage = storage_start(b->scratch->store, &b->stats, b->log);
    b->twice = twice_start(b->scratch->store, b->storage, &b->stats, b->log);
    b->name = scratch_local("team/app");
    b->reader = scratch_reader(b->scratch);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bed *b = *state;

    db_reader_free(&b->reader);
    twice_free(&b->twice);
    storage_stop(&b->storage);
    log_close(&b->log);
    scratch_free(b->scratch);
    free(b);
    return 0;
}

/* --- a store with content: written by jobs, for the index has one writer --- */

struct put {
    struct storage_job job;
    const struct name *name;
    struct digest digest;
    const void *data;
    size_t len;
    enum blob_origin origin;
    const struct manifest *manifest;
    sem_t done;
};

static int put_prepare(struct storage_job *j, struct store *s)
{
    const struct put *p = (struct put *)j;

    return blob_write(s, &p->digest, p->data, p->len);
}

static int put_apply(struct storage_job *j, struct db_txn *txn)
{
    const struct put *p = (struct put *)j;
    struct blob_record r = {.size_bytes = p->len, .origin = p->origin};

    if (p->manifest != NULL)
        return manifest_put(txn, p->name, &p->digest, p->manifest, p->origin, p->len, 1);
    return blob_put(txn, &p->digest, &r);
}

static void put_done(struct storage_job *j, int err)
{
    assert_int_equal(err, 0);
    sem_post(&((struct put *)j)->done);
}

static void wait_for(sem_t *s)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += DEADLINE_S;
    assert_int_equal(sem_timedwait(s, &t), 0);
}

static struct digest put(struct bed *b, const void *data, size_t len, enum blob_origin origin,
                         const struct manifest *m)
{
    struct put p = {
        .job = {.prepare = put_prepare, .apply = put_apply, .done = put_done},
        .name = &b->name,
        .data = data,
        .len = len,
        .origin = origin,
        .manifest = m,
    };

    digest_of(DIGEST_SHA256, data, len, &p.digest);
    sem_init(&p.done, 0, 0);
    storage_post(b->storage, &p.job);
    wait_for(&p.done);
    sem_destroy(&p.done);
    return p.digest;
}

static struct digest put_text(struct bed *b, const char *text, enum blob_origin origin)
{
    return put(b, text, strlen(text), origin, NULL);
}

#define TAR_BYTES (256 * 1024)

static void make_tar(uint8_t tar[TAR_BYTES], uint8_t seed)
{
    for (size_t i = 0; i < TAR_BYTES; i++)
        tar[i] = (uint8_t)(seed + i / 512);
    memcpy(tar + 257, "ustar", 5);
}

static struct digest tar_digest(uint8_t seed)
{
    static uint8_t tar[TAR_BYTES];
    struct digest d;

    make_tar(tar, seed);
    digest_of(DIGEST_SHA256, tar, sizeof tar, &d);
    return d;
}

/* A layer with the tar of this seed, compressed at this level. */
static struct digest put_layer(struct bed *b, uint8_t seed, int filter, const char *level,
                               enum blob_origin origin)
{
    static uint8_t tar[TAR_BYTES], out[2 * TAR_BYTES];
    size_t used = 0;
    struct archive *a = archive_write_new();
    struct archive_entry *entry = archive_entry_new();

    make_tar(tar, seed);
    assert_int_equal(archive_write_add_filter(a, filter), ARCHIVE_OK);
    assert_int_equal(archive_write_set_filter_option(a, NULL, "compression-level", level),
                     ARCHIVE_OK);
    assert_int_equal(archive_write_set_format_raw(a), ARCHIVE_OK);
    assert_int_equal(archive_write_set_bytes_in_last_block(a, 1), ARCHIVE_OK);
    assert_int_equal(archive_write_open_memory(a, out, sizeof out, &used), ARCHIVE_OK);
    archive_entry_set_filetype(entry, AE_IFREG);
    assert_int_equal(archive_write_header(a, entry), ARCHIVE_OK);
    assert_int_equal(archive_write_data(a, tar, sizeof tar), sizeof tar);
    archive_entry_free(entry);
    assert_int_equal(archive_write_free(a), ARCHIVE_OK);
    return put(b, out, used, origin, NULL);
}

/* A config that says that the layer is the tar of this seed, in bytes of its own. */
static struct digest put_config(struct bed *b, uint8_t seed)
{
    struct digest tar = tar_digest(seed);
    char digest[DIGEST_TEXT_MAX];
    char *text = mem_format("{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"%s\"]}}",
                            digest_text(&tar, digest));
    struct digest d = put_text(b, text, BLOB_PUBLIC);

    free(text);
    return d;
}

static struct digest put_image(struct bed *b, const struct digest *config,
                               const struct digest *layer)
{
    char c[DIGEST_TEXT_MAX], l[DIGEST_TEXT_MAX], why[256];
    char *text = mem_format("{\"config\":{\"digest\":\"%s\",\"size\":1},"
                            "\"layers\":[{\"digest\":\"%s\",\"size\":1}]}",
                            digest_text(config, c), digest_text(layer, l));
    struct manifest *m;

    assert_int_equal(manifest_parse(&m, IMAGE, text, strlen(text), why, sizeof why), 0);
    struct digest d = put(b, text, strlen(text), BLOB_PUBLIC, m);
    manifest_free(&m);
    free(text);
    return d;
}

/* --- what came of it --- */

static int count_blob(void *arg, const struct diff_blob *blob)
{
    (void)blob;
    ++*(unsigned *)arg;
    return 0;
}

static unsigned known_blobs(struct bed *b, const struct digest *diff_id)
{
    struct db_txn *txn;
    unsigned count = 0;

    assert_int_equal(db_read(b->reader, &txn), 0);
    assert_int_equal(diff_walk(txn, diff_id, count_blob, &count), 0);
    db_read_end(b->reader);
    return count;
}

static void wait_until_known(struct bed *b, const struct digest *diff_id, unsigned count)
{
    time_t deadline = time(NULL) + DEADLINE_S;

    while (known_blobs(b, diff_id) < count) {
        assert_true(time(NULL) < deadline);
        poll(NULL, 0, 1);
    }
    assert_int_equal(known_blobs(b, diff_id), count);
}

/* A layer of its own is the last in the queue: when it is known, all others are done. */
static void wait_until_idle(struct bed *b, uint8_t seed)
{
    struct digest content = tar_digest(seed);
    struct digest d = put_layer(b, seed, ARCHIVE_FILTER_GZIP, "1", BLOB_PUSHED);

    twice_add_blob(b->twice, &b->name, &d);
    wait_until_known(b, &content, 1);
}

static char *read_log(struct bed *b)
{
    static char text[16384];
    FILE *file = fopen(scratch_path(b->scratch->dir, "log"), "re");

    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return text;
}

static void test_a_layer_compressed_again(void **state)
{
    struct bed *b = *state;
    struct digest content = tar_digest(1);
    struct digest first = put_layer(b, 1, ARCHIVE_FILTER_GZIP, "9", BLOB_PUSHED);
    struct digest again = put_layer(b, 1, ARCHIVE_FILTER_GZIP, "1", BLOB_PUSHED);
    struct digest zstd = put_layer(b, 1, ARCHIVE_FILTER_ZSTD, "3", BLOB_PUSHED);
    char text[DIGEST_TEXT_MAX];

    assert_false(digest_equal(&first, &again));
    twice_add_blob(b->twice, &b->name, &first);
    wait_until_known(b, &content, 1);
    assert_int_equal(b->stats.duplicate_blobs, 0);
    twice_add_blob(b->twice, &b->name, &again);
    twice_add_blob(b->twice, &b->name, &zstd);
    wait_until_known(b, &content, 3);
    wait_until_idle(b, 99);
    assert_int_equal(b->stats.duplicate_blobs, 2);
    assert_true(b->stats.duplicate_bytes > 0 && b->stats.duplicate_bytes < 2 * TAR_BYTES);
    const char *log = read_log(b);
    assert_non_null(strstr(log, digest_text(&again, text)));
    assert_non_null(strstr(log, digest_text(&zstd, text)));
    assert_non_null(strstr(log, digest_text(&first, text)));
    assert_non_null(strstr(log, "pushed to team/app"));
    /* A blob is inflated once, and counted once. */
    twice_add_blob(b->twice, &b->name, &again);
    wait_until_idle(b, 98);
    assert_int_equal(b->stats.duplicate_blobs, 2);
}

/* The one that was pulled is not inflated: its image's config says what it is. */
static void test_a_layer_that_was_pulled(void **state)
{
    struct bed *b = *state;
    struct digest content = tar_digest(1);
    struct digest pulled = put_layer(b, 1, ARCHIVE_FILTER_GZIP, "9", BLOB_PUBLIC);
    struct digest config = put_config(b, 1);
    struct digest image = put_image(b, &config, &pulled);
    struct digest pushed = put_layer(b, 1, ARCHIVE_FILTER_GZIP, "1", BLOB_PUSHED);
    char text[DIGEST_TEXT_MAX];

    twice_add_manifest(b->twice, &b->name, &image);
    wait_until_known(b, &content, 1);
    twice_add_blob(b->twice, &b->name, &pushed);
    wait_until_known(b, &content, 2);
    wait_until_idle(b, 99);
    assert_int_equal(b->stats.duplicate_blobs, 1);
    assert_non_null(strstr(read_log(b), digest_text(&pulled, text)));
}

/* Clients pull the config after the manifest that names it. */
static void test_a_config_that_came_later(void **state)
{
    struct bed *b = *state;
    struct digest content = tar_digest(1);
    struct digest pulled = put_layer(b, 1, ARCHIVE_FILTER_GZIP, "9", BLOB_PUBLIC);
    struct digest config = put_config(b, 1);
    uint64_t commits;

    twice_add_fetched(b->twice, &b->name, &config, 100);
    wait_until_idle(b, 99);
    assert_int_equal(known_blobs(b, &content), 0);
    put_image(b, &config, &pulled);
    twice_add_fetched(b->twice, &b->name, &pulled, 100);
    wait_until_idle(b, 98);
    assert_int_equal(known_blobs(b, &content), 0);
    twice_add_fetched(b->twice, &b->name, &config, 100);
    wait_until_known(b, &content, 1);
    put_text(b, "first", BLOB_PUSHED);
    commits = b->stats.commits;
    twice_add_fetched(b->twice, &b->name, &config, 1u << 30);
    wait_until_idle(b, 97);
    put_text(b, "last", BLOB_PUSHED);
    assert_int_equal(b->stats.commits, commits + 3);
    assert_int_equal(b->stats.duplicate_blobs, 0);
}

/* None of it is anything to speak of. */
static void test_what_is_no_layer_or_image(void **state)
{
    struct bed *b = *state;
    struct digest unknown = scratch_digest("unknown");
    struct digest text = put_text(b, "no layer", BLOB_PUSHED);
    struct digest config = put_text(b, "{\"rootfs\":7}", BLOB_PUSHED);
    struct digest layer = put_layer(b, 1, ARCHIVE_FILTER_GZIP, "9", BLOB_PUSHED);
    struct digest image = put_image(b, &config, &layer);
    struct digest bare = put_image(b, &unknown, &layer);
    struct digest lost = put_text(b, "lost", BLOB_PUSHED);

    assert_int_equal(blob_unlink(b->scratch->store, &lost), 0);
    twice_add_blob(b->twice, &b->name, &unknown);
    twice_add_blob(b->twice, &b->name, &text);
    twice_add_blob(b->twice, &b->name, &lost);
    twice_add_manifest(b->twice, &b->name, &unknown);
    twice_add_manifest(b->twice, &b->name, &text);
    twice_add_manifest(b->twice, &b->name, &image);
    twice_add_manifest(b->twice, &b->name, &bare);
    twice_add_fetched(b->twice, &b->name, &config, 12);
    wait_until_idle(b, 99);
    assert_string_equal(read_log(b), "");
    assert_int_equal(b->stats.store_failures, 0);
}

/* More than there is room for: the newest are looked at, and nobody waits. */
static void test_too_many(void **state)
{
    enum { MANY = 5000 };
    struct bed *b = *state;
    struct digest slow = put_layer(b, 1, ARCHIVE_FILTER_GZIP, "9", BLOB_PUSHED);
    struct digest unknown = scratch_digest("unknown");

    for (unsigned i = 0; i < MANY; i++)
        twice_add_blob(b->twice, &b->name, i % 2 == 0 ? &slow : &unknown);
    wait_until_idle(b, 99);
    assert_true(b->stats.unchecked_blobs < MANY);
}

/* The end does not wait for what is under way, nor for what is left. */
static void test_the_end(void **state)
{
    struct bed *b = *state;

    for (uint8_t i = 0; i < 50; i++) {
        struct digest d = put_layer(b, i, ARCHIVE_FILTER_GZIP, "1", BLOB_PUSHED);

        twice_add_blob(b->twice, &b->name, &d);
    }
    twice_stop(b->twice);
    uint64_t commits = b->stats.commits;
    for (uint8_t i = 0; i < 50; i++) {
        struct digest d = tar_digest(i);

        twice_add_blob(b->twice, &b->name, &d);
    }
    assert_int_equal(b->stats.commits, commits);
    twice_free(&b->twice);
    assert_null(b->twice);
    twice_free(&b->twice);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_layer_compressed_again),
        TEST(test_a_layer_that_was_pulled),
        TEST(test_a_config_that_came_later),
        TEST(test_what_is_no_layer_or_image),
        TEST(test_too_many),
        TEST(test_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
