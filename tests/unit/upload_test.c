/* SPDX-License-Identifier: ISC */
#include "tests/unit/upload_bed.h"

/* --- the styles of distribution-spec 1.1.1 "Pushing blobs" --- */

static void test_all_in_one_post(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, DATA_BYTES);
    struct client c;

    ask_begin(b, &c, DIGEST_SHA256);
    assert_true(upload_write(c.upload, b->data, 100));
    assert_int_equal(upload_size(c.upload), 100);
    assert_int_equal(answer_of(b, &c), 0);
    assert_int_equal(upload_size(c.upload), 100);
    assert_int_equal(b->stats.uploads, 1);
    write_range(b, &c, 100, DATA_BYTES);
    assert_int_equal(finish(b, &c, &d), 0);
    assert_int_equal(c.answers, 2);
    expect_stored(b, &d, DATA_BYTES);
    expect_no_sessions(b);
    assert_int_equal(b->stats.upload_bytes, DATA_BYTES);
    assert_int_equal(b->stats.uploads_finished, 1);
    assert_int_equal(b->stats.uploads_failed, 0);
    assert_int_equal(b->stats.blobs_stored, 1);
}

static void test_a_post_then_a_put(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 3 * MIB + 5);
    char id[UPLOAD_ID_SIZE];
    struct client c;

    begin_only(b, id);
    assert_int_equal(reopen(b, &c, id), 0);
    assert_string_equal(upload_id(c.upload), id);
    assert_int_equal(upload_size(c.upload), 0);
    write_range(b, &c, 0, 3 * MIB + 5);
    assert_int_equal(finish(b, &c, &d), 0);
    expect_stored(b, &d, 3 * MIB + 5);
    expect_no_sessions(b);
}

static void test_patches_then_a_put(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, DATA_BYTES);
    char id[UPLOAD_ID_SIZE];
    struct client c;

    begin_only(b, id);
    append(b, id, 0, 1);
    append(b, id, 1, 2 * MIB);
    append(b, id, 2 * MIB, 2 * MIB);
    append(b, id, 2 * MIB, DATA_BYTES);
    assert_int_equal(reopen(b, &c, id), 0);
    assert_int_equal(finish(b, &c, &d), 0);
    expect_stored(b, &d, DATA_BYTES);
    expect_no_sessions(b);
}

static void test_the_put_brings_the_last_bytes(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 2 * MIB);
    char id[UPLOAD_ID_SIZE];
    struct client c;

    begin_only(b, id);
    append(b, id, 0, MIB);
    assert_int_equal(reopen(b, &c, id), 0);
    write_range(b, &c, MIB, 2 * MIB);
    assert_int_equal(finish(b, &c, &d), 0);
    expect_stored(b, &d, 2 * MIB);
}

static void test_an_empty_blob(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 0);
    struct digest d512 = digest_of_data(b, DIGEST_SHA512, 0);
    char id[UPLOAD_ID_SIZE];
    struct client c;

    begin_only(b, id);
    append(b, id, 0, 0);
    assert_int_equal(reopen(b, &c, id), 0);
    assert_int_equal(finish(b, &c, &d), 0);
    expect_stored(b, &d, 0);
    begin(b, &c);
    assert_int_equal(finish(b, &c, &d512), 0);
    expect_stored(b, &d512, 0);
    expect_no_sessions(b);
}

static void push_with(struct bed *b, enum digest_alg begun, enum digest_alg finished, size_t len)
{
    struct digest d = digest_of_data(b, finished, len);
    struct client c;

    ask_begin(b, &c, begun);
    assert_int_equal(answer_of(b, &c), 0);
    write_range(b, &c, 0, len);
    assert_int_equal(finish(b, &c, &d), 0);
    expect_stored(b, &d, len);
}

static void test_sha512(void **state)
{
    struct bed *b = *state;

    push_with(b, DIGEST_SHA512, DIGEST_SHA512, MIB);
    push_with(b, DIGEST_SHA256, DIGEST_SHA512, DATA_BYTES);
    push_with(b, DIGEST_SHA512, DIGEST_SHA256, DATA_BYTES);
    expect_no_sessions(b);
}

/* --- digests that do not agree --- */

static void expect_mismatch(struct bed *b, struct client *c, const struct digest *d)
{
    char id[UPLOAD_ID_SIZE];

    memcpy(id, upload_id(c->upload), sizeof id);
    assert_int_equal(finish(b, c, d), ERR_MISMATCH);
    assert_int_equal(open_error(b, id), ERR_NOT_FOUND);
    assert_int_equal(stored_size(b, "team/app", d), -1);
    expect_no_sessions(b);
    assert_int_equal(files_in(b, "blobs/sha256"), 0);
}

static void test_other_content_than_named(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, MIB);
    struct digest d512 = digest_of_data(b, DIGEST_SHA512, MIB);
    char id[UPLOAD_ID_SIZE];
    struct client c;

    begin(b, &c);
    write_range(b, &c, 0, MIB + 1);
    expect_mismatch(b, &c, &d);
    begin(b, &c);
    expect_mismatch(b, &c, &d);
    begin_only(b, id);
    append(b, id, 0, MIB - 1);
    assert_int_equal(reopen(b, &c, id), 0);
    expect_mismatch(b, &c, &d512);
    assert_int_equal(b->stats.uploads_failed, 3);
    assert_int_equal(b->stats.uploads_finished, 0);
}

/* --- ids and users --- */

static void test_ids_that_are_none(void **state)
{
    static const char *const ids[] = {
        "",
        "../../../etc/passwd",
        "0123456789abcdef0123456789abcde",
        "0123456789abcdef0123456789abcdef0",
        "0123456789ABCDEF0123456789ABCDEF",
        "0123456789abcdef0123456789abcde/",
        "0123456789abcdef0123456789abcdef",
    };
    struct bed *b = *state;

    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++)
        assert_int_equal(open_error(b, ids[i]), ERR_NOT_FOUND);
}

static void test_a_session_of_another_repository(void **state)
{
    struct bed *b = *state;
    char id[UPLOAD_ID_SIZE];
    struct client c;

    begin_only(b, id);
    for (int restarted = 0; restarted < 2; restarted++) {
        assert_int_equal(reopen_in(b, &c, id, "team/other"), ERR_NOT_FOUND);
        upload_leave(&c.upload);
        assert_int_equal(open_error(b, id), 0);
        assert_int_equal(reopen_in(b, &c, id, "team/other"), ERR_NOT_FOUND);
        upload_leave(&c.upload);
        bed_restart(b, DAY_S);
    }
}

static void test_ended_ids_are_unknown(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 10);
    char id[UPLOAD_ID_SIZE];
    struct client c;

    begin_only(b, id);
    append(b, id, 0, 10);
    assert_int_equal(reopen(b, &c, id), 0);
    assert_int_equal(finish(b, &c, &d), 0);
    assert_int_equal(open_error(b, id), ERR_NOT_FOUND);
    begin_only(b, id);
    append(b, id, 0, 10);
    assert_int_equal(reopen(b, &c, id), 0);
    assert_int_equal(cancel(b, &c), 0);
    assert_int_equal(open_error(b, id), ERR_NOT_FOUND);
    expect_no_sessions(b);
}

static void test_one_user_at_a_time(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, MIB);
    struct plug *plugs[2];
    char id[UPLOAD_ID_SIZE];
    struct client c;

    begin(b, &c);
    memcpy(id, upload_id(c.upload), sizeof id);
    assert_int_equal(open_error(b, id), ERR_BUSY);
    write_range(b, &c, 0, MIB);
    /* One who has left is still there as long as what it asked for is under way. */
    for (int i = 0; i < 2; i++)
        plugs[i] = plug_in(b->uploads->threads[i].queue);
    ask_finish(&c, &d);
    upload_leave(&c.upload);
    assert_int_equal(open_error(b, id), ERR_BUSY);
    for (int i = 0; i < 2; i++)
        plug_out(plugs[i]);
    AWAIT(b, b->stats.uploads_finished == 1);
    AWAIT(b, open_error(b, id) != ERR_BUSY);
    assert_int_equal(open_error(b, id), ERR_NOT_FOUND);
    assert_int_equal(c.err, NOT_YET);
    expect_stored(b, &d, MIB);
}

static void test_sessions_have_a_limit(void **state)
{
    struct bed *b = *state;
    struct client *many = calloc(UPLOADS_MAX, sizeof *many);
    struct client c;

    assert_non_null(many);
    for (unsigned i = 0; i < UPLOADS_MAX; i++)
        ask_begin(b, &many[i], DIGEST_SHA256);
    ask_begin(b, &c, DIGEST_SHA256);
    assert_int_equal(answer_of(b, &c), ERR_BUSY);
    upload_leave(&c.upload);
    for (unsigned i = 0; i < UPLOADS_MAX; i++)
        assert_int_equal(answer_of(b, &many[i]), 0);
    assert_int_equal(records(b), UPLOADS_MAX);
    assert_int_equal(cancel(b, &many[0]), 0);
    begin(b, &c);
    upload_leave(&c.upload);
    for (unsigned i = 1; i < UPLOADS_MAX; i++)
        upload_leave(&many[i].upload);
    /* All are counted again after a restart. */
    bed_restart(b, DAY_S);
    assert_int_equal(b->stats.uploads, UPLOADS_MAX);
    ask_begin(b, &c, DIGEST_SHA256);
    assert_int_equal(answer_of(b, &c), ERR_BUSY);
    upload_leave(&c.upload);
    free(many);
}

static void ask_begin_of(struct bed *b, struct client *c, const char *owner)
{
    struct upload_order o = order(b, c, "team/app");

    o.owner = owner;
    c->upload = upload_begin(b->uploads, &o, DIGEST_SHA256);
}

/* Rests with so many bytes. */
static void leave_resting(struct bed *b, const char *owner, size_t bytes, char id[UPLOAD_ID_SIZE])
{
    struct client c;

    ask_begin_of(b, &c, owner);
    assert_int_equal(answer_of(b, &c), 0);
    memcpy(id, upload_id(c.upload), UPLOAD_ID_SIZE);
    if (bytes > 0) {
        write_range(b, &c, 0, bytes);
        assert_int_equal(settle(b, &c), 0);
    }
    upload_leave(&c.upload);
}

static void test_the_oldest_without_bytes_gives_way(void **state)
{
    struct bed *b = *state;
    struct client *many = calloc(UPLOADS_MAX, sizeof *many);
    char with_bytes[UPLOAD_ID_SIZE], empty[2][UPLOAD_ID_SIZE];
    struct client c;

    assert_non_null(many);
    leave_resting(b, "a", 1, with_bytes);
    leave_resting(b, "a", 0, empty[0]);
    leave_resting(b, "b", 0, empty[1]);
    AWAIT(b, resting(b, "a") == 2 && resting(b, "b") == 1);
    for (unsigned i = 3; i < UPLOADS_MAX; i++)
        ask_begin_of(b, &many[i], "a");
    for (unsigned i = 3; i < UPLOADS_MAX; i++)
        assert_int_equal(answer_of(b, &many[i]), 0);
    ask_begin_of(b, &c, "c");
    assert_int_equal(answer_of(b, &c), 0);
    AWAIT(b, records(b) == UPLOADS_MAX);
    upload_leave(&c.upload);
    assert_int_equal(open_error(b, empty[0]), ERR_NOT_FOUND);
    assert_int_equal(open_error(b, empty[1]), 0);
    assert_int_equal(open_error(b, with_bytes), 0);
    for (unsigned i = 3; i < UPLOADS_MAX; i++)
        upload_leave(&many[i].upload);
    free(many);
}

static void test_an_owner_has_a_limit(void **state)
{
    struct bed *b = *state;
    char first[UPLOAD_ID_SIZE], id[UPLOAD_ID_SIZE];
    struct client c;

    leave_resting(b, "a", 0, first);
    AWAIT(b, resting(b, "a") == 1);
    for (unsigned i = 1; i < UPLOADS_RESTING_MAX; i++)
        leave_resting(b, "a", 1, id);
    AWAIT(b, resting(b, "a") == UPLOADS_RESTING_MAX);
    /* The first, which is not in memory any more, gives way; then there is none that may. */
    leave_resting(b, "a", 1, id);
    AWAIT(b, resting(b, "a") == UPLOADS_RESTING_MAX && records(b) == UPLOADS_RESTING_MAX);
    assert_int_equal(open_error(b, first), ERR_NOT_FOUND);
    ask_begin_of(b, &c, "a");
    assert_int_equal(answer_of(b, &c), ERR_BUSY);
    upload_leave(&c.upload);
    leave_resting(b, "b", 0, first);
    /* One that ends makes room. */
    assert_int_equal(reopen(b, &c, id), 0);
    assert_int_equal(cancel(b, &c), 0);
    upload_leave(&c.upload);
    leave_resting(b, "a", 0, id);
}

/* --- several at once --- */

static void test_two_finish_the_same_blob_at_once(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 2 * MIB);
    struct digest small = digest_of_data(b, DIGEST_SHA256, 20);
    struct client c[2];

    for (int go = 0; go < 20; go++) {
        const struct digest *which = go % 2 ? &small : &d;
        size_t len = go % 2 ? 20 : 2 * MIB;
        for (int i = 0; i < 2; i++) {
            begin(b, &c[i]);
            write_range(b, &c[i], 0, len);
            assert_int_equal(settle(b, &c[i]), 0);
        }
        ask_finish(&c[0], which);
        ask_finish(&c[1], which);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(answer_of(b, &c[i]), 0);
            upload_leave(&c[i].upload);
        }
        expect_stored(b, which, len);
        expect_no_sessions(b);
    }
}

static void test_five_at_once(void **state)
{
    struct bed *b = *state;
    struct client c[5];
    struct digest d[5];

    for (unsigned i = 0; i < 5; i++) {
        d[i] = digest_of_data(b, DIGEST_SHA256, DATA_BYTES - i);
        begin(b, &c[i]);
    }
    for (size_t at = 0; at < DATA_BYTES; at += MIB)
        for (unsigned i = 0; i < 5; i++)
            write_range(b, &c[i], at, at + MIB == DATA_BYTES ? at + MIB - i : at + MIB);
    for (unsigned i = 0; i < 5; i++)
        ask_finish(&c[i], &d[i]);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(answer_of(b, &c[i]), 0);
        upload_leave(&c[i].upload);
        expect_stored(b, &d[i], DATA_BYTES - i);
    }
    expect_no_sessions(b);
}

/* --- staging --- */

static void test_staging_has_a_limit(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, DATA_BYTES);
    struct plug *plug;
    struct client c;
    size_t at = 0;

    begin(b, &c);
    plug = plug_in(thread_of(&c));
    while (upload_write(c.upload, b->data + at, 16 * KIB))
        at += 16 * KIB;
    at += 16 * KIB;
    assert_in_range(at, UPLOAD_STAGED_MAX - UPLOAD_BLOCK_BYTES, UPLOAD_STAGED_MAX);
    queue_run(b->answers, b);
    assert_int_equal(c.rooms, 0);
    /* More is taken, but should not come. */
    assert_false(upload_write(c.upload, b->data + at, DATA_BYTES - at));
    plug_out(plug);
    AWAIT(b, c.rooms > 0);
    assert_int_equal(finish(b, &c, &d), 0);
    expect_stored(b, &d, DATA_BYTES);
}

static void test_all_together_have_a_limit(void **state)
{
    enum { CLIENTS = 200 };
    struct bed *b = *state;
    struct client *c = calloc(CLIENTS, sizeof *c);
    struct digest d = digest_of_data(b, DIGEST_SHA256, DATA_BYTES);
    struct plug *plugs[2];

    assert_non_null(c);
    for (int i = 0; i < CLIENTS; i++)
        begin(b, &c[i]);
    for (int i = 0; i < 2; i++)
        plugs[i] = plug_in(b->uploads->threads[i].queue);
    for (int i = 0; i < CLIENTS; i++)
        while (upload_write(c[i].upload, b->data + upload_size(c[i].upload), 16 * KIB))
            ;
    assert_in_range(b->uploads->staged_bytes, UPLOADS_STAGED_MAX,
                    UPLOADS_STAGED_MAX + CLIENTS * 16 * KIB);
    for (int i = 0; i < 2; i++)
        plug_out(plugs[i]);
    /* Each goes on, those too that had no block. */
    for (int i = 0; i < CLIENTS; i++)
        AWAIT(b, c[i].rooms == 1);
    for (int i = 0; i < CLIENTS; i++) {
        if (i % 50 == 0) {
            write_range(b, &c[i], upload_size(c[i].upload), DATA_BYTES);
            assert_int_equal(finish(b, &c[i], &d), 0);
        } else {
            assert_int_equal(cancel(b, &c[i]), 0);
        }
    }
    assert_int_equal(b->uploads->staged_bytes, 0);
    expect_no_sessions(b);
    free(c);
}

/* A slow client holds no block: what it has sent is written when nothing else is to do. */
static void test_a_slow_line(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 50);
    struct client c;

    begin(b, &c);
    for (unsigned i = 0; i < 50; i++) {
        assert_true(upload_write(c.upload, b->data + i, 1));
        AWAIT(b, b->stats.upload_bytes == i + 1);
    }
    assert_int_equal(finish(b, &c, &d), 0);
    expect_stored(b, &d, 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_all_in_one_post),
        TEST(test_a_post_then_a_put),
        TEST(test_patches_then_a_put),
        TEST(test_the_put_brings_the_last_bytes),
        TEST(test_an_empty_blob),
        TEST(test_sha512),
        TEST(test_other_content_than_named),
        TEST(test_ids_that_are_none),
        TEST(test_a_session_of_another_repository),
        TEST(test_ended_ids_are_unknown),
        TEST(test_one_user_at_a_time),
        TEST(test_sessions_have_a_limit),
        TEST(test_the_oldest_without_bytes_gives_way),
        TEST(test_an_owner_has_a_limit),
        TEST(test_two_finish_the_same_blob_at_once),
        TEST(test_five_at_once),
        TEST(test_staging_has_a_limit),
        TEST(test_all_together_have_a_limit),
        TEST(test_a_slow_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
