/* SPDX-License-Identifier: ISC */
/* What people and programs read: columns, sizes, ages, JSON. */
#ifndef TOOLS_OUTPUT_H
#define TOOLS_OUTPUT_H

#include <jansson.h>
#include <stdint.h>

#include "tools/command.h"

#define TEXT_MAX 32

/* "0 B", "17.4 GiB"; returns `out`. */
char *size_text(char out[TEXT_MAX], uint64_t size_bytes);
/* Time that has passed, in the largest unit that fits: "5m", "3h", "12d". A time that
 * has not come yet is "0s". */
char *age_text(char out[TEXT_MAX], int64_t age_s);

/* Rows of text in columns that are as wide as their widest cell. */
struct table;

/* `sides` has one letter a column: 'l' or 'r' for the side that cells stand at. */
struct table *table_new(const char *sides);
void table_free(struct table **t);
/* The next cell; rows follow each other. */
void table_add(struct table *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void table_print(const struct table *t);

/* Print the value and release it. */
void json_print(json_t *value);

/* EXIT_DONE if all that was printed went out, else complain. */
enum exit_code output_end(void);

#endif
