/* SPDX-License-Identifier: ISC */
#include "proxy/log.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "cache/err.h"
#include "proxy/log_format.h"

static const struct access_line full = {
    .time_ms = INT64_C(1795499621123),
    .client = "10.0.0.7",
    .user = "alice",
    .method = "GET",
    .door = "prefix",
    .registry = "docker.io",
    .repository = "library/alpine",
    .reference = "latest",
    .status = 200,
    .body_bytes = 1234567890123,
    .outcome = "hit",
    .duration_us = 1034,
    .user_agent = "docker/27.0 \"x\"",
};

static char *access_text(const struct access_line *line, struct log_shape shape)
{
    static char out[LOG_ACCESS_MAX + 1];
    struct log_clock clock = {0};
    size_t len = log_format_access(out, shape, &clock, line);
    assert_true(len <= LOG_ACCESS_MAX);
    out[len] = '\0';
    assert_ptr_equal(strchr(out, '\n'), out + len - 1);
    return out;
}

static void an_access_line_has_every_field_in_order(void **state)
{
    (void)state;
    assert_string_equal(access_text(&full, (struct log_shape){0}),
                        "2026-11-24T05:53:41.123Z access 10.0.0.7 alice GET prefix docker.io "
                        "library/alpine latest 200 1234567890123 hit 1.034 \"docker/27.0 "
                        "\\\"x\\\"\"\n");
    assert_string_equal(
        access_text(&full, (struct log_shape){.json = true}),
        "{\"time\":\"2026-11-24T05:53:41.123Z\",\"type\":\"access\",\"client\":\"10.0.0.7\","
        "\"user\":\"alice\",\"method\":\"GET\",\"door\":\"prefix\",\"registry\":\"docker.io\","
        "\"repository\":"
        "\"library/alpine\",\"reference\":\"latest\",\"status\":200,\"bytes\":1234567890123,"
        "\"outcome\":\"hit\",\"ms\":1.034,\"user_agent\":\"docker/27.0 \\\"x\\\"\"}\n");
}

static void what_is_absent_is_a_dash_or_left_out(void **state)
{
    (void)state;
    struct access_line line = {.status = 400, .registry = "", .client = "::1"};
    assert_string_equal(access_text(&line, (struct log_shape){.priorities = true}),
                        "<6>1970-01-01T00:00:00.000Z access ::1 - - - - - - 400 0 - 0.000 \"-\"\n");
    assert_string_equal(access_text(&line, (struct log_shape){.json = true, .priorities = true}),
                        "{\"time\":\"1970-01-01T00:00:00.000Z\",\"type\":\"access\",\"client\":"
                        "\"::1\",\"status\":400,\"bytes\":0,\"ms\":0.000}\n");
}

static void bytes_of_a_peer_cannot_end_a_field_or_line(void **state)
{
    (void)state;
    struct access_line line = full;
    line.user = "a\n- \"";
    line.reference = "a b\"c\\d\n\x7f\xc3\xa9";
    line.user_agent = "x\r\n2026 access\t\"\\";
    char *text = access_text(&line, (struct log_shape){0});
    assert_non_null(strstr(text, " 10.0.0.7 a\\x0a-\\x20\\x22 GET "));
    assert_non_null(strstr(text, " a\\x20b\\x22c\\x5cd\\x0a\\x7f\\xc3\\xa9 200 "));
    assert_non_null(strstr(text, "\"x\\x0d\\x0a2026 access\\x09\\\"\\\\\"\n"));
    text = access_text(&line, (struct log_shape){.json = true});
    assert_non_null(strstr(text, "\"user\":\"a\\u000a- \\\"\","));
    assert_non_null(strstr(text, "\"reference\":\"a b\\\"c\\\\d\\u000a\\u007f\\u00c3\\u00a9\","));
}

static void the_longest_fields_fit(void **state)
{
    (void)state;
    char *wide = mem_new(10000);
    memset(wide, 0xff, 9999);
    struct access_line line = {
        .time_ms = INT64_C(253402300799999),
        .client = wide,
        .user = wide,
        .method = wide,
        .door = wide,
        .registry = wide,
        .repository = wide,
        .reference = wide,
        .status = 999,
        .body_bytes = UINT64_MAX,
        .outcome = wide,
        .duration_us = UINT64_MAX,
        .user_agent = wide,
    };
    for (int json = 0; json < 2; json++) {
        char *text = access_text(&line, (struct log_shape){.json = json, .priorities = true});
        assert_non_null(strstr(text, json ? "\\u00ff...\"" : "\\xff... "));
    }
    free(wide);
}

static void events_have_levels(void **state)
{
    (void)state;
    char out[LOG_EVENT_MAX(64)];
    struct log_clock clock = {0};
    size_t len = log_format_event(out, (struct log_shape){.priorities = true}, &clock, 5, LOG_WARN,
                                  "disk \"x\" is\nfull\\", true);
    out[len] = '\0';
    assert_string_equal(out, "<4>1970-01-01T00:00:00.005Z warn disk \"x\" is\\x0afull\\\\...\n");
    len = log_format_event(out, (struct log_shape){.json = true}, &clock, 1005, LOG_ERROR, "a\"b",
                           false);
    out[len] = '\0';
    assert_string_equal(out, "{\"time\":\"1970-01-01T00:00:01.005Z\",\"type\":\"event\",\"level\":"
                             "\"error\",\"message\":\"a\\\"b\"}\n");
}

static char *read_file(const char *path)
{
    FILE *in = fopen(path, "r");
    assert_non_null(in);
    char *text = NULL;
    size_t size = 0;
    ssize_t len = getdelim(&text, &size, '\0', in);
    fclose(in);
    return len < 0 ? (free(text), mem_format("%s", "")) : text;
}

static void the_log_filters_gathers_and_reopens(void **state)
{
    (void)state;
    char dir[] = "/tmp/log_test.XXXXXX";
    assert_non_null(mkdtemp(dir));
    char *path = mem_format("%s/log", dir);
    char *rotated = mem_format("%s/log.1", dir);
    char *nowhere = mem_format("%s/none/log", dir);
    struct log *log;
    assert_int_equal(log_open(&log, nowhere, LOG_TEXT, LOG_INFO, true), ERR_NOT_FOUND);
    assert_int_equal(log_open(&log, path, LOG_TEXT, LOG_INFO, true), 0);
    struct log_buffer *buffer = log_buffer_new(log);
    log_event(log, LOG_DEBUG, "not this");
    log_event(log, LOG_INFO, "this %d", 7);
    log_access(buffer, &full);
    char *text = read_file(path);
    assert_non_null(strstr(text, "Z info this 7\n"));
    assert_null(strstr(text, "not this"));
    assert_null(strstr(text, "access"));
    free(text);
    log_flush(buffer);
    text = read_file(path);
    assert_non_null(strstr(text, " access 10.0.0.7 "));
    free(text);

    assert_int_equal(rename(path, rotated), 0);
    assert_int_equal(log_reopen(log, path, LOG_JSON, LOG_DEBUG, false), 0);
    assert_int_equal(log_reopen(log, nowhere, LOG_TEXT, LOG_ERROR, true), ERR_NOT_FOUND);
    log_event(log, LOG_DEBUG, "after");
    log_access(buffer, &full);
    log_buffer_free(&buffer);
    text = read_file(path);
    assert_int_equal(text[0], '{');
    assert_non_null(strstr(text, "after"));
    assert_null(strstr(text, "access"));
    free(text);
    log_event(NULL, LOG_ERROR, "nobody");
    log_close(&log);
    log_close(&log);

    unlink(path);
    unlink(rotated);
    rmdir(dir);
    free(path);
    free(rotated);
    free(nowhere);
}

/* Standard error as a file, which is and is not the journal. */
static void priorities_are_for_the_journal(void **state)
{
    (void)state;
    char path[] = "/tmp/log_test.XXXXXX";
    int fd = mkstemp(path);
    int saved = dup(STDERR_FILENO);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    dup2(fd, STDERR_FILENO);
    for (int ours = 0; ours < 2; ours++) {
        char *stream = mem_format("%llu:%llu", (unsigned long long)st.st_dev,
                                  (unsigned long long)st.st_ino + !ours);
        setenv("JOURNAL_STREAM", stream, 1);
        free(stream);
        struct log *log;
        assert_int_equal(log_open(&log, NULL, LOG_TEXT, LOG_INFO, true), 0);
        log_event(log, LOG_ERROR, "ours %d", ours);
        log_close(&log);
    }
    unsetenv("JOURNAL_STREAM");
    dup2(saved, STDERR_FILENO);
    close(saved);
    char *text = read_file(path);
    assert_int_equal(text[0], '2'); /* of the year: no priority */
    assert_non_null(strstr(text, "\n<3>20"));
    free(text);
    close(fd);
    unlink(path);
}

#define WRITERS 4
#define LINES 2000

static void *write_lines(void *arg)
{
    struct log *log = arg;
    struct log_buffer *buffer = log_buffer_new(log);
    for (int i = 0; i < LINES; i++) {
        log_access(buffer, &full);
        if (i % 10 == 0)
            log_event(log, LOG_INFO, "event");
    }
    log_buffer_free(&buffer);
    return NULL;
}

static void *write_and_close(void *arg)
{
    struct log *log = arg;
    pthread_t writers[WRITERS];
    for (int i = 0; i < WRITERS; i++)
        pthread_create(&writers[i], NULL, write_lines, log);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(writers[i], NULL);
    log_close(&log);
    return NULL;
}

/* Through a pipe, where the kernel takes long writes in parts. */
static void lines_of_many_threads_stay_whole(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    char *path = mem_format("/proc/self/fd/%d", ends[1]);
    struct log *log;
    assert_int_equal(log_open(&log, path, LOG_JSON, LOG_INFO, true), 0);
    free(path);
    close(ends[1]);
    pthread_t writer;
    pthread_create(&writer, NULL, write_and_close, log);
    FILE *in = fdopen(ends[0], "r");
    char line[4096];
    int count = 0;
    for (; fgets(line, sizeof line, in) != NULL; count++) {
        assert_memory_equal(line, "{\"time\":\"", 9);
        assert_string_equal(line + strlen(line) - 2, "}\n");
    }
    assert_int_equal(count, WRITERS * (LINES + LINES / 10));
    fclose(in);
    pthread_join(writer, NULL);
}

/* A reader that takes nothing, then all: the cut line ends before the next. */
static void a_torn_line_is_ended_before_the_next(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    assert_true(fcntl(ends[1], F_SETPIPE_SZ, 4096) >= 4096);
    int saved = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    struct log *log;
    assert_int_equal(log_open(&log, NULL, LOG_TEXT, LOG_INFO, true), 0);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(ends[1]);
    struct log_buffer *buffer = log_buffer_new(log);
    for (int i = 0; i < 100; i++)
        log_access(buffer, &full);
    log_flush(buffer);
    char data[8192];
    assert_true(read(ends[0], data, sizeof data) == 4096);
    log_event(log, LOG_INFO, "next");
    ssize_t n = read(ends[0], data, sizeof data - 1);
    assert_true(n > 0);
    data[n] = '\0';
    assert_int_equal(data[0], '\n');
    assert_non_null(strstr(data, "info next\n"));
    log_buffer_free(&buffer);
    log_close(&log);
    close(ends[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_access_line_has_every_field_in_order),
        cmocka_unit_test(what_is_absent_is_a_dash_or_left_out),
        cmocka_unit_test(bytes_of_a_peer_cannot_end_a_field_or_line),
        cmocka_unit_test(the_longest_fields_fit),
        cmocka_unit_test(events_have_levels),
        cmocka_unit_test(the_log_filters_gathers_and_reopens),
        cmocka_unit_test(priorities_are_for_the_journal),
        cmocka_unit_test(lines_of_many_threads_stay_whole),
        cmocka_unit_test(a_torn_line_is_ended_before_the_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
