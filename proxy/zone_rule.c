/* SPDX-License-Identifier: ISC */
#include "proxy/zone_private.h"

#include <string.h>
#include <time.h>

#include "cache/err.h"

#define NAME_LEN_MIN 3
/* Hours of an offset, and of a time of change (the extension). */
#define OFFSET_HOURS_MAX 24
#define TIME_HOURS_MAX 167

struct input {
    const char *at, *end;
};

static bool take(struct input *in, char c)
{
    if (in->at == in->end || *in->at != c)
        return false;
    in->at++;
    return true;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* "CET", or "<+0330>". */
static bool take_name(struct input *in)
{
    bool is_quoted = take(in, '<');
    size_t len = 0;

    while (in->at < in->end &&
           (is_letter(*in->at) || (is_quoted && (is_digit(*in->at) || strchr("+-", *in->at))))) {
        in->at++;
        len++;
    }
    return len >= NAME_LEN_MIN && (!is_quoted || take(in, '>'));
}

/* At most three digits. */
static bool take_number(struct input *in, int min, int max, int *value)
{
    const char *start = in->at;

    *value = 0;
    while (in->at < in->end && is_digit(*in->at) && in->at - start < 3) {
        *value = *value * 10 + (*in->at - '0');
        in->at++;
    }
    return in->at > start && *value >= min && *value <= max;
}

/* "[+-]HH[:MM[:SS]]". */
static bool take_time(struct input *in, int hours_max, int64_t *seconds)
{
    bool is_negative = take(in, '-');
    int hour, minute = 0, second = 0;

    if (!is_negative)
        (void)take(in, '+');
    if (!take_number(in, 0, hours_max, &hour))
        return false;
    if (take(in, ':')) {
        if (!take_number(in, 0, 59, &minute))
            return false;
        if (take(in, ':') && !take_number(in, 0, 59, &second))
            return false;
    }
    *seconds = hour * INT64_C(3600) + minute * 60 + second;
    if (is_negative)
        *seconds = -*seconds;
    return true;
}

static bool take_day(struct input *in, struct rule_day *d)
{
    bool good;

    *d = (struct rule_day){.kind = DAY_OF_YEAR, .time_s = 2 * 3600};
    if (take(in, 'M')) {
        d->kind = DAY_OF_WEEK;
        good = take_number(in, 1, 12, &d->month) && take(in, '.') &&
               take_number(in, 1, 5, &d->week) && take(in, '.') && take_number(in, 0, 6, &d->day);
    } else if (take(in, 'J')) {
        d->kind = DAY_WITHOUT_LEAP;
        good = take_number(in, 1, 365, &d->day);
    } else {
        good = take_number(in, 0, 365, &d->day);
    }
    return good && (!take(in, '/') || take_time(in, TIME_HOURS_MAX, &d->time_s));
}

int rule_parse(struct zone_rule *r, const char *text, size_t len)
{
    struct input in = {text, text + len};
    int64_t behind_s;

    *r = (struct zone_rule){0};
    /* Offsets are written as what is to be added to get UTC. */
    if (!take_name(&in) || !take_time(&in, OFFSET_HOURS_MAX, &behind_s))
        return ERR_INVALID;
    r->standard_s = -behind_s;
    if (in.at == in.end)
        return 0;
    r->has_summer = true;
    if (!take_name(&in))
        return ERR_INVALID;
    behind_s -= 3600;
    if (in.at < in.end && *in.at != ',' && !take_time(&in, OFFSET_HOURS_MAX, &behind_s))
        return ERR_INVALID;
    r->summer_s = -behind_s;
    bool good =
        take(&in, ',') && take_day(&in, &r->begin) && take(&in, ',') && take_day(&in, &r->end);
    return good && in.at == in.end ? 0 : ERR_INVALID;
}

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

/* Midnight at the start of a day, as UTC counts. */
static int64_t midnight_s(int64_t year, int month, int day)
{
    struct tm tm = {.tm_year = (int)(year - 1900), .tm_mon = month - 1, .tm_mday = day};

    return timegm(&tm);
}

static int64_t day_of_week_s(const struct rule_day *d, int64_t year)
{
    int64_t first_s = midnight_s(year, d->month, 1);
    /* 1970-01-01 was a Thursday. */
    int64_t weekday = ((first_s / ZONE_DAY_S + 4) % 7 + 7) % 7;
    int64_t day = (d->day - weekday + 7) % 7 + (d->week - 1) * INT64_C(7);
    int64_t next_s = d->month < 12 ? midnight_s(year, d->month + 1, 1) : midnight_s(year + 1, 1, 1);

    if (first_s + day * ZONE_DAY_S >= next_s)
        day -= 7;
    return first_s + day * ZONE_DAY_S;
}

/* The local time of a change in that year. */
static int64_t change_s(const struct rule_day *d, int64_t year)
{
    int64_t start_s = midnight_s(year, 1, 1);

    switch (d->kind) {
    case DAY_OF_YEAR:
        return start_s + d->day * ZONE_DAY_S + d->time_s;
    case DAY_WITHOUT_LEAP:
        return start_s + (d->day - 1 + (is_leap(year) && d->day >= 60)) * ZONE_DAY_S + d->time_s;
    case DAY_OF_WEEK:
        break;
    }
    return day_of_week_s(d, year) + d->time_s;
}

int64_t rule_offset_s(const struct zone_rule *r, int64_t at_s)
{
    time_t local_s = at_s + r->standard_s;
    struct tm tm;

    if (!r->has_summer || !gmtime_r(&local_s, &tm))
        return r->standard_s;
    int64_t year = tm.tm_year + INT64_C(1900);
    int64_t begin_s = change_s(&r->begin, year) - r->standard_s;
    int64_t end_s = change_s(&r->end, year) - r->summer_s;
    bool is_summer =
        begin_s < end_s ? at_s >= begin_s && at_s < end_s : at_s >= begin_s || at_s < end_s;

    return is_summer ? r->summer_s : r->standard_s;
}
