/* SPDX-License-Identifier: ISC */
/* Users and repositories in rules of access: one text made canonical, and what it means. */
#include "proxy/config_private.h"

#include <string.h>

#include "cache/err.h"
#include "proxy/config_match.h"

int read_user(const char *text, char **value, char why[WHY_SIZE])
{
    if (strlen(text) >= CONFIG_USER_SIZE)
        return refuse(why, "is longer than 127 characters", text);
    if (strchr(text, ':') != NULL)
        return refuse(why, "has a colon", text);
    if (strchr(text, '*') != NULL && strcmp(text, "*") != 0)
        return refuse(why, "is neither a name nor * alone", text);
    *value = mem_copy(text, strlen(text));
    return 0;
}

/* --- patterns of repositories ---
 *
 * '*' is any text without a slash, "**" any text. The first component of an upstream's says
 * which: a pattern of local repositories never fits those, whatever its stars, so that a
 * rule for all of them opens nothing of others. */

/* "HOST[:PORT]" or "*.DOMAIN[:PORT]", folded as names are. */
static bool read_head(char out[NAME_MAX_SIZE], const char *text, size_t len)
{
    size_t star = len > 2 && memcmp(text, "*.", 2) == 0 ? 2 : 0;

    memcpy(out, text, star);
    return len < NAME_MAX_SIZE && name_set_registry(out + star, text + star, len - star) == 0 &&
           (star == 0 || text[star] != '[');
}

/* Components of what names are of, and stars; none is empty. */
static bool is_tail(const char *text)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789._-*";

    for (;;) {
        size_t len = strspn(text, allowed);
        if (len == 0)
            return false;
        if (text[len] == '\0')
            return true;
        if (text[len] != '/')
            return false;
        text += len + 1;
    }
}

int read_pattern(const char *text, char **value, char why[WHY_SIZE])
{
    char head[NAME_MAX_SIZE];
    size_t head_len = strcspn(text, "/");

    if (!name_looks_like_registry(text, strlen(text))) {
        if (!is_tail(text))
            return refuse(why, "is not a pattern of repositories", text);
        *value = mem_copy(text, strlen(text));
        return 0;
    }
    if (!read_head(head, text, head_len))
        return refuse(why, "does not begin with a registry host", text);
    if (text[head_len] == '\0')
        return refuse(why, "is a registry; HOST/** is all that it has", text);
    const char *tail = text + head_len + 1;
    if (!is_tail(tail))
        return refuse(why, "is not a pattern of repositories", text);
    /* docker.io/alpine is docker.io/library/alpine, name_set. */
    bool is_short =
        strcmp(head, "docker.io") == 0 && strchr(tail, '/') == NULL && strstr(tail, "**") == NULL;
    *value = mem_format("%s/%s%s", head, is_short ? "library/" : "", tail);
    return 0;
}

/* What of `text` can be read with the part of the pattern that was gone through: one bit for
 * each of its places, so the work is the product of the lengths at most. */
static bool glob_matches(const char *pattern, const char *text)
{
    size_t len = strlen(text);
    bool at[NAME_MAX_SIZE] = {true};

    CHECK(len < NAME_MAX_SIZE);
    for (const char *p = pattern; *p != '\0'; p++) {
        bool is_star = *p == '*', crosses = is_star && p[1] == '*';
        if (!is_star) {
            for (size_t i = len; i > 0; i--)
                at[i] = at[i - 1] && text[i - 1] == *p;
            at[0] = false;
            continue;
        }
        for (size_t i = 1; i <= len; i++)
            at[i] = at[i] || (at[i - 1] && (crosses || text[i - 1] != '/'));
        p += crosses ? 1 : 0;
    }
    return at[len];
}

/* Whether the pattern begins with that registry, or may. */
static bool is_of_registry(const char *pattern, const char *registry)
{
    size_t len = strlen(registry);

    return name_looks_like_registry(pattern, strlen(pattern)) ||
           (strncmp(pattern, registry, len) == 0 && pattern[len] == '/');
}

bool config_repository_matches(char *const *patterns, unsigned count, const struct name *n)
{
    char text[NAME_MAX_SIZE];

    name_text(n, text);
    for (unsigned i = 0; i < count; i++) {
        if ((name_is_local(n) || is_of_registry(patterns[i], n->registry)) &&
            glob_matches(patterns[i], text))
            return true;
    }
    return false;
}
