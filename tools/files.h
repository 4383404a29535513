/* SPDX-License-Identifier: ISC */
/* Small files that people name on the command line. */
#ifndef TOOLS_FILES_H
#define TOOLS_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"
#include "tools/command.h"

/* Read all of a file, "-" being standard input, with a NUL after it; owned by the caller.
 * EXIT_DONE, or the code of a failure that was complained of. */
MUST_CHECK enum exit_code file_read(const char *path, size_t max_bytes, char **data, size_t *len);

/* "4095MiB", "4 GiB", "1000000": bytes, more than 0. */
bool size_parse(const char *text, uint64_t *size_bytes);

/* A file that has its name once it is whole: until then it has another beside it. */
struct output_file {
    int fd;
    char *path; /* NULL: standard output */
    char *unfinished;
};

/* "-" is standard output, which must be no terminal. */
MUST_CHECK enum exit_code output_file_open(struct output_file *f, const char *path);
/* Make it durable, and give it its name. */
MUST_CHECK enum exit_code output_file_finish(struct output_file *f);
/* Write all; 0 or an errno. */
MUST_CHECK int file_write_all(int fd, const void *data, size_t len);
/* Remove what was written. */
void output_file_discard(struct output_file *f);

#endif
