/* SPDX-License-Identifier: ISC */
/* What is remembered of prefetches, and the pins that go with it. */
#include "cache/err.h"
#include "cache/prefetch.h"
#include "tests/unit/scratch.h"

#define SECTION "windows"

static struct reference tag(const char *text)
{
    struct reference r;

    assert_int_equal(reference_parse(&r, text, "docker.io"), 0);
    return r;
}

static struct digest build(unsigned n)
{
    struct digest d;

    digest_of(DIGEST_SHA256, &n, sizeof n, &d);
    return d;
}

static bool is_pinned(struct db_txn *txn, const struct reference *r, unsigned n)
{
    struct reference by_digest = {.name = r->name, .by_digest = true, .digest = build(n)};
    struct pin p;
    int err = pin_get(txn, &by_digest, &p);

    assert_true(err == 0 || err == ERR_NOT_FOUND);
    return err == 0;
}

static void keep(struct db_txn *txn, const char *section, const struct reference *r, unsigned n,
                 unsigned count)
{
    struct digest d = build(n);

    assert_int_equal(prefetch_keep(txn, section, r, &d, count, 1000 + n), 0);
}

static void check_builds(struct db_txn *txn, const struct reference *r, int64_t changed_at_s,
                         const unsigned *expected, unsigned count)
{
    struct prefetch_builds b;

    assert_int_equal(prefetch_builds_get(txn, SECTION, r, &b), 0);
    assert_int_equal(b.changed_at_s, changed_at_s);
    assert_int_equal(b.count, count);
    for (unsigned i = 0; i < count; i++) {
        struct digest d = build(expected[i]);

        assert_true(digest_equal(&b.builds[i], &d));
        assert_true(is_pinned(txn, r, expected[i]));
    }
}
#define CHECK_BUILDS(txn, r, at, ...)                                                              \
    check_builds(txn, r, at, (const unsigned[]){__VA_ARGS__},                                      \
                 sizeof((const unsigned[]){__VA_ARGS__}) / sizeof(unsigned))

static void test_runs(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct prefetch_record r = {0};
    struct prefetch_record run = {
        .plan = "daily 03:00",
        .planned_at_s = 1,
        .began_at_s = 2,
        .ended_at_s = 3,
        .unchanged_since_s = INT64_MIN,
        .references = 4,
        .changed = 5,
        .failed = 6,
        .fetched_bytes = UINT64_MAX,
        .why = "because",
    };

    assert_int_equal(prefetch_get(txn, SECTION, &r), ERR_NOT_FOUND);
    memset(run.why, 'w', sizeof run.why - 1);
    memset(run.plan, 'p', sizeof run.plan - 1);
    assert_int_equal(prefetch_put(txn, SECTION, &run), 0);
    assert_int_equal(prefetch_get(txn, SECTION, &r), 0);
    assert_memory_equal(&r, &run, sizeof r);
    assert_int_equal(prefetch_get(txn, "window", &r), ERR_NOT_FOUND);
    assert_int_equal(db_put(txn, DB_PREFETCHES, SECTION, sizeof SECTION, "\1x", 2), 0);
    assert_int_equal(prefetch_get(txn, SECTION, &r), ERR_DAMAGED);
    db_abort(&txn);
}

static void test_builds(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct reference r = tag("mcr.microsoft.com/windows/servercore:ltsc2022");
    struct prefetch_builds b;

    assert_int_equal(prefetch_builds_get(txn, SECTION, &r, &b), ERR_NOT_FOUND);
    keep(txn, SECTION, &r, 1, 2);
    CHECK_BUILDS(txn, &r, 1001, 1);
    keep(txn, SECTION, &r, 1, 2);
    CHECK_BUILDS(txn, &r, 1001, 1);
    keep(txn, SECTION, &r, 2, 2);
    keep(txn, SECTION, &r, 3, 2);
    CHECK_BUILDS(txn, &r, 1003, 3, 2, 1);
    keep(txn, SECTION, &r, 4, 2);
    CHECK_BUILDS(txn, &r, 1004, 4, 3, 2);
    assert_false(is_pinned(txn, &r, 1));
    /* The publisher goes back. */
    keep(txn, SECTION, &r, 3, 2);
    CHECK_BUILDS(txn, &r, 1003, 3, 4, 2);
    /* Fewer are wanted. */
    keep(txn, SECTION, &r, 3, 0);
    CHECK_BUILDS(txn, &r, 1003, 3);
    assert_false(is_pinned(txn, &r, 4));
    assert_false(is_pinned(txn, &r, 2));
    db_abort(&txn);
}

static void test_many_builds(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct reference r = tag("app:1");
    struct prefetch_builds b;

    for (unsigned i = 0; i < 100; i++)
        keep(txn, SECTION, &r, i, PREFETCH_KEEP_MAX);
    assert_int_equal(prefetch_builds_get(txn, SECTION, &r, &b), 0);
    assert_int_equal(b.count, 1 + PREFETCH_KEEP_MAX);
    assert_true(is_pinned(txn, &r, 68) && !is_pinned(txn, &r, 67));
    keep(txn, SECTION, &r, 68, PREFETCH_KEEP_MAX);
    assert_true(is_pinned(txn, &r, 68) && is_pinned(txn, &r, 69));
    db_abort(&txn);
}

/* Two tags of one build; a person's pin; another section's. */
static void test_pins_of_others(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct reference a = tag("app:1"), b = tag("app:1.2"), c = tag("application:1");
    struct pin mine = {.reference = {.name = a.name, .by_digest = true, .digest = build(7)}};

    assert_int_equal(pin_put(txn, &mine), 0);
    keep(txn, SECTION, &a, 1, 0);
    keep(txn, SECTION, &b, 1, 0);
    keep(txn, SECTION, &c, 1, 0);
    keep(txn, SECTION, &a, 2, 0);
    assert_true(is_pinned(txn, &a, 1) && is_pinned(txn, &a, 2) && is_pinned(txn, &c, 1));
    keep(txn, SECTION, &b, 2, 0);
    assert_false(is_pinned(txn, &a, 1));
    assert_true(is_pinned(txn, &c, 1));
    keep(txn, SECTION, &a, 7, 0);
    keep(txn, SECTION, &a, 8, 0);
    assert_true(is_pinned(txn, &a, 7));
    keep(txn, "other", &a, 8, 0);
    keep(txn, "other", &a, 9, 0);
    assert_true(is_pinned(txn, &a, 8) && is_pinned(txn, &a, 9));
    db_abort(&txn);
}

struct wanted {
    const char *section;
    const char *tag; /* NULL: every one */
};

static bool is_wanted(void *arg, const char *section, const struct reference *r)
{
    const struct wanted *w = arg;

    if (strcmp(section, w->section) != 0)
        return false;
    return !r || !w->tag || strcmp(r->tag, w->tag) == 0;
}

static void test_prune(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct reference a = tag("app:1"), b = tag("app:2");
    struct prefetch_record run = {.plan = "x"};
    struct prefetch_builds builds;
    struct wanted w = {SECTION, NULL};

    keep(txn, SECTION, &a, 1, 3);
    keep(txn, SECTION, &a, 2, 3);
    keep(txn, SECTION, &b, 2, 3);
    keep(txn, "other", &b, 3, 3);
    assert_int_equal(prefetch_put(txn, SECTION, &run), 0);
    assert_int_equal(prefetch_put(txn, "other", &run), 0);
    assert_int_equal(prefetch_prune(txn, NULL, is_wanted, &w), 0);
    assert_int_equal(prefetch_get(txn, "other", &run), ERR_NOT_FOUND);
    assert_false(is_pinned(txn, &b, 3));
    CHECK_BUILDS(txn, &a, 1002, 2, 1);
    w.tag = "2";
    assert_int_equal(prefetch_prune(txn, NULL, is_wanted, &w), 0);
    CHECK_BUILDS(txn, &a, 1002, 2, 1);
    assert_int_equal(prefetch_prune(txn, SECTION, is_wanted, &w), 0);
    assert_int_equal(prefetch_builds_get(txn, SECTION, &a, &builds), ERR_NOT_FOUND);
    assert_false(is_pinned(txn, &a, 1));
    CHECK_BUILDS(txn, &b, 1002, 2);
    assert_int_equal(prefetch_get(txn, SECTION, &run), 0);
    db_abort(&txn);
}

/* Damaged records, and keys of nobody's: they do no harm, and begin anew. */
static void test_damage(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct reference r = tag("app:1");
    struct wanted w = {SECTION, NULL};
    static const char key[] = SECTION "\0docker.io/library/app:1";
    struct prefetch_builds b;

    assert_int_equal(db_put(txn, DB_PREFETCHES, key, sizeof key - 1, "\1y", 2), 0);
    assert_int_equal(db_put(txn, DB_PREFETCHES, "no-nul", 6, "\1y", 2), 0);
    assert_int_equal(db_put(txn, DB_PREFETCHES, "gone\0no reference", 17, "\1y", 2), 0);
    assert_int_equal(prefetch_builds_get(txn, SECTION, &r, &b), ERR_DAMAGED);
    assert_int_equal(prefetch_prune(txn, NULL, is_wanted, &w), 0);
    keep(txn, SECTION, &r, 1, 1);
    CHECK_BUILDS(txn, &r, 1001, 1);
    assert_int_equal(db_put(txn, DB_PREFETCHES, key, sizeof key - 1, "\1y", 2), 0);
    w.section = "other";
    assert_int_equal(prefetch_prune(txn, NULL, is_wanted, &w), 0);
    assert_int_equal(prefetch_builds_get(txn, SECTION, &r, &b), ERR_NOT_FOUND);
    db_abort(&txn);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_runs),           TEST(test_builds), TEST(test_many_builds),
        TEST(test_pins_of_others), TEST(test_prune),  TEST(test_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
