/* SPDX-License-Identifier: ISC */
/* cachalot gc: remove what nothing leads to, now and not when cachalotd comes to it. */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache/err.h"
#include "cache/evict.h"
#include "cache/usage.h"
#include "tools/command.h"
#include "tools/daemon.h"
#include "tools/limits.h"
#include "tools/output.h"
#include "tools/remove.h"

#define SHORT_DIGEST 12
#define WAIT_S 60
#define POLL_MS 50
/* Without the daemon: units in one transaction. */
#define UNITS_MAX 64

struct row {
    struct digest digest;
    enum evict_why why;
    bool is_manifest;
    int64_t used_at_s;
    uint64_t bytes; /* that go with it */
    size_t blobs;
};

struct collection {
    const struct options *options;
    struct evict_rules rules;
    struct store *store;
    struct db_txn *txn;
    struct evict_guard *guard;
    struct row *rows;
    size_t count, room;
    size_t going; /* of the rows; the others wait */
    uint64_t going_bytes;
    size_t left; /* that were to go and are here still */
};

/* --- what there is --- */

static int add_row(void *arg, const struct digest *d, const struct blob_record *r)
{
    struct collection *c = arg;
    struct evict_unit u;
    int err = evict_judge(c->txn, &c->rules, c->guard, d, &u);
    if (err != 0 || (!evict_why_is_garbage(u.why) && u.why != EVICT_WAITS))
        return err;
    if (c->count == c->room) {
        c->room = c->room == 0 ? 64 : c->room * 2;
        c->rows = mem_resize(c->rows, c->room * sizeof c->rows[0]);
    }
    c->rows[c->count++] = (struct row){.digest = *d,
                                       .why = u.why,
                                       .is_manifest = u.is_manifest,
                                       .used_at_s = r->used_at_s,
                                       .bytes = usage_of(r->size_bytes),
                                       .blobs = 1};
    return 0;
}

/* What would go with each, by letting it go; the transaction is undone. */
static int measure(struct collection *c)
{
    struct evicted e = {0};
    int err = 0;
    for (size_t i = 0; err == 0 && i < c->count; i++) {
        struct row *row = &c->rows[i];
        if (row->why == EVICT_WAITS)
            continue;
        evicted_reset(&e);
        err = evict_forget(c->txn, &c->rules, c->guard, &row->digest, &e);
        row->bytes = e.bytes;
        row->blobs = e.count;
        /* It goes with another, or stays as it is damaged. */
        if (err == ERR_BUSY || err == ERR_NOT_FOUND || err == ERR_DAMAGED)
            err = 0;
        c->going += row->blobs > 0;
        c->going_bytes += row->bytes;
    }
    evicted_clear(&e);
    return err;
}

static int find_all(struct collection *c)
{
    int err = db_write(store_db(c->store), &c->txn);
    if (err != 0)
        return err;
    err = evict_guard_new(&c->guard, c->txn, NULL, 0);
    if (err == 0)
        err = blob_walk(c->txn, NULL, add_row, c);
    if (err == 0)
        err = measure(c);
    evict_guard_free(&c->guard);
    db_abort(&c->txn);
    return err;
}

/* --- doing it --- */

/* No daemon runs. */
static int collect_here(struct collection *c)
{
    struct digest units[UNITS_MAX];
    uint64_t gone_bytes;
    size_t count = 0;
    int err = 0;
    for (size_t i = 0; err == 0 && i < c->count; i++) {
        if (c->rows[i].why != EVICT_WAITS)
            units[count++] = c->rows[i].digest;
        if (count < UNITS_MAX && i + 1 < c->count)
            continue;
        err = remove_units(c->store, &c->rules, units, count, UINT64_MAX, &gone_bytes);
        count = 0;
    }
    return err;
}

static int count_left(struct collection *c)
{
    struct db_reader *reader;
    struct db_txn *txn;
    struct blob_record r;
    int err = db_reader_new(store_db(c->store), &reader);
    if (err != 0)
        return err;
    err = db_read(reader, &txn);
    if (err == 0) {
        c->left = 0;
        for (size_t i = 0; i < c->count; i++)
            c->left += c->rows[i].why != EVICT_WAITS && blob_get(txn, &c->rows[i].digest, &r) == 0;
        db_read_end(reader);
    }
    db_reader_free(&reader);
    return err;
}

static int wait_for_daemon(struct collection *c)
{
    int64_t until_s = (int64_t)time(NULL) + WAIT_S;
    int err;
    while ((err = count_left(c)) == 0 && c->left > 0 && (int64_t)time(NULL) < until_s)
        poll(NULL, 0, POLL_MS);
    return err;
}

/* Whoever writes asks the daemon first: it knows what is in use. */
static enum exit_code collect(struct collection *c)
{
    char why[300];
    char *body = NULL;
    bool is_now = option_is_given(c->options, "now");
    int asked = daemon_post(c->options, is_now ? "/-/api/collect?now=1" : "/-/api/collect", &body,
                            why, sizeof why);
    free(body);
    if (asked != 0 && asked != ERR_NOT_FOUND)
        return complain(EXIT_FAILED, "%s", why);
    int err = asked == 0 ? wait_for_daemon(c) : collect_here(c);
    if (err == 0)
        err = count_left(c);
    if (err != 0)
        return complain(EXIT_FAILED, "the index in %s cannot be written: %s",
                        c->options->cache_path, err_text(err));
    if (c->left == 0)
        return EXIT_DONE;
    return complain(EXIT_SOME_FAILED,
                    "%zu of these are here still: they came into use again, or the log of "
                    "cachalotd says why",
                    c->left);
}

/* --- saying it --- */

static void print_json(const struct collection *c, bool is_dry)
{
    json_t *all = json_array();
    char digest[DIGEST_TEXT_MAX];
    for (size_t i = 0; i < c->count; i++) {
        const struct row *r = &c->rows[i];
        json_array_append_new(
            all,
            json_pack("{ss ss ss sI sI sI sb}", "digest", digest_text(&r->digest, digest), "is",
                      r->is_manifest ? "manifest" : "blob", "why", evict_why_word(r->why),
                      "used_at", (json_int_t)r->used_at_s, "bytes", (json_int_t)r->bytes, "blobs",
                      (json_int_t)r->blobs, "goes", r->why != EVICT_WAITS));
    }
    json_print(json_pack("{sb so sI sI}", "dry_run", is_dry, "contents", all, "bytes",
                         (json_int_t)c->going_bytes, "left", (json_int_t)c->left));
}

static void print_table(const struct collection *c, bool is_dry)
{
    static const char *const heads[] = {"DIGEST", "IS", "BLOBS", "SIZE", "USED", "WHY"};
    char digest[DIGEST_TEXT_MAX], size[TEXT_MAX], age[TEXT_MAX];
    struct table *t = table_new("llrrrw");
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        table_add(t, "%s", heads[i]);
    for (size_t i = 0; i < c->count; i++) {
        const struct row *r = &c->rows[i];
        if (r->blobs == 0)
            continue;
        table_add(t, "%.*s", SHORT_DIGEST, strchr(digest_text(&r->digest, digest), ':') + 1);
        table_add(t, "%s", r->is_manifest ? "manifest" : "blob");
        table_add(t, "%zu", r->blobs);
        table_add(t, "%s", size_text(size, r->bytes));
        table_add(t, "%s", r->used_at_s == 0 ? "-" : age_text(age, c->rules.now_s - r->used_at_s));
        table_add(t, "%s", evict_why_text(r->why));
    }
    if (table_rows(t) > 1)
        table_print(t);
    table_free(&t);
    if (c->going == 0)
        puts(c->count > 0 ? "Nothing else is garbage." : "There is no garbage.");
    else
        printf("%s %s\n", is_dry ? "To be freed:" : "Freed:", size_text(size, c->going_bytes));
}

enum exit_code cmd_gc(const struct options *o, int argc, char **argv)
{
    bool is_dry = option_is_given(o, "dry-run");
    struct collection c = {.options = o, .rules = limits_rules(o)};
    struct cache cache;
    (void)argc;
    (void)argv;
    enum exit_code code = cache_open_to_change(&cache, o);
    if (code != EXIT_DONE)
        return code;
    c.store = cache.store;
    c.rules.takes_garbage_only = true;
    if (option_is_given(o, "now"))
        c.rules.grace_s = 0;
    int err = find_all(&c);
    if (err != 0)
        code = cache_complain(o, err);
    else if (!is_dry && c.going > 0)
        code = collect(&c);
    if (err == 0 && !o->quiet && o->format == FORMAT_JSON)
        print_json(&c, is_dry);
    else if (err == 0 && !o->quiet)
        print_table(&c, is_dry);
    if (code == EXIT_DONE)
        code = output_end();
    free(c.rows);
    cache_close(&cache);
    return code;
}
