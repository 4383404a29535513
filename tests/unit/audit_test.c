/* SPDX-License-Identifier: ISC */
/* Whatever is wrong with an index or its files is found, once, and repaired so that the next
 * audit finds nothing. */
#include "cache/audit.h"

#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "cache/local.h"
#include "cache/loss.h"
#include "cache/manifest.h"
#include "cache/parent.h"
#include "cache/partial.h"
#include "cache/pin.h"
#include "cache/repair.h"
#include "cache/tag.h"
#include "cache/upload.h"
#include "tests/unit/scratch.h"

#define IMAGE "application/vnd.oci.image.manifest.v1+json"
#define NOW_S 2000000000

struct bed {
    struct scratch *scratch;
    struct audit audit;
};

static void run(struct bed *b, bool is_live)
{
    const struct audit_options o = {.is_live = is_live, .now_s = NOW_S};
    struct db_reader *r;

    audit_clear(&b->audit);
    r = scratch_reader(b->scratch);
    assert_int_equal(audit_run(&b->audit, b->scratch->store, r, &o), 0);
    db_reader_free(&r);
}

/* This and nothing else is found; with `repairs` it is repaired, and nothing is found then. */
static void expect(struct bed *b, enum audit_kind kind, bool repairs)
{
    run(b, false);
    for (size_t i = 0; i < b->audit.count; i++) {
        if (b->audit.findings[i].kind != kind) {
            fail_msg("found %s", audit_row(b->audit.findings[i].kind)->word);
        }
    }
    assert_int_equal(b->audit.count, 1);
    assert_int_equal(audit_repair(&b->audit, b->scratch->store, NOW_S), 0);
    assert_int_equal(b->audit.findings[0].is_repaired, repairs);
    if (repairs) {
        run(b, false);
        assert_int_equal(b->audit.count, 0);
    }
}

static struct digest put_text(struct bed *b, struct db_txn *txn, const char *text)
{
    struct digest d = scratch_digest(text);
    const struct blob_record r = {strlen(text), BLOB_PUSHED, 1, 1};

    assert_int_equal(blob_write(b->scratch->store, &d, text, strlen(text)), 0);
    assert_int_equal(blob_put(txn, &d, &r), 0);
    return d;
}

/* An image of a local repository, with all that belongs to it. */
static struct digest put_image(struct bed *b, const char *tag)
{
    struct name n = scratch_local("team/app");
    struct db_txn *txn = scratch_write(b->scratch);
    struct digest config = put_text(b, txn, "config");
    char digest[DIGEST_TEXT_MAX], text[512], why[256];
    struct manifest *m;

    snprintf(text, sizeof text,
             "{\"mediaType\":\"" IMAGE
             "\",\"config\":{\"digest\":\"%s\",\"size\":6},\"layers\":[]}",
             digest_text(&config, digest));
    assert_int_equal(link_put(txn, &n, &config, 1), 0);
    struct digest d = put_text(b, txn, text);
    assert_int_equal(manifest_parse(&m, IMAGE, text, strlen(text), why, sizeof why), 0);
    assert_int_equal(local_put_manifest(txn, &n, &d, m, strlen(text), &tag, 1, 1), 0);
    assert_int_equal(db_commit(&txn), 0);
    manifest_free(&m);
    return d;
}

static void test_sound(void **state)
{
    struct bed *b = *state;

    put_image(b, "1");
    run(b, false);
    assert_int_equal(b->audit.count, 0);
    assert_int_equal(b->audit.blobs, 2);
    assert_int_equal(b->audit.manifests, 1);
    assert_int_equal(b->audit.tags, 1);
}

static void damage(struct bed *b, enum db_table table, const void *key, size_t len)
{
    struct db_txn *txn = scratch_write(b->scratch);

    assert_int_equal(db_put(txn, table, key, len, "\x63", 1), 0);
    assert_int_equal(db_commit(&txn), 0);
}

/* A blob whose record cannot be read gets a new one, for its file is right. */
static void test_damaged_blob_record(void **state)
{
    struct bed *b = *state;
    struct digest d = put_image(b, "1");
    uint8_t key[DIGEST_KEY_MAX];
    struct blob_record r;

    damage(b, DB_BLOBS, key, digest_to_key(&d, key));
    run(b, false);
    assert_true(b->audit.count >= 1);
    assert_int_equal(audit_repair(&b->audit, b->scratch->store, NOW_S), 0);
    struct db_txn *txn = scratch_write(b->scratch);
    assert_int_equal(blob_get(txn, &d, &r), 0);
    db_abort(&txn);
    run(b, false);
    assert_int_equal(b->audit.count, 0);
    assert_int_equal(b->audit.tags, 1);
}

static void test_damaged_records(void **state)
{
    static const enum db_table tables[] = {DB_BLOBS, DB_MANIFESTS, DB_TAGS, DB_PARTIALS,
                                           DB_UPLOADS};
    struct bed *b = *state;

    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        damage(b, tables[i], "?", 1);
        expect(b, AUDIT_RECORD_DAMAGED, true);
    }
}

static void test_manifest_record(void **state)
{
    struct bed *b = *state;
    struct digest d = put_image(b, "1");
    struct digest config = scratch_digest("config");
    struct db_txn *txn = scratch_write(b->scratch);
    struct manifest *m;
    char why[256];

    assert_int_equal(parent_forget(txn, &config, &d, CHILD_CONFIG), 0);
    assert_int_equal(db_commit(&txn), 0);
    expect(b, AUDIT_PARENT_MISSING, true);
    /* As if it had no children. */
    assert_int_equal(manifest_parse(&m, IMAGE, "{}", 2, why, sizeof why), 0);
    txn = scratch_write(b->scratch);
    assert_int_equal(manifest_restore(txn, &d, m, 0), 0);
    assert_int_equal(db_commit(&txn), 0);
    manifest_free(&m);
    expect(b, AUDIT_MANIFEST_DIFFERS, true);
}

static void test_loose_tag(void **state)
{
    struct bed *b = *state;
    struct digest d = put_image(b, "1");
    struct db_txn *txn = scratch_write(b->scratch);

    assert_int_equal(blob_forget(txn, &d), 0);
    assert_int_equal(db_commit(&txn), 0);
    assert_int_equal(blob_unlink(b->scratch->store, &d), 0);
    expect(b, AUDIT_TAG_LOOSE, true);
}

/* Of an upstream's tag nothing need be held. */
static void test_tag_of_an_upstream(void **state)
{
    struct bed *b = *state;
    struct name n = scratch_name("docker.io", "library/app");
    struct tag_record r = {.digest = scratch_digest("x"), .media_type = IMAGE, .checked_at_s = 1};
    struct db_txn *txn = scratch_write(b->scratch);

    assert_int_equal(tag_put(txn, &n, "1", &r), 0);
    assert_int_equal(db_commit(&txn), 0);
    run(b, false);
    assert_int_equal(b->audit.count, 0);
}

static void test_incomplete_image(void **state)
{
    struct bed *b = *state;
    struct digest config = scratch_digest("config");
    struct name hub = scratch_name("docker.io", "library/app");

    put_image(b, "1");
    struct db_txn *txn = scratch_write(b->scratch);
    assert_int_equal(blob_forget(txn, &config), 0);
    assert_int_equal(db_commit(&txn), 0);
    assert_int_equal(blob_unlink(b->scratch->store, &config), 0);
    expect(b, AUDIT_IMAGE_INCOMPLETE, false);
    /* An upstream has it. */
    txn = scratch_write(b->scratch);
    assert_int_equal(source_put(txn, &config, &hub, 6), 0);
    assert_int_equal(db_commit(&txn), 0);
    run(b, false);
    assert_int_equal(b->audit.count, 0);
}

/* What an image needs stays lost; what none does is forgotten. */
static void test_losses(void **state)
{
    struct bed *b = *state;
    struct loss l = {scratch_digest("config"), 6, 1, "nobody has it"};
    struct name hub = scratch_name("docker.io", "library/app");

    put_image(b, "1");
    struct db_txn *txn = scratch_write(b->scratch);
    assert_int_equal(blob_forget(txn, &l.digest), 0);
    assert_int_equal(loss_put(txn, &l), 0);
    assert_int_equal(source_put(txn, &l.digest, &hub, 6), 0);
    assert_int_equal(db_commit(&txn), 0);
    assert_int_equal(blob_unlink(b->scratch->store, &l.digest), 0);
    expect(b, AUDIT_LOST, false);
    txn = scratch_write(b->scratch);
    assert_int_equal(loss_forget(txn, &l.digest), 0);
    l.digest = scratch_digest("nobody's");
    assert_int_equal(loss_put(txn, &l), 0);
    assert_int_equal(db_commit(&txn), 0);
    expect(b, AUDIT_LOST, true);
}

static void test_loose_pin(void **state)
{
    struct bed *b = *state;
    struct pin p = {.reference = {.name = scratch_local("team/app"), .tag = "1"}};
    struct db_txn *txn = scratch_write(b->scratch);

    assert_int_equal(pin_put(txn, &p), 0);
    assert_int_equal(db_commit(&txn), 0);
    expect(b, AUDIT_PIN_LOOSE, false);
    assert_false(audit_row(AUDIT_PIN_LOOSE)->is_damage);
}

static void set_age(struct bed *b, const char *name, int64_t age_s)
{
    const struct timespec when[2] = {{.tv_sec = NOW_S - age_s}, {.tv_sec = NOW_S - age_s}};

    assert_int_equal(
        utimensat(AT_FDCWD, scratch_path(b->scratch->dir, name), when, AT_SYMLINK_NOFOLLOW), 0);
}

/* Young ones may be under way beside a daemon, and an import without one, too. */
static void test_left_over(void **state)
{
    struct bed *b = *state;

    scratch_file(b->scratch->dir, "partial/tmp-1", "x", 1);
    set_age(b, "partial/tmp-1", 60);
    run(b, true);
    assert_int_equal(b->audit.count, 0);
    expect(b, AUDIT_LEFT_OVER, true);
    scratch_file(b->scratch->dir, "partial/import-1", "x", 1);
    set_age(b, "partial/import-1", 60);
    run(b, false);
    assert_int_equal(b->audit.count, 0);
    set_age(b, "partial/import-1", 2 * 86400);
    expect(b, AUDIT_LEFT_OVER, true);
    assert_int_equal(scratch_file_size(b->scratch->dir, "partial/import-1"), -1);
}

/* Sessions without a file, and downloads. */
static void test_records_without_files(void **state)
{
    struct bed *b = *state;
    struct upload_record u = {scratch_local("team/app"), DIGEST_SHA256, 1};
    struct partial_record p = {.owner.name = scratch_name("docker.io", "a/b"), .size_bytes = 5};
    struct digest d = scratch_digest("x");
    char id[UPLOAD_ID_SIZE];
    struct db_txn *txn = scratch_write(b->scratch);

    upload_id_make(id);
    assert_int_equal(upload_put(txn, id, &u), 0);
    assert_int_equal(db_commit(&txn), 0);
    run(b, true);
    assert_int_equal(b->audit.count, 0);
    expect(b, AUDIT_LEFT_OVER, true);
    txn = scratch_write(b->scratch);
    assert_int_equal(partial_put(txn, &d, &p), 0);
    assert_int_equal(db_commit(&txn), 0);
    expect(b, AUDIT_LEFT_OVER, true);
}

/* --- what cannot be opened --- */

/* The rights of the superuser to get at files come or go, where this is he. */
static void take_rights(bool has)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct now[_LINUX_CAPABILITY_U32S_3];
    const uint32_t rights = 1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH;

    assert_int_equal(syscall(SYS_capget, &head, now), 0);
    now[0].effective = has ? now[0].permitted : now[0].effective & ~rights;
    assert_int_equal(syscall(SYS_capset, &head, now), 0);
}

static int blob_mode(const struct bed *b, const struct digest *d, int mode)
{
    char name[DIGEST_TEXT_MAX];

    return fchmodat(store_blobs_fd(b->scratch->store, DIGEST_SHA256), store_blob_name(d, name),
                    (mode_t)mode, 0);
}

/* A good blob that we may not read is told of, and stays; it is found again. */
static void test_closed_file(void **state)
{
    struct bed *b = *state;
    struct db_txn *txn = scratch_write(b->scratch);
    struct digest d = put_text(b, txn, "closed");

    assert_int_equal(db_commit(&txn), 0);
    assert_int_equal(blob_mode(b, &d, 0), 0);
    take_rights(false);
    expect(b, AUDIT_FILE_UNREADABLE, false);
    take_rights(true);
    assert_int_equal(blob_mode(b, &d, 0400), 0);
    run(b, false);
    assert_int_equal(b->audit.count, 0);
}

/* One that nobody may read and that has no record was about to go into quarantine. */
static void test_closed_leftover(void **state)
{
    struct bed *b = *state;
    struct digest d = scratch_digest("revoked");

    assert_int_equal(blob_write(b->scratch->store, &d, "revoked", 7), 0);
    assert_int_equal(blob_mode(b, &d, 0), 0);
    take_rights(false);
    expect(b, AUDIT_FILE_UNRECORDED, true);
    take_rights(true);
    assert_int_equal(access(scratch_path(b->scratch->dir, "quarantine"), F_OK), 0);
}

static int setup(void **state)
{
    struct bed *b = calloc(1, sizeof *b);

    assert_non_null(b);
    b->scratch = scratch_new();
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bed *b = *state;

    audit_clear(&b->audit);
    scratch_free(b->scratch);
    free(b);
    return 0;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_sound),
        TEST(test_damaged_blob_record),
        TEST(test_damaged_records),
        TEST(test_manifest_record),
        TEST(test_loose_tag),
        TEST(test_tag_of_an_upstream),
        TEST(test_incomplete_image),
        TEST(test_losses),
        TEST(test_loose_pin),
        TEST(test_left_over),
        TEST(test_closed_file),
        TEST(test_closed_leftover),
        TEST(test_records_without_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
