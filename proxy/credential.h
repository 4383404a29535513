/* SPDX-License-Identifier: ISC */
/* Who we are at an upstream: a user name and its secret, and where they are read. */
#ifndef PROXY_CREDENTIAL_H
#define PROXY_CREDENTIAL_H

#include <stdbool.h>
#include <stddef.h>

#include "cache/check.h"

#define CREDENTIAL_USERNAME_MAX 1024
#define CREDENTIAL_SECRET_MAX (32u * 1024)
#define CREDENTIAL_ANSWER_MAX (64u * 1024) /* bytes of what a helper says */

/* An identity token is no password: it is sent to a token server, to be traded for
 * tokens, and to no registry. */
struct credential {
    bool is_identity;
    char *username; /* no colon, no control characters; empty for an identity token */
    char *secret;   /* no control characters */
};

/* Frees it, and leaves nothing of it in memory. NULL is legal; leaves NULL. */
void credential_free(struct credential **c);

bool credential_equal(const struct credential *a, const struct credential *b);

/* The password is the line of that file, which must be a regular one that only its
 * owner and group can read. ERR_* with a sentence in `why`. */
MUST_CHECK int credential_read(struct credential **c, const char *username, const char *path,
                               char *why, size_t why_size);

/* The answer of a credential helper to "get": {"ServerURL", "Username", "Secret"}; the
 * name "<token>" says that the secret is an identity token. ERR_INVALID with a
 * sentence in `why`, which quotes nothing of the answer. */
MUST_CHECK int credential_parse(struct credential **c, const void *answer, size_t len, char *why,
                                size_t why_size);

/* What a helper is asked for: Docker keeps the Hub's under an url of long ago. */
const char *credential_server(const char *registry);

#endif
