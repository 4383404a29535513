/* SPDX-License-Identifier: ISC */
#include "proxy/schedule.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "cache/err.h"

#define WEEK 7
#define TUESDAY 2u
/* How long a changed image is waited for on its Patch Tuesday. */
#define PATCH_WAIT_S ZONE_DAY_S

static const char *const words[] = {
    [SCHEDULE_DAILY] = "daily",
    [SCHEDULE_WEEKLY] = "weekly",
    [SCHEDULE_EVERY] = "every",
    [SCHEDULE_PATCH_TUESDAY] = "patch-tuesday",
};
#define WORD_COUNT (sizeof words / sizeof words[0])

/* As tm_wday. */
static const char *const day_names[WEEK] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

static const struct unit {
    char name;
    int64_t seconds;
} units[] = {{'d', ZONE_DAY_S}, {'h', 3600}, {'m', 60}, {'s', 1}};
#define UNIT_COUNT (sizeof units / sizeof units[0])

/* --- texts --- */

struct input {
    const char *at;
    const char *why;
};

static bool fail(struct input *in, const char *why)
{
    in->why = why;
    return false;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A blank or more, before a word. */
static bool take_blanks(struct input *in)
{
    size_t len = strspn(in->at, " \t");

    in->at += len;
    return len > 0;
}

static bool take_two_digits(struct input *in, int64_t *n, int64_t max)
{
    if (!is_digit(in->at[0]) || !is_digit(in->at[1]))
        return false;
    *n = (in->at[0] - '0') * 10 + (in->at[1] - '0');
    in->at += 2;
    return *n <= max;
}

static bool take_time(struct input *in, int64_t *seconds)
{
    int64_t hour, minute, second = 0;
    bool good = take_two_digits(in, &hour, 23) && *in->at == ':';

    if (good) {
        in->at++;
        good = take_two_digits(in, &minute, 59);
    }
    if (good && *in->at == ':') {
        in->at++;
        good = take_two_digits(in, &second, 59);
    }
    if (!good)
        return fail(in, "has a time that is not HH:MM or HH:MM:SS");
    *seconds = hour * 3600 + minute * 60 + second;
    return true;
}

static bool take_period(struct input *in, int64_t *seconds)
{
    int64_t n = 0;

    if (!is_digit(*in->at))
        return fail(in, "has a period that is not a number with its unit, as 6h");
    for (; is_digit(*in->at); in->at++) {
        n = n * 10 + (*in->at - '0');
        if (n > SCHEDULE_PERIOD_MAX_S)
            return fail(in, "has a period of more than 30d");
    }
    for (size_t i = 0; i < UNIT_COUNT; i++) {
        if (units[i].name != *in->at)
            continue;
        in->at++;
        *seconds = n * units[i].seconds;
        if (*seconds > SCHEDULE_PERIOD_MAX_S)
            return fail(in, "has a period of more than 30d");
        if (*seconds < SCHEDULE_PERIOD_MIN_S)
            return fail(in, "has a period of less than 1m");
        return true;
    }
    return fail(in, "has a period without one of the units s, m, h and d");
}

static bool take_weekday(struct input *in, unsigned *day)
{
    for (unsigned i = 0; i < WEEK; i++) {
        if (strncasecmp(in->at, day_names[i], 3) == 0) {
            *day = i;
            in->at += 3;
            return take_blanks(in) || fail(in, "has no time after its day");
        }
    }
    return fail(in, "has a day that is not one of mon, tue, wed, thu, fri, sat, sun");
}

static bool take_rest(struct input *in, struct schedule *s)
{
    switch (s->kind) {
    case SCHEDULE_EVERY:
        return take_period(in, &s->period_s);
    case SCHEDULE_WEEKLY:
        return take_weekday(in, &s->weekday) && take_time(in, &s->time_s);
    case SCHEDULE_DAILY:
        return take_time(in, &s->time_s);
    case SCHEDULE_PATCH_TUESDAY:
        break;
    }
    if (!take_time(in, &s->time_s))
        return false;
    take_blanks(in);
    if (*in->at != '+')
        return true;
    in->at++;
    take_blanks(in);
    return take_period(in, &s->period_s);
}

static bool take_all(struct input *in, struct schedule *s)
{
    size_t len = strcspn(in->at, " \t");

    for (size_t i = 0; i < WORD_COUNT; i++) {
        if (strlen(words[i]) != len || strncasecmp(words[i], in->at, len) != 0)
            continue;
        s->kind = (enum schedule_kind)i;
        in->at += len;
        if (!take_blanks(in))
            return fail(in, "does not say when");
        if (!take_rest(in, s))
            return false;
        take_blanks(in);
        return *in->at == '\0' || fail(in, "has something after its end");
    }
    return fail(in, "does not begin with daily, weekly, every or patch-tuesday");
}

int schedule_parse(struct schedule *s, const char *text, const char **why)
{
    struct input in = {.at = text};

    *s = (struct schedule){0};
    take_blanks(&in);
    if (take_all(&in, s))
        return 0;
    *why = in.why;
    return ERR_INVALID;
}

static size_t add_time(char out[SCHEDULE_TEXT_SIZE], size_t len, int64_t time_s)
{
    char seconds[8] = "";

    if (time_s % 60 != 0)
        snprintf(seconds, sizeof seconds, ":%02d", (int)(time_s % 60));
    return len + (size_t)snprintf(out + len, SCHEDULE_TEXT_SIZE - len, "%02d:%02d%s",
                                  (int)(time_s / 3600), (int)(time_s / 60 % 60), seconds);
}

static size_t add_period(char out[SCHEDULE_TEXT_SIZE], size_t len, int64_t period_s)
{
    const struct unit *u = units;

    while (period_s % u->seconds != 0)
        u++;
    return len + (size_t)snprintf(out + len, SCHEDULE_TEXT_SIZE - len, "%" PRId64 "%c",
                                  period_s / u->seconds, u->name);
}

size_t schedule_text(const struct schedule *s, char out[SCHEDULE_TEXT_SIZE])
{
    size_t len = (size_t)snprintf(out, SCHEDULE_TEXT_SIZE, "%s ", words[s->kind]);

    if (s->kind == SCHEDULE_EVERY)
        return add_period(out, len, s->period_s);
    if (s->kind == SCHEDULE_WEEKLY)
        len += (size_t)snprintf(out + len, SCHEDULE_TEXT_SIZE - len, "%s ", day_names[s->weekday]);
    len = add_time(out, len, s->time_s);
    if (s->kind == SCHEDULE_PATCH_TUESDAY && s->period_s > 0) {
        out[len++] = '+';
        len = add_period(out, len, s->period_s);
    }
    return len;
}

/* --- times --- */

static int64_t day_of(int64_t local_s)
{
    return local_s / ZONE_DAY_S - (local_s % ZONE_DAY_S < 0);
}

static unsigned weekday_of(int64_t day)
{
    /* Day 0, 1970-01-01, was a Thursday. */
    return (unsigned)((day % WEEK + WEEK + 4) % WEEK);
}

/* The first day after or on `day` that is such a weekday, or any for the daily kind. */
static int64_t next_on_days(const struct schedule *s, const struct zone *z, int64_t began_s)
{
    int64_t day = day_of(began_s + zone_offset_s(z, began_s)) - 1;

    for (;; day++) {
        if (s->kind == SCHEDULE_WEEKLY && weekday_of(day) != s->weekday)
            continue;
        int64_t at_s = zone_moment_s(z, day * ZONE_DAY_S + s->time_s);
        if (at_s > began_s)
            return at_s;
    }
}

/* The moment of a Patch Tuesday; months are counted from January 1970. */
static int64_t patch_tuesday_s(const struct schedule *s, const struct zone *z, int64_t month)
{
    struct tm first = {.tm_year = 70, .tm_mon = (int)month, .tm_mday = 1};
    int64_t day = day_of(timegm(&first));

    day += (TUESDAY + WEEK - weekday_of(day)) % WEEK + WEEK;
    return zone_moment_s(z, day * ZONE_DAY_S + s->time_s);
}

static int64_t next_patch_tuesday(const struct schedule *s, const struct zone *z, int64_t began_s,
                                  int64_t unchanged_since_s)
{
    time_t local_s = began_s + zone_offset_s(z, began_s);
    struct tm tm;

    CHECK(gmtime_r(&local_s, &tm));
    int64_t month = (tm.tm_year - INT64_C(70)) * 12 + tm.tm_mon - 1;
    int64_t last_s, next_s = patch_tuesday_s(s, z, month);

    do {
        last_s = next_s;
        month++;
        next_s = patch_tuesday_s(s, z, month);
    } while (next_s <= began_s);
    int64_t again_s = began_s + s->period_s;
    bool is_due = s->period_s > 0 && began_s >= last_s && unchanged_since_s < last_s &&
                  again_s <= last_s + PATCH_WAIT_S;

    return is_due ? again_s : next_s;
}

int64_t schedule_next_s(const struct schedule *s, const struct zone *z, int64_t began_s,
                        int64_t unchanged_since_s)
{
    switch (s->kind) {
    case SCHEDULE_EVERY:
        return began_s + s->period_s;
    case SCHEDULE_DAILY:
    case SCHEDULE_WEEKLY:
        return next_on_days(s, z, began_s);
    case SCHEDULE_PATCH_TUESDAY:
        break;
    }
    return next_patch_tuesday(s, z, began_s, unchanged_since_s);
}
