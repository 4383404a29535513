/* SPDX-License-Identifier: ISC */
/* What people and programs read: columns, sizes, ages, JSON. */
#ifndef TOOLS_OUTPUT_H
#define TOOLS_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "tools/command.h"

#define TEXT_MAX 32

/* "0 B", "17.4 GiB"; returns `out`. */
char *size_text(char out[TEXT_MAX], uint64_t size_bytes);
/* The same in at most five characters, for narrow columns: "17.4G", "734M", "0B". */
char *short_size_text(char out[TEXT_MAX], uint64_t size_bytes);
/* Time that has passed, in the largest unit that fits: "5m", "3h", "12d". A time that
 * has not come yet is "0s". */
char *age_text(char out[TEXT_MAX], int64_t age_s);

/* What a peer said, fit for a terminal: what is not printable ASCII becomes '?'. Owned by
 * the caller. */
char *printable(const char *text);

#define BAR_MAX 64
/* "[#####-----]", `width` characters wide in all; empty when that is less than 3 or too
 * much. Returns `out`. */
char *bar_text(char out[BAR_MAX], unsigned width, uint64_t done, uint64_t total);

/* Print the words with a newline at the end, in lines of 80 columns that begin at this one; the
 * cursor stands there. */
void print_wrapped(FILE *out, const char *text, unsigned column);

/* Rows of text in columns that are as wide as their widest cell. On a terminal that is too
 * narrow for them they are cut or wrapped; elsewhere they are whole. */
struct table;

/* `sides` has one letter a column: 'l' or 'r' for the side that cells stand at. When there
 * is no room, an 'l' loses its end, an 'm', which stands at the left too, its middle, and
 * an 'r' nothing; a 'w', which must be the last, goes on in further lines. */
struct table *table_new(const char *sides);
void table_free(struct table **t);
/* The next cell; rows follow each other. */
void table_add(struct table *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* With the heading. */
size_t table_rows(const struct table *t);
/* The first row, in bold where that can be, is the heading. */
void table_print(const struct table *t);
/* The same of a table without a heading. */
void table_print_plain(const struct table *t);
/* The same as a text, owned by the caller, for a terminal of so many columns; 0: no limit. */
char *table_text(const struct table *t, unsigned columns, bool has_style);

/* Some of a list of strings: "one:1, two:1, three:1 and 5 more", or `none` when it is empty;
 * owned by the caller. */
char *json_text_of_some(const json_t *list, const char *none);

/* Print the value and release it. */
void json_print(json_t *value);

/* EXIT_DONE if all that was printed went out, else complain. */
enum exit_code output_end(void);

#endif
