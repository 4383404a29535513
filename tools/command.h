/* SPDX-License-Identifier: ISC */
/* What the commands of cachalot share. */
#ifndef TOOLS_COMMAND_H
#define TOOLS_COMMAND_H

#include <stdbool.h>

#include "cache/check.h"
#include "cache/store.h"

enum exit_code {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_SOME_FAILED = 3,
    EXIT_INTEGRITY = 4,
    EXIT_ABSENT = 5,
};

enum format { FORMAT_TABLE, FORMAT_JSON };

struct options {
    const char *config_path; /* as given; NULL: not given */
    const char *cache_path;
    const char *socket_path; /* NULL: cachalot.sock in the cache directory */
    const char *ca_path;     /* NULL: ca in the cache directory */
    enum format format;
    bool quiet;
};

struct command {
    const char *name;
    const char *usage; /* its arguments */
    const char *help;  /* one line, then what else there is to say */
    int min, max;      /* number of arguments */
    enum exit_code (*run)(const struct options *o, int argc, char **argv);
};

enum exit_code cmd_ca(const struct options *o, int argc, char **argv);
enum exit_code cmd_duplicates(const struct options *o, int argc, char **argv);
enum exit_code cmd_ls(const struct options *o, int argc, char **argv);
enum exit_code cmd_status(const struct options *o, int argc, char **argv);

/* Print one line on standard error: what went wrong, why, and what to do next.
 * Returns `code`. */
enum exit_code complain(enum exit_code code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The index of the cache directory, open for reading beside a running daemon. */
struct cache {
    struct store *store;
    struct db_reader *reader;
    struct db_txn *txn;
};

/* EXIT_DONE, or the code of a failure that was complained of; then `c` is empty. */
MUST_CHECK enum exit_code cache_open(struct cache *c, const struct options *o);
void cache_close(struct cache *c);

/* Complain of an error while the index was read. */
enum exit_code cache_complain(const struct options *o, int err);

#endif
