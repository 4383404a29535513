/* SPDX-License-Identifier: ISC */
#include "tools/items.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "cache/err.h"
#include "tools/output.h"

int items_refuse(struct items *items, enum exit_code code, const char *format, ...)
{
    char *text;
    va_list args;
    va_start(args, format);
    CHECK(vasprintf(&text, format, args) >= 0);
    va_end(args);
    items->refused++;
    items->why = complain(code, "%s", text);
    free(text);
    return 0;
}

void items_say(struct items *items, const char *action, const char *what, const char *note)
{
    char *lines = mem_format("%s%s %s%s%s\n", items->lines != NULL ? items->lines : "", action,
                             what, note != NULL ? "; " : "", note != NULL ? note : "");
    free(items->lines);
    items->lines = lines;
    json_array_append_new(
        items->said, json_pack("{ss ss ss?}", "action", action, "reference", what, "note", note));
    items->done++;
}

static int do_all(struct items *items, int argc, char **argv, item_do *call)
{
    struct db *db = store_db(items->store);
    int err = db_write(db, &items->txn);
    if (err != 0)
        return err;
    for (int i = 0; i < argc && err == 0; i++)
        err = call(items, argv[i]);
    if (err == 0 && items->done > 0)
        return db_commit(&items->txn);
    db_abort(&items->txn);
    return err;
}

static enum exit_code complain_of_index(const struct options *o, int err)
{
    if (err == ERR_FULL)
        return complain(EXIT_FAILED,
                        "the index in %s is full; make it larger by index-size in [cache] of the "
                        "settings and restart cachalotd",
                        o->cache_path);
    if (err == ERR_NO_SPACE)
        return complain(EXIT_FAILED, "the disk of %s is full; nothing was changed", o->cache_path);
    return complain(err == ERR_DAMAGED ? EXIT_INTEGRITY : EXIT_FAILED,
                    "the index in %s cannot be written: %s; nothing was changed", o->cache_path,
                    err_text(err));
}

static enum exit_code say(const struct items *items)
{
    if (!items->options->quiet && items->options->format == FORMAT_JSON)
        json_print(json_incref(items->said));
    else if (!items->options->quiet && items->lines != NULL)
        fputs(items->lines, stdout);
    enum exit_code code = output_end();
    if (code != EXIT_DONE || items->refused == 0)
        return code;
    return items->done > 0 ? EXIT_SOME_FAILED : items->why;
}

enum exit_code items_run(const struct options *o, int argc, char **argv, item_do *call,
                         items_after *after)
{
    struct cache cache;
    enum exit_code code = cache_open_to_change(&cache, o);
    if (code != EXIT_DONE)
        return code;
    struct items items = {.options = o, .store = cache.store, .said = json_array()};
    int err = do_all(&items, argc, argv, call);
    if (err == 0 && items.done > 0 && after != NULL)
        code = after(&items);
    enum exit_code said = err == 0 ? say(&items) : complain_of_index(o, err);
    if (code == EXIT_DONE)
        code = said;
    json_decref(items.said);
    free(items.lines);
    cache_close(&cache);
    return code;
}
