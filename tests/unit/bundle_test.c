/* SPDX-License-Identifier: ISC */
/* Bundles from one store into another: what is planned, written, read and recorded. */
#include "cache/bundle.h"

#include <sys/mman.h>
#include <time.h>

#include "cache/blob.h"
#include "cache/bundle_text.h"
#include "cache/bundle_write.h"
#include "cache/err.h"
#include "cache/import.h"
#include "cache/link.h"
#include "cache/repository.h"
#include "cache/tag.h"
#include "cache/verify.h"
#include "tests/unit/scratch.h"

#define IMAGE "application/vnd.oci.image.manifest.v1+json"
#define INDEX "application/vnd.oci.image.index.v1+json"
#define NOW_S 1774000000

struct bed {
    struct scratch near, far;
    struct db_reader *reader;
    struct bundle bundle;
    struct bundle_wish wish;
    struct bundle_record record;
    char *index;
    size_t index_len;
};

static int setup(void **state)
{
    struct bed *b = calloc(1, sizeof *b);

    scratch_dir(b->near.dir);
    b->near.store = scratch_store(b->near.dir);
    scratch_dir(b->far.dir);
    b->far.store = scratch_store(b->far.dir);
    assert_int_equal(db_reader_new(store_db(b->near.store), &b->reader), 0);
    bundle_init(&b->bundle);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bed *b = *state;

    bundle_clear(&b->bundle);
    bundle_record_clear(&b->record);
    free(b->index);
    db_reader_free(&b->reader);
    store_close(&b->near.store);
    store_close(&b->far.store);
    scratch_remove(b->near.dir);
    scratch_remove(b->far.dir);
    free(b);
    return 0;
}

/* --- what the near store holds --- */

static struct digest hold(struct scratch *s, const char *data)
{
    struct digest d = scratch_digest(data);
    struct blob_record r = {.size_bytes = strlen(data), .origin = BLOB_PUBLIC};
    struct db_txn *txn = scratch_write(s);

    assert_int_equal(blob_write(s->store, &d, data, strlen(data)), 0);
    assert_int_equal(blob_put(txn, &d, &r), 0);
    assert_int_equal(db_commit(&txn), 0);
    return d;
}

static struct digest hold_manifest(struct scratch *s, const char *type, const char *text,
                                   const char *tag)
{
    struct name n = scratch_name("quay.io", "team/app");
    struct digest d = hold(s, text);
    struct tag_record r = {.digest = d, .size_bytes = strlen(text), .checked_at_s = 1};
    struct db_txn *txn = scratch_write(s);
    struct manifest *m;
    char why[256];

    assert_int_equal(manifest_parse(&m, type, text, strlen(text), why, sizeof why), 0);
    assert_int_equal(manifest_put(txn, &n, &d, m, BLOB_PUBLIC, strlen(text), 1), 0);
    manifest_free(&m);
    strcpy(r.media_type, type);
    if (tag != NULL)
        assert_int_equal(tag_put(txn, &n, tag, &r), 0);
    assert_int_equal(db_commit(&txn), 0);
    return d;
}

/* An image of a config and a layer; the text is owned by the caller. */
static char *image_text(const char *config, const char *layer)
{
    char c[DIGEST_TEXT_MAX], l[DIGEST_TEXT_MAX];
    struct digest config_digest = scratch_digest(config), layer_digest = scratch_digest(layer);

    return mem_format(
        "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"application/vnd.oci.image."
        "config.v1+json\",\"digest\":\"%s\",\"size\":%zu},\"layers\":[{\"mediaType\":"
        "\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"%s\",\"size\":%zu}]}",
        digest_text(&config_digest, c), strlen(config), digest_text(&layer_digest, l),
        strlen(layer));
}

static struct digest hold_image(struct bed *b, const char *config, const char *layer,
                                const char *tag)
{
    char *text = image_text(config, layer);

    hold(&b->near, config);
    hold(&b->near, layer);
    struct digest d = hold_manifest(&b->near, IMAGE, text, tag);
    free(text);
    return d;
}

/* An index of two images, of which the second is held or not. */
static struct digest hold_index(struct bed *b, bool with_second)
{
    char one[DIGEST_TEXT_MAX], two[DIGEST_TEXT_MAX];
    char *first = image_text("{\"a\":1}", "layer 1"), *second = image_text("{\"a\":2}", "layer 2");
    struct digest d1 = scratch_digest(first), d2 = scratch_digest(second);
    char *text = mem_format(
        "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"" IMAGE
        "\",\"digest\":\"%s\",\"size\":%zu,\"platform\":{\"os\":\"linux\",\"architecture\":"
        "\"amd64\"}},{\"mediaType\":\"" IMAGE "\",\"digest\":\"%s\",\"size\":%zu,\"platform\":"
        "{\"os\":\"windows\",\"architecture\":\"amd64\",\"os.version\":\"10.0.20348.1\"}}]}",
        digest_text(&d1, one), strlen(first), digest_text(&d2, two), strlen(second));

    hold_image(b, "{\"a\":1}", "layer 1", NULL);
    if (with_second)
        hold_image(b, "{\"a\":2}", "layer 2", NULL);
    struct digest d = hold_manifest(&b->near, INDEX, text, "multi");
    free(first);
    free(second);
    free(text);
    return d;
}

/* --- from here to there --- */

static int add(struct bed *b, const char *tag, const struct digest *d)
{
    struct reference r = {.name = scratch_name("quay.io", "team/app")};
    struct db_txn *txn;

    strcpy(r.tag, tag);
    assert_int_equal(db_read(b->reader, &txn), 0);
    int err = bundle_add(&b->bundle, b->near.store, txn, &r, d, &b->wish);
    db_read_end(b->reader);
    return err;
}

static void plan(struct bed *b, uint64_t part_bytes)
{
    const struct bundle *bundle = &b->bundle;

    bundle_sort(&b->bundle);
    free(b->index);
    bundle_record_clear(&b->record);
    b->index = bundle_index_text(bundle, &b->index_len);
    b->record = (struct bundle_record){.parts = 1, .part_bytes = part_bytes};
    b->record.items = calloc(bundle->blob_count + 1, sizeof *b->record.items);
    b->record.count = bundle->blob_count;
    for (size_t i = 0; i < bundle->blob_count; i++)
        b->record.items[i] =
            (struct bundle_item){bundle->blobs[i].digest, bundle->blobs[i].size_bytes};
}

static int write_part(struct bed *b, unsigned part)
{
    struct bundle_output out = {
        .store = b->near.store, .record = &b->record, .index = b->index, .index_len = b->index_len};
    int fd = memfd_create("part", MFD_CLOEXEC);

    assert_int_equal(bundle_output_begin(&out), 0);
    assert_int_equal(bundle_output_part(&out, part, fd), 0);
    bundle_output_end(&out);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static struct import *begin_import(struct bed *b, bool verify_only)
{
    struct import_settings settings = {
        .store = b->far.store, .verify_only = verify_only, .now_s = NOW_S};
    char why[IMPORT_WHY_MAX] = "";
    struct import *i;

    if (import_new(&i, &settings, why) != 0)
        fail_msg("%s", why);
    return i;
}

static int take_part(struct bed *b, struct import *i, unsigned part)
{
    int fd = write_part(b, part);
    int err = import_archive(i, fd, "part");

    close(fd);
    return err;
}

static int import_whole(struct bed *b)
{
    struct import *i = begin_import(b, false);
    int err = 0;

    for (unsigned part = 1; err == 0 && part <= b->record.parts; part++)
        err = take_part(b, i, part);
    if (err == 0)
        err = import_finish(i);
    import_free(&i);
    return err;
}

static int far_tag(struct bed *b, const char *tag, struct tag_record *r)
{
    struct name n = scratch_name("quay.io", "team/app");
    struct db_txn *txn = scratch_write(&b->far);
    int err = tag_get(txn, &n, tag, r);

    db_abort(&txn);
    return err;
}

static int far_blob(struct bed *b, const char *data, enum blob_origin *origin)
{
    struct digest d = scratch_digest(data);
    struct db_txn *txn = scratch_write(&b->far);
    struct blob_record r;
    int fd;
    int err = blob_get(txn, &d, &r);

    db_abort(&txn);
    if (err != 0)
        return err;
    *origin = r.origin;
    assert_int_equal(blob_open(b->far.store, &d, r.size_bytes, &fd), 0);
    close(fd);
    return 0;
}

static unsigned count_partials(struct bed *b);

/* --- tests --- */

static void test_image(void **state)
{
    struct bed *b = *state;
    struct digest d = hold_image(b, "{}", "a layer", "1");
    struct name n = scratch_name("quay.io", "team/app");
    struct repository_record repository;
    struct tag_record tag;
    enum blob_origin origin;

    assert_int_equal(add(b, "1", &d), 0);
    assert_int_equal(b->bundle.missing_count, 0);
    plan(b, 0);
    assert_int_equal(import_whole(b), 0);
    assert_int_equal(far_tag(b, "1", &tag), 0);
    assert_true(digest_equal(&tag.digest, &d));
    assert_int_equal(tag.checked_at_s, NOW_S);
    assert_string_equal(tag.media_type, IMAGE);
    assert_int_equal(far_blob(b, "a layer", &origin), 0);
    assert_int_equal(origin, BLOB_PUBLIC);
    struct db_txn *txn = scratch_write(&b->far);
    assert_int_equal(repository_get(txn, &n, &repository), 0);
    assert_int_equal(repository.visibility, REPOSITORY_PUBLIC);
    db_abort(&txn);
    assert_int_equal(count_partials(b), 1);
    /* Again: nothing changes. */
    assert_int_equal(import_whole(b), 0);
}

/* A file of the right name and size that no record vouches for may have gone bad. */
static void test_unrecorded(void **state)
{
    struct bed *b = *state;
    struct digest d = hold_image(b, "{}", "a layer", "1"), layer = scratch_digest("a layer");
    enum blob_origin origin;

    assert_int_equal(blob_write(b->far.store, &layer, "a rotte", 7), 0);
    assert_int_equal(add(b, "1", &d), 0);
    plan(b, 0);
    assert_int_equal(import_whole(b), 0);
    assert_int_equal(far_blob(b, "a layer", &origin), 0);
    assert_int_equal(verify_blob(b->far.store, &layer, 7, NULL, NULL, &(struct file_id){0}), 0);
}

static int count_partial(void *arg, const char *name)
{
    (void)name;
    ++*(unsigned *)arg;
    return 0;
}

static unsigned count_partials(struct bed *b)
{
    unsigned count = 0;

    assert_int_equal(partial_walk_files(b->far.store, count_partial, &count), 0);
    return count;
}

/* What is missing is found in the plan, and with held_only left out of it. */
static void test_index(void **state)
{
    struct bed *b = *state;
    struct digest d = hold_index(b, false);

    assert_int_equal(add(b, "multi", &d), 0);
    assert_int_equal(b->bundle.missing_count, 1);
    assert_true(b->bundle.missing[0].is_manifest);
    assert_string_equal(b->bundle.missing[0].platform, "windows/amd64:10.0.20348.1");
    bundle_clear(&b->bundle);
    bundle_init(&b->bundle);
    b->wish.held_only = true;
    assert_int_equal(add(b, "multi", &d), 0);
    assert_int_equal(b->bundle.missing_count, 0);
    assert_true(b->bundle.images[0].is_sparse);
    assert_int_equal(b->bundle.blob_count, 4);
    plan(b, 0);
    assert_int_equal(import_whole(b), 0);
    struct tag_record tag;
    assert_int_equal(far_tag(b, "multi", &tag), 0);
}

static void test_platforms(void **state)
{
    struct bed *b = *state;
    struct digest d = hold_index(b, true);

    b->wish.platform_count = 1;
    assert_int_equal(platform_parse(&b->wish.platforms[0], "windows/amd64:10.0.20348"), 0);
    assert_int_equal(add(b, "multi", &d), 0);
    assert_int_equal(b->bundle.blob_count, 4);
    assert_true(b->bundle.images[0].is_sparse);
    assert_int_equal(platform_parse(&b->wish.platforms[0], "linux/s390x"), 0);
    assert_int_equal(add(b, "other", &d), ERR_NOT_FOUND);
    assert_int_equal(b->bundle.image_count, 1);
}

static void test_delta(void **state)
{
    struct bed *b = *state;
    struct digest d = hold_image(b, "{}", "a layer", "1"), layer = scratch_digest("a layer");
    struct digest_map *have = digest_map_new();
    struct tag_record tag;
    size_t number;

    digest_map_add(have, &layer, &number);
    digest_map_add(have, &d, &number);
    b->wish.have = have;
    assert_int_equal(add(b, "1", &d), 0);
    /* The manifest goes along, whoever has it. */
    assert_int_equal(b->bundle.blob_count, 2);
    assert_int_equal(b->bundle.spared_count, 1);
    plan(b, 0);
    struct import *i = begin_import(b, false);
    struct import_result r;
    assert_int_equal(take_part(b, i, 1), 0);
    assert_int_equal(import_finish(i), ERR_NOT_FOUND);
    import_result(i, &r);
    assert_int_equal(r.missing_count, 1);
    assert_true(digest_equal(&r.missing[0].digest, &layer));
    import_free(&i);
    assert_int_equal(far_tag(b, "1", &tag), ERR_NOT_FOUND);
    assert_int_equal(count_partials(b), 1);
    hold(&b->far, "a layer");
    assert_int_equal(import_whole(b), 0);
    assert_int_equal(far_tag(b, "1", &tag), 0);
    digest_map_free(&have);
}

/* A blob in pieces, parts out of order, and one that is missing. */
static void test_parts(void **state)
{
    struct bed *b = *state;
    char *large = mem_resize(NULL, (5 << 20) + 1);
    enum blob_origin origin;
    struct tag_record tag;

    for (size_t k = 0; k < 5 << 20; k++)
        large[k] = (char)('a' + k % 23);
    large[5 << 20] = '\0';
    struct digest d = hold_image(b, "{}", large, "1");
    assert_int_equal(add(b, "1", &d), 0);
    plan(b, 2 << 20);
    close(write_part(b, 1));
    assert_int_equal(b->record.parts, 3);
    struct import *i = begin_import(b, false);
    assert_int_equal(take_part(b, i, 2), ERR_NOT_FOUND);
    assert_non_null(strstr(import_why(i), "part 2 of 3"));
    import_free(&i);
    i = begin_import(b, false);
    assert_int_equal(take_part(b, i, 1), 0);
    assert_int_equal(take_part(b, i, 2), 0);
    assert_int_equal(import_finish(i), ERR_NOT_FOUND);
    assert_non_null(strstr(import_why(i), "part 3 of 3 is missing"));
    import_free(&i);
    assert_int_equal(far_tag(b, "1", &tag), ERR_NOT_FOUND);
    /* The manifest and the config were verified, and wait. */
    assert_int_equal(count_partials(b), 3);
    for (unsigned part = 1; part <= 3; part++) {
        i = begin_import(b, true);
        assert_int_equal(take_part(b, i, part), 0);
        assert_int_equal(import_finish(i), 0);
        import_free(&i);
    }
    assert_int_equal(import_whole(b), 0);
    assert_int_equal(far_blob(b, large, &origin), 0);
    assert_int_equal(count_partials(b), 1);
    free(large);
}

static void test_busy(void **state)
{
    struct bed *b = *state;
    struct import_settings settings = {.store = b->far.store, .now_s = NOW_S};
    char why[IMPORT_WHY_MAX];
    struct import *i = begin_import(b, false), *other;

    assert_int_equal(import_new(&other, &settings, why), ERR_BUSY);
    assert_non_null(strstr(why, "under way"));
    import_free(&i);
    assert_int_equal(import_new(&other, &settings, why), 0);
    import_free(&other);
}

/* The files of an import that nobody will take up again go with the partial files. */
static void test_sweep(void **state)
{
    struct bed *b = *state;
    unsigned removed;
    char partial[80];

    snprintf(partial, sizeof partial, "%s/partial", b->far.dir);
    scratch_file(partial, "import-sha256-00", "x", 1);
    for (int64_t age_s = 0; age_s <= 200; age_s += 200) {
        struct db_txn *txn = scratch_write(&b->far);

        assert_int_equal(partial_sweep(b->far.store, txn, time(NULL) + age_s, 100, &removed), 0);
        assert_int_equal(removed, age_s > 100);
        assert_int_equal(db_commit(&txn), 0);
    }
}

/* What is private here already stays so. */
static void test_private(void **state)
{
    struct bed *b = *state;
    struct name n = scratch_name("quay.io", "team/app");
    struct repository_record r = {REPOSITORY_PRIVATE, 1};
    struct digest d = hold_image(b, "{}", "a layer", "1"), layer = scratch_digest("a layer");
    struct db_txn *txn = scratch_write(&b->far);
    enum blob_origin origin;

    assert_int_equal(repository_put(txn, &n, &r), 0);
    assert_int_equal(db_commit(&txn), 0);
    assert_int_equal(add(b, "1", &d), 0);
    plan(b, 0);
    assert_int_equal(import_whole(b), 0);
    assert_int_equal(far_blob(b, "a layer", &origin), 0);
    assert_int_equal(origin, BLOB_PRIVATE);
    txn = scratch_write(&b->far);
    assert_int_equal(repository_get(txn, &n, &r), 0);
    assert_int_equal(r.visibility, REPOSITORY_PRIVATE);
    assert_int_equal(link_get(txn, &n, &layer), 0);
    db_abort(&txn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_image, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unrecorded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_index, setup, teardown),
        cmocka_unit_test_setup_teardown(test_platforms, setup, teardown),
        cmocka_unit_test_setup_teardown(test_delta, setup, teardown),
        cmocka_unit_test_setup_teardown(test_parts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_busy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sweep, setup, teardown),
        cmocka_unit_test_setup_teardown(test_private, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
