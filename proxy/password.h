/* SPDX-License-Identifier: ISC */
/*
 * The users of a password file, as htpasswd(1) of Apache makes it with -B: lines of
 * NAME:HASH, hashes of bcrypt alone. What was read never changes: any thread.
 */
#ifndef PROXY_PASSWORD_H
#define PROXY_PASSWORD_H

#include <stdbool.h>
#include <stddef.h>

#include "cache/check.h"

#define PASSWORD_USERS_MAX 10000
#define PASSWORD_USER_SIZE 128 /* of a name, with the NUL */
#define PASSWORD_HASH_SIZE 64  /* with the NUL */
#define PASSWORD_MAX 500       /* bytes of a password; crypt(3) takes not many more */
#define PASSWORD_COST_MAX 14   /* one more doubles the time of each check: about a second */

struct passwords;

/* Read the file: a regular one that only its owner and group can read. ERR_* with a
 * sentence in `why`, which has no hash in it. */
MUST_CHECK int passwords_read(struct passwords **p, const char *path, char *why, size_t why_size);
/* NULL is legal; leaves NULL. */
void passwords_free(struct passwords **p);

/* The hash that a password of this name is to be checked with; never NULL, and as long
 * lived as `p`. When there is no such user it is that of another, always the same one, and
 * `*is_user` false: then the check must be done all the same, for its time, and count for
 * nothing. */
const char *passwords_find(const struct passwords *p, const char *user, bool *is_user);

/* Whether the password has that hash. Takes 10 ms to a second, and leaves nothing of it in
 * memory. */
bool password_matches(const char *hash, const char *password);

#endif
