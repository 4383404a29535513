/* SPDX-License-Identifier: ISC */
#include "cache/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void check_failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: this does not hold: %s\n", file, line, what);
    abort();
}

void *mem_new(size_t size)
{
    void *p = calloc(1, size > 0 ? size : 1);

    CHECK(p != NULL);
    return p;
}

void *mem_resize(void *p, size_t size)
{
    void *resized = realloc(p, size > 0 ? size : 1);

    CHECK(resized != NULL);
    return resized;
}

char *mem_copy(const void *p, size_t len)
{
    char *copy = mem_resize(NULL, len + 1);

    if (len > 0)
        memcpy(copy, p, len);
    copy[len] = '\0';
    return copy;
}

char *mem_format(const char *format, ...)
{
    char *text = NULL;
    va_list args;

    va_start(args, format);
    int len = vasprintf(&text, format, args);
    va_end(args);
    CHECK(len >= 0);
    return text;
}
