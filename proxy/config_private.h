/* SPDX-License-Identifier: ISC */
/* Options and their values: config_table.c has the options, config_value.c how their values
 * are read, kept, written and freed, config_host.c addresses, urls and hosts,
 * config_pattern.c users and patterns of repositories, config_prefetch.c references and
 * platforms. */
#ifndef PROXY_CONFIG_PRIVATE_H
#define PROXY_CONFIG_PRIVATE_H

#include "proxy/config.h"
#include "proxy/config_option.h"

#define KIB INT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define TIB (GIB * 1024)
#define SECOND INT64_C(1000)
#define HOUR (3600 * SECOND)
#define DAY (24 * HOUR)

enum section {
    SECTION_CACHE,
    SECTION_LOG,
    SECTION_ADMIN,
    SECTION_INTERCEPT,
    SECTION_AUTH, /* the last of those that there are once */
    SECTION_LISTENER,
    SECTION_UPSTREAM,
    SECTION_ACCESS,
    SECTION_PREFETCH,
    SECTION_COUNT,
};

enum option_type {
    OPTION_PATH,       /* char *: absolute, or NULL when it may be empty */
    OPTION_SOCKET,     /* char *: absolute path, "none", or NULL: to be resolved */
    OPTION_REGISTRY,   /* char *: canonical */
    OPTION_USERNAME,   /* char *: without a colon, or NULL */
    OPTION_TEXT,       /* char *: printable ASCII, or NULL */
    OPTION_REALM,      /* char *: a url, or NULL */
    OPTION_PROXY,      /* char *: http://HOST:PORT, or NULL */
    OPTION_SIZE,       /* int64_t, bytes */
    OPTION_AMOUNT,     /* struct room_amount: bytes, or at most `max` percent */
    OPTION_PERCENT,    /* unsigned */
    OPTION_MS,         /* int64_t, milliseconds */
    OPTION_SECONDS,    /* int64_t, whole seconds */
    OPTION_COUNT,      /* int64_t */
    OPTION_BOOL,       /* bool */
    OPTION_WORD,       /* an enum whose values are the places in `words` */
    OPTION_ADDRESS,    /* char *[CONFIG_ADDRESSES_MAX] and its count */
    OPTION_URL,        /* char *[CONFIG_URLS_MAX] and its count */
    OPTION_HOSTS,      /* char *[CONFIG_HOSTS_MAX] and its count: patterns */
    OPTION_NAMES,      /* the same: host names and addresses */
    OPTION_RANGES,     /* char *[CONFIG_RANGES_MAX] and its count */
    OPTION_USERS,      /* char *[CONFIG_USERS_MAX] and its count: names, or "*" */
    OPTION_PATTERNS,   /* char *[CONFIG_PATTERNS_MAX] and its count: of repositories */
    OPTION_FLAGS,      /* unsigned: the bits 1 << i of the places in `words` */
    OPTION_RATE,       /* struct rate */
    OPTION_REFERENCES, /* char *[CONFIG_REFERENCES_MAX] and its count */
    OPTION_PLATFORMS,  /* char *[CONFIG_PLATFORMS_MAX] and its count */
    OPTION_SCHEDULE,   /* struct schedule */
    OPTION_ZONE,       /* char *: the name of a time zone, or NULL */
};

struct option_row {
    struct config_option doc;
    enum section section;
    enum option_type type;
    size_t offset;       /* of the field in the section's structure */
    size_t count_offset; /* of a list's count */
    int64_t min, max;    /* of a number, in the unit of its type */
    const char *const *words;
};

#define OPTION_ROWS_MAX 96
#define WHY_SIZE 200
#define SOCKET_PATH_MAX 107 /* sun_path without its NUL */

/* Rows in the order of sections; the length in `*count`, at most OPTION_ROWS_MAX. */
const struct option_row *option_rows(size_t *count);

const char *section_name(enum section s);

/* Set the field in `base` from its text; a list's values are added. The previous
 * value is freed. ERR_INVALID with what is wrong in `why`; the field is as before,
 * but a list may have got some of the values. */
MUST_CHECK int option_set(const struct option_row *row, void *base, const char *text,
                          char why[WHY_SIZE]);

/* Free what the field owns and make it empty. */
void option_clear(const struct option_row *row, void *base);

/* Write "name = value" lines that option_set takes back; nothing for an empty one. */
void option_write(const struct option_row *row, const void *base, FILE *out);

/* Whether the lines of one source add up, rather than being an error. */
bool option_adds_up(const struct option_row *row);

/* The canonical form of one text, owned by the caller in `*value`, or ERR_INVALID
 * with what is wrong in `why`. */
MUST_CHECK int read_address(const char *text, char **value, char why[WHY_SIZE]);
MUST_CHECK int read_url(const char *text, char **value, char why[WHY_SIZE]);
MUST_CHECK int read_realm(const char *text, char **value, char why[WHY_SIZE]);
MUST_CHECK int read_proxy(const char *text, char **value, char why[WHY_SIZE]);
MUST_CHECK int read_host(const char *text, char **value, char why[WHY_SIZE]);
MUST_CHECK int read_name(const char *text, char **value, char why[WHY_SIZE]);
MUST_CHECK int read_range(const char *text, char **value, char why[WHY_SIZE]);
MUST_CHECK int read_user(const char *text, char **value, char why[WHY_SIZE]);
MUST_CHECK int read_reference(const char *text, char **value, char why[WHY_SIZE]);
MUST_CHECK int read_platform(const char *text, char **value, char why[WHY_SIZE]);
MUST_CHECK int read_zone(const char *text, char **value, char why[WHY_SIZE]);
MUST_CHECK int read_pattern(const char *text, char **value, char why[WHY_SIZE]);

/* ERR_INVALID, and `why` is "TEXT" and what is wrong with it. */
int refuse(char why[WHY_SIZE], const char *what, const char *text);

/* Whether two addresses of listeners cannot both be bound. */
bool address_overlaps(const char *a, const char *b);

#endif
