/* SPDX-License-Identifier: ISC */
/*
 * The lines of one ini source.
 *
 * inih splits a line into name and value; what it does not do is done in its
 * reader, next_line: it counts lines, keeps the section (inih cuts its name at 49
 * bytes, and says nothing of a section without options), and refuses what inih
 * would cut or pass over: long lines, NUL, lines that are neither.
 */
#include "proxy/config_loader.h"

#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/name.h"

#define ERRORS_MAX 50 /* printed of one load */
#define SECTION_NAME_MAX 63
#define REGISTRY_LEN_MAX 180 /* its section and default url fit a line of inih */

void loader_complain(struct loader *l, const char *format, ...)
{
    l->error_count++;
    if (l->error_count == ERRORS_MAX + 1)
        fputs("more errors are not shown\n", l->errors);
    if (l->error_count > ERRORS_MAX)
        return;
    va_list args;
    va_start(args, format);
    vfprintf(l->errors, format, args);
    va_end(args);
    fputc('\n', l->errors);
}

void *section_base(struct config *c, enum section kind, unsigned i)
{
    if (kind == SECTION_LISTENER)
        return &c->listeners[i];
    if (kind == SECTION_UPSTREAM)
        return &c->upstreams[i];
    if (kind == SECTION_ACCESS)
        return &c->access[i];
    if (kind == SECTION_PREFETCH)
        return &c->prefetches[i];
    return c;
}

void section_set_defaults(struct config *c, enum section kind, unsigned i)
{
    size_t count;
    const struct option_row *rows = option_rows(&count);
    char why[WHY_SIZE];
    for (size_t r = 0; r < count; r++) {
        if (rows[r].section == kind && rows[r].doc.value[0] != '\0')
            CHECK(option_set(&rows[r], section_base(c, kind, i), rows[r].doc.value, why) == 0);
    }
}

static unsigned add_listener(struct config *c, const char *name)
{
    unsigned i = c->listener_count++;
    c->listeners = mem_resize(c->listeners, c->listener_count * sizeof c->listeners[0]);
    c->listeners[i] = (struct config_listener){.name = mem_copy(name, strlen(name))};
    section_set_defaults(c, SECTION_LISTENER, i);
    return i;
}

static unsigned add_upstream(struct config *c, const char *registry)
{
    unsigned i = c->upstream_count++;
    c->upstreams = mem_resize(c->upstreams, c->upstream_count * sizeof c->upstreams[0]);
    c->upstreams[i] = (struct config_upstream){.registry = mem_copy(registry, strlen(registry))};
    section_set_defaults(c, SECTION_UPSTREAM, i);
    return i;
}

static unsigned add_access(struct config *c, const char *name)
{
    unsigned i = c->access_count++;
    c->access = mem_resize(c->access, c->access_count * sizeof c->access[0]);
    c->access[i] = (struct config_access){.name = mem_copy(name, strlen(name))};
    section_set_defaults(c, SECTION_ACCESS, i);
    return i;
}

static unsigned add_prefetch(struct config *c, const char *name)
{
    unsigned i = c->prefetch_count++;
    c->prefetches = mem_resize(c->prefetches, c->prefetch_count * sizeof c->prefetches[0]);
    c->prefetches[i] = (struct config_prefetch){.name = mem_copy(name, strlen(name))};
    section_set_defaults(c, SECTION_PREFETCH, i);
    return i;
}

/* What follows the kind in the heading. */
static const char *title_of(const struct config *c, const struct seen *seen)
{
    if (seen->kind == SECTION_LISTENER)
        return c->listeners[seen->i].name;
    if (seen->kind == SECTION_UPSTREAM)
        return c->upstreams[seen->i].registry;
    if (seen->kind == SECTION_ACCESS)
        return c->access[seen->i].name;
    if (seen->kind == SECTION_PREFETCH)
        return c->prefetches[seen->i].name;
    return "";
}

/* The place in `seen` of a section, which is added when it is new. */
static int see(struct loader *l, enum section kind, const char *name)
{
    struct config *c = l->config;
    for (unsigned s = 0; s < l->seen_count; s++) {
        struct seen *old = &l->seen[s];
        if (old->kind != kind || strcmp(title_of(c, old), name) != 0)
            continue;
        if (old->where_source != l->source) {
            free(old->where);
            old->where = mem_format("%s:%u", l->file, l->line);
            old->where_source = l->source;
        }
        return (int)s;
    }
    char *where = mem_format("%s:%u", l->file, l->line);
    struct seen new = {.kind = kind, .where = where, .where_source = l->source};
    if (kind == SECTION_LISTENER)
        new.i = add_listener(c, name);
    else if (kind == SECTION_UPSTREAM)
        new.i = add_upstream(c, name);
    else if (kind == SECTION_ACCESS)
        new.i = add_access(c, name);
    else if (kind == SECTION_PREFETCH)
        new.i = add_prefetch(c, name);
    l->seen = mem_resize(l->seen, (l->seen_count + 1) * sizeof l->seen[0]);
    l->seen[l->seen_count] = new;
    return (int)l->seen_count++;
}

/* A section with a name of the administrator's choice. */
static int see_named(struct loader *l, enum section kind, const char *what, const char *name)
{
    size_t len = strlen(name);
    size_t good = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
    if (len > 0 && len <= SECTION_NAME_MAX && good == len)
        return see(l, kind, name);
    loader_complain(l,
                    "%s:%u: [%s %s]: not a name for a %s; accepted: [%s NAME] with a "
                    "name of 1 to %d letters, digits, dots, underscores and dashes",
                    l->file, l->line, section_name(kind), name, what, section_name(kind),
                    SECTION_NAME_MAX);
    return -1;
}

static int see_upstream(struct loader *l, const char *host)
{
    char registry[NAME_MAX_SIZE];
    if (strlen(host) <= REGISTRY_LEN_MAX && name_set_registry(registry, host, strlen(host)) == 0)
        return see(l, SECTION_UPSTREAM, registry);
    loader_complain(l,
                    "%s:%u: [upstream %s]: not a registry; accepted: [upstream HOST] or "
                    "[upstream HOST:PORT], without https:// and without a path",
                    l->file, l->line, host);
    return -1;
}

/* A line "[kind name]", trimmed. */
static int read_heading(struct loader *l, char *line)
{
    char *end = strchr(line, ']');
    /* An IPv6 host has brackets of its own: the last bracket counts. */
    for (char *p = end; p != NULL; p = strchr(p + 1, ']'))
        end = p;
    const char *after = end == NULL ? "" : end + 1 + strspn(end + 1, " \t");
    if (end == NULL || (*after != '\0' && (*after != ';' || after == end + 1))) {
        loader_complain(l,
                        "%s:%u: %s: not a section heading; accepted: [section] alone on its line",
                        l->file, l->line, line);
        return -1;
    }
    *end = '\0';
    char *kind = line + 1 + strspn(line + 1, " \t");
    char *name = kind + strcspn(kind, " \t");
    if (*name != '\0') {
        *name++ = '\0';
        name += strspn(name, " \t");
        for (char *last = name + strlen(name); last > name && strchr(" \t", last[-1]) != NULL;)
            *--last = '\0';
    }
    if (strcmp(kind, section_name(SECTION_LISTENER)) == 0)
        return see_named(l, SECTION_LISTENER, "listener", name);
    if (strcmp(kind, section_name(SECTION_ACCESS)) == 0)
        return see_named(l, SECTION_ACCESS, "rule of access", name);
    if (strcmp(kind, section_name(SECTION_PREFETCH)) == 0)
        return see_named(l, SECTION_PREFETCH, "prefetch", name);
    if (strcmp(kind, section_name(SECTION_UPSTREAM)) == 0)
        return see_upstream(l, name);
    for (enum section s = SECTION_CACHE; s < SECTION_LISTENER; s++) {
        if (*name == '\0' && strcmp(kind, section_name(s)) == 0)
            return see(l, s, name);
    }
    loader_complain(l,
                    "%s:%u: [%s%s%s]: unknown section; accepted: [cache], [log], [admin], "
                    "[intercept], [auth], [listener NAME], [upstream HOST], [access NAME], "
                    "[prefetch NAME]",
                    l->file, l->line, kind, *name == '\0' ? "" : " ", name);
    return -1;
}

/* What is wrong with the line whatever it means, or NULL. */
static const char *line_fault(const char *line, size_t len, size_t max)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)line[i];
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return "a control character";
    }
    return len > max ? "too long: lists may be split over several lines with the same name" : NULL;
}

/* inih's reader: what it gets is an empty line, or a line that is "name = value"
 * if it is anything, starts in its first column (so that inih never takes it for
 * the continuation of a value) and fits. */
static char *next_line(char *buf, int buf_size, void *arg)
{
    struct loader *l = arg;
    if (l->value_expected)
        loader_complain(l, "%s:%u: neither a [section] nor a name = value", l->file, l->line);
    l->value_expected = false;
    ssize_t n = getline(&l->line_buf, &l->line_size, l->in);
    if (n < 0)
        return NULL;
    l->line++;
    char *line = l->line_buf;
    size_t len = (size_t)n;
    while (len > 0 && strchr(" \t\r\n", line[len - 1]) != NULL && line[len - 1] != '\0')
        len--;
    if (l->line == 1 && len >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) {
        line += 3; /* byte order mark */
        len -= 3;
    }
    while (len > 0 && (*line == ' ' || *line == '\t')) {
        line++;
        len--;
    }
    strcpy(buf, "\n");
    if (len == 0 || *line == ';' || *line == '#')
        return buf;
    const char *fault = line_fault(line, len, (size_t)buf_size - 2);
    line[len] = '\0';
    if (*line == '[') {
        l->in_section = true;
        l->current = -1;
    }
    if (fault != NULL)
        loader_complain(l, "%s:%u: %s", l->file, l->line, fault);
    else if (*line == '[')
        l->current = read_heading(l, line);
    else {
        l->value_expected = true;
        snprintf(buf, (size_t)buf_size, "%s\n", line);
    }
    return buf;
}

/* Changes that make b of a: insert, delete, replace a character. */
static unsigned edit_distance(const char *a, const char *b)
{
    enum { MAX = 50 };
    unsigned row[MAX + 1];
    size_t b_len = strnlen(b, MAX);
    for (unsigned j = 0; j <= b_len; j++)
        row[j] = j;
    for (unsigned i = 1; a[i - 1] != '\0'; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= b_len; j++) {
            unsigned best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[b_len];
}

static void complain_of_name(struct loader *l, enum section kind, const char *name)
{
    size_t count;
    const struct option_row *rows = option_rows(&count);
    const char *nearest = NULL;
    unsigned least = 4; /* farther than 3 is another word */
    char *accepted = mem_format("%s", "");
    for (size_t r = 0; r < count; r++) {
        if (rows[r].section != kind)
            continue;
        const char *option = rows[r].doc.name;
        unsigned distance = edit_distance(name, option);
        if (distance < least) {
            least = distance;
            nearest = option;
        }
        char *longer = mem_format("%s%s%s", accepted, *accepted == '\0' ? "" : ", ", option);
        free(accepted);
        accepted = longer;
    }
    loader_complain(l, "%s:%u: %s.%s: unknown option%s%s%s; accepted: %s", l->file, l->line,
                    section_name(kind), name, nearest == NULL ? "" : ", did you mean ",
                    nearest == NULL ? "" : nearest, nearest == NULL ? "" : "?", accepted);
    free(accepted);
}

static void take_value(struct loader *l, struct seen *seen, const struct option_row *row, size_t r,
                       const char *value)
{
    void *base = section_base(l->config, seen->kind, seen->i);
    bool again = seen->source[r] == l->source;
    if (again && !option_adds_up(row)) {
        loader_complain(l, "%s:%u: %s.%s: set twice in this section, first in line %u", l->file,
                        l->line, row->doc.section, row->doc.name, seen->line[r]);
        return;
    }
    if (!again && option_adds_up(row))
        option_clear(row, base);
    seen->source[r] = l->source;
    seen->line[r] = l->line;
    char why[WHY_SIZE];
    if (option_set(row, base, value, why) != 0)
        loader_complain(l, "%s:%u: %s.%s: %s; accepted: %s", l->file, l->line, row->doc.section,
                        row->doc.name, why, row->doc.form);
}

static int on_value(void *arg, const char *section, const char *name, const char *value)
{
    (void)section; /* cut by inih */
    struct loader *l = arg;
    l->value_expected = false;
    if (!l->in_section)
        loader_complain(l, "%s:%u: %s: outside of a section", l->file, l->line, name);
    if (l->current < 0)
        return 1;
    struct seen *seen = &l->seen[l->current];
    size_t count;
    const struct option_row *rows = option_rows(&count);
    for (size_t r = 0; r < count; r++) {
        if (rows[r].section == seen->kind && strcmp(rows[r].doc.name, name) == 0) {
            take_value(l, seen, &rows[r], r, value);
            return 1;
        }
    }
    complain_of_name(l, seen->kind, name);
    return 1;
}

void loader_read(struct loader *l, const char *file, FILE *in)
{
    l->source++;
    l->file = file;
    l->in = in;
    l->line = 0;
    l->in_section = false;
    l->current = -1;
    l->value_expected = false;
    if (ini_parse_stream(next_line, l, on_value, l) < 0)
        loader_complain(l, "%s: out of memory", file);
    if (ferror(in))
        loader_complain(l, "%s: cannot be read: %s", file, strerror(errno));
}
