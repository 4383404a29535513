/* SPDX-License-Identifier: ISC */
#include "cache/json_long.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/json_list.h"

/* Where values end is found by brackets and quotes alone; that they are values is what
 * json_parse says of them. */
struct scan {
    const char *at, *end;
    const char *name;
    json_visit *visit;
    void *arg;
    char *why;
    size_t why_size;
};

static int fail(const struct scan *s, const char *sentence)
{
    snprintf(s->why, s->why_size, "%s", sentence);
    return ERR_INVALID;
}

static void skip_blanks(struct scan *s)
{
    while (s->at < s->end && strchr(" \t\r\n", *s->at) != NULL && *s->at != '\0')
        s->at++;
}

/* From its quote to behind the other one. */
static void skip_string(struct scan *s)
{
    s->at++;
    while (s->at < s->end && *s->at != '"')
        s->at += *s->at == '\\' && s->end - s->at > 1 ? 2 : 1;
    s->at += s->at < s->end ? 1 : 0;
}

/* From a bracket to behind its counterpart. */
static void skip_nested(struct scan *s)
{
    size_t depth = 0;

    while (s->at < s->end) {
        char c = *s->at;

        if (c == '"') {
            skip_string(s);
            continue;
        }
        s->at++;
        if (c == '{' || c == '[')
            depth++;
        else if ((c == '}' || c == ']') && --depth == 0)
            return;
    }
}

static int visit_element(struct scan *s)
{
    const char *begin = s->at;
    struct json_t *json;

    skip_nested(s);
    int err = json_parse(&json, begin, (size_t)(s->at - begin), s->why, s->why_size);
    if (err != 0)
        return err;
    err = s->visit(s->arg, json);
    json_wipe(&json);
    return err;
}

/* From behind the list's bracket to its counterpart. */
static int walk_elements(struct scan *s)
{
    bool is_first = true;

    for (;;) {
        skip_blanks(s);
        if (s->at == s->end)
            return fail(s, "not JSON: a list has no end");
        if (*s->at == ']' && is_first)
            return 0;
        if (*s->at != '{')
            return fail(s, "a list of what are not all objects");
        int err = visit_element(s);

        if (err != 0)
            return err;
        is_first = false;
        skip_blanks(s);
        if (s->at < s->end && *s->at == ']')
            return 0;
        if (s->at == s->end || *s->at++ != ',')
            return fail(s, "not JSON: two elements of a list have no comma between them");
    }
}

/* Go to the list, and behind its bracket. False when there is none. */
static bool find_list(struct scan *s)
{
    size_t name_len = strlen(s->name);

    skip_blanks(s);
    if (s->at == s->end || *s->at++ != '{')
        return false;
    while (s->at < s->end) {
        char c = *s->at;
        const char *begin = s->at + 1;

        if (c == '{' || c == '[') {
            skip_nested(s);
            continue;
        }
        if (c != '"') {
            s->at++;
            continue;
        }
        skip_string(s);
        bool is_name =
            (size_t)(s->at - begin) == name_len + 1 && memcmp(begin, s->name, name_len) == 0;
        skip_blanks(s);
        if (!is_name || s->at == s->end || *s->at != ':')
            continue;
        s->at++;
        skip_blanks(s);
        if (s->at == s->end || *s->at != '[')
            return false;
        s->at++;
        return true;
    }
    return false;
}

/* What stands around the list, with an empty one. */
static int check_rest(const struct scan *s, const char *text, size_t before, bool *has_list)
{
    size_t after = (size_t)(s->end - s->at);
    char *rest = mem_resize(NULL, before + after + 1);
    struct json_t *json;

    memcpy(rest, text, before);
    memcpy(rest + before, s->at, after);
    int err = json_parse(&json, rest, before + after, s->why, s->why_size);

    free(rest);
    if (err != 0)
        return err;
    *has_list = json_has_empty_list(json, s->name);
    /* Under a name that is written otherwise, or something else than a list. */
    if (!*has_list && json_has_member(json, s->name))
        err = fail(s, "a list that is none, or is oddly named");
    json_wipe(&json);
    return err;
}

int json_long_walk(const char *text, size_t len, const char *name, json_visit *visit, void *arg,
                   bool *has_list, char *why, size_t why_size)
{
    struct scan s = {
        .at = text,
        .end = text + len,
        .name = name,
        .visit = visit,
        .arg = arg,
        .why = why,
        .why_size = why_size,
    };
    size_t before = len;

    *has_list = false;
    if (find_list(&s)) {
        before = (size_t)(s.at - text);
        int err = walk_elements(&s);

        if (err != 0)
            return err;
    } else {
        s.at = s.end;
    }
    return check_rest(&s, text, before, has_list);
}
