/* SPDX-License-Identifier: ISC */
#include "cache/json_list.h"

#include <jansson.h>
#include <string.h>

#include "cache/err.h"

#define TIME_MAX_S 253402300799 /* the last second of the year 9999 */

bool json_has_member(const struct json_t *json, const char *name)
{
    return json_object_get(json, name) != NULL;
}

bool json_has_empty_list(const struct json_t *json, const char *name)
{
    const json_t *member = json_object_get(json, name);

    return json_is_array(member) && json_array_size(member) == 0;
}

static bool is_text(const json_t *value, const char *text)
{
    return json_is_string(value) && strcmp(json_string_value(value), text) == 0;
}

bool json_member_has_text(const struct json_t *json, const char *name, const char *text)
{
    const json_t *member = json_object_get(json, name);
    const json_t *one;
    size_t i;

    json_array_foreach (member, i, one) {
        if (is_text(one, text))
            return true;
    }
    return is_text(member, text);
}

void json_member_walk(const struct json_t *json, const char *name,
                      void (*visit)(void *arg, const struct json_t *object), void *arg)
{
    const json_t *one;
    size_t i;

    json_array_foreach (json_object_get(json, name), i, one) {
        if (json_is_object(one))
            visit(arg, one);
    }
}

void json_member_walk_texts(const struct json_t *json, const char *name,
                            void (*visit)(void *arg, const char *text), void *arg)
{
    const json_t *one;
    size_t i;

    json_array_foreach (json_object_get(json, name), i, one) {
        if (json_is_string(one))
            visit(arg, json_string_value(one));
    }
}

const struct json_t *json_member_object(const struct json_t *json, const char *name)
{
    const json_t *member = json_object_get(json, name);

    return json_is_object(member) ? member : NULL;
}

int json_member_time(const struct json_t *json, const char *name, int64_t *at_s)
{
    const json_t *member = json_object_get(json, name);

    if (member == NULL)
        return ERR_NOT_FOUND;
    double value = json_is_number(member) ? json_number_value(member) : -1;
    if (!(value >= 0 && value <= TIME_MAX_S))
        return ERR_INVALID;
    *at_s = (int64_t)value;
    return 0;
}
