/* SPDX-License-Identifier: ISC */
/* Surveys of images; and that the images of a large cache are listed at once. */
#include "cache/survey.h"

#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "cache/manifest.h"
#include "cache/tag.h"
#include "tests/unit/scratch.h"

#define IMAGE "application/vnd.oci.image.manifest.v1+json"
#define INDEX "application/vnd.oci.image.index.v1+json"

#define MANY 10000
#define MANY_MAP_BYTES (1u << 30)
/* Of 0.5 s that people wait at most, as CPU time; sanitizers make a program slower. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define IS_SANITIZED
#endif
#endif
#if defined(IS_SANITIZED) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LIST_MAX_MS 20000
#else
#define LIST_MAX_MS 500
#endif

/* --- images --- */

static void hold_blob(struct db_txn *txn, const struct digest *d, uint64_t size_bytes)
{
    struct blob_record r = {
        .size_bytes = size_bytes, .origin = BLOB_PUBLIC, .stored_at_s = 1, .used_at_s = 2};

    assert_int_equal(blob_put(txn, d, &r), 0);
}

static struct digest hold_text_blob(struct db_txn *txn, const char *what, uint64_t size_bytes)
{
    struct digest d = scratch_digest(what);

    hold_blob(txn, &d, size_bytes);
    return d;
}

/* {"config":...,"layers":[...]} of contents that are called so; each has `size_bytes`. Owned
 * by the caller. */
static char *image_text(const char *config, const char *const *layers, unsigned count,
                        unsigned size_bytes)
{
    char digest[DIGEST_TEXT_MAX];
    struct digest d = scratch_digest(config);
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    fprintf(out, "{\"config\":{\"digest\":\"%s\",\"size\":%u},\"layers\":[",
            digest_text(&d, digest), size_bytes);
    for (unsigned i = 0; i < count; i++) {
        d = scratch_digest(layers[i]);
        fprintf(out, "%s{\"digest\":\"%s\",\"size\":%u}", i > 0 ? "," : "", digest_text(&d, digest),
                size_bytes);
    }
    fputs("]}", out);
    fclose(out);
    return text;
}

static struct digest hold_manifest(struct db_txn *txn, const char *media_type, const char *text)
{
    struct name n = scratch_name("docker.io", "app");
    struct digest d = scratch_digest(text);
    struct manifest *m;
    char why[256];

    assert_int_equal(manifest_parse(&m, media_type, text, strlen(text), why, sizeof why), 0);
    assert_int_equal(manifest_put(txn, &n, &d, m, BLOB_PUBLIC, strlen(text), 1), 0);
    manifest_free(&m);
    return d;
}

static struct digest hold_image(struct db_txn *txn, const char *config, const char *const *layers,
                                unsigned count)
{
    char *text = image_text(config, layers, count, 100);
    struct digest d = hold_manifest(txn, IMAGE, text);

    free(text);
    return d;
}

static const struct survey *add(struct surveys *s, const struct digest *d)
{
    const struct survey *found;

    assert_int_equal(surveys_add(s, d, 77, &found), 0);
    return found;
}

/* --- what is held of one --- */

static void test_parts(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    const char *const layers[] = {"a", "b", "a"};
    char *text = image_text("c", layers, 3, 100);
    struct digest d = scratch_digest(text);
    struct surveys *s = surveys_new(txn);
    const struct survey *x = add(s, &d);

    assert_false(x->is_held);
    assert_int_equal(x->total_bytes, 77);
    assert_int_equal(x->held_bytes, 0);
    assert_false(survey_is_complete(x));
    surveys_free(&s);
    assert_null(s);

    s = surveys_new(txn);
    hold_manifest(txn, IMAGE, text);
    hold_text_blob(txn, "a", 100);
    x = add(s, &d);
    assert_true(x->is_held);
    assert_false(x->is_index);
    /* The manifest, its config, two layers of which one comes twice. */
    assert_int_equal(x->total_count, 4);
    assert_int_equal(x->held_count, 2);
    assert_int_equal(x->held_bytes, strlen(text) + 100);
    assert_int_equal(x->total_bytes, strlen(text) + 300);
    assert_int_equal(x->own_total, 4);
    assert_int_equal(x->own_held, 2);
    assert_false(survey_is_complete(x));
    assert_ptr_equal(add(s, &d), x);
    surveys_free(&s);

    s = surveys_new(txn);
    hold_text_blob(txn, "b", 100);
    hold_text_blob(txn, "c", 100);
    assert_true(survey_is_complete(add(s, &d)));
    surveys_free(&s);
    surveys_free(&s);
    db_abort(&txn);
    free(text);
}

/* --- what is whose --- */

static void test_own_and_shared(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    const char *const first[] = {"base", "one"}, *const second[] = {"base", "two", "absent"};
    struct digest a = hold_image(txn, "config-1", first, 2);
    struct digest b = hold_image(txn, "config-2", second, 3);
    struct blob_record a_record, b_record;
    struct surveys *s = surveys_new(txn);

    hold_text_blob(txn, "base", 1000);
    hold_text_blob(txn, "one", 10);
    hold_text_blob(txn, "two", 20);
    assert_int_equal(blob_get(txn, &a, &a_record), 0);
    assert_int_equal(blob_get(txn, &b, &b_record), 0);
    const struct survey *x = add(s, &a);

    assert_int_equal(x->own_bytes, x->held_bytes);
    assert_int_equal(x->held_bytes, 1010 + a_record.size_bytes);
    const struct survey *y = add(s, &b);

    assert_int_equal(x->own_bytes, 10 + a_record.size_bytes);
    assert_int_equal(x->held_bytes - x->own_bytes, 1000);
    assert_int_equal(y->own_bytes, 20 + b_record.size_bytes);
    assert_int_equal(y->held_bytes, 1020 + b_record.size_bytes);
    /* The same image under another tag is no other image. */
    assert_ptr_equal(add(s, &a), x);
    assert_int_equal(x->own_bytes, 10 + a_record.size_bytes);
    surveys_free(&s);
    db_abort(&txn);
}

/* --- indexes --- */

/* `rows` are {digest, platform as JSON or NULL}. */
static struct digest hold_index(struct db_txn *txn, const struct digest *children,
                                const char *const *platforms, unsigned count)
{
    char digest[DIGEST_TEXT_MAX];
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    fputs("{\"manifests\":[", out);
    for (unsigned i = 0; i < count; i++)
        fprintf(out, "%s{\"mediaType\":\"" IMAGE "\",\"digest\":\"%s\",\"size\":50%s%s}",
                i > 0 ? "," : "", digest_text(&children[i], digest),
                platforms[i] != NULL ? ",\"platform\":" : "",
                platforms[i] != NULL ? platforms[i] : "");
    fputs("]}", out);
    fclose(out);
    struct digest d = hold_manifest(txn, INDEX, text);

    free(text);
    return d;
}

static void test_platforms(void **state)
{
    static const char *const platforms[] = {
        "{\"os\":\"linux\",\"architecture\":\"amd64\"}",
        "{\"os\":\"linux\",\"architecture\":\"arm64\"}",
        "{\"os\":\"windows\",\"architecture\":\"amd64\",\"os.version\":\"10.0.20348.1\"}",
        "{\"os\":\"unknown\",\"architecture\":\"unknown\"}", NULL};
    struct db_txn *txn = scratch_write(*state);
    const char *const whole[] = {"w1"}, *const part[] = {"p1", "p2"};
    struct digest children[] = {hold_image(txn, "wc", whole, 1), hold_image(txn, "pc", part, 2),
                                scratch_digest("windows"), scratch_digest("attestation"),
                                scratch_digest("nothing")};
    struct digest d = hold_index(txn, children, platforms, 5);
    struct surveys *s = surveys_new(txn);

    hold_text_blob(txn, "wc", 1);
    hold_text_blob(txn, "w1", 1);
    hold_text_blob(txn, "p2", 1);
    const struct survey *x = add(s, &d);

    assert_true(x->is_index);
    assert_int_equal(x->platforms, 4);
    assert_int_equal(x->complete, 1);
    assert_int_equal(x->some_count, 2);
    assert_string_equal(x->some[0].name, "linux/amd64");
    assert_int_equal(x->some[0].held_count, 2);
    assert_int_equal(x->some[0].total_count, 2);
    assert_string_equal(x->some[1].name, "linux/arm64");
    assert_int_equal(x->some[1].held_count, 1);
    assert_int_equal(x->some[1].total_count, 3);
    assert_false(survey_is_complete(x));
    surveys_free(&s);
    db_abort(&txn);
}

/* An index that names itself, and one that names a manifest a thousand times, end soon. */
static void test_hostile_indexes(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    const char *const layers[] = {"l"};
    struct digest image = hold_image(txn, "c", layers, 1);
    struct digest children[200];
    const char *platforms[200] = {0};
    struct surveys *s = surveys_new(txn);

    for (unsigned i = 0; i < 200; i++)
        children[i] = image;
    struct digest d = hold_index(txn, children, platforms, 200);

    for (unsigned depth = 0; depth < 5; depth++) {
        for (unsigned i = 0; i < 200; i++)
            children[i] = d;
        d = hold_index(txn, children, platforms, 200);
    }
    const struct survey *x = add(s, &d);

    assert_int_equal(x->platforms, 200u * 3);
    assert_int_equal(x->total_count, 4);
    surveys_free(&s);
    db_abort(&txn);
}

static void test_damaged(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    const char *const layers[] = {"l"};
    struct digest d = hold_image(txn, "c", layers, 1);
    uint8_t key[DIGEST_KEY_MAX];
    struct surveys *s = surveys_new(txn);

    assert_int_equal(db_put(txn, DB_MANIFESTS, key, digest_to_key(&d, key), "\2\0", 2), 0);
    const struct survey *x = add(s, &d);

    assert_false(x->is_held);
    assert_false(survey_is_complete(x));
    surveys_free(&s);
    db_abort(&txn);
}

/* --- many --- */

/* Image `i`: a base of three layers that a hundred images have, and two of its own. */
static void hold_one_of_many(struct db_txn *txn, unsigned i)
{
    char names[6][32];
    const char *layers[5];
    struct tag_record tag = {.size_bytes = 700, .media_type = IMAGE, .checked_at_s = 1};
    char repository[32];

    for (unsigned j = 0; j < 5; j++) {
        snprintf(names[j], sizeof names[j], "layer %u %u", j < 3 ? i / 100 : i, j);
        layers[j] = names[j];
    }
    snprintf(names[5], sizeof names[5], "config %u", i);
    tag.digest = hold_image(txn, names[5], layers, 5);
    for (unsigned j = 0; j < 6; j++)
        hold_text_blob(txn, names[j], 1000000);
    snprintf(repository, sizeof repository, "team-%u/app-%u", i % 100, i / 100);
    struct name n = scratch_name("registry.example.com", repository);

    assert_int_equal(tag_put(txn, &n, "1.2.3", &tag), 0);
}

static int survey_tag(void *arg, const struct name *n, const char *tag, const struct tag_record *r)
{
    const struct survey *x = add(arg, &r->digest);

    (void)n, (void)tag;
    assert_true(survey_is_complete(x));
    return 0;
}

static long ms_of(const struct timeval *t)
{
    return t->tv_sec * 1000 + t->tv_usec / 1000;
}

/* The CPU time of "cachalot -C dir ls", -1 when it is not built. */
static long run_ls(const char *dir, const char *format)
{
    const char *builddir = getenv("builddir");
    char *program = mem_format("%s/cachalot", builddir != NULL ? builddir : ".");
    char *out = mem_format("%s/out", dir);
    char *argv[] = {program, "-C", (char *)dir, "--format", (char *)format, "ls", NULL};
    posix_spawn_file_actions_t actions;
    struct rusage usage;
    int status;
    pid_t child;
    long ms = -1;

    if (access(program, X_OK) == 0) {
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, 1, out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        assert_int_equal(posix_spawn(&child, program, &actions, NULL, argv, environ), 0);
        assert_int_equal(wait4(child, &status, 0, &usage), child);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        posix_spawn_file_actions_destroy(&actions);
        assert_true(scratch_file_size(dir, "out") > MANY * 50);
        ms = ms_of(&usage.ru_utime) + ms_of(&usage.ru_stime);
    }
    free(program);
    free(out);
    return ms;
}

static void test_many(void **state)
{
    char dir[64], cache[80], refusal[512];
    struct store *store;
    struct db_txn *txn;
    struct surveys *s;

    (void)state;
    scratch_dir(dir);
    snprintf(cache, sizeof cache, "%s/cache", dir);
    assert_int_equal(store_open(&store, cache, STORE_OWN, MANY_MAP_BYTES, refusal, sizeof refusal),
                     0);
    assert_int_equal(db_write(store_db(store), &txn), 0);
    for (unsigned i = 0; i < MANY; i++)
        hold_one_of_many(txn, i);
    clock_t began = clock();

    s = surveys_new(txn);
    assert_int_equal(tag_walk(txn, survey_tag, s), 0);
    surveys_free(&s);
    long survey_ms = (long)((clock() - began) * 1000 / CLOCKS_PER_SEC);

    assert_int_equal(db_commit(&txn), 0);
    store_close(&store);
    long table_ms = run_ls(cache, "table"), json_ms = run_ls(cache, "json");

    printf("%d images: surveyed in %ld ms; ls %ld ms, as JSON %ld ms\n", MANY, survey_ms, table_ms,
           json_ms);
    assert_true(survey_ms < LIST_MAX_MS);
    assert_true(table_ms < LIST_MAX_MS);
    assert_true(json_ms < LIST_MAX_MS);
    scratch_remove(dir);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_parts),           TEST(test_own_and_shared), TEST(test_platforms),
        TEST(test_hostile_indexes), TEST(test_damaged),        cmocka_unit_test(test_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
