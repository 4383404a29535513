/* SPDX-License-Identifier: ISC */
#include "cache/platform.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cache/err.h"
#include "cache/manifest.h"

/* Other names of architectures, as uname(1) has them. */
static const char *const aliases[][2] = {
    {"x86_64", "amd64"},
    {"x86-64", "amd64"},
    {"aarch64", "arm64"},
};

/* Take the letters, digits and "._-" at the start of the text, folded; their count, 0 when
 * there are none or too many. */
static size_t take_part(char out[PLATFORM_PART_MAX], const char *text)
{
    size_t len = 0;

    for (; len < PLATFORM_PART_MAX - 1; len++) {
        char c = text[len];

        if (c >= 'A' && c <= 'Z')
            c = (char)(c - 'A' + 'a');
        else if (c == '\0' || !strchr("abcdefghijklmnopqrstuvwxyz0123456789._-", c))
            break;
        out[len] = c;
    }
    out[len] = '\0';
    return text[len] == '\0' || strchr("/:", text[len]) ? len : 0;
}

static void use_usual_name(char arch[PLATFORM_PART_MAX])
{
    for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++) {
        if (strcmp(arch, aliases[i][0]) == 0)
            snprintf(arch, PLATFORM_PART_MAX, "%s", aliases[i][1]);
    }
}

int platform_parse(struct platform *p, const char *text)
{
    /* In their order, each after its mark. */
    const struct {
        char mark;
        char *part;
    } parts[] = {{'\0', p->os}, {'/', p->arch}, {'/', p->variant}, {':', p->os_version}};

    *p = (struct platform){0};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (i > 0 && *text != parts[i].mark)
            continue;
        text += i > 0;
        size_t len = take_part(parts[i].part, text);

        if (len == 0)
            return ERR_INVALID;
        text += len;
    }
    use_usual_name(p->arch);
    return p->arch[0] != '\0' && *text == '\0' ? 0 : ERR_INVALID;
}

size_t platform_text(const struct platform *p, char out[PLATFORM_TEXT_MAX])
{
    int len =
        snprintf(out, PLATFORM_TEXT_MAX, "%s/%s%s%s%s%s", p->os, p->arch, p->variant[0] ? "/" : "",
                 p->variant, p->os_version[0] ? ":" : "", p->os_version);

    CHECK(len > 0 && len < PLATFORM_TEXT_MAX);
    return (size_t)len;
}

int platform_of(struct platform *p, const struct descriptor *d)
{
    char text[PLATFORM_TEXT_MAX];

    if (!d->os && !d->arch)
        return ERR_NOT_FOUND;
    int len =
        snprintf(text, sizeof text, "%s/%s%s%s%s%s", d->os ? d->os : "", d->arch ? d->arch : "",
                 d->variant && *d->variant ? "/" : "", d->variant ? d->variant : "",
                 d->os_version && *d->os_version ? ":" : "", d->os_version ? d->os_version : "");

    return len > 0 && len < PLATFORM_TEXT_MAX ? platform_parse(p, text) : ERR_INVALID;
}

static const char *variant_of(const struct platform *p)
{
    return p->variant[0] == '\0' && strcmp(p->arch, "arm64") == 0 ? "v8" : p->variant;
}

static bool version_matches(const char *wanted, const char *has)
{
    size_t len = strlen(wanted);

    return len == 0 || (strncmp(has, wanted, len) == 0 && (has[len] == '\0' || has[len] == '.'));
}

bool platform_matches(const struct platform *wanted, const struct platform *has)
{
    return strcmp(wanted->os, has->os) == 0 && strcmp(wanted->arch, has->arch) == 0 &&
           (wanted->variant[0] == '\0' || strcmp(wanted->variant, variant_of(has)) == 0) &&
           version_matches(wanted->os_version, has->os_version);
}
