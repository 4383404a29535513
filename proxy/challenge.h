/* SPDX-License-Identifier: ISC */
/* How a registry asks who we are: the field WWW-Authenticate, RFC 9110 section 11.6.1. Pure. */
#ifndef PROXY_CHALLENGE_H
#define PROXY_CHALLENGE_H

#include <stddef.h>

#include "cache/check.h"

#define CHALLENGES_MAX 8

enum challenge_scheme {
    CHALLENGE_OTHER, /* one that we do not speak */
    CHALLENGE_BASIC,
    CHALLENGE_BEARER,
};

/* Values without quotes and escapes; empty when not said. They have no control
 * characters, and are otherwise as the peer chose them. */
struct challenge {
    enum challenge_scheme scheme;
    char realm[1024];
    char service[512];
    char scope[1024];
    char error[64];
};

struct challenges {
    unsigned count;
    struct challenge list[CHALLENGES_MAX];
};

/* Add the Basic and Bearer challenges of one field value; several fields add up.
 * Those of other schemes, and what is over CHALLENGES_MAX, are left out. ERR_INVALID
 * when the value is off the grammar, names a parameter twice, or has a value that is
 * too long: then nothing of it was added. */
MUST_CHECK int challenge_parse(struct challenges *cs, const char *field, size_t len);

/* As a field value, without its error; empty when `size` does not hold it. */
void challenge_format(const struct challenge *c, char *out, size_t size);

/* The first of this scheme, or NULL. */
const struct challenge *challenge_find(const struct challenges *cs, enum challenge_scheme scheme);

#endif
