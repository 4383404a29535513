/* SPDX-License-Identifier: ISC */
#include "proxy/courier.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "proxy/thread.h"

/* How often progress is told. */
#define TELL_MS 250

/* --- the thread --- */

static void stop_came(struct msg *m, void *owner)
{
    struct courier *c = owner;

    (void)m;
    c->stopping = true;
}

void courier_start(struct courier *c, const struct courier_parts *parts, struct config *config,
                   const char *name, void *(*run)(void *arg), void *arg)
{
    *c = (struct courier){
        .parts = *parts,
        .queue = queue_new(),
        .config = config_ref(config),
        .stop.run = stop_came,
    };
    CHECK(db_reader_new(store_db(parts->store), &c->reader) == 0);
    thread_start(&c->thread, name, run, arg);
}

struct config_change {
    struct msg msg;
    struct config *config;
};

static void config_came(struct msg *m, void *owner)
{
    struct config_change *change = (struct config_change *)m;
    struct courier *c = owner;

    config_unref(&c->config);
    c->config = change->config;
    free(change);
}

void courier_set_config(struct courier *c, struct config *config)
{
    struct config_change *change = mem_new(sizeof *change);

    change->msg.run = config_came;
    change->config = config_ref(config);
    queue_post(c->queue, &change->msg);
}

void courier_stop(struct courier *c)
{
    queue_post(c->queue, &c->stop);
    thread_join(c->thread);
    queue_run(c->queue, c);
    queue_free(&c->queue);
    db_reader_free(&c->reader);
    config_unref(&c->config);
}

bool courier_wait(struct courier *c, int timeout_ms)
{
    if (!c->stopping && !c->cancelled && !queue_run(c->queue, c)) {
        queue_wait(c->queue, timeout_ms);
        queue_run(c->queue, c);
    }
    return !c->stopping && !c->cancelled;
}

/* --- what is waited for --- */

/* Given by another thread, once, with the lock held of what is waited for. */
struct signal {
    struct msg msg;
    struct courier *courier;
    bool is_posted;
    bool has_come;
};

static void signal_came(struct msg *m, void *owner)
{
    struct signal *s = (struct signal *)m;

    (void)owner;
    s->is_posted = false;
    s->has_come = true;
}

static void signal_give(struct signal *s)
{
    s->is_posted = true;
    queue_post(s->courier->queue, &s->msg);
}

static void signal_init(struct signal *s, struct courier *c)
{
    *s = (struct signal){.msg.run = signal_came, .courier = c};
}

/* The wait was cancelled: what was given before that is in the queue. */
static void signal_drop(struct signal *s)
{
    if (s->is_posted)
        queue_run(s->courier->queue, s->courier);
    CHECK(!s->is_posted);
}

/* --- asks --- */

struct ask_wait {
    struct asker asker;
    struct signal signal;
};

static void asker_woken(struct asker *a)
{
    signal_give(&((struct ask_wait *)a)->signal);
}

struct ask *courier_ask(struct courier *c, enum ask_kind kind, const struct name *n,
                        const char *reference)
{
    struct behalf b = {.loop = c->parts.loop_id};
    struct ask_wait w = {.asker.wake = asker_woken};
    bool created, goes_on = true;
    struct ask *a = ask_join(c->parts.asks, kind, n, reference, &b, &created);

    signal_init(&w.signal, c);
    if (created)
        upstream_ask(c->parts.upstream, a);
    if (ask_wait(&w.asker, a)) {
        while (goes_on && !w.signal.has_come)
            goes_on = courier_wait(c, -1);
        ask_cancel(&w.asker);
        signal_drop(&w.signal);
    }
    if (!goes_on)
        ask_unref(&a);
    return a;
}

/* --- blobs --- */

bool courier_holds(struct courier *c, const struct digest *d)
{
    struct blob_record record;
    struct db_txn *txn;
    int fd;

    if (db_read(c->reader, &txn) != 0)
        return false;
    int err = blob_get(txn, d, &record);
    db_read_end(c->reader);
    if (err != 0 || blob_open(c->parts.store, d, record.size_bytes, &fd) != 0)
        return false;
    close(fd);
    return true;
}

struct fetch_wait {
    struct reader reader;
    struct signal signal;
};

static void reader_woken(struct reader *r)
{
    signal_give(&((struct fetch_wait *)r)->signal);
}

/* The wait that has begun. False: stop. */
static bool wait_for_signal(struct courier *c, const struct courier_blob *b, struct fetch *f,
                            struct fetch_wait *w)
{
    bool goes_on = true;

    while (goes_on && !w->signal.has_come) {
        struct fetch_view view;

        fetch_look(f, &view);
        b->tell(b->arg, view.sendable_bytes);
        goes_on = courier_wait(c, TELL_MS);
    }
    reader_cancel(&w->reader);
    signal_drop(&w->signal);
    w->signal.has_come = false;
    return goes_on;
}

/* Until it has failed, or is verified and its record committed. False: stop. */
static bool wait_for_end(struct courier *c, const struct courier_blob *b, struct fetch *f)
{
    struct fetch_wait w = {.reader.wake = reader_woken};
    struct fetch_view view;

    signal_init(&w.signal, c);
    for (fetch_look(f, &view); view.state < FETCH_VERIFIED; fetch_look(f, &view)) {
        if (reader_wait(&w.reader, f, view.state, UINT64_MAX) && !wait_for_signal(c, b, f, &w))
            return false;
    }
    if (view.state == FETCH_VERIFIED && reader_wait_retired(&w.reader, f))
        return wait_for_signal(c, b, f, &w);
    return true;
}

static void set_failure(struct fetch_failure *why, enum outcome o, const char *text)
{
    *why = (struct fetch_failure){.code = (int)o};
    snprintf(why->text, sizeof why->text, "%s", text);
}

static enum outcome fetch_once(struct courier *c, const struct courier_blob *b,
                               struct fetch_failure *why, bool *created)
{
    const struct config_upstream *u = config_find_upstream(c->config, b->name->registry);
    bool is_restricted = u && u->visibility == VISIBILITY_PRIVATE;
    const struct name *only_for = is_restricted ? b->name : NULL;
    struct behalf behalf = {.loop = c->parts.loop_id};
    struct fetch_view view;
    struct fetch *f = b->is_background
                          ? fetch_join_background(c->parts.fetches, b->digest, only_for, created)
                          : fetch_join(c->parts.fetches, b->digest, only_for, created);

    if (*created)
        upstream_fetch(c->parts.upstream, f, b->name, b->size_bytes, &behalf);
    bool goes_on = wait_for_end(c, b, f);
    fetch_look(f, &view);
    if (!goes_on)
        set_failure(why, OUT_DRAINING, "cachalot is shutting down");
    else if (view.state == FETCH_FAILED)
        fetch_why(f, why);
    else if (!courier_holds(c, b->digest))
        set_failure(why, OUT_STORE_FAILED, "it was not stored; the log says why");
    else
        *why = (struct fetch_failure){.code = *created ? OUT_MISS : OUT_COLLAPSED};
    fetch_unref(&f);
    return (enum outcome)why->code;
}

enum outcome courier_fetch(struct courier *c, const struct courier_blob *b,
                           struct fetch_failure *why)
{
    bool created;
    enum outcome o = fetch_once(c, b, why, &created);

    /* What another had was perhaps of another repository. */
    if (outcome_is_error(o) && o != OUT_DRAINING && !created)
        o = fetch_once(c, b, why, &created);
    return o;
}

/* --- the index --- */

struct write_job {
    struct storage_job job;
    struct signal signal;
    int (*apply)(void *arg, struct db_txn *txn);
    void *arg;
    int err;
};

static int write_apply(struct storage_job *j, struct db_txn *txn)
{
    struct write_job *w = (struct write_job *)j;

    return w->apply(w->arg, txn);
}

static void write_done(struct storage_job *j, int err)
{
    struct write_job *w = (struct write_job *)j;

    w->err = err;
    signal_give(&w->signal);
}

int courier_write(struct courier *c, int (*apply)(void *arg, struct db_txn *txn), void *arg)
{
    struct write_job w = {
        .job = {.apply = write_apply, .done = write_done},
        .apply = apply,
        .arg = arg,
    };

    signal_init(&w.signal, c);
    storage_post(c->parts.storage, &w.job);
    while (!w.signal.has_come) {
        queue_wait(c->queue, -1);
        queue_run(c->queue, c);
    }
    return w.err;
}
