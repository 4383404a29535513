/* SPDX-License-Identifier: ISC */
/* For tests of the configuration: texts that load, texts that do not, and the dump. */
#ifndef TESTS_UNIT_CONFIG_TEXT_H
#define TESTS_UNIT_CONFIG_TEXT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache/err.h"
#include "proxy/config.h"

/* Load a text; the errors, owned by the caller, in `*errors`. */
static inline struct config *load_n(const char *text, size_t len, char **errors)
{
    FILE *in = fmemopen((char *)(uintptr_t)text, len, "r");
    size_t errors_len;
    FILE *out = open_memstream(errors, &errors_len);
    assert_non_null(in);
    assert_non_null(out);
    struct config *c;
    int err = config_load_stream(&c, "t.ini", in, out);
    assert_int_equal(err, c == NULL ? ERR_INVALID : 0);
    fclose(in);
    fclose(out);
    assert_int_equal(errors_len > 0, c == NULL);
    return c;
}

static inline struct config *load_good(const char *text)
{
    char *errors;
    struct config *c = load_n(text, strlen(text), &errors);
    if (c == NULL)
        fail_msg("refused: %s", errors);
    free(errors);
    return c;
}

static inline void check_errors(const char *text, size_t len, const char *expected)
{
    char *errors;
    struct config *c = load_n(text, len, &errors);
    assert_null(c);
    if (strstr(errors, expected) == NULL)
        fail_msg("no \"%s\" in: %s", expected, errors);
    free(errors);
}

static inline char *dump(const struct config *c)
{
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    config_dump(c, out);
    fclose(out);
    return text;
}

#endif
