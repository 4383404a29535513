/* SPDX-License-Identifier: ISC */
/* Commands that change the index, an argument at a time. */
#ifndef TOOLS_ITEMS_H
#define TOOLS_ITEMS_H

#include <jansson.h>
#include <stdbool.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/store.h"
#include "tools/command.h"

struct items {
    const struct options *options;
    struct store *store;
    struct db_txn *txn; /* the write transaction of the whole run */
    unsigned done;
    unsigned refused;
    enum exit_code why; /* the code of the last refusal */
    json_t *said;       /* what was done */
    char *lines;        /* the same for people */
};

/* Do what is to be done about an argument: 0, also when items_refuse was called, or an
 * error of the index, which undoes all. */
typedef int item_do(struct items *items, const char *argument);

/* This argument is not possible: complain; the others go on. Returns 0. */
int items_refuse(struct items *items, enum exit_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* This was done: `action` ("pinned"), to what, and what there is to know about it, or NULL.
 * Said when it is on the disk. */
void items_say(struct items *items, const char *action, const char *what, const char *note);

/* Called after the commit, when anything was done; it may complain, and add to the lines. */
typedef enum exit_code items_after(struct items *items);

/* Open the index for writing, do it to each argument in one transaction, commit, and say
 * what was done. `after` may be NULL. EXIT_SOME_FAILED when some were refused, else the code
 * of the refusal when all were. */
MUST_CHECK enum exit_code items_run(const struct options *o, int argc, char **argv, item_do *call,
                                    items_after *after);

#endif
