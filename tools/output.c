/* SPDX-License-Identifier: ISC */
#include "tools/output.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GAP 2 /* spaces between columns */

char *size_text(char out[TEXT_MAX], uint64_t size_bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double size = (double)size_bytes;
    unsigned unit = 0;
    while (size >= 1023.95 && unit < 6) {
        size /= 1024;
        unit++;
    }
    snprintf(out, TEXT_MAX, unit == 0 ? "%.0f %s" : "%.1f %s", size, units[unit]);
    return out;
}

char *age_text(char out[TEXT_MAX], int64_t age_s)
{
    static const struct {
        int64_t seconds;
        const char *name;
    } units[] = {{86400, "d"}, {3600, "h"}, {60, "m"}, {1, "s"}};
    size_t i = 0;
    while (i < 3 && age_s < units[i].seconds)
        i++;
    snprintf(out, TEXT_MAX, "%" PRId64 "%s", age_s < 0 ? 0 : age_s / units[i].seconds,
             units[i].name);
    return out;
}

struct table {
    const char *sides;
    size_t columns;
    char **cells;
    size_t count;
    size_t room;
};

struct table *table_new(const char *sides)
{
    struct table *t = mem_new(sizeof *t);
    t->sides = sides;
    t->columns = strlen(sides);
    CHECK(t->columns > 0);
    return t;
}

void table_free(struct table **t)
{
    for (size_t i = 0; i < (*t)->count; i++)
        free((*t)->cells[i]);
    free((*t)->cells);
    free(*t);
    *t = NULL;
}

void table_add(struct table *t, const char *format, ...)
{
    if (t->count == t->room) {
        t->room = t->room == 0 ? 64 : t->room * 2;
        t->cells = mem_resize(t->cells, t->room * sizeof t->cells[0]);
    }
    char *cell;
    va_list args;
    va_start(args, format);
    CHECK(vasprintf(&cell, format, args) >= 0);
    va_end(args);
    t->cells[t->count++] = cell;
}

static size_t column_width(const struct table *t, size_t column)
{
    size_t width = 0;
    for (size_t i = column; i < t->count; i += t->columns) {
        size_t len = strlen(t->cells[i]);
        if (len > width)
            width = len;
    }
    return width;
}

void table_print(const struct table *t)
{
    size_t *widths = mem_new(t->columns * sizeof widths[0]);
    for (size_t c = 0; c < t->columns; c++)
        widths[c] = column_width(t, c);
    size_t c = 0;
    for (size_t i = 0; i < t->count; i++) {
        bool last = c + 1 == t->columns;
        int width = (int)widths[c];
        if (t->sides[c] == 'r')
            printf("%*s", width, t->cells[i]);
        else
            printf("%-*s", last ? 0 : width, t->cells[i]);
        if (last)
            putchar('\n');
        else
            printf("%*s", GAP, "");
        c = last ? 0 : c + 1;
    }
    free(widths);
}

void json_print(json_t *value)
{
    CHECK(value != NULL);
    json_dumpf(value, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(value);
}

enum exit_code output_end(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return EXIT_DONE;
    return complain(EXIT_FAILED, "standard output cannot be written: %s", strerror(errno));
}
