/* SPDX-License-Identifier: ISC */
/* What the commands of cachalot share. */
#ifndef TOOLS_COMMAND_H
#define TOOLS_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

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

/* An option: of one command, or of all. One row an option; help, the man page's check and
 * completion go by it. */
struct command_option {
    char letter;          /* 0: it has its long name only */
    const char *name;     /* the long one, without its dashes */
    const char *argument; /* what its argument is called; NULL: it takes none */
    const char *help;     /* what it does: lines of at most 56 characters */
    bool is_global;       /* set in the table of all commands' options alone */
};

/* A command's own option as it was given. */
struct given_option {
    const struct command_option *option;
    const char *argument;
};

struct options {
    const char *config_path; /* as given; NULL: not given */
    const char *cache_path;
    const char *socket_path;     /* NULL: cachalot.sock in the cache directory */
    const char *ca_path;         /* NULL: ca in the cache directory */
    const char *import_key_path; /* NULL: imports need no signature */
    const char *size, *min_free; /* of [cache], as texts; NULL: not set (limits.h) */
    const char *evict_to, *evict_local, *push_grace;
    enum format format;
    bool quiet;
    struct given_option *given; /* the command's own, in their order; ask option_text */
    size_t given_count;
};

/* The argument of the command's own option of this long name, "" when it takes none, NULL
 * when it was not given: the last that was given, or, from 0 on, the one of this number. */
const char *option_text(const struct options *o, const char *name);
const char *option_text_at(const struct options *o, const char *name, size_t number);
bool option_is_given(const struct options *o, const char *name);

struct command {
    const char *name;
    const char *usage; /* its arguments */
    const char *help;  /* one line, then what else there is to say */
    int min, max;      /* number of arguments */
    enum exit_code (*run)(const struct options *o, int argc, char **argv);
    const struct command_option *options; /* its own, after it; ends with a row without a name */
};

/* The table of cachalot.c. */
const struct command *command_table(size_t *count);
/* NULL when there is none of this name. */
const struct command *command_find(const char *name);
/* The options of all commands; ends with a row without a name. */
const struct command_option *command_options(void);

enum exit_code cmd_ca(const struct options *o, int argc, char **argv);
enum exit_code cmd_check(const struct options *o, int argc, char **argv);
enum exit_code cmd_duplicates(const struct options *o, int argc, char **argv);
enum exit_code cmd_fetch(const struct options *o, int argc, char **argv);
enum exit_code cmd_export(const struct options *o, int argc, char **argv);
enum exit_code cmd_gc(const struct options *o, int argc, char **argv);
enum exit_code cmd_have(const struct options *o, int argc, char **argv);
enum exit_code cmd_import(const struct options *o, int argc, char **argv);
enum exit_code cmd_ls(const struct options *o, int argc, char **argv);
enum exit_code cmd_completion(const struct options *o, int argc, char **argv);
enum exit_code cmd_inspect(const struct options *o, int argc, char **argv);
enum exit_code cmd_pin(const struct options *o, int argc, char **argv);
enum exit_code cmd_rm(const struct options *o, int argc, char **argv);
enum exit_code cmd_setup(const struct options *o, int argc, char **argv);
enum exit_code cmd_top(const struct options *o, int argc, char **argv);
enum exit_code cmd_unpin(const struct options *o, int argc, char **argv);
enum exit_code cmd_why(const struct options *o, int argc, char **argv);
enum exit_code cmd_status(const struct options *o, int argc, char **argv);

/* Print one line on standard error: what went wrong, why, and what to do next.
 * Returns `code`. */
enum exit_code complain(enum exit_code code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The index of the cache directory, open beside a running daemon. */
struct cache {
    struct store *store;
    struct db_reader *reader;
    struct db_txn *txn;
};

/* EXIT_DONE, or the code of a failure that was complained of; then `c` is empty. A read has
 * begun; it must end (cache_end_read) before anything takes long. */
MUST_CHECK enum exit_code cache_open(struct cache *c, const struct options *o);
/* The same for writing, with db_write; no read has begun. */
MUST_CHECK enum exit_code cache_open_to_add(struct cache *c, const struct options *o);
/* The same, but an index that is not there is not made. */
MUST_CHECK enum exit_code cache_open_to_change(struct cache *c, const struct options *o);
void cache_end_read(struct cache *c);
void cache_close(struct cache *c);

/* Complain of an error while the index was read. */
enum exit_code cache_complain(const struct options *o, int err);

#endif
