/* SPDX-License-Identifier: ISC */
#include "tools/settings.h"

#include <errno.h>
#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"

static const char blanks[] = " \t\r\n";

/* Cut off blanks at both ends, and a comment: what follows a blank and a ';'. */
static char *trim(char *text)
{
    text += strspn(text, blanks);
    size_t len = 0;
    while (text[len] != '\0' &&
           !(text[len] == ';' && (len == 0 || strchr(blanks, text[len - 1]) != NULL)))
        len++;
    text[len] = '\0';
    while (len > 0 && strchr(blanks, text[len - 1]) != NULL)
        text[--len] = '\0';
    return text;
}

static void set(char **field, const char *value)
{
    free(*field);
    *field = *value == '\0' || strcmp(value, "none") == 0 ? NULL : mem_copy(value, strlen(value));
}

/* The field that an option of a section sets, or NULL. */
static char **find_field(struct settings *s, const char *section, const char *name)
{
    const struct {
        const char *section, *name;
        char **field;
    } rows[] = {
        {"[cache]", "path", &s->cache_path},
        {"[cache]", "require-signature", &s->import_key_path},
        {"[cache]", "size", &s->size},
        {"[cache]", "min-free", &s->min_free},
        {"[cache]", "evict-to", &s->evict_to},
        {"[cache]", "evict-local", &s->evict_local},
        {"[cache]", "push-grace", &s->push_grace},
        {"[admin]", "socket", &s->socket_path},
        {"[intercept]", "ca", &s->ca_path},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(section, rows[i].section) == 0 && strcmp(name, rows[i].name) == 0)
            return rows[i].field;
    }
    return NULL;
}

static void read_lines(struct settings *s, FILE *in)
{
    char *buf = NULL;
    size_t size = 0;
    char section[16] = "";
    while (getline(&buf, &size, in) >= 0) {
        char *line = trim(buf);
        char *value = line + strcspn(line, "=:");
        if (*line == '[')
            snprintf(section, sizeof section, "%s", line);
        if (*line == '[' || *line == '#' || *value == '\0')
            continue;
        *value++ = '\0';
        char **field = find_field(s, section, trim(line));
        if (field != NULL)
            set(field, trim(value));
    }
    free(buf);
}

static int read_file(struct settings *s, const char *path)
{
    FILE *in = fopen(path, "re");
    if (in == NULL)
        return err_from_errno(errno);
    read_lines(s, in);
    int err = ferror(in) ? ERR_IO : 0;
    fclose(in);
    return err;
}

/* Bytes, whatever the locale. */
static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int settings_read(struct settings *s, const char *path)
{
    *s = (struct settings){0};
    int err = read_file(s, path);
    if (err != 0)
        return err;
    const char *slash = strrchr(path, '/');
    char *pattern =
        mem_format("%.*sconf.d/*.ini", slash == NULL ? 0 : (int)(slash - path) + 1, path);
    glob_t found;
    if (glob(pattern, GLOB_NOSORT, NULL, &found) == 0) {
        qsort(found.gl_pathv, found.gl_pathc, sizeof found.gl_pathv[0], by_name);
        for (size_t i = 0; i < found.gl_pathc && err == 0; i++)
            err = read_file(s, found.gl_pathv[i]);
        globfree(&found);
    }
    free(pattern);
    return err;
}

void settings_free(struct settings *s)
{
    free(s->cache_path);
    free(s->socket_path);
    free(s->ca_path);
    free(s->import_key_path);
    free(s->size);
    free(s->min_free);
    free(s->evict_to);
    free(s->evict_local);
    free(s->push_grace);
    *s = (struct settings){0};
}
