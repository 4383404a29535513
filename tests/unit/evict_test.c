/* SPDX-License-Identifier: ISC */
/* What goes, in which order, and what stays. Contents are called by short texts. */
#include "cache/evict.h"

#include "cache/err.h"
#include "cache/evict_plan.h"
#include "cache/link.h"
#include "cache/local.h"
#include "cache/manifest.h"
#include "cache/parent.h"
#include "cache/pin.h"
#include "cache/release.h"
#include "cache/tag.h"
#include "cache/usage.h"
#include "tests/unit/scratch.h"

#define IMAGE "application/vnd.oci.image.manifest.v1+json"
#define INDEX "application/vnd.oci.image.index.v1+json"
#define BLOCK 4096u
#define NOW 100000
#define GRACE 3600

/* --- contents --- */

static void put_use(struct db_txn *txn, const struct digest *d, int64_t used_at_s)
{
    struct blob_record r;

    assert_int_equal(blob_get(txn, d, &r), 0);
    r.used_at_s = used_at_s;
    assert_int_equal(blob_put(txn, d, &r), 0);
}

static struct digest hold(struct db_txn *txn, const char *what, int64_t used_at_s)
{
    struct digest d = scratch_digest(what);
    const struct blob_record r = {
        .size_bytes = 100, .origin = BLOB_PUBLIC, .stored_at_s = 1, .used_at_s = used_at_s};

    assert_int_equal(blob_put(txn, &d, &r), 0);
    return d;
}

static struct manifest *parse(const char *media_type, const char *text)
{
    struct manifest *m;
    char why[256];

    assert_int_equal(manifest_parse(&m, media_type, text, strlen(text), why, sizeof why), 0);
    return m;
}

/* An image of contents that are held already; NULL ends them. The first is the config. */
static char *image_text(const char *const *parts)
{
    char *text = NULL, digest[DIGEST_TEXT_MAX];
    size_t len;
    FILE *out = open_memstream(&text, &len);

    for (unsigned i = 0; parts[i]; i++) {
        struct digest d = scratch_digest(parts[i]);

        fprintf(out, "%s{\"digest\":\"%s\",\"size\":100}",
                i == 0   ? "{\"config\":"
                : i == 1 ? ",\"layers\":["
                         : ",",
                digest_text(&d, digest));
    }
    fputs("]}", out);
    fclose(out);
    return text;
}

static struct digest hold_image(struct db_txn *txn, const char *const *parts, int64_t used_at_s)
{
    struct name n = scratch_name("docker.io", "app");
    char *text = image_text(parts);
    struct digest d = scratch_digest(text);
    struct manifest *m = parse(IMAGE, text);

    for (unsigned i = 0; parts[i]; i++)
        hold(txn, parts[i], used_at_s);
    assert_int_equal(manifest_put(txn, &n, &d, m, BLOB_PUBLIC, strlen(text), used_at_s), 0);
    put_use(txn, &d, used_at_s);
    manifest_free(&m);
    free(text);
    return d;
}

static struct digest hold_index(struct db_txn *txn, const struct digest *children, unsigned count,
                                int64_t used_at_s)
{
    struct name n = scratch_name("docker.io", "app");
    char *text = NULL, digest[DIGEST_TEXT_MAX];
    size_t len;
    FILE *out = open_memstream(&text, &len);

    fputs("{\"manifests\":[", out);
    for (unsigned i = 0; i < count; i++)
        fprintf(out, "%s{\"digest\":\"%s\",\"size\":100}", i > 0 ? "," : "",
                digest_text(&children[i], digest));
    fputs("]}", out);
    fclose(out);
    struct digest d = scratch_digest(text);
    struct manifest *m = parse(INDEX, text);
    assert_int_equal(manifest_put(txn, &n, &d, m, BLOB_PUBLIC, len, used_at_s), 0);
    put_use(txn, &d, used_at_s);
    manifest_free(&m);
    free(text);
    return d;
}

static struct digest push_image(struct db_txn *txn, const struct name *n, const char *const *parts,
                                const char *tag, int64_t now_s)
{
    char *text = image_text(parts);
    struct digest d = scratch_digest(text);
    struct manifest *m = parse(IMAGE, text);

    for (unsigned i = 0; parts[i]; i++) {
        struct digest part = scratch_digest(parts[i]);
        assert_int_equal(local_put_blob(txn, n, &part, 100, now_s), 0);
    }
    assert_int_equal(local_put_manifest(txn, n, &d, m, strlen(text), &tag, tag ? 1 : 0, now_s), 0);
    put_use(txn, &d, now_s);
    manifest_free(&m);
    free(text);
    return d;
}

/* --- asking --- */

static struct evict_rules rules = {.now_s = NOW, .grace_s = GRACE};

static enum evict_why judge(struct db_txn *txn, const struct digest *d)
{
    struct evict_guard *g;
    struct evict_unit u;

    assert_int_equal(evict_guard_new(&g, txn, NULL, 0), 0);
    assert_int_equal(evict_judge(txn, &rules, g, d, &u), 0);
    evict_guard_free(&g);
    return u.why;
}

static bool is_held(struct db_txn *txn, const struct digest *d)
{
    struct blob_record r;

    return blob_get(txn, d, &r) == 0;
}

static bool has(struct db_txn *txn, const char *what)
{
    struct digest d = scratch_digest(what);

    return is_held(txn, &d);
}

/* The first of the order, taken away: its digest; alg 0 at the end. */
static struct digest evict_next(struct db_txn *txn)
{
    struct evict_plan *p = evict_plan_new();
    struct evict_guard *g;
    struct evicted e = {0};
    struct evict_unit u = {0};
    int more;

    assert_int_equal(evict_guard_new(&g, txn, NULL, 0), 0);
    while ((more = evict_plan_look(p, txn, &rules, g, 3)) == 1) {
    }
    assert_int_equal(more, 0);
    if (evict_plan_next(p, &u)) {
        assert_int_equal(evict_forget(txn, &rules, g, &u.digest, &e), 0);
        assert_true(e.count > 0 && e.bytes == e.count * BLOCK);
    }
    evicted_clear(&e);
    evict_guard_free(&g);
    evict_plan_free(&p);
    return u.digest;
}

#define EXPECT_NEXT(txn, d)                                                                        \
    do {                                                                                           \
        struct digest next_ = evict_next(txn);                                                     \
        assert_memory_equal(&next_, &(d), sizeof next_);                                           \
    } while (0)

static void expect_end(struct db_txn *txn)
{
    assert_int_equal(evict_next(txn).alg, 0);
}

/* --- tests --- */

static void test_least_used_image_goes_whole(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct digest b = hold_image(txn, (const char *[]){"b-config", "b-1", "b-2", NULL}, 20);
    struct digest a = hold_image(txn, (const char *[]){"a-config", "a-1", NULL}, 10);
    struct digest alone = hold(txn, "alone", 15);

    EXPECT_NEXT(txn, a);
    assert_false(has(txn, "a-config") || has(txn, "a-1") || is_held(txn, &a));
    EXPECT_NEXT(txn, alone);
    EXPECT_NEXT(txn, b);
    assert_false(has(txn, "b-2"));
    expect_end(txn);
    db_abort(&txn);
}

/* However long ago it was sent itself. */
static void test_shared_layer_stays_with_its_last_user(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct digest base = scratch_digest("base");
    struct digest old = hold_image(txn, (const char *[]){"1", "base", "x", NULL}, 10);
    struct digest new = hold_image(txn, (const char *[]){"2", "base", "y", NULL}, 90);

    put_use(txn, &base, 1);
    assert_int_equal(judge(txn, &base), EVICT_PART);
    EXPECT_NEXT(txn, old);
    assert_true(has(txn, "base") && !has(txn, "x") && has(txn, "y"));
    EXPECT_NEXT(txn, new);
    assert_false(has(txn, "base"));
    db_abort(&txn);
}

static void test_index_goes_before_its_platforms(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct digest p[2] = {hold_image(txn, (const char *[]){"amd", "l1", NULL}, 10),
                          hold_image(txn, (const char *[]){"arm", "l2", NULL}, 9)};
    struct digest index = hold_index(txn, p, 2, 10);

    EXPECT_NEXT(txn, p[1]); /* sparse from now on */
    assert_true(is_held(txn, &index) && is_held(txn, &p[0]));
    EXPECT_NEXT(txn, index);
    EXPECT_NEXT(txn, p[0]);
    db_abort(&txn);
}

/* Clients that have the platform's manifest ask for no more than the index. */
static void test_use_of_an_index_counts_for_its_last_platform(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct digest p[2] = {hold_image(txn, (const char *[]){"amd", "l1", NULL}, 10),
                          hold_image(txn, (const char *[]){"arm", "l2", NULL}, 9)};
    struct digest between = hold_image(txn, (const char *[]){"c", "l3", NULL}, 50);
    struct digest index = hold_index(txn, p, 2, 90);

    EXPECT_NEXT(txn, p[1]);
    EXPECT_NEXT(txn, between);
    EXPECT_NEXT(txn, index);
    EXPECT_NEXT(txn, p[0]);
    db_abort(&txn);
}

static void test_pins_keep_all_that_they_lead_to(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct digest platform = hold_image(txn, (const char *[]){"amd", "l1", NULL}, 1);
    struct digest index = hold_index(txn, &platform, 1, 1);
    struct digest other = hold_image(txn, (const char *[]){"o", "l1", "l2", NULL}, 2);
    struct tag_record tag = {.digest = index, .size_bytes = 1, .media_type = INDEX};
    struct pin pin = {.reference = {.name = scratch_name("docker.io", "app"), .tag = "1"}};

    assert_int_equal(tag_put(txn, &pin.reference.name, "1", &tag), 0);
    assert_int_equal(pin_put(txn, &pin), 0);
    assert_int_equal(judge(txn, &index), EVICT_PINNED);
    assert_int_equal(judge(txn, &platform), EVICT_PINNED);
    EXPECT_NEXT(txn, other);
    assert_true(has(txn, "l1") && !has(txn, "l2"));
    expect_end(txn);
    assert_int_equal(pin_forget(txn, &pin.reference), 0);
    EXPECT_NEXT(txn, index);
    db_abort(&txn);
}

static bool is_used(void *arg, const struct digest *d)
{
    return digest_equal(arg, d);
}

static void test_what_is_in_use_stays(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct digest image = hold_image(txn, (const char *[]){"c", "l", NULL}, 1);
    struct digest layer = scratch_digest("l");
    struct evict_guard *g;
    struct evict_unit u;
    struct evicted e = {0};
    struct evict_rules busy = rules;

    /* It is fetched again, say. */
    assert_int_equal(evict_guard_new(&g, txn, &layer, 1), 0);
    assert_int_equal(evict_judge(txn, &rules, g, &image, &u), 0);
    assert_int_equal(u.why, EVICT_BUSY);
    assert_int_equal(evict_forget(txn, &rules, g, &image, &e), ERR_BUSY);
    evict_guard_free(&g);
    busy.is_busy = is_used;
    busy.arg = &layer;
    assert_int_equal(evict_guard_new(&g, txn, NULL, 0), 0);
    assert_int_equal(evict_forget(txn, &busy, g, &image, &e), 0);
    assert_true(has(txn, "l") && !has(txn, "c"));
    assert_int_equal(evict_forget(txn, &busy, g, &image, &e), ERR_NOT_FOUND);
    evict_guard_free(&g);
    evicted_clear(&e);
    db_abort(&txn);
}

static void test_pushed_images_stay_unless_told(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name n = scratch_local("team/app");
    struct digest mine = push_image(txn, &n, (const char *[]){"c", "mine", NULL}, "1", 5);
    struct digest pulled = hold_image(txn, (const char *[]){"d", "mine", "theirs", NULL}, 50);
    struct tag_record tag;

    assert_int_equal(judge(txn, &mine), EVICT_LOCAL);
    EXPECT_NEXT(txn, pulled);
    assert_true(has(txn, "mine") && !has(txn, "theirs"));
    expect_end(txn);
    rules.takes_local = true;
    EXPECT_NEXT(txn, mine);
    rules.takes_local = false;
    assert_false(has(txn, "mine"));
    assert_int_equal(tag_get(txn, &n, "1", &tag), ERR_NOT_FOUND);
    assert_int_equal(link_get(txn, &n, &mine), ERR_NOT_FOUND);
    db_abort(&txn);
}

static void test_deleted_pushes_are_garbage(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name n = scratch_local("team/app"), other = scratch_local("team/other");
    struct digest gone = push_image(txn, &n, (const char *[]){"c", "shared", "own", NULL}, "1", 5);
    struct digest own = scratch_digest("own"), waits = scratch_digest("waits");

    push_image(txn, &other, (const char *[]){"d", "shared", NULL}, "1", 5);
    assert_int_equal(local_put_blob(txn, &n, &waits, 100, NOW - GRACE), 0);
    assert_int_equal(local_delete_manifest(txn, &n, &gone, NOW), 0);
    assert_int_equal(judge(txn, &gone), EVICT_DELETED);
    assert_int_equal(judge(txn, &own), EVICT_ABANDONED);
    assert_int_equal(judge(txn, &waits), EVICT_WAITS);
    rules.takes_garbage_only = true;
    while (evict_next(txn).alg != 0) {
    }
    rules.takes_garbage_only = false;
    assert_true(has(txn, "shared") && has(txn, "d") && has(txn, "waits"));
    assert_false(is_held(txn, &gone) || has(txn, "own") || has(txn, "c"));
    /* A clock that was ahead makes nothing young for ever. */
    put_use(txn, &waits, NOW + 2 * GRACE);
    assert_int_equal(judge(txn, &waits), EVICT_ABANDONED);
    db_abort(&txn);
}

/* A mount is acknowledged as a push is: its manifest has as long to come. */
static void test_mounts_wait_for_their_manifest(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name a = scratch_local("team/a"), b = scratch_local("team/b");
    struct name upstream = scratch_name("docker.io", "app");
    struct digest pushed = push_image(txn, &a, (const char *[]){"c", "own", NULL}, "1", 5);
    struct digest own = scratch_digest("own"), layer = scratch_digest("l");

    hold_image(txn, (const char *[]){"d", "l", NULL}, 6);
    assert_int_equal(local_mount(txn, &b, &own, &a, NOW), 0);
    assert_int_equal(local_mount(txn, &b, &layer, &upstream, NOW), 0);
    assert_int_equal(local_delete_manifest(txn, &a, &pushed, NOW), 0);
    while (evict_next(txn).alg != 0) {
    }
    assert_false(is_held(txn, &pushed) || has(txn, "c") || has(txn, "d"));
    assert_true(has(txn, "own") && has(txn, "l"));
    assert_int_equal(judge(txn, &own), EVICT_WAITS);
    assert_int_equal(judge(txn, &layer), EVICT_WAITS);
    db_abort(&txn);
}

static void test_release(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct digest platform = hold_image(txn, (const char *[]){"amd", "l1", NULL}, 10);
    struct digest index = hold_index(txn, &platform, 1, 10);
    struct name n = scratch_name("docker.io", "app");
    struct tag_record tag = {.digest = index, .size_bytes = 1, .media_type = INDEX};

    assert_int_equal(tag_put(txn, &n, "1", &tag), 0);
    assert_int_equal(release_manifest(txn, &index), 0);
    assert_int_equal(judge(txn, &index), EVICT_LEAST_USED);
    assert_int_equal(tag_forget(txn, &n, "1"), 0);
    assert_int_equal(release_manifest(txn, &platform), 0);
    assert_int_equal(judge(txn, &platform), EVICT_LEAST_USED); /* the index leads to it */
    assert_int_equal(release_manifest(txn, &index), 0);
    assert_int_equal(judge(txn, &index), EVICT_RELEASED);
    assert_int_equal(judge(txn, &platform), EVICT_RELEASED);
    /* Whoever uses it takes that back. */
    assert_int_equal(blob_touch(txn, &platform, NOW), 0);
    assert_int_equal(judge(txn, &platform), EVICT_LEAST_USED);
    db_abort(&txn);
}

/* --- files and sums --- */

static void expect_usage(struct db_txn *txn, uint64_t blobs, uint64_t bytes, uint64_t leaving)
{
    struct usage u;

    assert_int_equal(usage_get(txn, &u), 0);
    assert_int_equal(u.blobs, blobs);
    assert_int_equal(u.bytes, bytes);
    assert_int_equal(u.leaving_bytes, leaving);
}

static struct digest write_blob(struct scratch *s, struct db_txn *txn, const char *what)
{
    struct digest d = hold(txn, what, 1);

    put_use(txn, &d, 1);
    assert_int_equal(blob_write(s->store, &d, what, strlen(what)), 0);
    return d;
}

static void forget_and_commit(struct scratch *s, const struct digest *d)
{
    struct db_txn *txn = scratch_write(s);
    struct evict_guard *g;
    struct evicted e = {0};

    assert_int_equal(evict_guard_new(&g, txn, NULL, 0), 0);
    assert_int_equal(evict_forget(txn, &rules, g, d, &e), 0);
    assert_int_equal(e.count, 1);
    evict_guard_free(&g);
    evicted_clear(&e);
    assert_int_equal(db_commit(&txn), 0);
}

static bool has_file(struct scratch *s, const struct digest *d)
{
    char name[DIGEST_TEXT_MAX];

    return faccessat(store_blobs_fd(s->store, DIGEST_SHA256), store_blob_name(d, name), F_OK, 0) ==
           0;
}

static void test_file_goes_in_the_second_transaction(void **state)
{
    struct scratch *s = *state;
    struct db_txn *txn = scratch_write(s);
    struct digest gone = write_blob(s, txn, "gone"), back = write_blob(s, txn, "back");
    int fd;

    assert_int_equal(db_commit(&txn), 0);
    forget_and_commit(s, &gone);
    forget_and_commit(s, &back);
    txn = scratch_write(s);
    expect_usage(txn, 0, 2 * BLOCK, 2 * BLOCK);
    assert_true(has_file(s, &gone) && has_file(s, &back));
    /* It came again in between. */
    hold(txn, "back", 5);
    expect_usage(txn, 1, 2 * BLOCK, BLOCK);
    assert_int_equal(evict_remove(s->store, txn, &back, &fd), 0);
    assert_true(has_file(s, &back) && fd < 0);
    assert_int_equal(evict_remove(s->store, txn, &gone, &fd), 0);
    assert_true(!has_file(s, &gone) && fd >= 0);
    close(fd);
    expect_usage(txn, 1, BLOCK, 0);
    assert_int_equal(db_commit(&txn), 0);
}

static void test_usage_follows_the_records(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct digest d = hold(txn, "x", 1);
    struct blob_record r = {.size_bytes = BLOCK + 1, .origin = BLOB_PUBLIC};

    expect_usage(txn, 1, BLOCK, 0);
    hold(txn, "x", 2);
    expect_usage(txn, 1, BLOCK, 0);
    assert_int_equal(blob_put(txn, &d, &r), 0);
    expect_usage(txn, 1, 2 * BLOCK, 0);
    assert_int_equal(blob_forget(txn, &d), 0);
    assert_int_equal(blob_forget(txn, &d), ERR_NOT_FOUND);
    expect_usage(txn, 0, 0, 0);
    db_abort(&txn);
}

/* One of an earlier release has neither sums nor parents. What a command adds before the first
 * start brings sums, and not yet parents. */
static void test_index_of_an_earlier_release(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct digest image = hold_image(txn, (const char *[]){"c", "l", NULL}, 1);
    struct digest layer = scratch_digest("l");

    assert_int_equal(db_delete(txn, DB_META, "usage", 5), 0);
    assert_int_equal(parent_forget(txn, &layer, &image, CHILD_LAYER), 0);
    expect_usage(txn, 3, 3 * BLOCK, 0);
    assert_int_equal(judge(txn, &layer), EVICT_LEAST_USED);
    hold(txn, "x", 1);
    assert_int_equal(evict_prepare(txn), 0);
    assert_int_equal(judge(txn, &layer), EVICT_PART);
    expect_usage(txn, 4, 4 * BLOCK, 0);
    /* Bytes that are none of ours count nothing, and are counted anew. */
    assert_int_equal(db_put(txn, DB_META, "usage", 5, "zz", 2), 0);
    expect_usage(txn, 4, 4 * BLOCK, 0);
    db_abort(&txn);
}

/* More units than a plan holds: each plan has those that go first. */
static void test_plan_holds_those_that_go_first(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct evict_plan *p = evict_plan_new();
    struct evict_guard *g;
    struct evict_unit u;
    char text[32];
    unsigned count = EVICT_PLAN_MAX + 1000;

    for (unsigned i = 0; i < count; i++) {
        snprintf(text, sizeof text, "%u", i);
        hold(txn, text, 1 + (i * 7919) % count);
    }
    assert_int_equal(evict_guard_new(&g, txn, NULL, 0), 0);
    while (evict_plan_look(p, txn, &rules, g, 1000) == 1) {
    }
    for (unsigned i = 0; i < EVICT_PLAN_MAX; i++) {
        assert_true(evict_plan_next(p, &u));
        assert_int_equal(u.used_at_s, 1 + i);
    }
    assert_false(evict_plan_next(p, &u));
    evict_guard_free(&g);
    evict_plan_free(&p);
    db_abort(&txn);
}

/* All that may go, layers with the last of the images that name them; no more than is enough. */
static void test_plan_sums_what_may_go(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name n = scratch_local("team/app");
    struct digest waits = scratch_digest("waits");
    struct evict_plan *p = evict_plan_new();
    struct evict_guard *g;

    push_image(txn, &n, (const char *[]){"c", "mine", NULL}, "1", 5);
    hold_image(txn, (const char *[]){"d", "mine", "theirs", "both", NULL}, 50);
    hold_image(txn, (const char *[]){"e", "both", NULL}, 60);
    hold(txn, "alone", 70);
    assert_int_equal(local_put_blob(txn, &n, &waits, 100, NOW), 0);
    assert_int_equal(evict_guard_new(&g, txn, NULL, 0), 0);
    evict_plan_clear(p, UINT64_MAX);
    assert_int_equal(evict_plan_look(p, txn, &rules, g, 1000), 0);
    assert_int_equal(evict_plan_bytes(p), 7 * BLOCK);
    evict_plan_clear(p, 2 * BLOCK);
    assert_int_equal(evict_plan_look(p, txn, &rules, g, 1000), 0);
    assert_int_equal(evict_plan_bytes(p), 2 * BLOCK);
    while (evict_next(txn).alg != 0) {
    }
    expect_usage(txn, 4, 11 * BLOCK, 7 * BLOCK);
    evict_guard_free(&g);
    evict_plan_free(&p);
    db_abort(&txn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)
        TEST(test_least_used_image_goes_whole),
        TEST(test_shared_layer_stays_with_its_last_user),
        TEST(test_index_goes_before_its_platforms),
        TEST(test_use_of_an_index_counts_for_its_last_platform),
        TEST(test_pins_keep_all_that_they_lead_to),
        TEST(test_what_is_in_use_stays),
        TEST(test_pushed_images_stay_unless_told),
        TEST(test_deleted_pushes_are_garbage),
        TEST(test_mounts_wait_for_their_manifest),
        TEST(test_release),
        TEST(test_file_goes_in_the_second_transaction),
        TEST(test_usage_follows_the_records),
        TEST(test_index_of_an_earlier_release),
        TEST(test_plan_holds_those_that_go_first),
        TEST(test_plan_sums_what_may_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
