/* SPDX-License-Identifier: ISC */
/* The command line: which command, which options, and what is left. */
#ifndef TOOLS_ARGUMENTS_H
#define TOOLS_ARGUMENTS_H

#include "cache/check.h"
#include "tools/command.h"

struct arguments {
    struct options options;
    const struct command *command; /* NULL: none is named */
    int count;                     /* of the command's arguments */
    char **values;
    bool wants_help;
    bool wants_version;
};

/* Options may stand before and after the command, its own only after it. What is not set
 * is NULL; all of it points into `argv`, whose order is changed. EXIT_USAGE when it was
 * complained of. */
MUST_CHECK enum exit_code arguments_parse(struct arguments *a, int argc, char **argv);
void arguments_free(struct arguments *a);

#endif
