/* SPDX-License-Identifier: ISC */
#include "tools/command.h"

#include <stdarg.h>
#include <stdio.h>

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

enum exit_code cache_open(struct cache *c, const struct options *o)
{
    char why[512];
    *c = (struct cache){0};
    int err = store_open(&c->store, o->cache_path, STORE_READ, 0, why, sizeof why);
    if (err == ERR_NOT_FOUND)
        return complain(EXIT_FAILED,
                        "%s; start cachalotd once, or name the cache directory with -C DIR", why);
    if (err == ERR_DENIED)
        return complain(EXIT_FAILED, "%s; run this as root or as the user of cachalotd", why);
    if (err != 0)
        return complain(EXIT_FAILED, "%s", why);
    err = db_reader_new(store_db(c->store), &c->reader);
    if (err == 0)
        err = db_read(c->reader, &c->txn);
    if (err == 0)
        return EXIT_DONE;
    cache_close(c);
    return cache_complain(o, err);
}

void cache_close(struct cache *c)
{
    if (c->txn != NULL)
        db_read_end(c->reader);
    db_reader_free(&c->reader);
    store_close(&c->store);
    c->txn = NULL;
}

enum exit_code cache_complain(const struct options *o, int err)
{
    return complain(err == ERR_DAMAGED ? EXIT_INTEGRITY : EXIT_FAILED,
                    "the index in %s cannot be read: %s; check the disk and the log of cachalotd",
                    o->cache_path, err_text(err));
}
