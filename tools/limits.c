/* SPDX-License-Identifier: ISC */
#include "tools/limits.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit sizes[] = {
    {"TiB", UINT64_C(1) << 40},
    {"GiB", UINT64_C(1) << 30},
    {"MiB", UINT64_C(1) << 20},
    {"KiB", UINT64_C(1) << 10},
    {"T", UINT64_C(1) << 40},
    {"G", UINT64_C(1) << 30},
    {"M", UINT64_C(1) << 20},
    {"K", UINT64_C(1) << 10},
    {"B", 1},
    {NULL, 0},
};
static const struct unit times[] = {{"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}, {NULL, 0}};

/* False when it is not a number with one of the units, or 0. */
static bool read_number(const char *text, const struct unit *units, uint64_t *value)
{
    char *end;
    if (text == NULL || *text < '0' || *text > '9')
        return false;
    uint64_t number = strtoull(text, &end, 10);
    end += strspn(end, " \t");
    *value = 0;
    if (number == 0 && *end == '\0')
        return true;
    for (const struct unit *u = units; u->name != NULL; u++) {
        if (strcmp(u->name, end) == 0)
            return !__builtin_mul_overflow(number, u->factor, value);
    }
    return false;
}

/* 0 when it is none, or not from `min` to `max`. */
static unsigned read_percent(const char *text, unsigned min, unsigned max)
{
    char *end;
    if (text == NULL)
        return 0;
    unsigned long percent = strtoul(text, &end, 10);
    return strcmp(end, "%") == 0 && percent >= min && percent <= max ? (unsigned)percent : 0;
}

static struct room_amount read_amount(const char *text, const char *by_default, unsigned max)
{
    struct room_amount amount = {.percent = read_percent(text, 1, max)};
    if (amount.percent == 0 && !read_number(text, sizes, &amount.bytes))
        amount.percent = read_percent(by_default, 1, max);
    return amount;
}

struct evict_rules limits_rules(const struct options *o)
{
    uint64_t grace_s;
    if (!read_number(o->push_grace, times, &grace_s) || grace_s > EVICT_GRACE_MAX_S)
        CHECK(read_number(EVICT_GRACE_DEFAULT, times, &grace_s));
    return (struct evict_rules){
        .now_s = (int64_t)time(NULL),
        .grace_s = (int64_t)grace_s,
        .takes_local = o->evict_local != NULL && strcmp(o->evict_local, "yes") == 0,
    };
}

struct room_limits limits_room(const struct options *o)
{
    unsigned low = read_percent(o->evict_to, ROOM_LOW_MIN, ROOM_LOW_MAX);
    if (low == 0)
        low = read_percent(ROOM_LOW_DEFAULT, ROOM_LOW_MIN, ROOM_LOW_MAX);
    return (struct room_limits){
        .size = read_amount(o->size, ROOM_SIZE_DEFAULT, ROOM_SIZE_MAX),
        .min_free = read_amount(o->min_free, ROOM_MIN_FREE_DEFAULT, ROOM_MIN_FREE_MAX),
        .low_percent = low,
    };
}
