/* SPDX-License-Identifier: ISC */
#include "proxy/challenge.h"

#include <stdbool.h>
#include <string.h>

#include "cache/err.h"
#include "proxy/span.h"

/* The parameters that we want, and the room that they have. The last one is not repeated. */
static const struct {
    const char *name;
    size_t at;
    size_t size;
} params[] = {
#define PARAM(field)                                                                               \
    {                                                                                              \
#field, offsetof(struct challenge, field), sizeof((struct challenge){0}.field)             \
    }
    PARAM(realm),
    PARAM(service),
    PARAM(scope),
    PARAM(error),
#undef PARAM
};

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_one_of(char c, const char *set)
{
    return c != '\0' && strchr(set, c) != NULL;
}

/* What is at the front of `s` of letters, digits and `more`; `s` moves on past it. */
static struct span take_run(struct span *s, const char *more)
{
    struct span run = {s->p, 0};

    while (run.len < s->len && (is_alnum(s->p[run.len]) || is_one_of(s->p[run.len], more)))
        run.len++;
    *s = span_from(*s, run.len);
    return run;
}

/* RFC 9110 section 5.6.2 */
static struct span take_token(struct span *s)
{
    return take_run(s, "!#$%&'*+-.^_`|~");
}

static bool take_char(struct span *s, char c)
{
    if (s->len == 0 || s->p[0] != c)
        return false;
    *s = span_from(*s, 1);
    return true;
}

static void skip_space(struct span *s)
{
    while (take_char(s, ' ') || take_char(s, '\t'))
        ;
}

static bool is_at_separator(struct span s)
{
    return s.len == 0 || s.p[0] == ',';
}

/* What stands between the elements of a list, empty elements too. False when
 * nothing does, and this is not the end. */
static bool take_separator(struct span *s)
{
    skip_space(s);
    bool taken = is_at_separator(*s);
    while (take_char(s, ','))
        skip_space(s);
    return taken;
}

struct room {
    char *p; /* NULL: the value is not wanted */
    size_t left;
};

static bool put(struct room *r, char c)
{
    if (r->p == NULL)
        return true;
    if (r->left <= 1)
        return false;
    *r->p++ = c;
    r->left--;
    return true;
}

/* RFC 9110 section 5.6.4, after its first quote. */
static bool take_quoted(struct span *s, struct room *r)
{
    while (s->len > 0) {
        char c = s->p[0];
        *s = span_from(*s, 1);
        if (c == '"')
            return true;
        if (c == '\\') {
            if (s->len == 0)
                return false;
            c = s->p[0];
            *s = span_from(*s, 1);
        }
        if (((unsigned char)c < 0x20 && c != '\t') || c == 0x7f || !put(r, c))
            return false;
    }
    return false;
}

static bool take_value(struct span *s, struct room *r)
{
    if (take_char(s, '"'))
        return take_quoted(s, r);
    struct span token = take_token(s);
    for (size_t i = 0; i < token.len; i++) {
        if (!put(r, token.p[i]))
            return false;
    }
    return token.len > 0;
}

/* One auth-param; `*seen` has a bit for each of `params`. */
static bool take_param(struct span *s, struct challenge *c, unsigned *seen)
{
    struct span name = take_token(s);
    struct room room = {NULL, 0};

    skip_space(s);
    if (name.len == 0 || !take_char(s, '='))
        return false;
    skip_space(s);
    for (unsigned i = 0; i < sizeof params / sizeof params[0]; i++) {
        if (!span_equal_fold(name, params[i].name))
            continue;
        if (*seen & 1u << i)
            return false;
        *seen |= 1u << i;
        room = (struct room){(char *)c + params[i].at, params[i].size};
    }
    return take_value(s, &room);
}

/* Whether another auth-param follows, rather than a challenge. */
static bool is_at_param(struct span s)
{
    struct span name = take_token(&s);

    skip_space(&s);
    return name.len > 0 && take_char(&s, '=');
}

/* What Negotiate and the like have in place of parameters; its end tells it from one. */
static bool skip_token68(struct span *s)
{
    struct span rest = *s;
    struct span text = take_run(&rest, "-._~+/");

    while (take_char(&rest, '='))
        ;
    skip_space(&rest);
    if (text.len == 0 || !is_at_separator(rest))
        return false;
    *s = rest;
    return true;
}

static bool take_challenge(struct span *s, struct challenge *c)
{
    struct span scheme = take_token(s);
    unsigned seen = 0;

    *c = (struct challenge){.scheme = CHALLENGE_OTHER};
    if (span_equal_fold(scheme, "Basic"))
        c->scheme = CHALLENGE_BASIC;
    else if (span_equal_fold(scheme, "Bearer"))
        c->scheme = CHALLENGE_BEARER;
    if (scheme.len == 0 || !(is_at_separator(*s) || s->p[0] == ' ' || s->p[0] == '\t'))
        return false;
    skip_space(s);
    if (skip_token68(s))
        return take_separator(s);
    bool ended = take_separator(s);
    while (is_at_param(*s)) {
        if (!take_param(s, c, &seen) || !take_separator(s))
            return false;
        ended = true;
    }
    return ended;
}

int challenge_parse(struct challenges *cs, const char *field, size_t len)
{
    struct span s = {field, len};
    unsigned before = cs->count;

    (void)take_separator(&s);
    while (s.len > 0) {
        struct challenge c;
        if (!take_challenge(&s, &c)) {
            cs->count = before;
            return ERR_INVALID;
        }
        if (c.scheme != CHALLENGE_OTHER && cs->count < CHALLENGES_MAX)
            cs->list[cs->count++] = c;
    }
    return 0;
}

static bool put_text(struct room *r, const char *text)
{
    for (; *text != '\0'; text++) {
        if (!put(r, *text))
            return false;
    }
    return true;
}

static bool put_param(struct room *r, const char *separator, const char *name, const char *value)
{
    bool fits = put_text(r, separator) && put_text(r, name) && put_text(r, "=\"");

    for (; fits && *value != '\0'; value++)
        fits = (!is_one_of(*value, "\"\\") || put(r, '\\')) && put(r, *value);
    return fits && put(r, '"');
}

void challenge_format(const struct challenge *c, char *out, size_t size)
{
    struct room room = {out, size};
    const char *separator = " ";
    bool fits = put_text(&room, c->scheme == CHALLENGE_BASIC ? "Basic" : "Bearer");

    for (unsigned i = 0; i < sizeof params / sizeof params[0] - 1; i++) {
        const char *value = (const char *)c + params[i].at;
        if (*value == '\0')
            continue;
        fits = fits && put_param(&room, separator, params[i].name, value);
        separator = ",";
    }
    *(fits ? room.p : out) = '\0';
}

const struct challenge *challenge_find(const struct challenges *cs, enum challenge_scheme scheme)
{
    for (unsigned i = 0; i < cs->count; i++) {
        if (cs->list[i].scheme == scheme)
            return &cs->list[i];
    }
    return NULL;
}
