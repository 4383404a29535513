/* SPDX-License-Identifier: ISC */
/*
 * JSON (RFC 8259) from peers, within limits: an object at the top, no duplicate
 * keys, at most JSON_DEPTH_MAX levels and JSON_VALUES_MAX values. The tree is
 * jansson's; who walks it includes <jansson.h>.
 */
#ifndef CACHE_JSON_H
#define CACHE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"

#define JSON_DEPTH_MAX 32
/* Bounds the tree's memory, which is many times the text's for small values. */
#define JSON_VALUES_MAX (256u * 1024)

struct json_t;

/* Parse; the caller owns the tree (json_decref). ERR_INVALID with a sentence of
 * printable ASCII in `why`. */
MUST_CHECK int json_parse(struct json_t **json, const void *data, size_t len, char *why,
                          size_t why_size);

/* For who does not walk the tree: a member of the object that is a string, as long as
 * the tree lives, or NULL; one that is a whole number, or false. */
const char *json_member_text(const struct json_t *json, const char *name);
bool json_member_number(const struct json_t *json, const char *name, int64_t *value);

/* The members of an object that are strings, as a JSON object of at most `max` bytes of
 * ASCII, NUL-terminated, owned by the caller. NULL when it is no object (NULL
 * too), has none, or they are more. */
char *json_texts(const struct json_t *json, size_t max);

/* Free a tree that json_parse made, and leave none of the strings that are members of
 * its object in memory. Leaves NULL. */
void json_wipe(struct json_t **json);

/* The text as a JSON string with its quotes, owned by the caller; NULL when it is
 * not UTF-8. */
char *json_quote(const char *text);

#endif
