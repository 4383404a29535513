/* SPDX-License-Identifier: ISC */
/* The last warnings and errors: how many, who may read them, and that no text breaks out. */
#include "proxy/log_recent.h"

#include <fcntl.h>
#include <unistd.h>

#include "tests/unit/scratch.h"

struct seen {
    unsigned count;
    struct log_recent_event events[LOG_RECENT_MAX];
};

static void take(void *arg, const struct log_recent_event *e)
{
    struct seen *seen = arg;

    assert_true(seen->count < LOG_RECENT_MAX);
    seen->events[seen->count++] = *e;
}

static struct seen *look(struct log_recent *r)
{
    struct seen *seen = calloc(1, sizeof *seen);

    log_recent_walk(r, take, seen);
    return seen;
}

static void add(struct log_recent *r, int64_t now_ms, const char *text)
{
    log_recent_add(r, now_ms, LOG_WARN, LOG_FOR_ALL, NULL, text);
}

static void test_the_newest_come_first_and_the_oldest_go(void **state)
{
    struct log_recent *r = log_recent_new();
    char text[32];

    (void)state;
    for (int i = 0; i < LOG_RECENT_MAX + 10; i++) {
        snprintf(text, sizeof text, "event %d", i);
        add(r, i, text);
    }
    struct seen *seen = look(r);
    assert_int_equal(seen->count, LOG_RECENT_MAX);
    assert_string_equal(seen->events[0].text, "event 73");
    assert_string_equal(seen->events[LOG_RECENT_MAX - 1].text, "event 10");
    free(seen);
    log_recent_free(&r);
    assert_null(r);
}

static void test_the_same_is_counted(void **state)
{
    struct log_recent *r = log_recent_new();
    struct name app = scratch_name("docker.io", "app"), other = scratch_name("docker.io", "b");

    (void)state;
    for (int i = 1; i <= 1000; i++)
        add(r, i, "again");
    log_recent_add(r, 2000, LOG_ERROR, LOG_FOR_ALL, NULL, "again");
    log_recent_add(r, 2001, LOG_ERROR, LOG_FOR_READERS, &app, "again");
    log_recent_add(r, 2002, LOG_ERROR, LOG_FOR_READERS, &other, "again");
    struct seen *seen = look(r);
    assert_int_equal(seen->count, 4);
    assert_int_equal(seen->events[3].count, 1000);
    assert_int_equal(seen->events[3].first_ms, 1);
    assert_int_equal(seen->events[3].last_ms, 1000);
    assert_true(name_equal(&seen->events[0].about, &other));
    free(seen);
    log_recent_free(&r);
}

static void test_texts_are_visible_ascii(void **state)
{
    struct log_recent *r = log_recent_new();
    char text[2 * LOG_RECENT_TEXT_MAX];

    (void)state;
    add(r, 1, "a\nb\x1b[31m\xc3\x28 <script>\"\\");
    memset(text, '\xff', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    add(r, 2, text);
    struct seen *seen = look(r);
    assert_string_equal(seen->events[1].text, "a\\x0ab\\x1b[31m\\xc3( <script>\"\\");
    size_t len = strlen(seen->events[0].text);
    assert_true(len < LOG_RECENT_TEXT_MAX && len % 4 == 0);
    free(seen);
    log_recent_free(&r);
}

/* What is said of nothing in particular is for who may read the log; infos are not kept; what
 * the log itself leaves out is kept all the same. */
static void test_what_the_log_keeps(void **state)
{
    struct name app = scratch_name("docker.io", "app");
    struct log *log;
    char dir[64];

    (void)state;
    scratch_dir(dir);
    assert_int_equal(log_open(&log, scratch_path(dir, "log"), LOG_TEXT, LOG_ERROR, false), 0);
    log_event(log, LOG_INFO, "nothing");
    log_event(log, LOG_WARN, "who %s", "knows");
    log_event_about(log, LOG_WARN, &app, "of the app");
    log_event_about(log, LOG_ERROR, NULL, "of nobody");
    struct seen *seen = look(log_recent(log));
    assert_int_equal(seen->count, 3);
    assert_int_equal(seen->events[0].readers, LOG_FOR_ALL);
    assert_int_equal(seen->events[1].readers, LOG_FOR_READERS);
    assert_true(name_equal(&seen->events[1].about, &app));
    assert_int_equal(seen->events[2].readers, LOG_FOR_OPERATOR);
    assert_string_equal(seen->events[2].text, "who knows");
    free(seen);
    log_close(&log);
    scratch_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_newest_come_first_and_the_oldest_go),
        cmocka_unit_test(test_the_same_is_counted),
        cmocka_unit_test(test_texts_are_visible_ascii),
        cmocka_unit_test(test_what_the_log_keeps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
