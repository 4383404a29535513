/* SPDX-License-Identifier: ISC */
#include "tools/output.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/terminal.h"

#define GAP 2 /* spaces between columns */
#define LINE_WIDTH 80
/* What is left of a column that is cut, and of one that is wrapped. */
#define CUT_MIN 10
#define MIDDLE_CUT_MIN 20
#define WRAPPED_MIN 16
/* Strings of a list that are shown; JSON has them all. */
#define SOME_MAX 3

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

char *short_size_text(char out[TEXT_MAX], uint64_t size_bytes)
{
    double size = (double)size_bytes;
    unsigned unit = 0;
    while (size >= 999.5 && unit < 6) {
        size /= 1024;
        unit++;
    }
    snprintf(out, TEXT_MAX, unit > 0 && size < 99.95 ? "%.1f%c" : "%.0f%c", size, "BKMGTPE"[unit]);
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

char *printable(const char *text)
{
    char *copy = mem_copy(text, strlen(text));
    for (char *p = copy; *p != '\0'; p++) {
        if (*p < ' ' || *p > '~')
            *p = '?';
    }
    return copy;
}

char *bar_text(char out[BAR_MAX], unsigned width, uint64_t done, uint64_t total)
{
    out[0] = '\0';
    if (width < 3 || width >= BAR_MAX)
        return out;
    unsigned room = width - 2;
    double share = total == 0 || done > total ? 1 : (double)done / (double)total;
    unsigned full = (unsigned)(share * room);
    out[0] = '[';
    memset(out + 1, '#', full);
    memset(out + 1 + full, '-', room - full);
    out[width - 1] = ']';
    out[width] = '\0';
    return out;
}

void print_wrapped(FILE *out, const char *text, unsigned column)
{
    unsigned at = column;
    for (const char *word = text; *word != '\0';) {
        size_t len = strcspn(word, " \n");
        if (at > column && at + 1 + len > LINE_WIDTH) {
            fprintf(out, "\n%*s", (int)column, "");
            at = column;
        }
        at += (unsigned)fprintf(out, "%s%.*s", at > column ? " " : "", (int)len, word);
        word += len;
        word += strspn(word, " \n");
    }
    fputc('\n', out);
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

size_t table_rows(const struct table *t)
{
    return t->count / t->columns;
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

/* The widest of those that may be cut, or wrapped, and are not at their least yet. */
static size_t *find_widest(const struct table *t, size_t *widths)
{
    size_t *widest = NULL;
    for (size_t c = 0; c < t->columns; c++) {
        size_t least = t->sides[c] == 'w' ? WRAPPED_MIN : strlen(t->cells[c]);
        if (least < CUT_MIN)
            least = CUT_MIN;
        if (least < MIDDLE_CUT_MIN && t->sides[c] == 'm')
            least = MIDDLE_CUT_MIN;
        if (t->sides[c] != 'r' && widths[c] > least && (widest == NULL || widths[c] >= *widest))
            widest = &widths[c];
    }
    return widest;
}

/* Owned by the caller. Headings are not cut, and rows longer than the terminal when all
 * else is. */
static size_t *fit_columns(const struct table *t, unsigned columns)
{
    size_t *widths = mem_new(t->columns * sizeof widths[0]);
    size_t total = GAP * (t->columns - 1);
    size_t *widest;
    for (size_t c = 0; c < t->columns; c++) {
        widths[c] = column_width(t, c);
        total += widths[c];
    }
    while (columns > 0 && total > columns && t->count > 0 &&
           (widest = find_widest(t, widths)) != NULL) {
        --*widest;
        total--;
    }
    return widths;
}

static void print_cut(FILE *out, const char *cell, size_t width, char side)
{
    size_t len = strlen(cell);
    size_t front = side == 'm' ? (width - 2) / 3 : width - 2;
    if (len <= width)
        fprintf(out, "%*s%s", side == 'r' ? (int)(width - len) : 0, "", cell);
    else
        fprintf(out, "%.*s..%s", (int)front, cell, cell + len - (width - 2 - front));
    if (len < width && side != 'r')
        fprintf(out, "%*s", (int)(width - len), "");
}

/* The number of bytes that go on this line: up to the last blank that fits, if any does. */
static size_t line_len(const char *text, size_t width)
{
    size_t len = strlen(text);
    if (len <= width)
        return len;
    for (size_t i = width; i > 0; i--) {
        if (text[i] == ' ')
            return i;
    }
    return width;
}

static void print_last(FILE *out, const char *cell, size_t width, size_t indent)
{
    size_t len = line_len(cell, width);
    fprintf(out, "%.*s", (int)len, cell);
    for (const char *rest = cell + len; *rest != '\0'; rest += len) {
        rest += strspn(rest, " ");
        len = line_len(rest, width);
        fprintf(out, "\n%*s%.*s", (int)indent, "", (int)len, rest);
    }
}

static void print_row(FILE *out, const struct table *t, char *const *cells, const size_t *widths)
{
    size_t indent = 0;
    for (size_t c = 0; c < t->columns; c++) {
        bool last = c + 1 == t->columns;
        size_t len = strlen(cells[c]);
        if (t->sides[c] == 'w')
            print_last(out, cells[c], widths[c], indent);
        else
            print_cut(out, cells[c],
                      last && len < widths[c] && t->sides[c] != 'r' ? len : widths[c], t->sides[c]);
        fprintf(out, "%*s", last ? 0 : GAP, "");
        indent += widths[c] + GAP;
    }
}

char *table_text(const struct table *t, unsigned columns, bool has_style)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    CHECK(out != NULL);
    size_t *widths = fit_columns(t, columns);
    for (size_t i = 0; i + t->columns <= t->count; i += t->columns) {
        bool is_bold = i == 0 && has_style;
        fputs(is_bold ? "\033[1m" : "", out);
        print_row(out, t, t->cells + i, widths);
        fputs(is_bold ? "\033[0m\n" : "\n", out);
    }
    free(widths);
    CHECK(fclose(out) == 0);
    return text;
}

static void print_text(const struct table *t, bool has_style)
{
    struct terminal_size size;
    terminal_size(STDOUT_FILENO, &size);
    char *text = table_text(t, size.columns, has_style);
    fputs(text, stdout);
    free(text);
}

void table_print(const struct table *t)
{
    print_text(t, terminal_has_style(STDOUT_FILENO));
}

void table_print_plain(const struct table *t)
{
    print_text(t, false);
}

char *json_text_of_some(const json_t *list, const char *none)
{
    size_t count = json_array_size(list);
    char *text = mem_format("%s", count == 0 ? none : "");
    for (size_t i = 0; i < count && i <= SOME_MAX; i++) {
        char *longer = i < SOME_MAX ? mem_format("%s%s%s", text, i == 0 ? "" : ", ",
                                                 json_string_value(json_array_get(list, i)))
                                    : mem_format("%s and %zu more", text, count - SOME_MAX);
        free(text);
        text = longer;
    }
    return text;
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
