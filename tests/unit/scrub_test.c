/* SPDX-License-Identifier: ISC */
/* What the scrubber needs of the index, and what becomes of files that went bad. */
#include "cache/scrub.h"

#include <dirent.h>
#include <endian.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "cache/lineage.h"
#include "cache/link.h"
#include "cache/loss.h"
#include "cache/manifest.h"
#include "cache/quarantine.h"
#include "cache/stride.h"
#include "cache/tag.h"
#include "cache/verify.h"
#include "tests/unit/scratch.h"

#define IMAGE "application/vnd.oci.image.manifest.v1+json"
#define DAY_S 86400

/* --- when, and how fast --- */

static void test_due(void **state)
{
    struct scrub_state s = {0};

    (void)state;
    assert_true(scrub_is_due(&s, 30, 1000));
    assert_false(scrub_is_due(&s, 0, 1000));
    s.began_at_s = 1000;
    assert_false(scrub_is_due(&s, 30, 1029));
    assert_true(scrub_is_due(&s, 30, 1030));
    /* A clock that went back, and one that is mad. */
    assert_false(scrub_is_due(&s, 30, 10));
    assert_false(scrub_is_due(&s, 30, INT64_MIN));
    s.is_running = true;
    assert_false(scrub_is_due(&s, 30, 2000));
}

static void test_rate(void **state)
{
    (void)state;
    assert_int_equal(scrub_rate(0, 30 * DAY_S, 100, 1000), 100);
    assert_int_equal(scrub_rate(300ull * DAY_S * 30, 30 * DAY_S, 100, 1000), 401);
    assert_int_equal(scrub_rate(UINT64_MAX, 1, 100, 1000), 1000);
    assert_int_equal(scrub_rate(5, 0, 1, 1000), 7);
    /* It ends within its period. */
    for (uint64_t bytes = 1; bytes < UINT64_MAX / 1000; bytes *= 7) {
        assert_true(bytes / scrub_rate(bytes, 30 * DAY_S, 1, UINT64_MAX) <= 30 * DAY_S);
    }
}

static void test_state(void **state)
{
    struct scratch *s = *state;
    struct scrub_state in = {.cursor = scratch_digest("x"),
                             .is_running = true,
                             .began_at_s = 5,
                             .ended_at_s = 3,
                             .round_blobs = 7,
                             .round_bytes = UINT64_MAX,
                             .has_marked = true};
    struct scrub_state out;
    struct db_txn *txn = scratch_write(s);

    assert_int_equal(scrub_get(txn, &out), 0);
    assert_int_equal(out.cursor.alg, 0);
    assert_int_equal(out.began_at_s, 0);
    assert_int_equal(scrub_put(txn, &in), 0);
    assert_int_equal(scrub_get(txn, &out), 0);
    assert_true(digest_equal(&out.cursor, &in.cursor));
    assert_true(out.is_running && out.has_marked);
    assert_int_equal(out.began_at_s, 5);
    assert_int_equal(out.ended_at_s, 3);
    assert_int_equal(out.round_blobs, 7);
    assert_int_equal(out.round_bytes, UINT64_MAX);
    assert_int_equal(db_put(txn, DB_META, "scrub", 5, "damaged", 7), 0);
    assert_int_equal(scrub_get(txn, &out), 0);
    assert_int_equal(out.began_at_s, 0);
    db_abort(&txn);
}

/* --- where it came from, what needs it --- */

static struct digest put_image(struct db_txn *txn, const struct name *n, const char *layer)
{
    struct digest l = scratch_digest(layer), d;
    char digest[DIGEST_TEXT_MAX], text[512], why[256];
    struct manifest *m;
    int len = snprintf(text, sizeof text,
                       "{\"mediaType\":\"" IMAGE "\",\"config\":{\"digest\":\"%s\",\"size\":1},"
                       "\"layers\":[]}",
                       digest_text(&l, digest));

    digest_of(DIGEST_SHA256, text, (size_t)len, &d);
    assert_int_equal(manifest_parse(&m, IMAGE, text, (size_t)len, why, sizeof why), 0);
    assert_int_equal(manifest_put(txn, n, &d, m, BLOB_PUBLIC, (size_t)len, 1), 0);
    manifest_free(&m);
    return d;
}

static void put_tag(struct db_txn *txn, const struct name *n, const char *tag,
                    const struct digest *d)
{
    struct tag_record r = {.digest = *d, .media_type = IMAGE, .checked_at_s = 1};

    assert_int_equal(tag_put(txn, n, tag, &r), 0);
}

static void expect_images(struct db_txn *txn, const struct digest *d, const char *wanted)
{
    struct lineage l;

    assert_int_equal(lineage_read(&l, txn, d), 0);
    char *images = lineage_text(&l);
    lineage_clear(&l);

    assert_string_equal(images, wanted);
    free(images);
}

static void test_sources_and_images(void **state)
{
    struct scratch *s = *state;
    struct name hub = scratch_name("docker.io", "library/app"), quay = scratch_name("quay.io", "a");
    struct name team = scratch_local("team/app");
    struct digest layer = scratch_digest("layer"), alone = scratch_digest("alone");
    struct scrub_sources sources;
    struct db_txn *txn = scratch_write(s);
    struct digest d = put_image(txn, &hub, "layer");

    put_image(txn, &team, "layer");
    expect_images(txn, &layer, "no tag");
    put_tag(txn, &team, "2", &d);
    put_tag(txn, &hub, "1", &d);
    expect_images(txn, &layer, "team/app:2, docker.io/library/app:1");
    put_tag(txn, &quay, "x", &d);
    put_tag(txn, &quay, "y", &d);
    expect_images(txn, &d, "team/app:2, docker.io/library/app:1, quay.io/a:x and 1 more");
    /* What a tag was before it moved is what it shows until the new one is had. */
    put_tag(txn, &team, "2", &alone);
    expect_images(txn, &layer, "team/app:2, docker.io/library/app:1, quay.io/a:x and 1 more");

    assert_int_equal(scrub_find_sources(txn, &layer, &sources), 0);
    assert_false(sources.is_manifest);
    assert_int_equal(sources.count, 1);
    assert_true(name_equal(&sources.list[0], &hub));
    assert_int_equal(scrub_find_sources(txn, &d, &sources), 0);
    assert_true(sources.is_manifest);
    assert_int_equal(sources.count, 2);
    /* Known by its link alone, as one that was pulled by its digest. */
    assert_int_equal(scrub_find_sources(txn, &alone, &sources), 0);
    assert_int_equal(sources.count, 0);
    assert_int_equal(link_put(txn, &quay, &alone, 1), 0);
    assert_int_equal(link_put(txn, &team, &alone, 1), 0);
    assert_int_equal(scrub_find_sources(txn, &alone, &sources), 0);
    assert_int_equal(sources.count, 1);
    assert_true(name_equal(&sources.list[0], &quay));
    db_abort(&txn);
}

/* A loss is there until the blob is; a later attempt does not change since when. */
static void test_loss(void **state)
{
    struct scratch *s = *state;
    struct loss in = {scratch_digest("lost"), 5, 100, ""}, out;
    const struct blob_record r = {5, BLOB_PUBLIC, 1, 1};
    struct db_txn *txn = scratch_write(s);

    assert_int_equal(loss_get(txn, &in.digest, &out), ERR_NOT_FOUND);
    assert_int_equal(loss_put(txn, &in), 0);
    in.lost_at_s = 200;
    snprintf(in.why, sizeof in.why, "nobody has it");
    assert_int_equal(loss_put(txn, &in), 0);
    assert_int_equal(loss_get(txn, &in.digest, &out), 0);
    assert_int_equal(out.lost_at_s, 100);
    assert_string_equal(out.why, "nobody has it");
    assert_int_equal(blob_put(txn, &in.digest, &r), 0);
    assert_int_equal(loss_get(txn, &in.digest, &out), ERR_NOT_FOUND);
    assert_int_equal(loss_forget(txn, &in.digest), 0);
    db_abort(&txn);
}

/* --- files --- */

static int count_bytes(void *arg, uint64_t bytes)
{
    *(uint64_t *)arg += bytes;
    return 0;
}

static int stop(void *arg, uint64_t bytes)
{
    (void)arg, (void)bytes;
    return 1;
}

/* Sizes around those of a read and of what a disk reads at once. */
static void test_verify(void **state)
{
    struct scratch *s = *state;
    static const size_t sizes[] = {0, 1, 511, 4096, 4097, (1u << 20) - 1, 1u << 20, (2u << 20) + 5};
    static char data[(2u << 20) + 5];

    memset(data, 'x', sizeof data);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct digest d, other = scratch_digest("other");
        struct file_id id, other_id = {0};
        uint64_t bytes = 0;

        digest_of(DIGEST_SHA256, data, sizes[i], &d);
        assert_int_equal(blob_write(s->store, &d, data, sizes[i]), 0);
        assert_int_equal(verify_blob(s->store, &d, sizes[i], count_bytes, &bytes, &id), 0);
        assert_int_equal(bytes, sizes[i]);
        assert_true(verify_is_same(s->store, &d, sizes[i], &id));
        assert_int_equal(verify_blob(s->store, &d, sizes[i] + 1, NULL, NULL, &id), ERR_MISMATCH);
        if (sizes[i] > 0)
            assert_int_equal(verify_blob(s->store, &d, sizes[i], stop, NULL, &id), 1);
        assert_int_equal(blob_write(s->store, &other, data, sizes[i]), 0);
        assert_int_equal(verify_blob(s->store, &other, sizes[i], NULL, NULL, &other_id),
                         ERR_DAMAGED);
        assert_false(verify_is_same(s->store, &d, sizes[i], &other_id));
        assert_int_equal(blob_unlink(s->store, &other), 0);
        assert_int_equal(verify_blob(s->store, &other, sizes[i], NULL, NULL, &id), ERR_MISMATCH);
    }
}

static unsigned count_quarantine(const struct scratch *s)
{
    DIR *dir = opendir(scratch_path(s->dir, "quarantine"));
    unsigned count = 0;

    if (dir == NULL)
        return 0;
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir))
        count += e->d_name[0] != '.';
    closedir(dir);
    return count;
}

static void test_quarantine(void **state)
{
    struct scratch *s = *state;
    struct file_id id = {0}, old;
    struct digest d = {0};

    for (int i = 0; i < QUARANTINE_FILES_MAX + 3; i++) {
        char text[32];

        snprintf(text, sizeof text, "bad %d", i);
        d = scratch_digest(text);
        assert_int_equal(blob_write(s->store, &d, "other", 5), 0);
        assert_int_equal(verify_blob(s->store, &d, 5, NULL, NULL, &id), ERR_DAMAGED);
        assert_int_equal(quarantine_blob(s->store, &d, &id), 0);
        assert_int_equal(blob_check(s->store, &d, 5), ERR_MISMATCH);
    }
    assert_int_equal(count_quarantine(s), QUARANTINE_FILES_MAX);
    /* Not one that came in its place. */
    old = id;
    assert_int_equal(blob_write(s->store, &d, "bad 18", 6), 0);
    assert_int_equal(quarantine_blob(s->store, &d, &old), ERR_NOT_FOUND);
    assert_int_equal(blob_check(s->store, &d, 6), 0);
}

static void test_public_mark(void **state)
{
    struct scratch *s = *state;
    struct digest d = scratch_digest("x");

    blob_mark_public(s->store, &d);
    assert_false(blob_is_marked_public(s->store, &d));
    assert_int_equal(blob_write(s->store, &d, "x", 1), 0);
    assert_false(blob_is_marked_public(s->store, &d));
    blob_mark_public(s->store, &d);
    assert_true(blob_is_marked_public(s->store, &d));
    assert_int_equal(blob_check(s->store, &d, 1), 0);
    /* A new file of the same content begins without. */
    assert_int_equal(blob_write(s->store, &d, "x", 1), 0);
    assert_false(blob_is_marked_public(s->store, &d));
}

/* --- strides --- */

struct strides {
    unsigned count, rests;
    uint32_t last;
};

static int visit(void *arg, struct db_txn *txn, struct db_value key, struct db_value value)
{
    struct strides *s = arg;
    uint32_t number;

    (void)txn, (void)value;
    assert_int_equal(key.size, sizeof number);
    memcpy(&number, key.data, sizeof number);
    number = be32toh(number);
    assert_true(s->count == 0 || number == s->last + 1);
    s->last = number;
    s->count++;
    return 0;
}

static int rest(void *arg)
{
    struct strides *s = arg;

    return ++s->rests == 100;
}

static void test_strides(void **state)
{
    struct scratch *s = *state;
    struct strides strides = {0};
    struct db_reader *r;
    struct db_txn *txn = scratch_write(s);

    for (uint32_t i = 0; i < 10000; i++) {
        uint32_t key = htobe32(i);
        assert_int_equal(db_put(txn, DB_LISTS, &key, sizeof key, "", 0), 0);
    }
    assert_int_equal(db_commit(&txn), 0);
    assert_int_equal(db_reader_new(store_db(s->store), &r), 0);
    assert_int_equal(db_stride(r, DB_LISTS, NULL, 0, visit, rest, &strides), 0);
    assert_int_equal(strides.count, 10000);
    assert_int_equal(strides.rests, 3);
    uint32_t from = htobe32(9990);
    strides = (struct strides){0};
    assert_int_equal(db_stride(r, DB_LISTS, &from, sizeof from, visit, NULL, &strides), 0);
    assert_int_equal(strides.count, 10);
    db_reader_free(&r);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_due),
        cmocka_unit_test(test_rate),
        TEST(test_state),
        TEST(test_sources_and_images),
        TEST(test_loss),
        TEST(test_verify),
        TEST(test_quarantine),
        TEST(test_public_mark),
        TEST(test_strides),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
