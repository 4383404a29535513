/* SPDX-License-Identifier: ISC */
/*
 * An index that is gone or damaged is made anew: whatever byte of it was flipped, the store
 * opens, and can be read and written. What was public is, what was pushed is its
 * repository's, and what was private is nobody's until its upstream says so.
 *
 * CACHALOT_FLIPS is how many bytes are flipped, one at a time; CACHALOT_SEED which ones.
 */
#include "cache/recover.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "cache/blob.h"
#include "cache/db_probe.h"
#include "cache/err.h"
#include "cache/layout.h"
#include "cache/link.h"
#include "cache/local.h"
#include "cache/pin.h"
#include "cache/reference.h"
#include "cache/tag.h"
#include "tests/unit/scratch.h"

#define IMAGE "application/vnd.oci.image.manifest.v1+json"
#define INDEX "application/vnd.oci.image.index.v1+json"
#define NOW_S 1750000000
#define FLIPS 150

/* --- a cache with something of everything --- */

static void hold(struct scratch *s, struct db_txn *txn, const char *text, enum blob_origin origin)
{
    struct digest d = scratch_digest(text);
    const struct blob_record r = {strlen(text), origin, NOW_S, NOW_S};

    assert_int_equal(blob_write(s->store, &d, text, strlen(text)), 0);
    assert_int_equal(blob_put(txn, &d, &r), 0);
    if (origin == BLOB_PUBLIC)
        blob_mark_public(s->store, &d);
}

/* {"mediaType":...,"config":...,"layers":[...]} of the contents that are these texts. */
static char *image_text(const char *config, const char *layer, const char *layer_type)
{
    struct digest c = scratch_digest(config), l = scratch_digest(layer);
    char config_digest[DIGEST_TEXT_MAX], layer_digest[DIGEST_TEXT_MAX];
    char *text;

    assert_true(asprintf(&text,
                         "{\"schemaVersion\":2,\"mediaType\":\"" IMAGE
                         "\",\"config\":{\"mediaType\":\"application/json\",\"digest\":\"%s\","
                         "\"size\":%zu},\"layers\":[{\"mediaType\":\"%s\",\"digest\":\"%s\","
                         "\"size\":%zu}]}",
                         digest_text(&c, config_digest), strlen(config), layer_type,
                         digest_text(&l, layer_digest), strlen(layer)) > 0);
    return text;
}

static char *index_text(const char *manifest)
{
    struct digest d = scratch_digest(manifest);
    char digest[DIGEST_TEXT_MAX];
    char *text;

    assert_true(asprintf(&text,
                         "{\"schemaVersion\":2,\"mediaType\":\"" INDEX
                         "\",\"manifests\":[{\"mediaType\":\"" IMAGE
                         "\",\"digest\":\"%s\",\"size\":%zu}]}",
                         digest_text(&d, digest), strlen(manifest)) > 0);
    return text;
}

/* Record and tag a manifest in the name. */
static void put(struct scratch *s, struct db_txn *txn, const struct name *n, const char *tag,
                const char *type, const char *text, enum blob_origin origin)
{
    struct digest d = scratch_digest(text);
    struct tag_record t = {.digest = d, .size_bytes = strlen(text), .checked_at_s = NOW_S};
    struct manifest *m;
    char why[256];

    memcpy(t.media_type, type, strlen(type) + 1);
    hold(s, txn, text, origin);
    assert_int_equal(manifest_parse(&m, type, text, strlen(text), why, sizeof why), 0);
    if (name_is_local(n))
        assert_int_equal(local_put_manifest(txn, n, &d, m, strlen(text), &tag, tag != NULL, NOW_S),
                         0);
    else
        assert_int_equal(manifest_put(txn, n, &d, m, origin, strlen(text), NOW_S), 0);
    if (!name_is_local(n) && tag != NULL)
        assert_int_equal(tag_put(txn, n, tag, &t), 0);
    manifest_free(&m);
}

#define LAYER "application/vnd.oci.image.layer.v1.tar"
#define FOREIGN "application/vnd.docker.image.rootfs.foreign.diff.tar"

static void put_public(struct scratch *s, struct db_txn *txn)
{
    struct name n = scratch_name("docker.io", "library/app");
    char *image = image_text("public config", "public layer", LAYER);
    char *index = index_text(image);

    hold(s, txn, "public config", BLOB_PUBLIC);
    hold(s, txn, "public layer", BLOB_PUBLIC);
    put(s, txn, &n, NULL, IMAGE, image, BLOB_PUBLIC);
    put(s, txn, &n, "1", INDEX, index, BLOB_PUBLIC);
    struct pin pin = {.reference = {.name = n, .tag = "1"}, .pinned_at_s = NOW_S, .owner = "us"};
    assert_int_equal(pin_put(txn, &pin), 0);
    free(index);
    free(image);
}

static void put_private(struct scratch *s, struct db_txn *txn)
{
    struct name n = scratch_name("docker.io", "secret/app");
    struct digest layer = scratch_digest("private layer");
    char *image = image_text("private config", "private layer", LAYER);

    hold(s, txn, "private config", BLOB_PRIVATE);
    hold(s, txn, "private layer", BLOB_PRIVATE);
    assert_int_equal(link_put(txn, &n, &layer, NOW_S), 0);
    put(s, txn, &n, "1", IMAGE, image, BLOB_PRIVATE);
    free(image);
}

/* A pushed index whose image is linked, and one whose foreign layer, or whose image, is what
 * its pusher knows the digest of, but was never given. */
static void put_pushed(struct scratch *s, struct db_txn *txn)
{
    struct name n = scratch_local("team/app"), thief = scratch_local("thief/app");
    char *image = image_text("pushed config", "pushed layer", LAYER);
    char *index = index_text(image);
    char *secret = image_text("private config", "private layer", LAYER);
    char *stolen_index = index_text(secret);
    char *stolen_layer = image_text("thief's config", "private layer", FOREIGN);

    hold(s, txn, "pushed config", BLOB_PUSHED);
    hold(s, txn, "pushed layer", BLOB_PUSHED);
    hold(s, txn, "thief's config", BLOB_PUSHED);
    const char *const linked[] = {"pushed config", "pushed layer"};
    for (size_t i = 0; i < 2; i++) {
        struct digest d = scratch_digest(linked[i]);
        assert_int_equal(link_put(txn, &n, &d, NOW_S), 0);
    }
    put(s, txn, &n, NULL, IMAGE, image, BLOB_PUSHED);
    put(s, txn, &n, "2", INDEX, index, BLOB_PUSHED);
    put(s, txn, &thief, "index", INDEX, stolen_index, BLOB_PUSHED);
    put(s, txn, &thief, "layer", IMAGE, stolen_layer, BLOB_PUSHED);
    free(stolen_layer);
    free(stolen_index);
    free(secret);
    free(index);
    free(image);
}

/* Enough that the index has branches, and free pages. */
static void put_many(struct scratch *s)
{
    struct name n = scratch_name("quay.io", "many/app");
    char text[64];

    for (int i = 0; i < 300; i++) {
        struct db_txn *txn = i % 50 == 0 ? scratch_write(s) : NULL;
        static struct db_txn *open;

        open = txn != NULL ? txn : open;
        snprintf(text, sizeof text, "many %d", i);
        hold(s, open, text, BLOB_PUBLIC);
        struct digest d = scratch_digest(text);
        assert_int_equal(link_put(open, &n, &d, NOW_S), 0);
        if (i % 50 == 49)
            assert_int_equal(db_commit(&open), 0);
    }
}

static int setup(void **state)
{
    struct db_reader *r;
    struct db_txn *txn;

    assert_int_equal(scratch_setup(state), 0);
    struct scratch *s = *state;
    txn = scratch_write(s);
    put_public(s, txn);
    put_private(s, txn);
    put_pushed(s, txn);
    assert_int_equal(db_commit(&txn), 0);
    put_many(s);
    assert_int_equal(db_reader_new(store_db(s->store), &r), 0);
    assert_int_equal(db_read(r, &txn), 0);
    assert_int_equal(layout_write_index(s->store, txn), 0);
    db_reader_free(&r);
    store_close(&s->store);
    return 0;
}

/* --- what is there afterwards --- */

static enum blob_origin origin(struct db_txn *txn, const char *text)
{
    struct digest d = scratch_digest(text);
    struct blob_record r;

    assert_int_equal(blob_get(txn, &d, &r), 0);
    assert_int_equal(r.size_bytes, strlen(text));
    return r.origin;
}

static bool is_linked(struct db_txn *txn, const struct name *n, const char *text)
{
    struct digest d = scratch_digest(text);

    return link_get(txn, n, &d) == 0;
}

static void expect_tag(struct db_txn *txn, const struct name *n, const char *tag)
{
    struct manifest_record m;
    struct tag_record t;

    assert_int_equal(tag_get(txn, n, tag, &t), 0);
    assert_int_equal(manifest_get_in(txn, n, &t.digest, &m), 0);
    assert_string_equal(m.media_type, t.media_type);
    assert_false(tag_is_fresh(&t, NOW_S, INT64_MAX / 2) && !name_is_local(n) && t.checked_at_s > 0);
}

static void expect_all(struct store *store)
{
    struct name hub = scratch_name("docker.io", "library/app");
    struct name secret = scratch_name("docker.io", "secret/app");
    struct name team = scratch_local("team/app"), thief = scratch_local("thief/app");
    char *image = image_text("pushed config", "pushed layer", LAYER);
    char *private = image_text("private config", "private layer", LAYER);
    struct reference pinned = {.name = hub, .tag = "1"};
    struct digest layer = scratch_digest("public layer");
    struct db_reader *r;
    struct db_txn *txn;
    struct pin pin;
    uint64_t size;

    assert_int_equal(db_reader_new(store_db(store), &r), 0);
    assert_int_equal(db_read(r, &txn), 0);
    assert_int_equal(origin(txn, "public layer"), BLOB_PUBLIC);
    assert_int_equal(origin(txn, "pushed layer"), BLOB_PUSHED);
    assert_int_equal(origin(txn, "private layer"), BLOB_PRIVATE);
    assert_int_equal(origin(txn, private), BLOB_PRIVATE);
    expect_tag(txn, &hub, "1");
    expect_tag(txn, &secret, "1");
    expect_tag(txn, &team, "2");
    assert_int_equal(source_get(txn, &layer, &hub, &size), 0);
    assert_int_equal(pin_get(txn, &pinned, &pin), 0);
    assert_string_equal(pin.owner, "us");
    assert_true(is_linked(txn, &team, image));
    assert_true(is_linked(txn, &team, "pushed layer"));
    assert_true(is_linked(txn, &thief, "thief's config"));
    assert_true(is_linked(txn, &secret, private));
    /* What nobody can know is not given away. */
    assert_false(is_linked(txn, &secret, "private layer"));
    assert_false(is_linked(txn, &thief, "private layer"));
    assert_false(is_linked(txn, &thief, private));
    db_read_end(r);
    db_reader_free(&r);
    free(private);
    free(image);
}

static void recover(const char *dir, struct recovery *r)
{
    struct store *store;
    char refusal[512] = "";

    if (recover_open(&store, dir, SCRATCH_MAP_BYTES, NOW_S, r, refusal, sizeof refusal) != 0) {
        fail_msg("%s", refusal);
    }
    if (r->cause != RECOVERY_NONE)
        expect_all(store);
    store_close(&store);
}

static void test_sound(void **state)
{
    const struct scratch *s = *state;
    struct recovery r;

    recover(s->dir, &r);
    assert_int_equal(r.cause, RECOVERY_NONE);
    assert_string_equal(r.aside, "");
}

static void test_missing(void **state)
{
    const struct scratch *s = *state;
    struct recovery r;

    assert_int_equal(unlink(scratch_path(s->dir, "db/data.mdb")), 0);
    recover(s->dir, &r);
    assert_int_equal(r.cause, RECOVERY_MISSING);
    assert_true(r.rebuild.has_index_json);
    assert_int_equal(r.rebuild.tags, 5);
    assert_int_equal(r.rebuild.lost_tags, 0);
    recover(s->dir, &r);
    assert_int_equal(r.cause, RECOVERY_NONE);
}

/* A new directory has nothing that could be made anew. */
static void test_new(void **state)
{
    struct recovery r;
    struct store *store;
    char dir[64], refusal[512];

    (void)state;
    scratch_dir(dir);
    assert_int_equal(
        recover_open(&store, dir, SCRATCH_MAP_BYTES, NOW_S, &r, refusal, sizeof refusal), 0);
    assert_int_equal(r.cause, RECOVERY_NONE);
    store_close(&store);
    scratch_remove(dir);
}

static void test_without_index_json(void **state)
{
    const struct scratch *s = *state;
    struct name team = scratch_local("team/app");
    struct tag_record tag;
    struct recovery r;
    struct store *store;
    struct db_reader *reader;
    struct db_txn *txn;
    char refusal[512];

    assert_int_equal(unlink(scratch_path(s->dir, "index.json")), 0);
    scratch_file(s->dir, "db/data.mdb", "damaged", 7);
    assert_int_equal(
        recover_open(&store, s->dir, SCRATCH_MAP_BYTES, NOW_S, &r, refusal, sizeof refusal), 0);
    assert_int_equal(r.cause, RECOVERY_DAMAGED);
    assert_false(r.rebuild.has_index_json);
    assert_int_equal(db_reader_new(store_db(store), &reader), 0);
    assert_int_equal(db_read(reader, &txn), 0);
    assert_int_equal(origin(txn, "public layer"), BLOB_PUBLIC);
    assert_int_equal(tag_get(txn, &team, "2", &tag), ERR_NOT_FOUND);
    db_read_end(reader);
    db_reader_free(&reader);
    store_close(&store);
}

/* Of those that were set aside the last few are kept, and one that was begun is not used. */
static void test_set_aside(void **state)
{
    const struct scratch *s = *state;
    struct recovery r;
    char last[STORE_ASIDE_SIZE] = "";

    assert_int_equal(mkdir(scratch_path(s->dir, "db.new"), 0700), 0);
    scratch_file(s->dir, "db.new/data.mdb", "half", 4);
    for (int i = 0; i < STORE_ASIDE_MAX + 2; i++) {
        scratch_file(s->dir, "db/data.mdb", "damaged", 7);
        recover(s->dir, &r);
        assert_int_equal(r.cause, RECOVERY_DAMAGED);
        assert_string_not_equal(r.aside, "");
        if (i == 0)
            memcpy(last, r.aside, sizeof last);
        assert_true(scratch_file_size(s->dir, r.aside) >= 0);
    }
    assert_int_equal(scratch_file_size(s->dir, last), -1);
    assert_int_equal(scratch_file_size(s->dir, "db.new"), -1);
}

/* --- flipped bytes --- */

static int visit_record(void *arg, struct db_value key, struct db_value value)
{
    uint64_t *sum = arg;

    for (size_t i = 0; i < key.size; i++)
        *sum += ((const uint8_t *)key.data)[i];
    for (size_t i = 0; i < value.size; i++)
        *sum += ((const uint8_t *)value.data)[i];
    return 0;
}

/* All that a daemon does to an index. */
static int use(struct store *store)
{
    struct db_reader *r;
    struct db_txn *txn;
    uint64_t sum = 0;
    int err = db_reader_new(store_db(store), &r);

    if (err == 0)
        err = db_read(r, &txn);
    for (int table = 0; err == 0 && table < DB_TABLE_COUNT; table++)
        err = db_walk(txn, (enum db_table)table, NULL, 0, NULL, 0, visit_record, &sum);
    db_reader_free(&r);
    for (int round = 0; err == 0 && round < 3; round++) {
        err = db_write(store_db(store), &txn);
        for (int i = 0; err == 0 && i < 100; i++) {
            char text[64];
            const struct blob_record record = {5, BLOB_PUBLIC, NOW_S, NOW_S};

            snprintf(text, sizeof text, "more %d", i);
            struct digest d = scratch_digest(text);
            err = round == 1 ? blob_forget(txn, &d) : blob_put(txn, &d, &record);
        }
        if (err == 0)
            err = db_commit(&txn);
    }
    return err;
}

enum { USED = 0, USED_REBUILT = 1, REFUSED = 2, UNUSABLE = 3 };

/* In a process of its own, which says how it went, or dies. */
static int open_and_use(const char *dir)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        struct store *store;
        struct recovery r;
        char refusal[512];

        if (recover_open(&store, dir, SCRATCH_MAP_BYTES, NOW_S, &r, refusal, sizeof refusal) != 0)
            _exit(REFUSED);
        if (use(store) != 0)
            _exit(UNUSABLE);
        store_close(&store);
        _exit(r.cause == RECOVERY_NONE ? USED : USED_REBUILT);
    }
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static char *read_file(const char *path, size_t *len)
{
    FILE *in = fopen(path, "rb");

    assert_non_null(in);
    assert_int_equal(fseek(in, 0, SEEK_END), 0);
    *len = (size_t)ftell(in);
    rewind(in);
    char *data = malloc(*len);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, *len, in), *len);
    fclose(in);
    return data;
}

static unsigned long number_of(const char *name, unsigned long otherwise)
{
    const char *text = getenv(name);

    return text != NULL ? strtoul(text, NULL, 10) : otherwise;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void test_flips(void **state)
{
    const struct scratch *s = *state;
    uint64_t seed = number_of("CACHALOT_SEED", 20260101);
    unsigned long flips = number_of("CACHALOT_FLIPS", FLIPS);
    unsigned long rebuilt = 0;
    size_t len;
    char *sound = read_file(scratch_path(s->dir, "db/data.mdb"), &len);
    char *data = malloc(len);

    assert_non_null(data);
    for (unsigned long i = 0; i < flips; i++) {
        size_t at = next_random(&seed) % len;
        char bit = (char)(1 << next_random(&seed) % 8);

        memcpy(data, sound, len);
        data[at] = (char)(data[at] ^ bit);
        scratch_file(s->dir, "db/data.mdb", data, len);
        int how = open_and_use(s->dir);

        rebuilt += how == USED_REBUILT;
        if (how != USED && how != USED_REBUILT) {
            fail_msg("flip %lu: bit %d of byte %zu: %d", i, bit, at, how);
        }
    }
    print_message("%lu flips in %zu bytes, rebuilt %lu times\n", flips, len, rebuilt);
    free(data);
    free(sound);
}

/* Every part of the file may be cut off. */
static void test_cut(void **state)
{
    const struct scratch *s = *state;
    size_t len;
    char *sound = read_file(scratch_path(s->dir, "db/data.mdb"), &len);

    for (size_t cut = 0; cut < len; cut += len / 7 + 1) {
        scratch_file(s->dir, "db/data.mdb", sound, cut);
        int how = open_and_use(s->dir);

        if (how != USED && how != USED_REBUILT) {
            fail_msg("cut to %zu: %d", cut, how);
        }
    }
    free(sound);
}

/* --- what is no damage --- */

/* How often it kills; shared with the child. */
static int *kills;

/* In the place of the C library's: the child of db_probe calls it before it walks. */
int madvise(void *at, size_t len, int advice)
{
    (void)at, (void)len;
    if (advice == MADV_WILLNEED && kills != NULL && (*kills)-- > 0)
        raise(SIGKILL);
    return 0;
}

/* The child that walks the index is killed, once or each time it is begun: the index stays. */
static void test_killed(void **state)
{
    struct scratch *s = *state;
    struct recovery r;

    store_close(&s->store);
    kills = mmap(NULL, sizeof *kills, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(kills != MAP_FAILED);
    for (int n = 1; n <= 2; n++) {
        *kills = n;
        recover(s->dir, &r);
        assert_int_equal(*kills, n == 1 ? -1 : 0);
        assert_int_equal(r.cause, RECOVERY_NONE);
    }
    munmap(kills, sizeof *kills);
    kills = NULL;
}

/* While a command has the index open it is not taken away from it. */
static void test_beside_writer(void **state)
{
    struct scratch *s = *state;
    struct store *writer, *store;
    struct recovery r;
    char why[512];

    store_close(&s->store);
    assert_int_equal(store_open(&writer, s->dir, STORE_ADD, 0, why, sizeof why), 0);
    assert_int_equal(recover_rebuild(&store, s->dir, 0, NOW_S, &r, why, sizeof why), ERR_BUSY);
    assert_non_null(strstr(why, "a cachalot command has the index"));
    recover(s->dir, &r);
    assert_int_equal(r.cause, RECOVERY_NONE);
    store_close(&writer);
    assert_int_equal(recover_rebuild(&store, s->dir, 0, NOW_S, &r, why, sizeof why), 0);
    /* It goes on for others once the new one is there. */
    assert_int_equal(store_open(&writer, s->dir, STORE_ADD, 0, why, sizeof why), 0);
    store_close(&writer);
    store_close(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sound, setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_missing, setup, scratch_teardown),
        cmocka_unit_test(test_new),
        cmocka_unit_test_setup_teardown(test_without_index_json, setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_set_aside, setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_killed, setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_beside_writer, setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_flips, setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_cut, setup, scratch_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
