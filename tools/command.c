/* SPDX-License-Identifier: ISC */
#include "tools/command.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cache/err.h"

enum exit_code complain(enum exit_code code, const char *format, ...)
{
    va_list args;
    fputs("cachalot: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return code;
}

const char *option_text_at(const struct options *o, const char *name, size_t number)
{
    for (size_t i = 0; i < o->given_count; i++) {
        const struct given_option *g = &o->given[i];
        if (strcmp(g->option->name, name) == 0 && number-- == 0)
            return g->argument != NULL ? g->argument : "";
    }
    return NULL;
}

const char *option_text(const struct options *o, const char *name)
{
    const char *text = NULL;
    const char *next;
    for (size_t i = 0; (next = option_text_at(o, name, i)) != NULL; i++)
        text = next;
    return text;
}

bool option_is_given(const struct options *o, const char *name)
{
    return option_text_at(o, name, 0) != NULL;
}

static enum exit_code open_store(struct cache *c, const struct options *o, enum store_mode mode)
{
    char why[512];
    *c = (struct cache){0};
    int err = store_open(&c->store, o->cache_path, mode, 0, why, sizeof why);
    if (err == ERR_NOT_FOUND)
        return complain(EXIT_FAILED,
                        "%s; start cachalotd once, or name the cache directory with -C DIR", why);
    if (err == ERR_DENIED)
        return complain(EXIT_FAILED, "%s; run this as root or as the user of cachalotd", why);
    return err == 0 ? EXIT_DONE : complain(EXIT_FAILED, "%s", why);
}

enum exit_code cache_open(struct cache *c, const struct options *o)
{
    enum exit_code code = open_store(c, o, STORE_READ);
    if (code != EXIT_DONE)
        return code;
    int err = db_reader_new(store_db(c->store), &c->reader);
    if (err == 0)
        err = db_read(c->reader, &c->txn);
    if (err == 0)
        return EXIT_DONE;
    cache_close(c);
    return cache_complain(o, err);
}

enum exit_code cache_open_to_add(struct cache *c, const struct options *o)
{
    return open_store(c, o, STORE_ADD);
}

enum exit_code cache_open_to_change(struct cache *c, const struct options *o)
{
    enum exit_code code = cache_open(c, o);
    if (code != EXIT_DONE)
        return code;
    cache_close(c);
    return cache_open_to_add(c, o);
}

void cache_end_read(struct cache *c)
{
    if (c->txn != NULL)
        db_read_end(c->reader);
    c->txn = NULL;
}

void cache_close(struct cache *c)
{
    cache_end_read(c);
    db_reader_free(&c->reader);
    store_close(&c->store);
}

enum exit_code cache_complain(const struct options *o, int err)
{
    return complain(err == ERR_DAMAGED ? EXIT_INTEGRITY : EXIT_FAILED,
                    "the index in %s cannot be read: %s; check the disk and the log of cachalotd",
                    o->cache_path, err_text(err));
}
