/* SPDX-License-Identifier: ISC */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/ask.h"

static const struct behalf nobody;
static const struct behalf alice = {.authorization = "Bearer alice"};
static const struct name alpine = {"docker.io", "library/alpine"};
static const struct name busybox = {"docker.io", "library/busybox"};

struct counted {
    struct asker asker;
    int wakes;
};

static void count_wake(struct asker *a)
{
    ((struct counted *)a)->wakes++;
}

/* The same question about the same name is one ask; another kind, name, reference
 * or credential is another. */
static void test_collapse(void **state)
{
    struct ask_table *t = ask_table_new();
    struct ask *asks[6];
    bool created;

    (void)state;
    asks[0] = ask_join(t, ASK_TAG, &alpine, "latest", &nobody, &created);
    assert_true(created);
    asks[1] = ask_join(t, ASK_TAG, &alpine, "latest", &nobody, &created);
    assert_false(created);
    assert_ptr_equal(asks[0], asks[1]);
    asks[2] = ask_join(t, ASK_LIST, &alpine, "latest", &nobody, &created);
    assert_true(created);
    asks[3] = ask_join(t, ASK_TAG, &busybox, "latest", &nobody, &created);
    assert_true(created);
    asks[4] = ask_join(t, ASK_TAG, &alpine, "3", &nobody, &created);
    assert_true(created);
    asks[5] = ask_join(t, ASK_TAG, &alpine, "3", &alice, &created);
    assert_true(created);
    assert_string_equal(ask_behalf(asks[5])->authorization, "Bearer alice");
    assert_string_equal(ask_reference(asks[4]), "3");
    assert_string_equal(ask_name(asks[3])->repository, "library/busybox");
    for (int i = 0; i < 6; i++) {
        if (i != 1) {
            ask_fail(asks[i], OUT_DRAINING, "test %d", i);
            ask_finish(t, asks[i]);
        }
    }
    assert_string_equal(ask_result(asks[4])->why, "test 4");
    for (int i = 0; i < 6; i++)
        ask_unref(&asks[i]);
    ask_table_free(&t);
}

/* Those who wait are woken once; those who cancelled, never; who comes late does
 * not wait; the next question is a new ask. */
static void test_wait(void **state)
{
    struct ask_table *t = ask_table_new();
    struct counted waits = {.asker.wake = count_wake}, leaves = waits, late = waits;
    bool created;
    struct ask *a = ask_join(t, ASK_MANIFEST, &alpine, "sha256:00", &nobody, &created);

    (void)state;
    assert_true(ask_wait(&waits.asker, a));
    assert_true(ask_wait(&leaves.asker, a));
    ask_cancel(&leaves.asker);
    ask_answer(a)->outcome = OUT_MISS;
    ask_finish(t, a);
    assert_int_equal(waits.wakes, 1);
    assert_int_equal(leaves.wakes, 0);
    assert_false(ask_wait(&late.asker, a));
    assert_int_equal(ask_result(a)->outcome, OUT_MISS);
    ask_cancel(&waits.asker);
    ask_cancel(&waits.asker);

    struct ask *next = ask_join(t, ASK_MANIFEST, &alpine, "sha256:00", &nobody, &created);
    assert_true(created);
    ask_fail(next, OUT_DRAINING, "end");
    ask_finish(t, next);
    ask_unref(&next);
    ask_unref(&a);
    ask_table_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_collapse),
        cmocka_unit_test(test_wait),
    };

    return cmocka_run_group_tests_name("ask", tests, NULL, NULL);
}
