/* SPDX-License-Identifier: ISC */
/* A section [prefetch NAME]: images that are fetched before anybody asks for them. */
#ifndef PROXY_CONFIG_PREFETCH_H
#define PROXY_CONFIG_PREFETCH_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/reference.h"
#include "proxy/schedule.h"

#define CONFIG_REFERENCES_MAX 64
#define CONFIG_PLATFORMS_MAX 16

struct config_prefetch {
    char *name;
    char *
        references[CONFIG_REFERENCES_MAX]; /* canonical, for config_reference; none: does nothing */
    unsigned reference_count;
    char *platforms[CONFIG_PLATFORMS_MAX]; /* canonical, for platform_parse; none: all */
    unsigned platform_count;
    struct schedule schedule;
    char *zone_name;   /* NULL: the system's */
    struct zone *zone; /* set by config_load; NULL from config_load_stream */
    int64_t keep;      /* builds before the newest */
};

#define CONFIG_TAGS_SIZE 256 /* of a pattern of tags, with the NUL */

/* One of the references: a reference, whose tag may be a pattern for fnmatch(3) with "*" and
 * "?" alone. When it is one, the reference's tag is empty and `tags` has it; else that is
 * empty. ERR_INVALID. */
MUST_CHECK int config_reference(const char *text, struct reference *r, char tags[CONFIG_TAGS_SIZE]);

#endif
