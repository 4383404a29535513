/* SPDX-License-Identifier: ISC */
#include "proxy/rate.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cache/err.h"

#define RATE_MIN UINT64_C(1000)         /* 8kbit/s */
#define RATE_MAX UINT64_C(125000000000) /* 1000Gbit/s */
#define DAYS 7
#define DAY_MIN (24 * 60)
#define BURST_MIN UINT64_C(65536)

/* Bits are of powers of ten. Largest first: the first that divides a rate is its
 * canonical unit; the last ones, in bytes of powers of ten, are read only. */
static const struct unit {
    const char *name;
    uint64_t bytes_per_s;
} units[] = {
    {"GiB/s", 1 << 30}, {"Gbit/s", 125000000}, {"MiB/s", 1 << 20}, {"Mbit/s", 125000},
    {"KiB/s", 1 << 10}, {"kbit/s", 125},       {"B/s", 1},         {"kB/s", 1000},
    {"MB/s", 1000000},  {"GB/s", 1000000000},
};
#define UNIT_COUNT (sizeof units / sizeof units[0])

/* As tm_wday. */
static const char *const day_names[DAYS] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

struct reader {
    const char *at;
    const char *why;
};

static int refuse(struct reader *in, const char *why)
{
    in->why = why;
    return ERR_INVALID;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void skip_blanks(struct reader *in)
{
    in->at += strspn(in->at, " \t");
}

static bool at_end_of_word(const char *at)
{
    return *at == '\0' || strchr(" \t,", *at) != NULL;
}

static const struct unit *find_unit(const char *text)
{
    for (size_t i = 0; i < UNIT_COUNT; i++) {
        size_t len = strlen(units[i].name);
        if (strncmp(units[i].name, text, len) == 0 && at_end_of_word(text + len))
            return &units[i];
    }
    return NULL;
}

static int read_rate(struct reader *in, struct rate_clause *c)
{
    uint64_t n = 0;
    if (!is_digit(*in->at))
        return refuse(in, "does not begin with a rate");
    for (; is_digit(*in->at); in->at++) {
        n = n * 10 + (uint64_t)(*in->at - '0');
        if (n > RATE_MAX)
            return refuse(in, "is too large");
    }
    const char *digits_end = in->at;
    skip_blanks(in);
    const struct unit *unit = find_unit(in->at);
    if (unit != NULL)
        in->at += strlen(unit->name);
    else if (n != 0 || !at_end_of_word(digits_end))
        return refuse(in, "has no unit that is known");
    /* Neither factor is over 2^37. */
    c->bytes_per_s = unit == NULL ? 0 : n * unit->bytes_per_s;
    if (c->bytes_per_s > RATE_MAX)
        return refuse(in, "is too large");
    if (c->bytes_per_s != 0 && c->bytes_per_s < RATE_MIN)
        return refuse(in, "is too small: at least 8kbit/s, or 0 for no limit");
    return 0;
}

static bool read_day(struct reader *in, unsigned *day)
{
    for (unsigned i = 0; i < DAYS; i++) {
        if (strncasecmp(in->at, day_names[i], 3) == 0) {
            *day = i;
            in->at += 3;
            return true;
        }
    }
    return false;
}

/* Days from the first to the last, around the end of the week; 0 for one day. */
static unsigned days_after(unsigned first, unsigned last)
{
    return (last + DAYS - first) % DAYS;
}

static int read_days(struct reader *in, struct rate_clause *c)
{
    if (at_end_of_word(in->at) || is_digit(*in->at))
        return 0;
    bool good = read_day(in, &c->first_day);
    c->last_day = c->first_day;
    if (good && *in->at == '-') {
        in->at++;
        good = read_day(in, &c->last_day);
    }
    if (!good || !at_end_of_word(in->at))
        return refuse(in, "has a day that is not one of mon, tue, wed, thu, fri, sat, sun");
    if (days_after(c->first_day, c->last_day) == DAYS - 1) {
        c->first_day = 0;
        c->last_day = DAYS - 1;
    }
    return 0;
}

/* "HH:MM" up to 24:00, in minutes. */
static bool read_time(struct reader *in, unsigned *minutes)
{
    const char *t = in->at;
    if (!is_digit(t[0]) || !is_digit(t[1]) || t[2] != ':' || !is_digit(t[3]) || !is_digit(t[4]))
        return false;
    unsigned minute = (unsigned)(t[3] - '0') * 10 + (unsigned)(t[4] - '0');
    *minutes = ((unsigned)(t[0] - '0') * 10 + (unsigned)(t[1] - '0')) * 60 + minute;
    in->at += 5;
    return minute < 60 && *minutes <= DAY_MIN;
}

static int read_hours(struct reader *in, struct rate_clause *c)
{
    if (at_end_of_word(in->at))
        return 0;
    bool good = read_time(in, &c->from_min) && *in->at == '-';
    if (good) {
        in->at++;
        good = read_time(in, &c->to_min) && at_end_of_word(in->at) && c->from_min < DAY_MIN;
    }
    if (!good)
        return refuse(in, "has hours that are not HH:MM-HH:MM");
    if (c->from_min == c->to_min)
        return refuse(in, "has hours that end when they begin");
    if (c->to_min == 0)
        c->to_min = DAY_MIN;
    return 0;
}

static bool is_every_day(const struct rate_clause *c)
{
    return days_after(c->first_day, c->last_day) == DAYS - 1;
}

static bool is_whole_day(const struct rate_clause *c)
{
    return c->from_min == 0 && c->to_min == DAY_MIN;
}

static int read_clause(struct reader *in, struct rate *r)
{
    if (at_end_of_word(in->at))
        return refuse(in, "has an empty part");
    if (r->count == RATE_CLAUSES_MAX)
        return refuse(in, "has one part too many");
    if (r->count > 0) {
        const struct rate_clause *last = &r->clauses[r->count - 1];
        if (is_every_day(last) && is_whole_day(last))
            return refuse(in, "comes after a part that always counts");
    }
    struct rate_clause *c = &r->clauses[r->count];
    *c = (struct rate_clause){.last_day = DAYS - 1, .to_min = DAY_MIN};
    int err = read_rate(in, c);
    skip_blanks(in);
    if (err == 0)
        err = read_days(in, c);
    skip_blanks(in);
    if (err == 0)
        err = read_hours(in, c);
    skip_blanks(in);
    if (err == 0 && *in->at != '\0' && *in->at != ',')
        return refuse(in, "has something after its hours");
    r->count++;
    return err;
}

int rate_add(struct rate *r, const char *text, const char **why)
{
    struct reader in = {.at = text};
    struct rate sum = *r;
    skip_blanks(&in);
    if (*in.at == '\0')
        return 0;
    int err = read_clause(&in, &sum);
    while (err == 0 && *in.at == ',') {
        in.at++;
        skip_blanks(&in);
        err = read_clause(&in, &sum);
    }
    *why = in.why;
    if (err == 0)
        *r = sum;
    return err;
}

size_t rate_clause_format(const struct rate_clause *c, char out[RATE_CLAUSE_SIZE])
{
    const struct unit *u = units;
    while (c->bytes_per_s % u->bytes_per_s != 0)
        u++;
    int len = c->bytes_per_s == 0 ? snprintf(out, RATE_CLAUSE_SIZE, "0")
                                  : snprintf(out, RATE_CLAUSE_SIZE, "%" PRIu64 "%s",
                                             c->bytes_per_s / u->bytes_per_s, u->name);
    if (!is_every_day(c)) {
        bool one = c->first_day == c->last_day;
        len += snprintf(out + len, RATE_CLAUSE_SIZE - (size_t)len, " %s%s%s",
                        day_names[c->first_day], one ? "" : "-", one ? "" : day_names[c->last_day]);
    }
    if (!is_whole_day(c))
        len += snprintf(out + len, RATE_CLAUSE_SIZE - (size_t)len, " %02u:%02u-%02u:%02u",
                        c->from_min / 60, c->from_min % 60, c->to_min / 60, c->to_min % 60);
    CHECK(len < RATE_CLAUSE_SIZE);
    return (size_t)len;
}

size_t rate_format(const struct rate *r, char out[RATE_TEXT_SIZE])
{
    size_t len = 0;
    out[0] = '\0';
    for (unsigned i = 0; i < r->count; i++) {
        char clause[RATE_CLAUSE_SIZE];
        rate_clause_format(&r->clauses[i], clause);
        len +=
            (size_t)snprintf(out + len, RATE_TEXT_SIZE - len, "%s%s", i == 0 ? "" : ", ", clause);
    }
    CHECK(len < RATE_TEXT_SIZE);
    return len;
}

static bool has_day(const struct rate_clause *c, unsigned day)
{
    return days_after(c->first_day, day) <= days_after(c->first_day, c->last_day);
}

static bool is_now(const struct rate_clause *c, unsigned day, unsigned minute)
{
    if (c->from_min < c->to_min)
        return has_day(c, day) && minute >= c->from_min && minute < c->to_min;
    return (has_day(c, day) && minute >= c->from_min) ||
           (has_day(c, (day + DAYS - 1) % DAYS) && minute < c->to_min);
}

uint64_t rate_at(const struct rate *r, const struct tm *local)
{
    unsigned minute = (unsigned)local->tm_hour * 60 + (unsigned)local->tm_min;
    for (unsigned i = 0; i < r->count; i++) {
        if (is_now(&r->clauses[i], (unsigned)local->tm_wday, minute))
            return r->clauses[i].bytes_per_s;
    }
    return 0;
}

static uint64_t full_level(const struct bucket *b)
{
    return b->burst_bytes * 1000;
}

static void set_rate(struct bucket *b, uint64_t bytes_per_s)
{
    CHECK(bytes_per_s <= RATE_MAX);
    b->bytes_per_s = bytes_per_s;
    b->burst_bytes = bytes_per_s / 10 > BURST_MIN ? bytes_per_s / 10 : BURST_MIN;
}

static void refill(struct bucket *b, int64_t now_ms)
{
    if (now_ms <= b->at_ms)
        return;
    uint64_t gained;
    if (__builtin_mul_overflow((uint64_t)(now_ms - b->at_ms), b->bytes_per_s, &gained) ||
        gained > full_level(b) - b->level)
        gained = full_level(b) - b->level;
    b->level += gained;
    b->at_ms = now_ms;
}

void bucket_init(struct bucket *b, uint64_t bytes_per_s, int64_t now_ms)
{
    *b = (struct bucket){.at_ms = now_ms};
    set_rate(b, bytes_per_s);
    b->level = full_level(b);
}

void bucket_set_rate(struct bucket *b, uint64_t bytes_per_s, int64_t now_ms)
{
    refill(b, now_ms);
    set_rate(b, bytes_per_s);
    if (b->level > full_level(b))
        b->level = full_level(b);
}

uint64_t bucket_take(struct bucket *b, uint64_t want_bytes, int64_t now_ms)
{
    refill(b, now_ms);
    if (b->bytes_per_s == 0)
        return want_bytes;
    uint64_t taken = b->level / 1000 < want_bytes ? b->level / 1000 : want_bytes;
    b->level -= taken * 1000;
    return taken;
}

int64_t bucket_wait_ms(struct bucket *b, uint64_t want_bytes, int64_t now_ms)
{
    refill(b, now_ms);
    uint64_t need = (want_bytes < b->burst_bytes ? want_bytes : b->burst_bytes) * 1000;
    if (b->bytes_per_s == 0 || b->level >= need)
        return 0;
    return (int64_t)((need - b->level + b->bytes_per_s - 1) / b->bytes_per_s);
}
