/* SPDX-License-Identifier: ISC */
/* A file is refused with a reason, or its dump loads and dumps the same. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/check.h"
#include "proxy/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct config *load(const void *data, size_t size)
{
    char *errors = NULL;
    size_t errors_len = 0;
    FILE *in = fmemopen((void *)(uintptr_t)data, size, "r");
    FILE *out = open_memstream(&errors, &errors_len);
    CHECK(in != NULL && out != NULL);
    struct config *c;
    int err = config_load_stream(&c, "fuzz.ini", in, out);
    fclose(in);
    fclose(out);
    CHECK((err == 0) == (c != NULL));
    CHECK((err == 0) == (errors_len == 0));
    free(errors);
    return c;
}

static char *dump(struct config *c, size_t *len)
{
    char *text;
    FILE *out = open_memstream(&text, len);
    CHECK(out != NULL);
    config_dump(c, out);
    fclose(out);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config *c = size == 0 ? NULL : load(data, size);
    if (c == NULL)
        return 0;
    size_t first_len;
    char *first = dump(c, &first_len);
    config_unref(&c);
    c = load(first, first_len);
    CHECK(c != NULL);
    size_t second_len;
    char *second = dump(c, &second_len);
    CHECK(first_len == second_len && memcmp(first, second, first_len) == 0);
    config_unref(&c);
    free(first);
    free(second);
    return 0;
}
