/* SPDX-License-Identifier: ISC */
/* Helpers that are run, and the credentials that are kept. Helpers are shell scripts. */
#include "proxy/keyring.h"

#include "tests/unit/scratch.h"

#include <signal.h>

#include <event2/event.h>

#include "proxy/helper.h"

#define NOW INT64_C(1000000)
#define MINUTE (60 * INT64_C(1000))

struct fixture {
    char dir[64];
    struct event_base *base;
    struct keyring *keyring;
    char program[128];
    char file[128];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    scratch_dir(f->dir);
    f->base = event_base_new();
    assert_non_null(f->base);
    f->keyring = keyring_new(f->base, NULL);
    snprintf(f->program, sizeof f->program, "%s/helper", f->dir);
    snprintf(f->file, sizeof f->file, "%s/secret", f->dir);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    keyring_free(&f->keyring);
    event_base_free(f->base);
    scratch_remove(f->dir);
    free(f);
    return 0;
}

/* The program is the shell's: what it does is said in `body`. */
static void script(struct fixture *f, const char *body)
{
    char text[1024];
    int len = snprintf(text, sizeof text, "#!/bin/sh\ncd '%s' || exit 9\n%s\n", f->dir, body);

    scratch_file(f->dir, "helper.new", text, (size_t)len);
    assert_int_equal(chmod(scratch_path(f->dir, "helper.new"), 0700), 0);
    char from[512];
    snprintf(from, sizeof from, "%s", scratch_path(f->dir, "helper.new"));
    assert_int_equal(rename(from, f->program), 0);
}

/* --- one run --- */

struct run {
    struct fixture *f;
    bool is_done;
    char *answer;
    char why[256];
};

static void on_done(void *arg, const char *answer, size_t len, const char *why)
{
    struct run *r = arg;

    assert_false(r->is_done);
    r->is_done = true;
    r->answer = answer != NULL ? strndup(answer, len) : NULL;
    snprintf(r->why, sizeof r->why, "%s", why);
    event_base_loopbreak(r->f->base);
}

static void run(struct run *r, struct fixture *f, int timeout_ms, size_t answer_max)
{
    *r = (struct run){.f = f};
    struct helper_order o = {f->program, "registry.lan:5000", timeout_ms, answer_max, on_done, r};
    assert_non_null(helper_start(f->base, &o));
    assert_false(r->is_done);
    while (!r->is_done)
        assert_int_equal(event_base_loop(f->base, EVLOOP_ONCE), 0);
}

static void a_helper_is_told_the_server_and_answers(void **state)
{
    struct fixture *f = *state;
    struct run r;

    script(f, "echo \"$# $1\"; cat");
    run(&r, f, 20000, 1000);
    assert_string_equal(r.answer, "1 get\nregistry.lan:5000");
    assert_string_equal(r.why, "");
    free(r.answer);
}

static void a_helper_inherits_nothing(void **state)
{
    struct fixture *f = *state;
    struct run r;

    assert_int_equal(setenv("HUNTER", "hunter2", 1), 0);
    int leak = dup(STDERR_FILENO); /* without close-on-exec */
    assert_true(leak > 2);
    script(f, "/usr/bin/env -u PWD -u OLDPWD -u _ -u SHLVL | sort | cut -d= -f1 | tr '\\n' ' '\n"
              "ls /proc/self/fd | tr '\\n' ' '\n"
              /* Signals 1 to 28; the C library keeps some of its own. */
              "grep -E 'Sig(Blk|Ign)' /proc/self/status | cut -c 18- | tr '\\n' ' '\n");
    run(&r, f, 20000, 1000);
    close(leak);
    unsetenv("HUNTER");
    /* 3 is the folder that ls reads. */
    assert_string_equal(r.answer, "HOME LANG PATH 0 1 2 3 0000000 0000000 ");
    free(r.answer);
}

struct fault_row {
    const char *body;
    const char *why;
};

static const struct fault_row faults[] = {
    {"exit 1", "/helper ended with status 1"},
    {"echo credentials not found in native keychain; exit 1",
     "/helper ended with status 1: credentials not found in native keychain"},
    {"printf 'a\\tb\\033[2J\\nsecond'; exit 2", "/helper ended with status 2: a?b?[2J"},
    {"echo '{\"Secret\":\"hunter2\"}'; exit 1", "/helper ended with status 1"},
    {"kill -9 $$", "/helper was ended by signal 9"},
    {"head -c 1001 /dev/zero", "/helper said more than 1000 bytes"},
    {"cat /dev/zero", "/helper said more than 1000 bytes"},
    {"cat /dev/zero & wait", "/helper said more than 1000 bytes"},
};

static void a_helper_may_fail(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        struct run r;
        script(f, faults[i].body);
        run(&r, f, 20000, 1000);
        assert_null(r.answer);
        if (strcmp(r.why + strlen(f->dir), faults[i].why) != 0)
            fail_msg("%s: %s", faults[i].body, r.why);
    }
}

static void a_helper_that_cannot_be_run(void **state)
{
    struct fixture *f = *state;
    struct run r;

    run(&r, f, 20000, 1000);
    assert_non_null(strstr(r.why, "cannot be run: No such file"));
    scratch_file(f->dir, "helper", "x", 1);
    run(&r, f, 20000, 1000);
    assert_non_null(strstr(r.why, "cannot be run: Permission denied"));
}

static void a_helper_that_hangs_is_killed(void **state)
{
    struct fixture *f = *state;
    struct run r;

    script(f, "sleep 1000 & echo $! > child; wait");
    run(&r, f, 300, 1000);
    assert_null(r.answer);
    assert_non_null(strstr(r.why, "did not end within 300 ms"));
}

static void a_child_that_stays_is_not_waited_for(void **state)
{
    struct fixture *f = *state;
    struct run r;
    char pid[32] = "";

    script(f, "sleep 1000 & echo $! > child; printf answer");
    run(&r, f, 20000, 1000);
    assert_string_equal(r.answer, "answer");
    free(r.answer);
    FILE *in = fopen(scratch_path(f->dir, "child"), "r");
    assert_non_null(in);
    assert_non_null(fgets(pid, sizeof pid, in));
    fclose(in);
    assert_int_equal(kill((pid_t)strtol(pid, NULL, 10), 9), 0);
}

static void a_helper_can_be_stopped(void **state)
{
    struct fixture *f = *state;
    struct run r = {.f = f};
    struct helper_order o = {f->program, "x", 20000, 1000, on_done, &r};

    script(f, "sleep 1000");
    struct helper *h = helper_start(f->base, &o);
    helper_stop(&h);
    assert_null(h);
    helper_stop(&h);
    assert_int_not_equal(event_base_loop(f->base, EVLOOP_NONBLOCK), -1);
    assert_false(r.is_done);
}

/* --- the keyring --- */

struct waiting {
    struct keyring_waiter waiter;
    unsigned woken;
};

static void on_ready(struct keyring_waiter *w)
{
    struct waiting *x = (struct waiting *)w;

    assert_null(w->key);
    x->woken++;
}

static struct keyring_answer get(struct fixture *f, const struct keyring_source *s, int64_t now_ms)
{
    struct keyring_answer a;

    keyring_get(f->keyring, s, now_ms, &a);
    if (a.state != KEYRING_BUSY)
        return a;
    struct waiting w = {.waiter.ready = on_ready};
    keyring_wait(f->keyring, s, &w.waiter);
    while (w.woken == 0)
        assert_int_equal(event_base_loop(f->base, EVLOOP_ONCE), 0);
    keyring_get(f->keyring, s, now_ms, &a);
    assert_int_not_equal(a.state, KEYRING_BUSY);
    return a;
}

/* How often the scripts below were run. */
static size_t runs(struct fixture *f)
{
    long size = scratch_file_size(f->dir, "runs");

    return size < 0 ? 0 : (size_t)size;
}

#define COUNT_RUN "printf x >> runs\n"
#define GOOD(secret) COUNT_RUN "echo '{\"Username\":\"AWS\",\"Secret\":\"" secret "\"}'"

static void nobody_is_anonymous_with_a_source(void **state)
{
    struct fixture *f = *state;
    struct keyring_source s = {.registry = "a.lan"};

    assert_int_equal(get(f, &s, NOW).state, KEYRING_ANONYMOUS);
    assert_false(keyring_refused(f->keyring, &s, 0, NOW));
}

static void a_password_is_read_again_when_refused(void **state)
{
    struct fixture *f = *state;
    struct keyring_source s = {.registry = "a.lan", .username = "me", .password_file = f->file};

    assert_int_equal(get(f, &s, NOW).state, KEYRING_FAILED);
    scratch_file(f->dir, "secret", "one", 3);
    /* Not at once. */
    assert_int_equal(get(f, &s, NOW + 1).state, KEYRING_FAILED);
    struct keyring_answer a = get(f, &s, NOW + 10000);
    assert_int_equal(a.state, KEYRING_READY);
    assert_string_equal(a.credential->username, "me");
    assert_string_equal(a.credential->secret, "one");
    assert_int_not_equal(a.id, 0);
    uint64_t first = a.id;
    assert_false(keyring_refused(f->keyring, &s, first, NOW + 10001));
    assert_int_equal(get(f, &s, NOW + 10001).id, first);
    scratch_file(f->dir, "secret", "two", 3);
    assert_int_equal(get(f, &s, NOW + 10002).id, first);
    assert_true(keyring_refused(f->keyring, &s, first, NOW + 10003));
    a = get(f, &s, NOW + 10003);
    assert_string_equal(a.credential->secret, "two");
    assert_int_not_equal(a.id, first);
    /* Somebody else was quicker. */
    assert_true(keyring_refused(f->keyring, &s, first, NOW + 10004));
    /* Sooner or later anyway; and when the file is gone, it is gone. */
    scratch_file(f->dir, "secret", "three", 5);
    assert_string_equal(get(f, &s, NOW + 10003 + MINUTE).credential->secret, "three");
    assert_int_equal(unlink(f->file), 0);
    a = get(f, &s, NOW + 10003 + 2 * MINUTE);
    assert_int_equal(a.state, KEYRING_FAILED);
    assert_non_null(strstr(a.why, "No such file"));
}

static void a_helper_is_run_once_for_all(void **state)
{
    struct fixture *f = *state;
    struct keyring_source s = {.registry = "a.lan", .helper = f->program};
    struct keyring_answer a;
    struct waiting w[3] = {
        {.waiter.ready = on_ready}, {.waiter.ready = on_ready}, {.waiter.ready = on_ready}};

    script(f, GOOD("one"));
    for (int i = 0; i < 3; i++) {
        keyring_get(f->keyring, &s, NOW, &a);
        assert_int_equal(a.state, KEYRING_BUSY);
        keyring_wait(f->keyring, &s, &w[i].waiter);
    }
    keyring_leave(&w[1].waiter);
    keyring_leave(&w[1].waiter);
    while (w[0].woken == 0)
        assert_int_equal(event_base_loop(f->base, EVLOOP_ONCE), 0);
    assert_int_equal(w[0].woken, 1);
    assert_int_equal(w[1].woken, 0);
    assert_int_equal(w[2].woken, 1);
    a = get(f, &s, NOW + 59 * MINUTE);
    assert_string_equal(a.credential->secret, "one");
    assert_int_equal(runs(f), 1);
    /* After an hour; the same answer is the same credential. */
    uint64_t id = a.id;
    a = get(f, &s, NOW + 60 * MINUTE);
    assert_int_equal(runs(f), 2);
    assert_int_equal(a.id, id);
}

static void a_helper_is_run_again_when_refused_but_not_often(void **state)
{
    struct fixture *f = *state;
    struct keyring_source s = {.registry = "a.lan", .helper = f->program};

    script(f, GOOD("one"));
    uint64_t id = get(f, &s, NOW).id;
    script(f, GOOD("two"));
    assert_false(keyring_refused(f->keyring, &s, id, NOW + MINUTE));
    assert_int_equal(get(f, &s, NOW + MINUTE).id, id);
    assert_true(keyring_refused(f->keyring, &s, id, NOW + 2 * MINUTE));
    struct keyring_answer a = get(f, &s, NOW + 2 * MINUTE);
    assert_string_equal(a.credential->secret, "two");
    assert_int_not_equal(a.id, id);
    assert_int_equal(runs(f), 2);
}

static void a_helper_that_fails_leaves_what_it_gave(void **state)
{
    struct fixture *f = *state;
    struct keyring_source s = {.registry = "a.lan", .helper = f->program};

    script(f, COUNT_RUN "echo no network; exit 1");
    struct keyring_answer a = get(f, &s, NOW);
    assert_int_equal(a.state, KEYRING_FAILED);
    assert_non_null(strstr(a.why, "status 1: no network"));
    assert_int_equal(get(f, &s, NOW + 9999).state, KEYRING_FAILED);
    assert_int_equal(runs(f), 1);
    script(f, GOOD("one"));
    assert_int_equal(get(f, &s, NOW + 10000).state, KEYRING_READY);
    script(f, COUNT_RUN "echo nonsense");
    a = get(f, &s, NOW + 10000 + 60 * MINUTE);
    assert_int_equal(a.state, KEYRING_READY);
    assert_string_equal(a.credential->secret, "one");
    assert_int_equal(runs(f), 3);
}

static void another_configuration_is_another_credential(void **state)
{
    struct fixture *f = *state;
    struct keyring_source a = {.registry = "a.lan", .username = "a", .password_file = f->file};
    struct keyring_source b = {.registry = "b.lan", .username = "a", .password_file = f->file};

    scratch_file(f->dir, "secret", "one", 3);
    uint64_t a_id = get(f, &a, NOW).id;
    uint64_t b_id = get(f, &b, NOW).id;
    assert_int_not_equal(a_id, b_id);
    a.username = "other";
    uint64_t other_id = get(f, &a, NOW).id;
    assert_int_not_equal(other_id, a_id);
    assert_string_equal(get(f, &a, NOW).credential->username, "other");
    assert_int_equal(get(f, &b, NOW).id, b_id);
}

static void the_end_comes_while_a_helper_runs(void **state)
{
    struct fixture *f = *state;
    struct keyring_source s = {.registry = "a.lan", .helper = f->program};
    struct keyring_answer a;
    struct waiting w = {.waiter.ready = on_ready};

    script(f, "sleep 1000");
    keyring_get(f->keyring, &s, NOW, &a);
    assert_int_equal(a.state, KEYRING_BUSY);
    keyring_wait(f->keyring, &s, &w.waiter);
    keyring_leave(&w.waiter);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_helper_is_told_the_server_and_answers),
        TEST(a_helper_inherits_nothing),
        TEST(a_helper_may_fail),
        TEST(a_helper_that_cannot_be_run),
        TEST(a_helper_that_hangs_is_killed),
        TEST(a_child_that_stays_is_not_waited_for),
        TEST(a_helper_can_be_stopped),
        TEST(nobody_is_anonymous_with_a_source),
        TEST(a_password_is_read_again_when_refused),
        TEST(a_helper_is_run_once_for_all),
        TEST(a_helper_is_run_again_when_refused_but_not_often),
        TEST(a_helper_that_fails_leaves_what_it_gave),
        TEST(another_configuration_is_another_credential),
        TEST(the_end_comes_while_a_helper_runs),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
