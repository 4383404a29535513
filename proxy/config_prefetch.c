/* SPDX-License-Identifier: ISC */
/* What is fetched ahead: one text made canonical, and what it means. */
#include "proxy/config_private.h"

#include <string.h>

#include "cache/err.h"
#include "cache/platform.h"

#define HUB "docker.io"

static bool is_pattern(const char *text, size_t len)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "_.-*?";

    return len > 0 && len < CONFIG_TAGS_SIZE && strspn(text, allowed) == len;
}

int config_reference(const char *text, struct reference *r, char tags[CONFIG_TAGS_SIZE])
{
    char plain[REFERENCE_TEXT_MAX];
    const char *colon = strrchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : 0;

    tags[0] = '\0';
    if (!strpbrk(text, "*?"))
        return reference_parse(r, text, HUB);
    if (!colon || strpbrk(colon, "/@") || len >= sizeof plain ||
        !is_pattern(colon + 1, strlen(colon + 1)))
        return ERR_INVALID;
    memcpy(plain, text, len);
    plain[len] = '\0';
    /* With a tag already it would be none. */
    const char *slash = strrchr(plain, '/');
    if (strchr(slash ? slash : plain, ':') || strchr(plain, '@'))
        return ERR_INVALID;
    int err = reference_parse(r, plain, HUB);
    r->tag[0] = '\0';
    memcpy(tags, colon + 1, strlen(colon + 1) + 1);
    return err;
}

int read_reference(const char *text, char **value, char why[WHY_SIZE])
{
    char canonical[REFERENCE_TEXT_MAX], tags[CONFIG_TAGS_SIZE];
    struct reference r;

    if (config_reference(text, &r, tags) != 0)
        return refuse(why, "is not a reference of an image", text);
    if (tags[0]) {
        name_text(&r.name, canonical);
        *value = mem_format("%s:%s", canonical, tags);
    } else {
        reference_text(&r, canonical);
        *value = mem_copy(canonical, strlen(canonical));
    }
    return 0;
}

int read_platform(const char *text, char **value, char why[WHY_SIZE])
{
    char canonical[PLATFORM_TEXT_MAX];
    struct platform p;

    if (platform_parse(&p, text) != 0)
        return refuse(why, "is not a platform", text);
    *value = mem_copy(canonical, platform_text(&p, canonical));
    return 0;
}

int read_zone(const char *text, char **value, char why[WHY_SIZE])
{
    if (!zone_is_name(text))
        return refuse(why, "is not the name of a time zone", text);
    *value = mem_copy(text, strlen(text));
    return 0;
}
