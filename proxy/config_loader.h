/* SPDX-License-Identifier: ISC */
/* From sources to a configuration: config.c has the sources, config_read.c the lines of one,
 * config_check.c what belongs together, config_files.c what is in files. */
#ifndef PROXY_CONFIG_LOADER_H
#define PROXY_CONFIG_LOADER_H

#include "proxy/config_private.h"

/* A section that has been seen, and which source set which of its options. */
struct seen {
    enum section kind;
    unsigned i;  /* of the listener, upstream, rule of access or prefetch */
    char *where; /* "file:line" of its first heading in the last source that has it */
    unsigned where_source;
    unsigned source[OPTION_ROWS_MAX];
    unsigned line[OPTION_ROWS_MAX];
};

#define SOURCE_SHIPPED 1 /* the first that is read; 0: none */

struct loader {
    struct config *config;
    bool opens_files; /* those that options name must be of use */
    struct seen *seen;
    unsigned seen_count;
    FILE *errors;
    unsigned error_count;
    /* The source being read. */
    unsigned source;
    const char *file;
    FILE *in;
    char *line_buf;
    size_t line_size;
    unsigned line;
    bool in_section;     /* some heading was seen */
    int current;         /* place in `seen`; -1 when the heading was not valid */
    bool value_expected; /* inih has a line that must give a value */
};

/* Print one error and count it; many of them are counted only. */
void loader_complain(struct loader *l, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Read one source; whatever is wrong with it is complained of. */
void loader_read(struct loader *l, const char *file, FILE *in);

/* Complete what is left open, and complain of options that do not go together. */
void loader_check(struct loader *l);

/* Of the section [auth]: read its files too, and complain of those that are of no use. */
void loader_check_auth(struct loader *l, const struct seen *seen);

/* Of a section [prefetch NAME]: read its time zone, and complain of one that is not there. */
void loader_load_zone(struct loader *l, const struct seen *seen);

/* The structure that the options of a section are fields of. */
void *section_base(struct config *c, enum section kind, unsigned i);

void section_set_defaults(struct config *c, enum section kind, unsigned i);

#endif
