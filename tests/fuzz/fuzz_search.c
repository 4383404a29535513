/* SPDX-License-Identifier: ISC */
/* The query of a search for images: within its limits whatever comes, and what was read is read
 * again from what it would be written as. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "cache/check.h"
#include "proxy/report.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_escaped(FILE *out, const char *text)
{
    for (; *text; text++)
        fprintf(out, "%%%02x", (unsigned char)*text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span query = {(const char *)data, size};
    struct report_search q, again;
    char text[4 * REPORT_SEARCH_MAX + 128];

    if (!report_search_read(&q, query))
        return 0;
    CHECK(strnlen(q.text, REPORT_SEARCH_MAX) < REPORT_SEARCH_MAX);
    CHECK(q.offset <= REPORT_OFFSET_MAX && q.count <= REPORT_IMAGES_MAX);
    CHECK(q.order == REPORT_BY_NAME || q.order == REPORT_BY_USE);

    FILE *out = fmemopen(text, sizeof text, "w");
    CHECK(out != NULL);
    fprintf(out, "count=%u&offset=%u&order=%s&search=", q.count, q.offset,
            q.order == REPORT_BY_USE ? "use" : "name");
    write_escaped(out, q.text);
    CHECK(fclose(out) == 0);
    CHECK(report_search_read(&again, (struct span){text, strlen(text)}));
    CHECK(strcmp(q.text, again.text) == 0 && q.offset == again.offset && q.count == again.count &&
          q.order == again.order);
    return 0;
}
