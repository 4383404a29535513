/* SPDX-License-Identifier: ISC */
/* As much of HTTP as asking cachalot takes: one request on a connection, and its answer. */
#ifndef TOOLS_WIRE_H
#define TOOLS_WIRE_H

#include <stddef.h>

#include "cache/check.h"

#define WIRE_ANSWER_MAX (4u * 1024 * 1024)
#define WIRE_TIMEOUT_S 5

struct answer {
    int status; /* 0: it is no HTTP */
    char *head; /* with the line of the status; owns all of it */
    char *body; /* ends with a NUL */
};

/* Connect to the first address of the name (an IPv6 address may be in brackets) that takes it.
 * ERR_NOT_FOUND when nobody listens or the name has no address, else ERR_IO, with a sentence
 * in `why`. */
MUST_CHECK int wire_connect(const char *host, unsigned port, int *fd, char *why, size_t why_size);

/* Let calls on a socket end after WIRE_TIMEOUT_S or this time; 0 or an errno. */
MUST_CHECK int wire_limit(int fd, int timeout_s);

/* GET the target; `fields` are further lines, each with its end. 0 or an errno, EMSGSIZE for
 * more than WIRE_ANSWER_MAX; the caller clears the answer. */
MUST_CHECK int wire_get(int fd, const char *host, const char *target, const char *fields,
                        struct answer *a);

/* POST without a body; as wire_get. */
MUST_CHECK int wire_post(int fd, const char *host, const char *target, struct answer *a);

/* Take what was read in another way; `text` is owned from here on. */
void answer_take(struct answer *a, char *text);
void answer_clear(struct answer *a);

/* The value of the first field of that name, owned by the caller, or NULL. */
char *answer_field(const struct answer *a, const char *name);

#endif
