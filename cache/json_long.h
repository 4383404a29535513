/* SPDX-License-Identifier: ISC */
/*
 * Objects with a member that may be a list too long for a tree, as of the images of an
 * archive: of it a tree is made of one element at a time.
 */
#ifndef CACHE_JSON_LONG_H
#define CACHE_JSON_LONG_H

#include <stdbool.h>
#include <stddef.h>

#include "cache/check.h"
#include "cache/json.h"

/* An element, valid during the call; a result other than 0 ends the walk. */
typedef int json_visit(void *arg, const struct json_t *object);

/* Visit each element of the list `name`, all objects, of the object that `text` is, in
 * order. Each of them, and the rest, is bound by the limits of json_parse. `has_list`:
 * whether there is such a list. Returns what `visit` returned last; ERR_INVALID with a
 * sentence in `why` for what is no such object, perhaps after some elements were visited. */
MUST_CHECK int json_long_walk(const char *text, size_t len, const char *name, json_visit *visit,
                              void *arg, bool *has_list, char *why, size_t why_size);

#endif
