/* SPDX-License-Identifier: ISC */
/* Time zones from files, or rules: whatever is taken has offsets of at most a day or so,
 * and a local time that is there comes back from its moment. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "proxy/zone.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define YEAR_S (365 * ZONE_DAY_S)

static void check_zone(struct zone *z)
{
    for (int64_t at_s = -100 * YEAR_S; at_s < 200 * YEAR_S; at_s += 7 * YEAR_S + 12345) {
        int64_t offset_s = zone_offset_s(z, at_s);
        int64_t moment_s = zone_moment_s(z, at_s + offset_s);
        int64_t far_s = moment_s - at_s;

        CHECK(offset_s >= -2 * ZONE_DAY_S && offset_s <= 2 * ZONE_DAY_S);
        CHECK(far_s >= -4 * ZONE_DAY_S && far_s <= 4 * ZONE_DAY_S);
    }
    zone_free(&z);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = mem_copy(data, size);
    struct zone *z;

    if (zone_read(&z, data, size) == 0)
        check_zone(z);
    if (zone_read_rule(&z, text) == 0)
        check_zone(z);
    free(text);
    return 0;
}
