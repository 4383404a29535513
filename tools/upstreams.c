/* SPDX-License-Identifier: ISC */
#include "tools/upstreams.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache/check.h"
#include "tools/output.h"

#define NOT_SAID (-1)
#define OLD_S 3600 /* what was said longer ago is shown with its age */
#define METRIC_PREFIX "cachalot_upstream_"

/* Times are in seconds since 1970; NOT_SAID is what the daemon does not say. */
struct upstream_state {
    char *registry;
    int64_t up;
    int64_t changed_at_s;
    int64_t answered_at_s;
    int64_t limited_until_s;
    int64_t limit;
    int64_t remaining;
    int64_t window_s;
    int64_t told_at_s;
    int64_t failed_at_s;
    char *result; /* of that failure, as in the access log; NULL when there was none */
    char *text;   /* the same for people */
};

static const struct {
    const char *metric; /* after the prefix */
    size_t offset;
} rows[] = {
    {"up", offsetof(struct upstream_state, up)},
    {"changed_timestamp_seconds", offsetof(struct upstream_state, changed_at_s)},
    {"answered_timestamp_seconds", offsetof(struct upstream_state, answered_at_s)},
    {"limited_until_timestamp_seconds", offsetof(struct upstream_state, limited_until_s)},
    {"ratelimit_limit", offsetof(struct upstream_state, limit)},
    {"ratelimit_remaining", offsetof(struct upstream_state, remaining)},
    {"ratelimit_window_seconds", offsetof(struct upstream_state, window_s)},
    {"ratelimit_told_timestamp_seconds", offsetof(struct upstream_state, told_at_s)},
    {"failure_timestamp_seconds", offsetof(struct upstream_state, failed_at_s)},
};

/* --- what the daemon says --- */

/* The value of a label, owned by the caller, or NULL. None of ours has escapes. */
static char *label(const char *line, const char *name)
{
    char *mark = mem_format("%s=\"", name);
    const char *start = strstr(line, mark);
    size_t len = strlen(mark);
    free(mark);
    if (start == NULL)
        return NULL;
    return mem_copy(start + len, strcspn(start + len, "\""));
}

static struct upstream_state *find_or_add(struct upstreams *u, const char *registry)
{
    for (size_t i = 0; i < u->count; i++) {
        if (strcmp(u->states[i].registry, registry) == 0)
            return &u->states[i];
    }
    u->states = mem_resize(u->states, (u->count + 1) * sizeof u->states[0]);
    struct upstream_state *s = &u->states[u->count++];
    *s = (struct upstream_state){.registry = mem_copy(registry, strlen(registry))};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        *(int64_t *)((char *)s + rows[i].offset) = NOT_SAID;
    return s;
}

void upstreams_take(struct upstreams *u, const char *line)
{
    size_t prefix_len = strlen(METRIC_PREFIX);
    const char *value = strrchr(line, ' ');
    char *registry = label(line, "registry");
    if (strncmp(line, METRIC_PREFIX, prefix_len) == 0 && value != NULL && registry != NULL) {
        struct upstream_state *s = find_or_add(u, registry);
        const char *metric = line + prefix_len;
        size_t len = strcspn(metric, "{");
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            if (strlen(rows[i].metric) == len && memcmp(rows[i].metric, metric, len) == 0)
                *(int64_t *)((char *)s + rows[i].offset) = strtoll(value + 1, NULL, 10);
        }
        if (s->result == NULL)
            s->result = label(line, "result");
        if (s->text == NULL)
            s->text = label(line, "text");
    }
    free(registry);
}

void upstreams_clear(struct upstreams *u)
{
    for (size_t i = 0; i < u->count; i++) {
        free(u->states[i].registry);
        free(u->states[i].result);
        free(u->states[i].text);
    }
    free(u->states);
    *u = (struct upstreams){0};
}

/* Until something was asked, "up" is a guess. */
static bool was_asked(const struct upstream_state *s)
{
    return s->answered_at_s != NOT_SAID || s->failed_at_s != NOT_SAID;
}

/* --- for programs --- */

static json_t *number_json(int64_t value)
{
    return value == NOT_SAID ? json_null() : json_integer(value);
}

static json_t *limit_json(const struct upstream_state *s)
{
    if (s->limit == NOT_SAID)
        return json_null();
    return json_pack("{so so so so}", "limit", number_json(s->limit), "remaining",
                     number_json(s->remaining), "window_seconds", number_json(s->window_s),
                     "told_at", number_json(s->told_at_s));
}

static json_t *failure_json(const struct upstream_state *s)
{
    if (s->failed_at_s == NOT_SAID)
        return json_null();
    return json_pack("{sI ss? ss?}", "at", (json_int_t)s->failed_at_s, "result", s->result, "text",
                     s->text);
}

json_t *upstreams_json(const struct upstreams *u)
{
    json_t *all = json_array();
    for (size_t i = 0; i < u->count; i++) {
        const struct upstream_state *s = &u->states[i];
        json_t *reachable = was_asked(s) ? json_boolean(s->up == 1) : json_null();
        json_array_append_new(all, json_pack("{ss so so so so so so}", "registry", s->registry,
                                             "reachable", reachable, "changed_at",
                                             number_json(s->changed_at_s), "answered_at",
                                             number_json(s->answered_at_s), "limited_until",
                                             number_json(s->limited_until_s), "ratelimit",
                                             limit_json(s), "last_failure", failure_json(s)));
    }
    return all;
}

/* --- for people --- */

/* " since" then: the time of today, or the day. */
static void since_text(char out[TEXT_MAX], int64_t at_s, int64_t now_s)
{
    time_t at = (time_t)at_s;
    time_t now = (time_t)now_s;
    struct tm then, today;
    out[0] = '\0';
    if (at_s == NOT_SAID || localtime_r(&at, &then) == NULL || localtime_r(&now, &today) == NULL)
        return;
    bool is_today = then.tm_year == today.tm_year && then.tm_yday == today.tm_yday;
    strftime(out, TEXT_MAX, is_today ? " since %H:%M:%S" : " since %Y-%m-%d", &then);
}

static void add_state(struct table *t, const struct upstream_state *s, int64_t now_s)
{
    char since[TEXT_MAX];
    since_text(since, s->changed_at_s, now_s);
    if (s->up != 1)
        table_add(t, "down%s", since);
    else if (s->limited_until_s > now_s)
        table_add(t, "left alone for %" PRId64 "s (429)", s->limited_until_s - now_s);
    else
        table_add(t, "up%s", since);
}

static void add_limit(struct table *t, const struct upstream_state *s, int64_t now_s)
{
    char window[TEXT_MAX] = "", age[TEXT_MAX];
    if (s->limit == NOT_SAID) {
        table_add(t, "-");
        return;
    }
    if (s->window_s != NOT_SAID)
        age_text(window, s->window_s);
    age_text(age, now_s - s->told_at_s);
    bool is_old = s->told_at_s != NOT_SAID && now_s - s->told_at_s >= OLD_S;
    table_add(t, "%" PRId64 " of %" PRId64 " left%s%s%s%s%s%s", s->remaining, s->limit,
              *window != '\0' ? " (" : "", window, *window != '\0' ? ")" : "", is_old ? ", " : "",
              is_old ? age : "", is_old ? " ago" : "");
}

static void add_row(struct table *t, const struct upstream_state *s, int64_t now_s)
{
    char age[TEXT_MAX];
    table_add(t, "%s", s->registry);
    add_state(t, s, now_s);
    if (s->answered_at_s == NOT_SAID)
        table_add(t, "never");
    else
        table_add(t, "%s ago", age_text(age, now_s - s->answered_at_s));
    add_limit(t, s, now_s);
}

static struct table *make_states(const struct upstreams *u, int64_t now_s)
{
    static const char *const heads[] = {"UPSTREAM", "STATE", "ANSWERED", "RATE LIMIT"};
    struct table *t = table_new("mlll");
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        table_add(t, "%s", heads[i]);
    for (size_t i = 0; i < u->count; i++) {
        if (was_asked(&u->states[i]))
            add_row(t, &u->states[i], now_s);
    }
    return t;
}

static struct table *make_failures(const struct upstreams *u, int64_t now_s)
{
    char age[TEXT_MAX];
    struct table *t = table_new("mrw");
    table_add(t, "FAILED LAST");
    table_add(t, "AGO");
    table_add(t, "WHY");
    for (size_t i = 0; i < u->count; i++) {
        const struct upstream_state *s = &u->states[i];
        if (s->failed_at_s == NOT_SAID)
            continue;
        table_add(t, "%s", s->registry);
        table_add(t, "%s", age_text(age, now_s - s->failed_at_s));
        table_add(t, "%s", s->text != NULL ? s->text : "?");
    }
    return t;
}

static void print_rows(FILE *out, struct table **t, const struct terminal_size *size,
                       bool has_style)
{
    if (table_rows(*t) > 1) {
        char *text = table_text(*t, size->columns, has_style);
        fprintf(out, "\n%s", text);
        free(text);
    }
    table_free(t);
}

void upstreams_write(FILE *out, const struct upstreams *u, int64_t now_s,
                     const struct terminal_size *size, bool has_style)
{
    struct table *states = make_states(u, now_s);
    struct table *failures = make_failures(u, now_s);
    print_rows(out, &states, size, has_style);
    print_rows(out, &failures, size, has_style);
}
