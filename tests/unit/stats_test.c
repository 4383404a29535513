/* SPDX-License-Identifier: ISC */
#include "proxy/stats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache/check.h"

static char *format(struct stats *s)
{
    size_t len;
    char *text = stats_format(s, &len);
    assert_int_equal(len, strlen(text));
    return text;
}

static void check_line(const char *text, const char *line)
{
    char *whole = mem_format("\n%s\n", line);
    if (strstr(text, whole) == NULL)
        fail_msg("no line \"%s\" in:\n%s", line, text);
    free(whole);
}

/* Every line is a comment of its metric, or a sample; each metric comes once. */
static void check_grammar(const char *text)
{
    char *copy = mem_copy(text, strlen(text));
    char metric[128] = "";
    char *rest = NULL;
    for (char *line = strtok_r(copy, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(line, "# HELP ", 7) == 0) {
            assert_int_equal(sscanf(line + 7, "%127s", metric), 1);
            char *again = mem_format("# HELP %s ", metric);
            assert_null(strstr(strstr(text, again) + 1, again));
            free(again);
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            assert_int_equal(strncmp(line + 7, metric, strlen(metric)), 0);
            const char *type = line + 7 + strlen(metric) + 1;
            assert_true(strcmp(type, "counter") == 0 || strcmp(type, "gauge") == 0);
            assert_int_equal(strcmp(type, "counter") == 0,
                             strcmp(metric + strlen(metric) - strlen("_total"), "_total") == 0);
        } else {
            assert_int_equal(strncmp(line, metric, strlen(metric)), 0);
            assert_true(line[strlen(metric)] == ' ' || line[strlen(metric)] == '{');
            const char *value = strrchr(line, ' ') + 1;
            assert_true(*value != '\0');
            assert_int_equal(strspn(value, "0123456789"), strlen(value));
        }
    }
    free(copy);
}

static void every_series_is_there_from_the_start(void **state)
{
    (void)state;
    struct stats *s = mem_new(sizeof *s);
    char *text = format(s);
    check_grammar(text);
#define CHECK_ROW(field, metric, type, help) check_line(text, metric " 0");
    STATS_TABLE(CHECK_ROW)
#undef CHECK_ROW
    for (int i = 0; i < OUTCOME_COUNT; i++) {
        char *line = mem_format("cachalot_requests_total{result=\"%s\"} 0",
                                outcome_row((enum outcome)i)->word);
        check_line(text, line);
        free(line);
    }
    assert_non_null(strstr(text, "\ncachalot_build_info{version=\""));
    free(text);
    free(s);
}

static void counters_and_registries_are_shown(void **state)
{
    (void)state;
    struct stats *s = mem_new(sizeof *s);
    STATS_ADD(s, connections, 3);
    STATS_SUB(s, connections, 1);
    STATS_ADD(s, client_bytes, UINT64_C(5000000000));
    STATS_ADD(s, requests[OUT_HIT], 1);
    struct registry_stats *hub = stats_add_registry(s, "docker.io");
    assert_ptr_equal(stats_add_registry(s, "docker.io"), hub);
    assert_ptr_equal(stats_find_registry(s, "docker.io"), hub);
    assert_null(stats_find_registry(s, "quay.io"));
    STATS_ADD(hub, lan_bytes, 7);
    stats_add_registry(s, "[::1]:5000");
    stats_note_failure(hub, OUT_UPSTREAM_REFUSED, 1000);
    stats_note_failure(hub, OUT_UPSTREAM_TIMEOUT, 1234);
    char *text = format(s);
    check_grammar(text);
    check_line(text, "cachalot_connections 2");
    check_line(text, "cachalot_client_bytes_total 5000000000");
    check_line(text, "cachalot_requests_total{result=\"hit\"} 1");
    check_line(text, "cachalot_registry_lan_bytes_total{registry=\"docker.io\"} 7");
    check_line(text, "cachalot_registry_line_bytes_total{registry=\"docker.io\"} 0");
    check_line(text, "cachalot_registry_hits_total{registry=\"[::1]:5000\"} 0");
    check_line(text, "cachalot_upstream_up{registry=\"docker.io\"} 1");
    check_line(text, "cachalot_upstream_failure_timestamp_seconds{registry=\"docker.io\","
                     "result=\"upstream-timeout\",text=\"the upstream did not answer in time\"} "
                     "1234");
    assert_null(strstr(text, "result=\"upstream-refused\",text"));
    assert_null(strstr(text, "cachalot_upstream_answered_timestamp_seconds{"));
    free(text);
    free(s);
}

static void registries_beyond_the_table_share_a_row(void **state)
{
    (void)state;
    struct stats *s = mem_new(sizeof *s);
    struct registry_stats *last = NULL;
    char name[32];
    for (int i = 0; i < STATS_REGISTRIES_MAX + 10; i++) {
        snprintf(name, sizeof name, "r%d.example", i);
        last = stats_add_registry(s, name);
        assert_non_null(last);
    }
    assert_int_equal(s->registry_count, STATS_REGISTRIES_MAX);
    assert_ptr_equal(last, &s->registries[STATS_REGISTRIES_MAX - 1]);
    assert_string_equal(last->registry, "others");
    assert_ptr_equal(stats_find_registry(s, name), last);
    assert_ptr_equal(stats_find_registry(s, "r0.example"), &s->registries[0]);
    char *text = format(s);
    check_grammar(text);
    free(text);
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_series_is_there_from_the_start),
        cmocka_unit_test(counters_and_registries_are_shown),
        cmocka_unit_test(registries_beyond_the_table_share_a_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
