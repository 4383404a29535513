/* SPDX-License-Identifier: ISC */
/* Other programs, and what they print. */
#ifndef TOOLS_PROGRAM_H
#define TOOLS_PROGRAM_H

#include "cache/check.h"

#define PROGRAM_OUTPUT_MAX (4u * 1024 * 1024)

/* Run it, as $PATH finds it when it has no slash, without input, and read what it prints: a string,
 * owned by the caller. What it complains of goes to our standard error. 0 with its exit
 * status, -1 when a signal ended it, or an errno: EMSGSIZE for more than PROGRAM_OUTPUT_MAX. */
MUST_CHECK int program_read(const char *program, char *const argv[], char **output, int *status);

#endif
