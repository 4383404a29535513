/* SPDX-License-Identifier: ISC */
#include "cache/json.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"

/* Whether the text stays within the limits: before a tree is made of it, since
 * jansson's own limit is far deeper and it has none on the number of values.
 * Counts what starts or separates values, outside of strings. */
static bool is_bounded(const char *text, size_t len)
{
    unsigned depth = 0;
    unsigned values = 0;
    bool in_string = false;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
            continue;
        }
        switch (c) {
        case '"':
            in_string = true;
            break;
        case '{':
        case '[':
            values++;
            if (++depth > JSON_DEPTH_MAX)
                return false;
            break;
        case '}':
        case ']':
            depth -= depth > 0 ? 1 : 0;
            break;
        case ',':
            values++;
            break;
        default:
            break;
        }
        if (values > JSON_VALUES_MAX)
            return false;
    }
    return true;
}

/* The parser's text quotes what it stumbled on. */
static void make_printable(char *text)
{
    for (; *text != '\0'; text++)
        if (*text < 0x20 || *text > 0x7e)
            *text = '?';
}

int json_parse(struct json_t **json, const void *data, size_t len, char *why, size_t why_size)
{
    json_error_t error;

    if (!is_bounded(data, len)) {
        snprintf(why, why_size, "JSON of more than %d levels or %u values", JSON_DEPTH_MAX,
                 JSON_VALUES_MAX);
        return ERR_INVALID;
    }
    json_t *parsed = json_loadb(data, len, JSON_REJECT_DUPLICATES, &error);

    if (parsed == NULL) {
        make_printable(error.text);
        snprintf(why, why_size, "not JSON: %s (line %d, column %d)", error.text, error.line,
                 error.column);
        return ERR_INVALID;
    }
    if (!json_is_object(parsed)) {
        json_decref(parsed);
        snprintf(why, why_size, "not a JSON object");
        return ERR_INVALID;
    }
    *json = parsed;
    return 0;
}

const char *json_member_text(const struct json_t *json, const char *name)
{
    return json_string_value(json_object_get(json, name));
}

bool json_member_number(const struct json_t *json, const char *name, int64_t *value)
{
    const json_t *member = json_object_get(json, name);

    if (!json_is_integer(member))
        return false;
    *value = json_integer_value(member);
    return true;
}

char *json_texts(const struct json_t *json, size_t max)
{
    json_t *texts = json_object();
    char *out = NULL;
    const char *name;
    json_t *member;

    json_object_foreach ((json_t *)(uintptr_t)json, name, member) {
        if (json_is_string(member))
            json_object_set(texts, name, member);
    }
    if (json_object_size(texts) > 0)
        out = json_dumps(texts, JSON_COMPACT | JSON_ENSURE_ASCII);
    json_decref(texts);
    if (out != NULL && strlen(out) > max) {
        free(out);
        out = NULL;
    }
    return out;
}

void json_wipe(struct json_t **json)
{
    const char *name;
    json_t *member;

    json_object_foreach (*json, name, member) {
        if (json_is_string(member)) {
            explicit_bzero((char *)(uintptr_t)json_string_value(member),
                           json_string_length(member));
        }
    }
    json_decref(*json);
    *json = NULL;
}

char *json_quote(const char *text)
{
    json_t *string = json_string(text);
    char *quoted = json_dumps(string, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);

    json_decref(string);
    return quoted;
}
