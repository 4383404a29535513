/* SPDX-License-Identifier: ISC */
#include "cache/parent.h"

#include "cache/manifest.h"
#include "tests/unit/scratch.h"

#define IMAGE "application/vnd.oci.image.manifest.v1+json"
#define INDEX "application/vnd.oci.image.index.v1+json"

static struct digest put(struct db_txn *txn, const char *media_type, const char *text)
{
    struct name n = scratch_local("team/app");
    struct digest d = scratch_digest(text);
    struct manifest *m;
    char why[256];

    assert_int_equal(manifest_parse(&m, media_type, text, strlen(text), why, sizeof why), 0);
    assert_int_equal(manifest_put(txn, &n, &d, m, BLOB_PUSHED, strlen(text), 1), 0);
    manifest_free(&m);
    return d;
}

/* Owned by the caller. */
static char *descriptor(const struct digest *d)
{
    char text[DIGEST_TEXT_MAX];

    return mem_format("{\"mediaType\":\"a/b\",\"digest\":\"%s\",\"size\":7}", digest_text(d, text));
}

struct found {
    unsigned count;
    struct digest parents[8];
    int roles[8];
};

static int visit(void *arg, const struct digest *parent, int role)
{
    struct found *f = arg;

    f->parents[f->count] = *parent;
    f->roles[f->count++] = role;
    return f->count == 8 ? 42 : 0;
}

static unsigned find(struct db_txn *txn, const struct digest *child, struct found *f)
{
    *f = (struct found){0};
    assert_int_equal(parent_walk(txn, child, visit, f), 0);
    return f->count;
}

static void test_who_names_a_content(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct digest config = scratch_digest("config"), layer = scratch_digest("layer");
    char *c = descriptor(&config), *l = descriptor(&layer);
    char *image_text = mem_format("{\"config\":%s,\"layers\":[%s,%s]}", c, l, l);
    struct digest image = put(txn, IMAGE, image_text);
    char *i = descriptor(&image);
    char *index_text = mem_format("{\"manifests\":[%s]}", i);
    struct digest index = put(txn, INDEX, index_text);
    struct found f;

    assert_int_equal(find(txn, &config, &f), 1);
    assert_true(digest_equal(&f.parents[0], &image));
    assert_int_equal(f.roles[0], CHILD_CONFIG);
    assert_int_equal(find(txn, &layer, &f), 1);
    assert_true(digest_equal(&f.parents[0], &image));
    assert_int_equal(f.roles[0], CHILD_LAYER);
    assert_int_equal(find(txn, &image, &f), 1);
    assert_true(digest_equal(&f.parents[0], &index));
    assert_int_equal(f.roles[0], CHILD_MANIFEST);
    assert_int_equal(find(txn, &index, &f), 0);
    db_abort(&txn);
    free(c), free(l), free(i), free(image_text), free(index_text);
}

/* The empty config of artifacts is often their layer too. */
static void test_both_roles(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct digest empty = scratch_digest("{}");
    char *e = descriptor(&empty);
    char *text = mem_format("{\"config\":%s,\"layers\":[%s]}", e, e);
    struct found f;

    put(txn, IMAGE, text);
    assert_int_equal(find(txn, &empty, &f), 2);
    assert_int_equal(f.roles[0], CHILD_CONFIG);
    assert_int_equal(f.roles[1], CHILD_LAYER);
    db_abort(&txn);
    free(e), free(text);
}

static void test_walk_ends_early(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct digest child = scratch_digest("child");
    struct found f = {0};

    for (unsigned i = 0; i < 20; i++) {
        char text[16];

        snprintf(text, sizeof text, "%u", i);
        struct digest parent = scratch_digest(text);

        assert_int_equal(parent_put(txn, &child, &parent, CHILD_LAYER), 0);
        assert_int_equal(parent_put(txn, &parent, &child, CHILD_LAYER), 0);
    }
    assert_int_equal(parent_walk(txn, &child, visit, &f), 42);
    assert_int_equal(f.count, 8);
    for (unsigned i = 1; i < f.count; i++)
        assert_true(memcmp(&f.parents[i - 1], &f.parents[i], sizeof f.parents[i]) < 0);
    db_abort(&txn);
}

static void test_damaged_keys(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct digest child = scratch_digest("child");
    uint8_t key[3 * DIGEST_KEY_MAX];
    size_t len = digest_to_key(&child, key);
    struct found f;

    len += digest_to_key(&child, key + len);
    key[len] = CHILD_LAYER;
    key[len + 1] = 0;
    assert_int_equal(db_put(txn, DB_PARENTS, key, len, "\1", 1), 0);
    assert_int_equal(db_put(txn, DB_PARENTS, key, len - 1, "\1", 1), 0);
    assert_int_equal(db_put(txn, DB_PARENTS, key, len + 2, "\1", 1), 0);
    assert_int_equal(find(txn, &child, &f), 0);
    db_abort(&txn);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_who_names_a_content),
        TEST(test_both_roles),
        TEST(test_walk_ends_early),
        TEST(test_damaged_keys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
