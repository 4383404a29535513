/* SPDX-License-Identifier: ISC */
/*
 * When something is to be done again and again, by the local time of a zone. All pure: time
 * is passed in.
 *
 *   daily 03:00               each day
 *   weekly sun 03:00          each week
 *   every 6h                  so long after the last time
 *   patch-tuesday 18:00       the second Tuesday of each month
 *   patch-tuesday 18:00+2h    and again after so long until all has changed, for a day
 */
#ifndef PROXY_SCHEDULE_H
#define PROXY_SCHEDULE_H

#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"
#include "proxy/zone.h"

#define SCHEDULE_TEXT_SIZE 48 /* with the NUL */
#define SCHEDULE_PERIOD_MIN_S 60
#define SCHEDULE_PERIOD_MAX_S (30 * ZONE_DAY_S)

enum schedule_kind { SCHEDULE_DAILY, SCHEDULE_WEEKLY, SCHEDULE_EVERY, SCHEDULE_PATCH_TUESDAY };

struct schedule {
    enum schedule_kind kind;
    unsigned weekday; /* as tm_wday; SCHEDULE_WEEKLY */
    int64_t time_s;   /* since midnight, if clocks are not changed; not SCHEDULE_EVERY */
    int64_t period_s; /* SCHEDULE_EVERY; of SCHEDULE_PATCH_TUESDAY, 0: once */
};

/* Parse. A time of the day is HH:MM or HH:MM:SS, a period a whole number of s, m, h or d.
 * ERR_INVALID with what is wrong, a string that lives for ever, in `*why`. */
MUST_CHECK int schedule_parse(struct schedule *s, const char *text, const char **why);

/* The form that schedule_parse takes back; returns its length. */
size_t schedule_text(const struct schedule *s, char out[SCHEDULE_TEXT_SIZE]);

/* When it is to be done after it was last begun at `began_s`. `unchanged_since_s` is when
 * that of its things changed last which has not changed for longest; INT64_MIN: never. */
int64_t schedule_next_s(const struct schedule *s, const struct zone *z, int64_t began_s,
                        int64_t unchanged_since_s);

#endif
