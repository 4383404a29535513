/* SPDX-License-Identifier: ISC */
/* Between zone.c (moments of a zone, and its file), zone_rule.c (what goes on for ever) and
 * zone_load.c (which file). */
#ifndef PROXY_ZONE_PRIVATE_H
#define PROXY_ZONE_PRIVATE_H

#include <stdbool.h>

#include "proxy/zone.h"

/* A day of the year on which clocks are changed. */
struct rule_day {
    enum { DAY_OF_YEAR, DAY_WITHOUT_LEAP, DAY_OF_WEEK } kind;
    int day;   /* from 0, or from 1 not counting February 29, or of the week from Sunday */
    int week;  /* 1 to 5, which is the last */
    int month; /* 1 to 12 */
    int64_t time_s;
};

/* The rule that holds in each year. */
struct zone_rule {
    int64_t standard_s; /* offsets */
    int64_t summer_s;
    bool has_summer;
    struct rule_day begin, end; /* of summer */
};

/* Parse `len` bytes. ERR_INVALID. */
MUST_CHECK int rule_parse(struct zone_rule *r, const char *text, size_t len);
int64_t rule_offset_s(const struct zone_rule *r, int64_t at_s);

#endif
