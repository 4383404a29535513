/* SPDX-License-Identifier: ISC */
/* Schedules: what is taken has a canonical form that means the same, and its next time is
 * always to come. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/schedule.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = mem_copy(data, size);
    char canonical[SCHEDULE_TEXT_SIZE];
    struct schedule s, again;
    const char *why = NULL;
    struct zone *z;

    CHECK(zone_read_rule(&z, "CET-1CEST,M3.5.0,M10.5.0/3") == 0);
    if (schedule_parse(&s, text, &why) == 0) {
        CHECK(schedule_text(&s, canonical) == strlen(canonical));
        CHECK(schedule_parse(&again, canonical, &why) == 0);
        CHECK(memcmp(&again, &s, sizeof s) == 0);
        int64_t now_s = INT64_C(1795000000);
        for (unsigned i = 0; i < 20; i++) {
            int64_t next_s = schedule_next_s(&s, z, now_s, i % 2 ? INT64_MIN : now_s - 7200);
            CHECK(next_s > now_s);
            now_s = next_s;
        }
    } else {
        CHECK(why != NULL);
    }
    zone_free(&z);
    free(text);
    return 0;
}
