/* SPDX-License-Identifier: ISC */
#include "cache/json_merge.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "cache/err.h"

static bool has_element(const json_t *list, const json_t *element)
{
    size_t i;
    json_t *each;
    json_array_foreach (list, i, each) {
        if (json_equal(each, element))
            return true;
    }
    return false;
}

static void merge_list(json_t *into, const json_t *from)
{
    size_t i, place = 0;
    json_t *each;
    json_array_foreach (from, i, each) {
        if (!has_element(into, each))
            CHECK(json_array_insert(into, place++, each) == 0);
    }
}

static int merge_object(json_t *into, const json_t *from, const char *where, char *why,
                        size_t why_size);

static int merge_inner(json_t *into, const json_t *from, const char *name, char *why,
                       size_t why_size)
{
    char *where = mem_format("%s.", name);
    int err = merge_object(into, from, where, why, why_size);
    free(where);
    return err;
}

/* `where` is what keys are called here: "outer.". */
static int merge_object(json_t *into, const json_t *from, const char *where, char *why,
                        size_t why_size)
{
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)from, key, value) {
        json_t *old = json_object_get(into, key);
        char *name = mem_format("%s%s", where, key);
        int err = 0;
        if (old == NULL)
            CHECK(json_object_set_new(into, key, json_deep_copy(value)) == 0);
        else if (json_is_object(old) && json_is_object(value))
            err = merge_inner(old, value, name, why, why_size);
        else if (json_is_array(old) && json_is_array(value))
            merge_list(old, value);
        else if (!json_equal(old, value))
            err = ERR_DENIED;
        if (err == ERR_DENIED && *why == '\0')
            snprintf(why, why_size, "\"%s\"", name);
        free(name);
        if (err != 0)
            return err;
    }
    return 0;
}

int json_merge_in(json_t *into, const json_t *from, char *why, size_t why_size)
{
    json_t *trial = json_deep_copy(into);
    CHECK(trial != NULL);
    *why = '\0';
    int err = merge_object(trial, from, "", why, why_size);
    if (err == 0) {
        CHECK(json_object_clear(into) == 0);
        CHECK(json_object_update(into, trial) == 0);
    }
    json_decref(trial);
    return err;
}

static void unmerge_list(json_t *now, const json_t *from, const json_t *before)
{
    for (size_t i = json_array_size(now); i-- > 0;) {
        const json_t *each = json_array_get(now, i);
        if (has_element(from, each) && !has_element(before, each))
            CHECK(json_array_remove(now, i) == 0);
    }
}

static bool is_empty(const json_t *value)
{
    return (json_is_object(value) && json_object_size(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0);
}

void json_merge_out(json_t *now, const json_t *from, const json_t *before)
{
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)from, key, value) {
        json_t *old = json_object_get(now, key);
        const json_t *was = json_object_get(before, key);
        bool is_ours = false;
        if (json_is_object(old) && json_is_object(value)) {
            json_merge_out(old, value, was);
            is_ours = is_empty(old);
        } else if (json_is_array(old) && json_is_array(value)) {
            unmerge_list(old, value, was);
            is_ours = is_empty(old);
        } else {
            is_ours = old != NULL && json_equal(old, value);
        }
        if (is_ours && was == NULL)
            CHECK(json_object_del(now, key) == 0);
    }
}
