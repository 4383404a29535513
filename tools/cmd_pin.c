/* SPDX-License-Identifier: ISC */
/* cachalot pin, cachalot unpin: what is to be kept whatever room is wanted. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache/err.h"
#include "cache/pin.h"
#include "cache/tag.h"
#include "tools/command.h"
#include "tools/items.h"
#include "tools/output.h"

/* --- the list of pins --- */

struct listing {
    struct db_txn *txn;
    struct table *table;
    json_t *array;
    int64_t now_s;
};

/* Whether there is what the pin names. */
static bool is_there(struct db_txn *txn, const struct reference *r)
{
    struct tag_record tag;
    struct manifest_record m;
    return r->by_digest ? manifest_get(txn, &r->digest, &m) == 0
                        : tag_get(txn, &r->name, r->tag, &tag) == 0;
}

static int list_pin(void *arg, const struct pin *p)
{
    struct listing *l = arg;
    char reference[REFERENCE_TEXT_MAX], age[TEXT_MAX];
    bool there = is_there(l->txn, &p->reference);
    reference_text(&p->reference, reference);
    table_add(l->table, "%s", reference);
    table_add(l->table, "%s", age_text(age, l->now_s - p->pinned_at_s));
    table_add(l->table, "%s", there ? "yes" : "no");
    table_add(l->table, "%s", *p->owner != '\0' ? p->owner : "a person");
    json_array_append_new(l->array, json_pack("{ss sI sb ss?}", "reference", reference, "pinned_at",
                                              (json_int_t)p->pinned_at_s, "held", there, "owner",
                                              *p->owner != '\0' ? p->owner : NULL));
    return 0;
}

static enum exit_code list_pins(const struct options *o)
{
    static const char *const heads[] = {"REFERENCE", "SINCE", "HELD", "BY"};
    struct cache cache;
    enum exit_code code = cache_open(&cache, o);
    if (code != EXIT_DONE)
        return code;
    struct listing l = {cache.txn, table_new("mrlw"), json_array(), (int64_t)time(NULL)};
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        table_add(l.table, "%s", heads[i]);
    int err = pin_walk(cache.txn, list_pin, &l);
    if (err != 0)
        code = cache_complain(o, err);
    else if (o->format == FORMAT_JSON && !o->quiet)
        json_print(json_incref(l.array));
    else if (table_rows(l.table) == 1 && !o->quiet)
        puts("Nothing is pinned; \"cachalot pin REF\" pins an image.");
    else if (!o->quiet)
        table_print(l.table);
    if (err == 0)
        code = output_end();
    json_decref(l.array);
    table_free(&l.table);
    cache_close(&cache);
    return code;
}

/* --- pinning --- */

static int pin_one(struct items *items, const char *text)
{
    struct pin p = {.pinned_at_s = (int64_t)time(NULL)};
    char full[REFERENCE_TEXT_MAX];
    struct digest d;
    int err = reference_find(items->txn, text, &p.reference, &d);
    if (err == ERR_INVALID)
        return items_refuse(items, EXIT_USAGE,
                            "%s is not a reference (registry/repository:tag or @digest)", text);
    if (err == ERR_NOT_FOUND)
        return items_refuse(items, EXIT_ABSENT,
                            "%s is not held; pull it first, \"cachalot ls\" lists what is", text);
    if (err != 0 && err != ERR_DAMAGED)
        return err;
    reference_text(&p.reference, full);
    err = pin_put(items->txn, &p);
    if (err == 0)
        items_say(items, "pinned", full, NULL);
    return err;
}

enum exit_code cmd_pin(const struct options *o, int argc, char **argv)
{
    return argc == 0 ? list_pins(o) : items_run(o, argc, argv, pin_one, NULL);
}

/* --- unpinning --- */

/* A pin may outlive what it names, so that nothing but its own table is asked. */
static int find_pin(struct db_txn *txn, const char *text, struct pin *p)
{
    struct reference r;
    int err = reference_parse(&r, text, NULL);
    int found = err == 0 ? pin_get(txn, &r, p) : ERR_NOT_FOUND;
    if (found != ERR_NOT_FOUND)
        return found;
    err = reference_parse(&r, text, "docker.io");
    return err == 0 ? pin_get(txn, &r, p) : err;
}

static int unpin_one(struct items *items, const char *text)
{
    struct pin p;
    char full[REFERENCE_TEXT_MAX];
    int err = find_pin(items->txn, text, &p);
    if (err == ERR_INVALID)
        return items_refuse(items, EXIT_USAGE,
                            "%s is not a reference (registry/repository:tag or @digest)", text);
    if (err == ERR_NOT_FOUND)
        return items_refuse(items, EXIT_ABSENT, "%s is not pinned; \"cachalot pin\" lists pins",
                            text);
    if (err == 0 && *p.owner != '\0')
        return items_refuse(items, EXIT_FAILED,
                            "%s is pinned by [%s] of the settings; take it out there and reload",
                            text, p.owner);
    if (err != 0 && err != ERR_DAMAGED)
        return err;
    reference_text(&p.reference, full);
    err = pin_forget(items->txn, &p.reference);
    if (err == 0)
        items_say(items, "unpinned", full, NULL);
    return err;
}

enum exit_code cmd_unpin(const struct options *o, int argc, char **argv)
{
    return items_run(o, argc, argv, unpin_one, NULL);
}
