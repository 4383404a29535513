/* SPDX-License-Identifier: ISC */
/* Lines of the input are fields. What was understood, passed on, means the same; a field
 * that was refused has left nothing. */
#include <stdint.h>
#include <string.h>

#include "cache/check.h"
#include "proxy/challenge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_value(const char *value, size_t size)
{
    CHECK(memchr(value, '\0', size) != NULL);
    for (; *value != '\0'; value++) {
        unsigned char c = (unsigned char)*value;
        CHECK((c >= 0x20 && c != 0x7f) || c == '\t');
    }
}

static void check_again(const struct challenge *c)
{
    char text[2 * sizeof *c];
    struct challenges again = {.count = 0};

    check_value(c->realm, sizeof c->realm);
    check_value(c->service, sizeof c->service);
    check_value(c->scope, sizeof c->scope);
    check_value(c->error, sizeof c->error);
    challenge_format(c, text, sizeof text);
    CHECK(challenge_parse(&again, text, strlen(text)) == 0 && again.count == 1);
    CHECK(again.list[0].scheme == c->scheme);
    CHECK(strcmp(again.list[0].realm, c->realm) == 0);
    CHECK(strcmp(again.list[0].service, c->service) == 0);
    CHECK(strcmp(again.list[0].scope, c->scope) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *p = (const char *)data;
    const char *end = p + size;
    struct challenges cs = {.count = 0};

    while (p < end) {
        const char *line_end = memchr(p, '\n', (size_t)(end - p));
        size_t len = (size_t)((line_end != NULL ? line_end : end) - p);
        unsigned before = cs.count;
        int err = challenge_parse(&cs, p, len);
        CHECK(cs.count >= before && cs.count <= CHALLENGES_MAX);
        CHECK(err == 0 || cs.count == before);
        p += len + 1;
    }
    for (unsigned i = 0; i < cs.count; i++)
        check_again(&cs.list[i]);
    return 0;
}
