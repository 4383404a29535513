/* SPDX-License-Identifier: ISC */
/* Who clients are by their passwords: what is checked, by whom, and how often one may be wrong.
 * The work that a password costs is counted, by a crypt_r of this program's own. */
#include "proxy/login.h"

#include <crypt.h>
#include <poll.h>
#include <pthread.h>

#include "tests/unit/login_bed.h"

#include "proxy/attempt.h"

/* --- crypt_r --- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t opened;
    bool is_shut;
    unsigned calls;
    unsigned costs[32]; /* calls by cost */
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .opened = PTHREAD_COND_INITIALIZER};

char *crypt_r(const char *phrase, const char *setting, struct crypt_data *data)
{
    pthread_mutex_lock(&gate.lock);
    gate.calls++;
    gate.costs[strtoul(setting + 4, NULL, 10) & 31]++;
    while (gate.is_shut)
        pthread_cond_wait(&gate.opened, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
    return crypt_rn(phrase, setting, data, sizeof *data);
}

static void gate_set(bool is_shut)
{
    pthread_mutex_lock(&gate.lock);
    gate.is_shut = is_shut;
    pthread_cond_broadcast(&gate.opened);
    pthread_mutex_unlock(&gate.lock);
}

static unsigned gate_calls(void)
{
    pthread_mutex_lock(&gate.lock);
    unsigned calls = gate.calls;
    pthread_mutex_unlock(&gate.lock);
    return calls;
}

static void await_calls(unsigned count)
{
    int64_t end_ms = clock_now_ms() + DEADLINE_MS;

    while (gate_calls() < count) {
        if (clock_now_ms() > end_ms)
            fail_msg("%u calls of %u", gate_calls(), count);
        poll(NULL, 0, 1);
    }
}

static int setup(void **state)
{
    pthread_mutex_lock(&gate.lock);
    gate.calls = 0;
    memset(gate.costs, 0, sizeof gate.costs);
    pthread_mutex_unlock(&gate.lock);
    return bed_setup(state);
}

static int teardown(void **state)
{
    gate_set(false);
    return bed_teardown(state);
}

/* --- passwords --- */

static void who_says_nothing_is_anonymous(void **state)
{
    struct bed *b = *state;

    assert_int_equal(try_field(b, NULL).result, LOGIN_ANONYMOUS);
    /* What podman sends without a login. */
    assert_int_equal(try_field(b, "Basic Og==").result, LOGIN_ANONYMOUS);
    /* With nothing to hold it against, what clients say anyway does no harm. */
    config_unref(&b->config);
    b->config = bed_load(b, "[cache]\n");
    assert_int_equal(try_field(b, "Basic eDp5").result, LOGIN_ANONYMOUS);
    assert_int_equal(try_field(b, "Bearer x").result, LOGIN_ANONYMOUS);
    assert_int_equal(gate_calls(), 0);
}

static void a_field_that_is_none_is_wrong_at_once(void **state)
{
    struct bed *b = *state;
    static const char *const fields[] = {
        "",
        "Basic",
        "Basic ",
        "Basic !",
        "Basic YWxpY2U=" /* alice */,
        "Basic OnNlc2FtZQ==",
        "Basic YWxpY2U6c2VzYW1l==",
        "Basic YWxpY2U6AHNlc2FtZQ==",
        "YWxpY2U6c2VzYW1l",
        "Negotiate YWxpY2U6c2VzYW1l",
        "Bearer a.b.c",
        "Digest username=\"alice\"",
        "BasicYWxpY2U6c2VzYW1l",
        "Basic YWxpY2U6c2VzYW1l Basic",
    };

    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        struct login l = try_field(b, fields[i]);
        if (l.result != LOGIN_WRONG || l.why == NULL)
            fail_msg("%s: %d", fields[i], l.result);
    }
    char text[2000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    struct login now;
    assert_null(begin_user(b, "10.0.0.1", "alice", text, &now));
    assert_int_equal(now.result, LOGIN_WRONG);
    text[501] = '\0';
    assert_null(begin_user(b, "10.0.0.1", "alice", text, &now));
    assert_int_equal(now.result, LOGIN_WRONG);
    text[128] = '\0';
    assert_null(begin_user(b, "10.0.0.1", text, "x", &now));
    assert_int_equal(now.result, LOGIN_WRONG);
    assert_int_equal(gate_calls(), 0);
}

static void a_right_password_is_remembered(void **state)
{
    struct bed *b = *state;
    struct login l = try(b, "10.0.0.1", "alice", "sesame");

    assert_int_equal(l.result, LOGIN_KNOWN);
    assert_string_equal(l.user, "alice");
    assert_false(l.is_token);
    assert_int_equal(gate_calls(), 1);
    for (int i = 0; i < 100; i++) {
        struct login now;
        assert_null(begin_user(b, "10.0.0.9", "alice", "sesame", &now));
        assert_int_equal(now.result, LOGIN_KNOWN);
        assert_string_equal(now.user, "alice");
    }
    assert_int_equal(try_field(b, "bAsIc   YWxpY2U6c2VzYW1l").result, LOGIN_KNOWN);
    assert_int_equal(gate_calls(), 1);
    assert_int_equal(try(b, "10.0.0.1", "bob", "b:o b").result, LOGIN_KNOWN);
    assert_int_equal(try(b, "10.0.0.1", "alice", "b:o b").result, LOGIN_WRONG);
    assert_int_equal(try(b, "10.0.0.1", "bob", "sesame").result, LOGIN_WRONG);
    assert_int_equal(try(b, "10.0.0.1", "Alice", "sesame").result, LOGIN_WRONG);
    assert_int_equal(gate_calls(), 5);
}

/* Equal work: one hash for whoever asks, of a cost that somebody in the file has. Nothing of
 * a wrong one is remembered. */
static void strangers_cost_what_users_do(void **state)
{
    struct bed *b = *state;
    static const char *const users[] = {"aaron", "alicf", "bob ", "zoe", "root", "alice", "bob"};

    for (unsigned i = 0; i < sizeof users / sizeof users[0]; i++) {
        struct login l = try(b, "10.0.0.1", users[i], "wrong");
        assert_int_equal(l.result, LOGIN_WRONG);
        assert_string_equal(l.why, "the user or the password is wrong");
        assert_int_equal(gate_calls(), 2 * i + 1);
        l = try(b, "10.0.0.1", users[i], "wrong");
        assert_int_equal(l.result, LOGIN_WRONG);
        assert_int_equal(gate_calls(), 2 * i + 2);
    }
    assert_int_equal(gate.costs[4] + gate.costs[5], gate.calls);
    assert_true(gate.costs[4] > 2 && gate.costs[5] > 2);
    /* Whose hash it was is not let in by its password either. */
    assert_int_equal(try(b, "10.0.0.1", "aaron", "sesame").result, LOGIN_WRONG);
    assert_int_equal(try(b, "10.0.0.1", "aaron", "sesame").result, LOGIN_WRONG);
}

static void one_check_is_for_all_who_ask(void **state)
{
    struct bed *b = *state;
    struct login_check *checks[50];
    struct login now;

    gate_set(true);
    for (unsigned i = 0; i < 50; i++) {
        checks[i] = begin_user(b, "10.0.0.1", "alice", "sesame", &now);
        assert_non_null(checks[i]);
    }
    await_calls(1);
    /* Those who left are not called. */
    for (unsigned i = 0; i < 10; i++) {
        login_cancel(&checks[i * 5]);
        assert_null(checks[i * 5]);
    }
    gate_set(false);
    await_answers(b, 40);
    assert_int_equal(b->last.result, LOGIN_KNOWN);
    assert_int_equal(gate_calls(), 1);
    queue_run(b->queue, NULL);
    assert_int_equal(b->answers, 40);
    login_cancel(&checks[0]);
}

static void the_answer_may_be_under_way(void **state)
{
    struct bed *b = *state;
    struct login now;
    struct login_check *c = begin_user(b, "10.0.0.1", "alice", "sesame", &now);

    assert_non_null(c);
    queue_wait(b->queue, DEADLINE_MS);
    login_cancel(&c);
    queue_run(b->queue, NULL);
    assert_int_equal(b->answers, 0);
    /* It was checked all the same. */
    assert_null(begin_user(b, "10.0.0.1", "alice", "sesame", &now));
    assert_int_equal(now.result, LOGIN_KNOWN);
}

static void fill_queue(struct bed *b)
{
    char password[16], peer[16];
    struct login now;

    gate_set(true);
    for (unsigned i = 0; i < THREADS + LOGIN_CHECKS_MAX; i++) {
        snprintf(password, sizeof password, "p%u", i);
        snprintf(peer, sizeof peer, "10.0.1.%u", i);
        assert_non_null(begin_user(b, peer, "alice", password, &now));
        await_calls(i < THREADS ? i + 1 : THREADS);
    }
}

static void the_queue_is_bounded(void **state)
{
    struct bed *b = *state;
    struct login now;

    fill_queue(b);
    assert_null(begin_user(b, "10.0.0.1", "alice", "sesame", &now));
    assert_int_equal(now.result, LOGIN_LIMITED);
    assert_in_range(now.retry_after_s, 1, 60);
    assert_non_null(now.why);
    /* Who waits already may be joined. */
    assert_non_null(begin_user(b, "10.0.0.1", "alice", "p40", &now));
    gate_set(false);
    await_answers(b, THREADS + LOGIN_CHECKS_MAX + 1);
    assert_int_equal(b->last.result, LOGIN_WRONG);
    assert_int_equal(gate_calls(), THREADS + LOGIN_CHECKS_MAX);
    assert_int_equal(try(b, "10.0.0.1", "alice", "sesame").result, LOGIN_KNOWN);
}

static void who_waits_at_the_end_is_answered(void **state)
{
    struct bed *b = *state;

    fill_queue(b);
    gate_set(false);
    logins_stop(&b->logins);
    queue_run(b->queue, NULL);
    assert_int_equal(b->answers, THREADS + LOGIN_CHECKS_MAX);
    assert_true(b->last.result == LOGIN_LIMITED || b->last.result == LOGIN_WRONG);
}

static void wrong_passwords_have_a_limit(void **state)
{
    struct bed *b = *state;
    char password[32];
    struct login l;

    assert_int_equal(try(b, "10.0.0.1", "bob", "b:o b").result, LOGIN_KNOWN);
    assert_int_equal(try(b, "10.0.0.2", "alice", "sesame").result, LOGIN_KNOWN);
    for (int i = 0; i < ATTEMPTS_OF_USER; i++) {
        snprintf(password, sizeof password, "wrong%d", i);
        assert_int_equal(try(b, "10.0.0.1", "alice", password).result, LOGIN_WRONG);
    }
    unsigned calls = gate_calls();
    l = try(b, "10.0.0.1", "alice", "wrong");
    assert_int_equal(l.result, LOGIN_LIMITED);
    assert_in_range(l.retry_after_s, 1, 60);
    /* What is known to be right needs no attempt, and others have theirs. */
    assert_int_equal(try(b, "10.0.0.1", "alice", "sesame").result, LOGIN_KNOWN);
    assert_int_equal(try(b, "10.0.0.1", "bob", "b:o b").result, LOGIN_KNOWN);
    assert_int_equal(gate_calls(), calls);
    assert_int_equal(try(b, "10.0.0.3", "alice", "wrong").result, LOGIN_WRONG);
    /* Strangers have no more than users. */
    for (int i = 0; i < ATTEMPTS_OF_USER; i++)
        assert_int_equal(try(b, "10.0.0.1", "mallory", "wrong").result, LOGIN_WRONG);
    l = try(b, "10.0.0.1", "mallory", "wrong");
    assert_int_equal(l.result, LOGIN_LIMITED);
    assert_string_equal(l.user, "");
}

static void reload(struct bed *b, const char *users)
{
    if (users != NULL)
        scratch_file(b->dir, "htpasswd", users, strlen(users));
    config_unref(&b->config);
    b->config = load_passwords(b);
}

static void another_password_file_forgets_the_old_ones(void **state)
{
    struct bed *b = *state;

    assert_int_equal(try(b, "10.0.0.1", "alice", "sesame").result, LOGIN_KNOWN);
    reload(b, NULL);
    assert_int_equal(try(b, "10.0.0.1", "alice", "sesame").result, LOGIN_KNOWN);
    assert_int_equal(gate_calls(), 1);
    write_users(b, "simsim", 4);
    reload(b, NULL);
    assert_int_equal(try(b, "10.0.0.1", "alice", "sesame").result, LOGIN_WRONG);
    assert_int_equal(try(b, "10.0.0.1", "alice", "simsim").result, LOGIN_KNOWN);
    /* The same password with another hash is checked once more. */
    write_users(b, "simsim", 6);
    reload(b, NULL);
    unsigned calls = gate_calls();
    assert_int_equal(try(b, "10.0.0.1", "alice", "simsim").result, LOGIN_KNOWN);
    assert_int_equal(gate_calls(), calls + 1);
    /* Who is gone is gone. */
    char *hash = hash_of("simsim", 4);
    char *carol = mem_format("carol:%s\n", hash);
    reload(b, carol);
    assert_int_equal(try(b, "10.0.0.1", "alice", "simsim").result, LOGIN_WRONG);
    free(carol);
    free(hash);
}

/* Several threads, each with a queue of its own, use the same logins. */
static void *hammer(void *arg)
{
    const struct bed *shared = arg;
    struct bed b = {.config = shared->config, .logins = shared->logins, .queue = queue_new()};
    struct login now = {.result = LOGIN_PENDING};
    unsigned waiting = 0;

    for (unsigned i = 0; i < 200 || now.result != LOGIN_KNOWN; i++) {
        struct login_check *c = i % 2 ? begin_user(&b, "10.0.0.1", "alice", "sesame", &now)
                                      : begin_user(&b, "10.0.0.1", "bob", "b:o b", &now);
        if (i % 3 == 0)
            login_cancel(&c);
        waiting += c != NULL;
        if (i % 4 == 0)
            queue_wait(b.queue, 1);
        queue_run(b.queue, NULL);
    }
    await_answers(&b, waiting);
    queue_run(b.queue, NULL);
    queue_free(&b.queue);
    return NULL;
}

static void many_threads_may_ask(void **state)
{
    pthread_t threads[4];

    for (unsigned i = 0; i < 4; i++)
        thread_start(&threads[i], "hammer", hammer, *state);
    for (unsigned i = 0; i < 4; i++)
        thread_join(threads[i]);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(who_says_nothing_is_anonymous),  TEST(a_field_that_is_none_is_wrong_at_once),
        TEST(a_right_password_is_remembered), TEST(strangers_cost_what_users_do),
        TEST(one_check_is_for_all_who_ask),   TEST(the_answer_may_be_under_way),
        TEST(the_queue_is_bounded),           TEST(who_waits_at_the_end_is_answered),
        TEST(wrong_passwords_have_a_limit),   TEST(another_password_file_forgets_the_old_ones),
        TEST(many_threads_may_ask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
