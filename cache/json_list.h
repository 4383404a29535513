/* SPDX-License-Identifier: ISC */
/* Members of JSON objects that are lists, or moments. */
#ifndef CACHE_JSON_LIST_H
#define CACHE_JSON_LIST_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/json.h"

/* Whether there is a member of that name, whatever it is. */
bool json_has_member(const struct json_t *json, const char *name);

/* Whether the member is a list with nothing in it. */
bool json_has_empty_list(const struct json_t *json, const char *name);

/* Whether the member is that string, or a list with it. */
bool json_member_has_text(const struct json_t *json, const char *name, const char *text);

/* Visit each object of the list that the member is; nothing when it is none. */
void json_member_walk(const struct json_t *json, const char *name,
                      void (*visit)(void *arg, const struct json_t *object), void *arg);

/* Visit each string of the list that the member is. */
void json_member_walk_texts(const struct json_t *json, const char *name,
                            void (*visit)(void *arg, const char *text), void *arg);

/* The member that is an object, or NULL. NULL is legal. */
const struct json_t *json_member_object(const struct json_t *json, const char *name);

/* The member as a time in whole seconds, RFC 7519 "NumericDate". ERR_NOT_FOUND when there
 * is none, ERR_INVALID when it is no number or beyond what a clock can say. */
MUST_CHECK int json_member_time(const struct json_t *json, const char *name, int64_t *at_s);

#endif
