/* SPDX-License-Identifier: ISC */
/* Sessions that outlive their users, the daemon, or nobody's patience. */
#include <sched.h>

#include "tests/unit/upload_bed.h"

/* --- restarts --- */

static void test_a_session_survives_a_restart(void **state)
{
    static const size_t cuts[] = {0, 1, MIB + 17, DATA_BYTES - 1, DATA_BYTES};
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, DATA_BYTES);
    char id[UPLOAD_ID_SIZE];
    struct client c;

    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        begin_only(b, id);
        append(b, id, 0, cuts[i]);
        bed_restart(b, DAY_S);
        assert_int_equal(b->stats.uploads, 1);
        if (i % 2)
            append(b, id, cuts[i], DATA_BYTES);
        assert_int_equal(reopen(b, &c, id), 0);
        write_range(b, &c, upload_size(c.upload), DATA_BYTES);
        assert_int_equal(finish(b, &c, &d), 0);
        expect_stored(b, &d, DATA_BYTES);
        expect_no_sessions(b);
    }
}

static void test_its_algorithm_survives_too(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA512, DATA_BYTES);
    char id[UPLOAD_ID_SIZE];
    struct client c;

    for (int other = 0; other < 2; other++) {
        ask_begin(b, &c, other ? DIGEST_SHA256 : DIGEST_SHA512);
        assert_int_equal(answer_of(b, &c), 0);
        memcpy(id, upload_id(c.upload), sizeof id);
        write_range(b, &c, 0, DATA_BYTES - 3);
        assert_int_equal(settle(b, &c), 0);
        upload_leave(&c.upload);
        bed_restart(b, DAY_S);
        assert_int_equal(reopen(b, &c, id), 0);
        write_range(b, &c, DATA_BYTES - 3, DATA_BYTES);
        assert_int_equal(finish(b, &c, &d), 0);
        expect_stored(b, &d, DATA_BYTES);
    }
}

/* What nobody waited for is written all the same. */
static void test_a_stop_writes_what_is_staged(void **state)
{
    struct bed *b = *state;
    char id[UPLOAD_ID_SIZE];
    struct client c;

    begin(b, &c);
    memcpy(id, upload_id(c.upload), sizeof id);
    write_range(b, &c, 0, 3 * MIB);
    upload_leave(&c.upload);
    bed_restart(b, DAY_S);
    append(b, id, 3 * MIB, 4 * MIB);
}

static void test_a_stop_during_a_finish_that_nobody_waits_for(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, DATA_BYTES);
    struct digest d512 = digest_of_data(b, DIGEST_SHA512, DATA_BYTES);
    char id[UPLOAD_ID_SIZE];
    struct client c;

    for (int other = 0; other < 2; other++) {
        begin(b, &c);
        memcpy(id, upload_id(c.upload), sizeof id);
        write_range(b, &c, 0, DATA_BYTES);
        ask_finish(&c, other ? &d512 : &d);
        upload_leave(&c.upload);
        bed_restart(b, DAY_S);
        /* It was done, or is there to be done again. */
        if (reopen(b, &c, id) == 0)
            assert_int_equal(finish(b, &c, &d), 0);
        else
            assert_int_equal(c.err, ERR_NOT_FOUND);
        upload_leave(&c.upload);
        expect_no_sessions(b);
    }
    expect_stored(b, &d, DATA_BYTES);
}

/* --- users that leave --- */

static void test_the_next_user_waits_for_what_the_last_has_sent(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 2 * MIB);
    char id[UPLOAD_ID_SIZE];
    struct client c, next;
    struct plug *plug;

    begin(b, &c);
    memcpy(id, upload_id(c.upload), sizeof id);
    plug = plug_in(thread_of(&c));
    assert_true(upload_write(c.upload, b->data, MIB + 5));
    c.err = NOT_YET;
    upload_settle(c.upload);
    upload_leave(&c.upload);
    struct upload_order o = order(b, &next, "team/app");
    next.upload = upload_open(b->uploads, &o, id);
    queue_run(b->answers, b);
    assert_int_equal(next.err, NOT_YET);
    plug_out(plug);
    assert_int_equal(answer_of(b, &next), 0);
    assert_int_equal(upload_size(next.upload), MIB + 5);
    write_range(b, &next, MIB + 5, 2 * MIB);
    assert_int_equal(finish(b, &next, &d), 0);
    expect_stored(b, &d, 2 * MIB);
    assert_int_equal(c.err, NOT_YET);
}

static void test_one_that_leaves_before_its_id_is_known(void **state)
{
    struct bed *b = *state;
    struct client c;

    for (int i = 0; i < 3; i++) {
        ask_begin(b, &c, DIGEST_SHA256);
        upload_write(c.upload, b->data, MIB);
        /* At once; when the record is there; when the answer is in the queue. */
        for (int64_t end_ms = clock_now_ms() + DEADLINE_MS; i == 1 && records(b) == 0;)
            assert_true(clock_now_ms() < end_ms);
        if (i == 2)
            queue_wait(b->answers, DEADLINE_MS);
        upload_leave(&c.upload);
        AWAIT(b, b->stats.uploads == 0);
        expect_no_sessions(b);
        queue_run(b->answers, b);
        assert_int_equal(c.err, NOT_YET);
    }
}

static void test_leaving_a_cancel(void **state)
{
    struct bed *b = *state;
    struct client c;

    begin(b, &c);
    write_range(b, &c, 0, MIB);
    c.err = NOT_YET;
    upload_cancel(c.upload);
    upload_leave(&c.upload);
    AWAIT(b, b->stats.uploads == 0);
    expect_no_sessions(b);
}

static void test_leaving_while_paused(void **state)
{
    struct bed *b = *state;
    char id[UPLOAD_ID_SIZE];
    struct plug *plug;
    struct client c;

    begin(b, &c);
    memcpy(id, upload_id(c.upload), sizeof id);
    plug = plug_in(thread_of(&c));
    assert_false(upload_write(c.upload, b->data, DATA_BYTES));
    plug_out(plug);
    /* That there is room is in the queue. */
    queue_wait(b->answers, DEADLINE_MS);
    upload_leave(&c.upload);
    queue_run(b->answers, b);
    assert_int_equal(c.rooms, 0);
    append(b, id, DATA_BYTES, DATA_BYTES);
    upload_leave(&c.upload);
}

/* --- what is kept in memory --- */

static void test_more_sessions_than_are_kept(void **state)
{
    enum { SESSIONS = SESSIONS_KEPT_MAX + 20 };
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 30000);
    char ids[SESSIONS][UPLOAD_ID_SIZE];
    struct client c;

    for (int i = 0; i < SESSIONS; i++) {
        begin_only(b, ids[i]);
        append(b, ids[i], 0, 10000);
    }
    AWAIT(b, is_quiet(b));
    assert_int_equal(b->uploads->idle_count, SESSIONS_KEPT_MAX);
    assert_int_equal(HASH_COUNT(b->uploads->sessions), SESSIONS_KEPT_MAX);
    for (int i = 0; i < SESSIONS; i++)
        append(b, ids[i], 10000, 20000);
    for (int i = SESSIONS - 1; i >= 0; i--) {
        assert_int_equal(reopen(b, &c, ids[i]), 0);
        write_range(b, &c, 20000, 30000);
        assert_int_equal(finish(b, &c, &d), 0);
    }
    expect_stored(b, &d, 30000);
    expect_no_sessions(b);
}

/* --- sessions that nobody uses --- */

/* A job of the storage thread, which alone writes to the index. */
struct ageing {
    struct storage_job job;
    const char *id;
    int64_t by_s;
    _Atomic int result;
};

static int ageing_apply(struct storage_job *j, struct db_txn *txn)
{
    const struct ageing *a = (struct ageing *)j;
    struct upload_record r;
    int err = upload_get(txn, a->id, &r);

    r.started_at_s -= a->by_s;
    return err == 0 ? upload_put(txn, a->id, &r) : err;
}

static void ageing_done(struct storage_job *j, int err)
{
    atomic_store(&((struct ageing *)j)->result, err);
}

/* As if it had begun, and had its last byte, so long ago. */
static void make_older(struct bed *b, const char *id, int64_t by_s)
{
    struct ageing a = {.job = {.apply = ageing_apply, .done = ageing_done}, .id = id, .by_s = by_s};
    struct timespec then = {.tv_sec = time(NULL) - by_s};
    struct timespec times[2] = {then, then};
    char name[64];

    snprintf(name, sizeof name, "partial/upload-%s", id);
    assert_int_equal(utimensat(AT_FDCWD, scratch_path(b->scratch->dir, name), times, 0), 0);
    a.result = NOT_YET;
    storage_post(b->storage, &a.job);
    AWAIT(b, a.result != NOT_YET);
    assert_int_equal(a.result, 0);
}

static void sweep_now(struct bed *b)
{
    AWAIT(b, is_quiet(b));
    uploads_sweep(b->uploads);
    AWAIT(b, is_quiet(b));
}

static void test_old_sessions_are_removed(void **state)
{
    struct bed *b = *state;
    char old[UPLOAD_ID_SIZE], young[UPLOAD_ID_SIZE];

    for (int at_start = 0; at_start < 2; at_start++) {
        begin_only(b, old);
        begin_only(b, young);
        append(b, old, 0, 100);
        append(b, young, 0, 100);
        make_older(b, old, 2 * DAY_S);
        make_older(b, young, DAY_S / 2);
        if (at_start) {
            bed_restart(b, DAY_S);
            AWAIT(b, b->stats.uploads == 1);
        } else {
            sweep_now(b);
        }
        assert_int_equal(b->stats.uploads, 1);
        assert_int_equal(files_in(b, "partial"), 1);
        assert_int_equal(open_error(b, old), ERR_NOT_FOUND);
        append(b, young, 100, 200);
        uploads_set_ttl(b->uploads, DAY_S / 4);
        /* It was used just now. */
        sweep_now(b);
        assert_int_equal(open_error(b, young), 0);
        make_older(b, young, DAY_S / 2);
        sweep_now(b);
        assert_int_equal(open_error(b, young), ERR_NOT_FOUND);
        expect_no_sessions(b);
    }
}

/* A session that is opened is used, though nothing was appended. */
static void test_opening_makes_a_session_young(void **state)
{
    struct bed *b = *state;
    char id[UPLOAD_ID_SIZE];

    begin_only(b, id);
    for (int restarted = 0; restarted < 2; restarted++) {
        make_older(b, id, 2 * DAY_S);
        assert_int_equal(open_error(b, id), 0);
        sweep_now(b);
        assert_int_equal(open_error(b, id), 0);
        bed_restart(b, 1000 * DAY_S);
        AWAIT(b, is_quiet(b));
        uploads_set_ttl(b->uploads, DAY_S);
    }
}

/* Its user is slower than that; the sweep and the end of the session count it once. */
static void test_a_session_that_is_removed_while_it_is_used(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, MIB);
    struct client c;

    for (int how = 0; how < 3; how++) {
        begin(b, &c);
        write_range(b, &c, 0, MIB);
        assert_int_equal(settle(b, &c), 0);
        make_older(b, upload_id(c.upload), 2 * DAY_S);
        uploads_sweep(b->uploads);
        AWAIT(b, b->stats.uploads == 0);
        if (how == 0) {
            assert_int_equal(finish(b, &c, &d), ERR_NOT_FOUND);
            assert_int_equal(b->stats.uploads_failed, 1);
        } else if (how == 1) {
            assert_int_equal(cancel(b, &c), 0);
        } else {
            upload_leave(&c.upload);
        }
        AWAIT(b, is_quiet(b));
        expect_no_sessions(b);
        assert_int_equal(b->uploads->record_count, 0);
        assert_true(storage_is_writable(b->storage));
    }
}

/* --- leaving at any time --- */

enum { ROUNDS = 3000, KNOWN_MAX = 40, RANDOM_BYTES_MAX = 2 * MIB };

struct chaos {
    struct bed *bed;
    uint32_t random;
    char known[KNOWN_MAX][UPLOAD_ID_SIZE]; /* or empty */
    unsigned finished;
};

static uint32_t pick(struct chaos *x, uint32_t count)
{
    x->random = x->random * 1664525 + 1013904223;
    return (uint32_t)(((uint64_t)x->random * count) >> 32);
}

/* Returns whether all is answered, so that more may be asked. */
static bool linger(struct chaos *x, struct client *c)
{
    switch (pick(x, 5)) {
    case 0:
        break;
    case 1:
        for (uint32_t i = pick(x, 50); i > 0; i--)
            sched_yield();
        break;
    case 2:
        for (uint32_t i = pick(x, 50); i > 0; i--) {
            sched_yield();
            queue_run(x->bed->answers, x->bed);
        }
        break;
    case 3:
        queue_wait(x->bed->answers, 1);
        break;
    default:
        answer_of(x->bed, c);
        break;
    }
    return c->err != NOT_YET;
}

static void scribble(struct chaos *x, struct client *c)
{
    for (uint32_t i = pick(x, 4); i > 0; i--) {
        uint64_t at = upload_size(c->upload);
        uint32_t len = pick(x, pick(x, 2) ? 3000 : RANDOM_BYTES_MAX / 4);
        if (at + len > RANDOM_BYTES_MAX)
            return;
        upload_write(c->upload, x->bed->data + at, len);
    }
}

/* The known id that the client is with, or one that it is given. */
static char *known_as(struct chaos *x, struct client *c)
{
    char *id = x->known[pick(x, KNOWN_MAX)];

    if (pick(x, 3) > 0 && id[0] != '\0') {
        struct upload_order o = order(x->bed, c, "team/app");
        c->upload = upload_open(x->bed->uploads, &o, id);
        return id;
    }
    id = NULL;
    for (int i = 0; i < KNOWN_MAX && !id; i++)
        if (x->known[i][0] == '\0')
            id = x->known[i];
    if (id) {
        ask_begin(x->bed, c, DIGEST_SHA256);
        if (pick(x, 2))
            scribble(x, c);
    }
    return id;
}

static void ask_something(struct chaos *x, struct client *c, char *id)
{
    size_t size = upload_size(c->upload);
    struct digest d = digest_of_data(x->bed, pick(x, 4) ? DIGEST_SHA256 : DIGEST_SHA512, size);
    uint32_t what = pick(x, 6);

    c->err = NOT_YET;
    if (what < 3) {
        upload_settle(c->upload);
    } else if (what == 5) {
        upload_cancel(c->upload);
        id[0] = '\0';
    } else {
        bool is_right = pick(x, 3) > 0;
        d.bytes[0] ^= !is_right;
        upload_finish(c->upload, &d);
        id[0] = '\0';
        if (pick(x, 2)) {
            assert_int_equal(answer_of(x->bed, c), is_right ? 0 : ERR_MISMATCH);
            x->finished += is_right;
            if (is_right)
                expect_stored(x->bed, &d, size);
        }
    }
    linger(x, c);
}

static void one_round(struct chaos *x)
{
    struct client c;
    char *id = known_as(x, &c);

    if (!id)
        return;
    if (linger(x, &c)) {
        if (c.err == 0) {
            memcpy(id, upload_id(c.upload), UPLOAD_ID_SIZE);
            scribble(x, &c);
            if (pick(x, 2))
                ask_something(x, &c, id);
        } else {
            assert_int_equal(c.err, ERR_BUSY);
        }
    }
    upload_leave(&c.upload);
}

/* Nothing is lost that somebody may come back for, and nothing is left of what has ended. */
static void test_leaving_at_any_time(void **state)
{
    struct bed *b = *state;
    struct chaos x = {.bed = b, .random = (uint32_t)time(NULL)};
    struct client c;

    print_message("seed %u\n", x.random);
    for (int i = 0; i < ROUNDS; i++) {
        one_round(&x);
        if (i % 500 == 499)
            bed_restart(b, DAY_S);
    }
    assert_true(x.finished > 0);
    AWAIT(b, is_quiet(b));
    for (int i = 0; i < KNOWN_MAX; i++) {
        if (x.known[i][0] == '\0')
            continue;
        assert_int_equal(reopen(b, &c, x.known[i]), 0);
        struct digest d = digest_of_data(b, DIGEST_SHA256, upload_size(c.upload));
        assert_int_equal(finish(b, &c, &d), 0);
    }
    /* The answer comes before the end of the session. */
    AWAIT(b, is_quiet(b));
    expect_no_sessions(b);
    assert_int_equal(b->uploads->record_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_session_survives_a_restart),
        TEST(test_its_algorithm_survives_too),
        TEST(test_a_stop_writes_what_is_staged),
        TEST(test_a_stop_during_a_finish_that_nobody_waits_for),
        TEST(test_the_next_user_waits_for_what_the_last_has_sent),
        TEST(test_one_that_leaves_before_its_id_is_known),
        TEST(test_leaving_a_cancel),
        TEST(test_leaving_while_paused),
        TEST(test_more_sessions_than_are_kept),
        TEST(test_old_sessions_are_removed),
        TEST(test_opening_makes_a_session_young),
        TEST(test_a_session_that_is_removed_while_it_is_used),
        TEST(test_leaving_at_any_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
