/* SPDX-License-Identifier: ISC */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache/bundle_record.h"
#include "cache/bundle_text.h"
#include "cache/err.h"
#include "cache/tar_write.h"

#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

static struct bundle_record record_of(const uint64_t *sizes, size_t count, uint64_t part_bytes)
{
    struct bundle_record r = {.part = 1, .parts = 1, .part_bytes = part_bytes, .count = count};

    r.items = calloc(count + 1, sizeof *r.items);
    for (size_t i = 0; i < count; i++) {
        digest_of(i % 3 == 2 ? DIGEST_SHA512 : DIGEST_SHA256, &i, sizeof i, &r.items[i].digest);
        r.items[i].size_bytes = sizes[i];
    }
    digest_of(DIGEST_SHA256, "", 0, &r.index);
    return r;
}

static void test_text(void **state)
{
    const uint64_t sizes[] = {0, 1, 9 * GIB, INT64_MAX};
    struct bundle_record r = record_of(sizes, 4, 7 * GIB);
    struct bundle_record back;
    size_t len, other;
    char why[128];

    (void)state;
    r.parts = 12;
    r.part = 7;
    char *text = bundle_record_text(&r, &len);
    assert_int_equal(bundle_record_parse(&back, text, len, why, sizeof why), 0);
    assert_true(bundle_record_same(&r, &back));
    assert_int_equal(back.part, 7);
    /* Cut anywhere, but between lines of blobs, it is none. */
    for (size_t cut = 0; cut < len; cut++) {
        struct bundle_record none;
        if (bundle_record_parse(&none, text, cut, why, sizeof why) == 0) {
            assert_int_equal(text[cut - 1], '\n');
            assert_false(bundle_record_same(&none, &r));
            bundle_record_clear(&none);
        }
    }
    free(text);
    r.part = 12;
    text = bundle_record_text(&r, &other);
    assert_int_equal(other, len);
    free(text);
    bundle_record_clear(&back);
    bundle_record_clear(&r);
}

static void test_bad_texts(void **state)
{
#define DIGEST "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define HEAD "cachalot bundle 1\n"
#define INDEX "index " DIGEST " 10\n"
    static const char *const texts[] = {
        "",
        "cachalot bundle 2\n",
        HEAD,
        HEAD "part 1 of 1 of at most 0 bytes\n",
        HEAD "part 0 of 1 of at most 0 bytes\n" INDEX,
        HEAD "part 2 of 1 of at most 0 bytes\n" INDEX,
        HEAD "part 1 of 2 of at most 0 bytes\n" INDEX,
        HEAD "part 1 of 10000 of at most 5 bytes\n" INDEX,
        HEAD "part -1 of 1 of at most 0 bytes\n" INDEX,
        HEAD "part 1 of 1 of at most 99999999999999999999 bytes\n" INDEX,
        HEAD "part 1 of 1 of at most 0 bytes\nindex sha256:00 10\n",
        HEAD "part 1 of 1 of at most 0 bytes\n" INDEX "blob " DIGEST "\n",
        HEAD "part 1 of 1 of at most 0 bytes\n" INDEX "blob " DIGEST " 9223372036854775808\n",
        HEAD "part 1 of 1 of at most 0 bytes\n" INDEX "blob " DIGEST " 1",
        HEAD "part 1 of 1 of at most 0 bytes\n" INDEX "lump " DIGEST " 1\n",
    };
    struct bundle_record r;
    char why[128];

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (bundle_record_parse(&r, texts[i], strlen(texts[i]), why, sizeof why) != ERR_INVALID)
            fail_msg("row %zu is taken", i);
    }
}

/* All of each blob is somewhere, once, in order, and no part is too large. */
static void check_cut(struct bundle_record *r, uint64_t fixed_bytes)
{
    struct bundle_piece *pieces;
    char name[BUNDLE_ENTRY_MAX];
    size_t count;
    size_t item = 0;
    uint64_t offset = 0;
    uint64_t *used;
    uint64_t *sums;

    assert_int_equal(bundle_cut(r, fixed_bytes, &pieces, &count), 0);
    used = calloc(r->parts + 1, sizeof *used);
    sums = calloc(r->parts + 1, sizeof *sums);
    for (size_t i = 0; i < count; i++) {
        const struct bundle_piece *p = &pieces[i];

        assert_int_equal(p->item, item);
        assert_int_equal(p->offset, offset);
        assert_true(p->part >= 1 && p->part <= r->parts);
        assert_true(i == 0 || p->part >= pieces[i - 1].part);
        bundle_piece_name(r, p, name);
        used[p->part] += tar_entry_bytes(name, p->len);
        sums[p->part] += 64 + 2 + strlen(name) + 1;
        offset += p->len;
        if (offset == r->items[item].size_bytes) {
            item++;
            offset = 0;
        }
    }
    assert_int_equal(item, r->count);
    for (unsigned part = 1; part <= r->parts && r->part_bytes > 0; part++) {
        uint64_t all = fixed_bytes + used[part] + TAR_END_BYTES +
                       tar_entry_bytes(BUNDLE_SUMS_NAME, sums[part]);
        assert_true(all <= r->part_bytes);
        assert_true(r->parts == 1 || used[part] > 0);
    }
    free(used);
    free(sums);
    free(pieces);
}

static void test_cut(void **state)
{
    uint64_t sizes[40];
    const uint64_t limits[] = {0, 3 * MIB, 4 * MIB + 1, 17 * MIB + 513, 200 * MIB, 40 * GIB};
    unsigned seed = 1;

    (void)state;
    for (unsigned round = 0; round < 200; round++) {
        for (size_t i = 0; i < 40; i++) {
            seed = seed * 1103515245 + 12345;
            unsigned kind = seed >> 16 & 7;
            sizes[i] = kind == 0 ? 0 : (uint64_t)(seed >> 8) % (kind == 7 ? 30 * MIB : 900 * KIB);
        }
        struct bundle_record r = record_of(sizes, 40, limits[round % 6]);
        check_cut(&r, 20 * KIB + round);
        bundle_record_clear(&r);
    }
}

/* A layer of Windows on media for DVDs; what fits into one part is not cut. */
static void test_large_blobs(void **state)
{
    const uint64_t sizes[] = {500 * KIB, 9 * GIB, 3 * GIB, 20 * GIB};
    struct bundle_record r = record_of(sizes, 4, 4095 * MIB);
    struct bundle_piece *pieces;
    size_t count;

    (void)state;
    check_cut(&r, 4 * KIB);
    assert_int_equal(bundle_cut(&r, 4 * KIB, &pieces, &count), 0);
    for (size_t i = 0; i < count; i++)
        assert_true(pieces[i].item != 2 || pieces[i].len == 3 * GIB);
    free(pieces);
    bundle_record_clear(&r);
}

static void test_too_small(void **state)
{
    const uint64_t sizes[] = {20 * MIB};
    struct bundle_record r = record_of(sizes, 1, 1 * MIB);
    struct bundle_piece *pieces;
    size_t count;

    (void)state;
    assert_int_equal(bundle_cut(&r, 10 * KIB, &pieces, &count), ERR_TOO_LARGE);
    r.part_bytes = 2 * MIB;
    r.items[0].size_bytes = 100 * GIB;
    assert_int_equal(bundle_cut(&r, 10 * KIB, &pieces, &count), ERR_TOO_LARGE);
    bundle_record_clear(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),      cmocka_unit_test(test_bad_texts),
        cmocka_unit_test(test_cut),       cmocka_unit_test(test_large_blobs),
        cmocka_unit_test(test_too_small),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
