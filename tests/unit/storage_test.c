/* SPDX-License-Identifier: ISC */
#include "proxy/storage.h"

#include <semaphore.h>
#include <time.h>

#include "cache/blob.h"
#include "cache/clients.h"
#include "cache/err.h"
#include "cache/ledger.h"
#include "cache/tag.h"
#include "tests/unit/scratch.h"

#define DEADLINE_S 20

/* A job that does what the test tells it to and notes what was done to it. */
struct trial {
    struct storage_job job;
    const char *key; /* put by apply */
    sem_t *gate;     /* prepare waits for it */
    int prepare_err;
    int apply_err;
    unsigned prepared;
    unsigned applied;
    int done_err;
    sem_t done;
};

static void wait_for(sem_t *s)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += DEADLINE_S;
    assert_int_equal(sem_timedwait(s, &t), 0);
}

static int trial_prepare(struct storage_job *j, struct store *s)
{
    struct trial *t = (struct trial *)j;

    (void)s;
    if (t->gate)
        wait_for(t->gate);
    t->prepared++;
    return t->prepare_err;
}

static int trial_apply(struct storage_job *j, struct db_txn *txn)
{
    struct trial *t = (struct trial *)j;

    t->applied++;
    int err = db_put(txn, DB_META, t->key, strlen(t->key), "", 0);
    return err ? err : t->apply_err;
}

static void trial_done(struct storage_job *j, int err)
{
    struct trial *t = (struct trial *)j;

    t->done_err = err;
    sem_post(&t->done);
}

static struct trial trial_new(const char *key, int prepare_err, int apply_err, sem_t *gate)
{
    struct trial t = {.key = key, .prepare_err = prepare_err, .apply_err = apply_err, .gate = gate};

    t.job.prepare = trial_prepare;
    t.job.apply = trial_apply;
    t.job.done = trial_done;
    sem_init(&t.done, 0, 0);
    return t;
}

struct bed {
    struct scratch *scratch;
    struct stats stats;
    struct storage *storage;
};

static int setup(void **state)
{
    struct bed *b = calloc(1, sizeof *b);

    assert_non_null(b);
    b->scratch = scratch_new();
    b->storage = storage_start(b->scratch->store, &b->stats, NULL);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bed *b = *state;

    storage_stop(&b->storage);
    scratch_free(b->scratch);
    free(b);
    return 0;
}

static struct db_txn *look(struct bed *b, struct db_reader **r)
{
    struct db_txn *txn;

    *r = scratch_reader(b->scratch);
    assert_int_equal(db_read(*r, &txn), 0);
    return txn;
}

static void look_end(struct db_reader **r)
{
    db_read_end(*r);
    db_reader_free(r);
}

static bool is_there(struct bed *b, const char *key)
{
    struct db_reader *r;
    struct db_value v;
    int err = db_get(look(b, &r), DB_META, key, strlen(key), &v);

    look_end(&r);
    return err == 0;
}

static void test_a_job_is_committed_before_done(void **state)
{
    struct bed *b = *state;
    struct trial t = trial_new("one", 0, 0, NULL);

    storage_post(b->storage, &t.job);
    wait_for(&t.done);
    assert_int_equal(t.done_err, 0);
    assert_int_equal(t.prepared, 1);
    assert_int_equal(t.applied, 1);
    assert_true(is_there(b, "one"));
    assert_int_equal(b->stats.commits, 1);
    assert_true(storage_is_writable(b->storage));
}

static void test_what_was_not_prepared_is_not_applied(void **state)
{
    struct bed *b = *state;
    struct trial t = trial_new("one", ERR_NO_SPACE, 0, NULL);

    storage_post(b->storage, &t.job);
    wait_for(&t.done);
    assert_int_equal(t.done_err, ERR_NO_SPACE);
    assert_int_equal(t.applied, 0);
    assert_false(is_there(b, "one"));
    assert_int_equal(b->stats.store_failures, 1);
    assert_true(storage_is_writable(b->storage));
}

/* While the first job is held, the others gather: they are one batch. */
static void test_a_job_that_fails_is_left_out_alone(void **state)
{
    struct bed *b = *state;
    sem_t gate;
    struct trial first = trial_new("first", 0, 0, &gate);
    struct trial good = trial_new("good", 0, 0, NULL);
    struct trial bad = trial_new("bad", 0, ERR_FULL, NULL);
    struct trial last = trial_new("last", 0, 0, NULL);

    sem_init(&gate, 0, 0);
    storage_post(b->storage, &first.job);
    storage_post(b->storage, &good.job);
    storage_post(b->storage, &bad.job);
    storage_post(b->storage, &last.job);
    sem_post(&gate);
    wait_for(&good.done);
    wait_for(&bad.done);
    wait_for(&last.done);
    assert_int_equal(good.done_err, 0);
    assert_int_equal(bad.done_err, ERR_FULL);
    assert_int_equal(last.done_err, 0);
    assert_int_equal(bad.applied, 1);
    assert_int_equal(last.applied, 1);
    assert_true(is_there(b, "good"));
    assert_true(is_there(b, "last"));
    assert_false(is_there(b, "bad"));
    assert_in_range(b->stats.commits, 1, 2);
    assert_true(storage_is_writable(b->storage));
}

static void test_after_an_io_error_nothing_more_is_written(void **state)
{
    struct bed *b = *state;
    struct trial bad = trial_new("bad", ERR_IO, 0, NULL);
    struct trial later = trial_new("later", 0, 0, NULL);

    storage_post(b->storage, &bad.job);
    wait_for(&bad.done);
    assert_false(storage_is_writable(b->storage));
    storage_post(b->storage, &later.job);
    wait_for(&later.done);
    assert_int_equal(later.done_err, ERR_IO);
    assert_int_equal(later.prepared, 0);
    assert_int_equal(later.applied, 0);
    assert_false(is_there(b, "later"));
}

static void test_a_slow_job_holds_nobody_up(void **state)
{
    struct bed *b = *state;
    sem_t gate;
    struct trial slow = trial_new("slow", 0, 0, &gate);
    struct trial second = trial_new("second", ERR_NO_SPACE, 0, NULL);
    struct trial quick = trial_new("quick", 0, 0, NULL);

    sem_init(&gate, 0, 0);
    slow.job.is_slow = true;
    second.job.is_slow = true;
    storage_post(b->storage, &slow.job);
    storage_post(b->storage, &second.job);
    storage_post(b->storage, &quick.job);
    wait_for(&quick.done);
    assert_int_equal(quick.done_err, 0);
    assert_true(is_there(b, "quick"));
    assert_false(is_there(b, "slow"));
    sem_post(&gate);
    wait_for(&slow.done);
    wait_for(&second.done);
    assert_int_equal(slow.done_err, 0);
    assert_true(is_there(b, "slow"));
    assert_int_equal(second.done_err, ERR_NO_SPACE);
    assert_int_equal(second.applied, 0);
}

/* Whichever of them waits. */
static void test_slow_and_heavy_jobs_hold_nobody_up(void **state)
{
    struct bed *b = *state;

    for (unsigned i = 0; i < 2; i++) {
        sem_t gate;
        struct trial waits = trial_new("waits", 0, 0, &gate);
        struct trial other = trial_new("other", 0, 0, NULL);

        sem_init(&gate, 0, 0);
        waits.job.is_slow = i == 0;
        waits.job.is_heavy = i == 1;
        other.job.is_slow = i == 1;
        other.job.is_heavy = i == 0;
        storage_post(b->storage, &waits.job);
        storage_post(b->storage, &other.job);
        wait_for(&other.done);
        assert_int_equal(other.done_err, 0);
        sem_post(&gate);
        wait_for(&waits.done);
        assert_int_equal(waits.done_err, 0);
    }
}

/* A record that could not be read or written is as bad as a failed commit. */
static void test_an_io_error_of_the_index(void **state)
{
    struct bed *b = *state;
    struct trial bad = trial_new("bad", 0, ERR_IO, NULL);

    storage_post(b->storage, &bad.job);
    wait_for(&bad.done);
    assert_int_equal(bad.done_err, ERR_IO);
    assert_false(storage_is_writable(b->storage));
}

/* The end waits for what the slow thread has. */
static void test_a_slow_job_is_done_before_the_end(void **state)
{
    struct bed *b = *state;
    struct trial slow = trial_new("slow", 0, 0, NULL);

    slow.job.is_slow = true;
    storage_post(b->storage, &slow.job);
    storage_stop(&b->storage);
    assert_int_equal(slow.applied, 1);
    assert_true(is_there(b, "slow"));
    b->storage = storage_start(b->scratch->store, &b->stats, NULL);
}

static void test_many_jobs_share_commits(void **state)
{
    enum { MANY = 1000 };
    struct bed *b = *state;
    static struct trial trials[MANY];
    static char keys[MANY][8];
    sem_t gate;
    struct trial first = trial_new("first", 0, 0, &gate);

    sem_init(&gate, 0, 0);
    storage_post(b->storage, &first.job);
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(keys[i], sizeof keys[i], "%u", i);
        trials[i] = trial_new(keys[i], 0, 0, NULL);
        storage_post(b->storage, &trials[i].job);
    }
    sem_post(&gate);
    for (unsigned i = 0; i < MANY; i++) {
        wait_for(&trials[i].done);
        assert_int_equal(trials[i].done_err, 0);
        assert_true(is_there(b, keys[i]));
    }
    assert_in_range(b->stats.commits, 2, 10);
}

static void put_blob(struct bed *b, const struct digest *d, int64_t used_at_s)
{
    struct db_txn *txn = scratch_write(b->scratch);
    struct blob_record r = {.size_bytes = 1, .origin = BLOB_PUBLIC, .used_at_s = used_at_s};

    assert_int_equal(blob_put(txn, d, &r), 0);
    assert_int_equal(db_commit(&txn), 0);
}

/* The writer may be only one thread: the daemon's is stopped. */
static void restart(struct bed *b)
{
    storage_stop(&b->storage);
    b->storage = storage_start(b->scratch->store, &b->stats, NULL);
}

static void test_use_is_recorded_at_the_end(void **state)
{
    struct bed *b = *state;
    struct digest used = scratch_digest("used"), idle = scratch_digest("idle");
    struct digest seen = scratch_digest("seen");
    struct blob_record r;
    struct clients c;
    struct db_reader *reader;

    storage_stop(&b->storage);
    put_blob(b, &used, 1);
    put_blob(b, &idle, 1);
    put_blob(b, &seen, time(NULL));
    b->storage = storage_start(b->scratch->store, &b->stats, NULL);
    for (unsigned i = 0; i < 3; i++)
        storage_touch(b->storage, &used, &in6addr_loopback, true);
    storage_touch(b->storage, &seen, &in6addr_loopback, false);
    assert_true(storage_is_touched(b->storage, &used));
    assert_false(storage_is_touched(b->storage, &seen));
    /* More than there is room for must not hurt. */
    for (unsigned i = 0; i < 10000; i++) {
        char text[16];
        snprintf(text, sizeof text, "%u", i);
        struct digest d = scratch_digest(text);
        storage_touch(b->storage, &d, &in6addr_any, true);
    }
    restart(b);
    struct db_txn *txn = look(b, &reader);
    assert_int_equal(blob_get(txn, &used, &r), 0);
    assert_true(time(NULL) - r.used_at_s < DEADLINE_S);
    assert_int_equal(blob_get(txn, &idle, &r), 0);
    assert_int_equal(r.used_at_s, 1);
    assert_int_equal(clients_get(txn, &used, &c), 0);
    assert_int_equal(c.count, 1);
    assert_int_equal(clients_get(txn, &seen, &c), 0);
    assert_true(c.count == 1 && IN6_IS_ADDR_LOOPBACK(&c.list[0].address));
    assert_int_equal(clients_get(txn, &idle, &c), ERR_NOT_FOUND);
    look_end(&reader);
}

static int add_up(void *arg, uint32_t day, const char *registry, const struct ledger_record *r)
{
    struct ledger_record *sum = arg;

    (void)day;
    assert_string_equal(registry, "mcr.microsoft.com");
    sum->line_bytes += r->line_bytes;
    sum->lan_bytes += r->lan_bytes;
    sum->hits += r->hits;
    return 0;
}

static void test_the_ledger_gets_what_was_counted_once(void **state)
{
    struct bed *b = *state;
    struct registry_stats *r = stats_add_registry(&b->stats, "mcr.microsoft.com");
    struct ledger_record sum = {0};
    struct db_reader *reader;

    r->line_bytes += 1000;
    r->lan_bytes += 5000;
    storage_stop(&b->storage);
    struct stats fresh = {0};
    r = stats_add_registry(&fresh, "mcr.microsoft.com");
    b->storage = storage_start(b->scratch->store, &fresh, NULL);
    r->hits += 3;
    storage_stop(&b->storage);
    b->storage = storage_start(b->scratch->store, &b->stats, NULL);
    struct db_txn *txn = look(b, &reader);
    assert_int_equal(ledger_walk(txn, add_up, &sum), 0);
    look_end(&reader);
    assert_int_equal(sum.line_bytes, 1000);
    assert_int_equal(sum.lan_bytes, 5000);
    assert_int_equal(sum.hits, 3);
}

static void test_the_index_file_is_written_when_tags_have_changed(void **state)
{
    struct bed *b = *state;

    remove(scratch_path(b->scratch->dir, "index.json"));
    restart(b);
    assert_int_equal(scratch_file_size(b->scratch->dir, "index.json"), -1);
    storage_tags_changed(b->storage);
    restart(b);
    assert_true(scratch_file_size(b->scratch->dir, "index.json") > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_job_is_committed_before_done, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_was_not_prepared_is_not_applied, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_job_that_fails_is_left_out_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_after_an_io_error_nothing_more_is_written, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_slow_job_holds_nobody_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_slow_job_is_done_before_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow_and_heavy_jobs_hold_nobody_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_io_error_of_the_index, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_jobs_share_commits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_use_is_recorded_at_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_ledger_gets_what_was_counted_once, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_the_index_file_is_written_when_tags_have_changed,
                                        setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
