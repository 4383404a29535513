/* SPDX-License-Identifier: ISC */
/* Two JSON objects with a line's end between them: merging the second into the first loses
 * nothing of the first, doing it again changes nothing, and taking it out gives the first. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "cache/err.h"
#include "cache/json.h"
#include "cache/json_merge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whether the elements of a list stand in another in their order. */
static bool has_all(const json_t *list, const json_t *elements)
{
    size_t at = 0;

    for (size_t i = 0; i < json_array_size(elements); i++, at++) {
        while (at < json_array_size(list) &&
               !json_equal(json_array_get(list, at), json_array_get(elements, i)))
            at++;
        if (at == json_array_size(list))
            return false;
    }
    return true;
}

static void check_kept(const json_t *now, const json_t *before)
{
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)before, key, value) {
        const json_t *kept = json_object_get(now, key);

        CHECK(kept != NULL);
        if (json_is_object(value))
            check_kept(kept, value);
        else if (json_is_array(value))
            CHECK(json_is_array(kept) && has_all(kept, value));
        else
            CHECK(json_equal(kept, value));
    }
}

static void check_merge(const json_t *before, const json_t *from)
{
    char why[32];
    json_t *now = json_deep_copy(before);
    int err = json_merge_in(now, from, why, sizeof why);

    if (err != 0) {
        CHECK(err == ERR_DENIED && why[0] != '\0' && json_equal(now, before));
    } else {
        json_t *once = json_deep_copy(now);

        check_kept(now, before);
        CHECK(json_merge_in(now, from, why, sizeof why) == 0 && json_equal(now, once));
        json_merge_out(now, from, before);
        CHECK(json_equal(now, before));
        json_decref(once);
    }
    json_decref(now);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *line = size > 0 ? memchr(data, '\n', size) : NULL;
    json_t *before, *from;
    char why[128];

    if (line == NULL)
        return 0;
    size_t len = (size_t)(line - data);
    if (json_parse(&before, data, len, why, sizeof why) != 0)
        return 0;
    if (json_parse(&from, line + 1, size - len - 1, why, sizeof why) == 0) {
        check_merge(before, from);
        json_decref(from);
    }
    json_decref(before);
    return 0;
}
