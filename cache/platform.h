/* SPDX-License-Identifier: ISC */
/*
 * Platforms, as image-spec 1.1 image-index.md names them and people write them:
 * "os/arch[/variant][:os.version]".
 */
#ifndef CACHE_PLATFORM_H
#define CACHE_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>

#include "cache/check.h"

#define PLATFORM_PART_MAX 32 /* with the NUL */
#define PLATFORM_TEXT_MAX (4 * PLATFORM_PART_MAX)

struct descriptor;

/* Variant and os_version are empty when they are not said. */
struct platform {
    char os[PLATFORM_PART_MAX];
    char arch[PLATFORM_PART_MAX];
    char variant[PLATFORM_PART_MAX];
    char os_version[PLATFORM_PART_MAX];
};

/* Parse; letters are folded, and x86_64, x86-64 and aarch64 become amd64 and arm64.
 * ERR_INVALID when it is not of that form. */
MUST_CHECK int platform_parse(struct platform *p, const char *text);

/* The form that platform_parse takes back; returns its length. */
size_t platform_text(const struct platform *p, char out[PLATFORM_TEXT_MAX]);

/* What an index says of one of its manifests. ERR_NOT_FOUND when it says nothing,
 * ERR_INVALID when that is no platform. */
MUST_CHECK int platform_of(struct platform *p, const struct descriptor *d);

/* Whether `has` is one of those that `wanted` asks for. What `wanted` leaves open may be
 * anything, but v8 is the variant of an arm64 that names none. Its os_version is a
 * prefix of whole numbers: 10.0.20348 is every build of it, 10.0.2034 is another. */
bool platform_matches(const struct platform *wanted, const struct platform *has);

#endif
