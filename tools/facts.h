/* SPDX-License-Identifier: ISC */
/* What clients are to be told of a cachalot, as it says itself. */
#ifndef TOOLS_FACTS_H
#define TOOLS_FACTS_H

#include <jansson.h>

#include "cache/check.h"
#include "cache/setup.h"
#include "tools/command.h"

struct facts {
    struct setup_facts setup;
    json_t *said; /* owns what `setup` points to, but for these */
    char *host;
    const char **registries;
};

/* Ask the cachalot that is called `host` ("HOST" or "HOST:PORT"), or when that is NULL or does not
 * answer, the one of the Unix socket. EXIT_DONE, or the code of a failure that was complained
 * of; then `f` is empty. */
MUST_CHECK enum exit_code facts_read(struct facts *f, const struct options *o, const char *host);
void facts_clear(struct facts *f);

/* Parse what /-/setup/doctor.json says; NULL when that is no such document. */
json_t *facts_parse(const char *text);

#endif
