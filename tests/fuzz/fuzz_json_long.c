/* SPDX-License-Identifier: ISC */
/* Objects with a long list: what is taken is what a parser of the whole takes, if it has
 * the list once, of objects alone, and the same elements come of both. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/json_list.h"
#include "cache/json_long.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct sum {
    unsigned count;
    int64_t total; /* of the members "n" */
};

static void add(void *arg, const struct json_t *object)
{
    struct sum *s = arg;
    int64_t n;

    s->count++;
    if (json_member_number(object, "n", &n))
        s->total = (int64_t)((uint64_t)s->total * 31 + (uint64_t)n);
}

static int visit(void *arg, const struct json_t *object)
{
    add(arg, object);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sum one_by_one = {0};
    struct sum whole = {0};
    struct json_t *json;
    bool has_list;
    char why[256] = "";
    char *text = mem_copy(data, size);
    int err = json_long_walk(text, size, "list", visit, &one_by_one, &has_list, why, sizeof why);

    CHECK(err == 0 || (err == ERR_INVALID && why[0] != '\0'));
    CHECK(strlen(why) < sizeof why);
    if (err == 0 && json_parse(&json, text, size, why, sizeof why) == 0) {
        CHECK(json_has_member(json, "list") == has_list);
        json_member_walk(json, "list", add, &whole);
        CHECK(whole.count == one_by_one.count && whole.total == one_by_one.total);
        json_wipe(&json);
    }
    free(text);
    return 0;
}
