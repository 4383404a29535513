/* SPDX-License-Identifier: ISC */
#include "tools/make_room.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cache/err.h"
#include "cache/evict_plan.h"
#include "cache/room.h"
#include "tools/daemon.h"
#include "tools/limits.h"
#include "tools/remove.h"

/* Small files ask for more at a time. */
#define ASK_BYTES (UINT64_C(1) << 20)
#define LOOK_BLOBS 4096
#define UNITS_MAX 64

/* --- without the daemon --- */

static int refresh(struct make_room *m)
{
    struct room *room = store_room(m->store);
    struct room_limits limits = limits_room(m->options);
    struct db_reader *reader;
    struct db_txn *txn;
    struct usage u;
    int err = db_reader_new(store_db(m->store), &reader);
    if (err != 0)
        return err;
    err = db_read(reader, &txn);
    if (err == 0) {
        err = usage_get(txn, &u);
        db_read_end(reader);
    }
    db_reader_free(&reader);
    if (err != 0)
        return err;
    room_set_limits(room, &limits);
    room_set_usage(room, &u);
    room_count_files(room);
    return 0;
}

static int find_units(struct make_room *m, struct evict_plan *p, const struct evict_rules *rules)
{
    struct evict_guard *g;
    struct db_txn *txn;
    int err = db_write(store_db(m->store), &txn);
    if (err != 0)
        return err;
    err = evict_guard_new(&g, txn, NULL, 0);
    while (err == 0 && (err = evict_plan_look(p, txn, rules, g, LOOK_BLOBS)) == 1)
        err = 0;
    evict_guard_free(&g);
    db_abort(&txn);
    return err;
}

/* Take from the plan until so many bytes have gone. `*is_over`: there is no more of it, or some
 * that were taken from it stayed, and are to go before those that follow. */
static int evict_some(struct make_room *m, struct evict_plan *p, const struct evict_rules *rules,
                      uint64_t bytes, uint64_t *gone_bytes, bool *is_over)
{
    struct digest units[UNITS_MAX];
    struct evict_unit u;
    size_t count = 0;
    while (count < UNITS_MAX && evict_plan_next(p, &u))
        units[count++] = u.digest;
    int err = remove_units(m->store, rules, units, count, bytes, gone_bytes);
    *is_over = count < UNITS_MAX || *gone_bytes >= bytes;
    return err == 0 ? refresh(m) : err;
}

/* One plan, and what follows from it. `*any`: something went. */
static int run_plan(struct make_room *m, struct evict_plan *p, uint64_t bytes, bool *any)
{
    struct evict_rules rules = limits_rules(m->options);
    bool is_over = false;
    uint64_t due_bytes, gone_bytes;
    /* Nothing goes for what would not fit even then. */
    uint64_t lacking_bytes = room_excess(store_room(m->store), bytes, false);
    evict_plan_clear(p, lacking_bytes);
    int err = find_units(m, p, &rules);
    *any = false;
    if (err == 0 && evict_plan_bytes(p) < lacking_bytes)
        err = ERR_NO_SPACE;
    while (err == 0 && !is_over &&
           (due_bytes = room_excess(store_room(m->store), bytes, true)) > 0) {
        err = evict_some(m, p, &rules, due_bytes, &gone_bytes, &is_over);
        *any |= gone_bytes > 0;
    }
    return err;
}

static int make_room_alone(struct make_room *m, uint64_t bytes)
{
    struct room *room = store_room(m->store);
    bool any = true;
    int err = refresh(m);
    if (err != 0 || room_excess(room, bytes, false) == 0)
        return err;
    /* To the low mark, so that not each file has all blobs looked at. */
    struct evict_plan *p = evict_plan_new();
    while (err == 0 && any && room_excess(room, bytes, true) > 0)
        err = run_plan(m, p, bytes, &any);
    evict_plan_free(&p);
    return err == 0 && room_excess(room, bytes, false) > 0 ? ERR_NO_SPACE : err;
}

/* --- by the daemon --- */

static int ask_daemon(struct make_room *m, uint64_t bytes)
{
    char why[300], path[64];
    char *body = NULL;
    snprintf(path, sizeof path, "/-/api/room?bytes=%" PRIu64, bytes);
    int err = daemon_post(m->options, path, &body, why, sizeof why);
    free(body);
    m->is_alone = err == ERR_NOT_FOUND;
    return err == 0 || m->is_alone ? 0 : ERR_NO_SPACE;
}

int make_room(struct make_room *m, uint64_t bytes)
{
    uint64_t ask_bytes = bytes < ASK_BYTES ? ASK_BYTES : bytes;
    bytes = usage_of(bytes);
    if (bytes <= m->granted_bytes) {
        m->granted_bytes -= bytes;
        return 0;
    }
    m->granted_bytes = 0;
    int err = m->is_alone ? 0 : ask_daemon(m, ask_bytes);
    if (err == 0 && m->is_alone)
        err = make_room_alone(m, ask_bytes);
    if (err == 0)
        m->granted_bytes = usage_of(ask_bytes) - bytes;
    return err;
}
