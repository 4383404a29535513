/* SPDX-License-Identifier: ISC */
/*
 * Order of life: store, listeners, storage, disk helpers, upstream, workers; the end comes
 * in the opposite order, so that whoever may still be called is there, but for the listeners,
 * which end first. They are there before the threads, so that no thread ever has the
 * rights that opening them may need; they accept when all is there.
 */
#include "proxy/server.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "cache/err.h"
#include "cache/evict.h"
#include "cache/partial.h"
#include "proxy/access.h"
#include "proxy/conn.h"
#include "proxy/evictor.h"
#include "proxy/greeting.h"
#include "proxy/identity.h"
#include "proxy/listener.h"
#include "proxy/login.h"
#include "proxy/orders.h"
#include "proxy/prefetch.h"
#include "proxy/request.h"
#include "proxy/sandbox.h"
#include "proxy/scrubber.h"
#include "proxy/sd.h"
#include "proxy/startup.h"
#include "proxy/twice.h"
#include "proxy/upload.h"
#include "proxy/upstream_dial.h"
#include "proxy/version.h"
#include "proxy/watch.h"
#include "proxy/watchdog.h"
#include "proxy/worker.h"

#define DISK_THREADS 2
#define DIALER_THREADS 8
#define LOGIN_THREADS 2
#define PASSED_MAX 16
/* How long a partial that nobody asked for again is kept. */
#define PARTIAL_LIFE_S (7 * 24 * 3600)
#define PERMITS_MAX 65536
#define ABSENCES_MAX 4096
#define LOOP_ID_MAX 32

struct server {
    struct event_base *base;
    struct log *log;
    struct config *config;
    struct config *entered; /* with which the sandbox was; NULL: without */
    const char *config_path;
    char loop_id[LOOP_ID_MAX];
    struct stats stats;
    struct worker_parts parts;
    struct listeners *listeners;
    struct watchdog *watchdog; /* or NULL */
    struct worker *workers[WORKERS_MAX];
    unsigned worker_count;
    struct queue *queue; /* messages to the main thread */
    struct msg drained[WORKERS_MAX];
    unsigned drained_count;
    bool draining;
    struct event *queue_event, *deadline;
    struct event *signals[3];
};

/* --- connections --- */

static unsigned open_connections(void *arg)
{
    struct server *s = arg;
    unsigned sum = 0;

    for (unsigned i = 0; i < s->worker_count; i++)
        sum += worker_load(s->workers[i]);
    return sum;
}

static void on_accepted(void *arg, int fd, struct config *c, const struct config_listener *l,
                        struct load *load, const char *peer)
{
    struct server *s = arg;
    struct worker *least = s->workers[0];

    for (unsigned i = 1; i < s->worker_count; i++)
        if (worker_load(s->workers[i]) < worker_load(least))
            least = s->workers[i];
    worker_take(least, fd, c, l, load, peer);
}

/* --- reload --- */

/* Registries that the config names have counters from the start. */
static void add_registries(struct server *s, const struct config *c)
{
    for (unsigned i = 0; i < c->upstream_count; i++)
        stats_add_registry(&s->stats, c->upstreams[i].registry);
}

static void log_lines(struct log *log, enum log_level level, char *text)
{
    char *save = NULL;

    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        log_event(log, level, "%s", line);
}

static int load_config(struct server *s, struct config **c)
{
    char *text = NULL;
    size_t len;
    FILE *errors = open_memstream(&text, &len);

    CHECK(errors);
    int err = config_load(c, s->config_path, errors);
    fclose(errors);
    log_lines(s->log, LOG_ERROR, text);
    /* The one refusal whose reason the file's own permissions do not show. */
    if (err && s->entered && strstr(text, strerror(EACCES)))
        log_event(s->log, LOG_ERROR,
                  "the sandbox is closed to directories that the settings did not name before: "
                  "what is there can be read after a restart only");
    free(text);
    return err;
}

static void warn_fixed(struct server *s, const struct config *c)
{
    const struct config *now = s->config;
    const char *user = c->user ? c->user : "";
    const char *user_now = now->user ? now->user : "";

    if (strcmp(c->path, now->path) != 0 || c->index_size_bytes != now->index_size_bytes ||
        c->workers != now->workers || c->sandbox != now->sandbox || strcmp(user, user_now) != 0)
        log_event(s->log, LOG_WARN,
                  "path, index-size, workers, user and sandbox of [cache] change with a restart "
                  "only");
    if (s->entered && sandbox_is_outgrown(s->entered, c))
        log_event_about(
            s->log, LOG_WARN, NULL,
            "a credential helper can be run after a restart only, or with sandbox = no in "
            "[cache] at the start");
}

/* So that nobody wonders why a push is refused. */
static void say_access(struct server *s, const struct config *c)
{
    char text[ACCESS_SENTENCE_SIZE];

    log_event(s->log, LOG_INFO, "%s", access_describe(c, text));
}

static int reload(struct server *s)
{
    struct config *c;
    char why[256];

    if (load_config(s, &c) != 0)
        return ERR_INVALID;
    add_registries(s, c);
    int err = identity_prepare(c, s->log, why, sizeof why);
    if (err == 0)
        err = listeners_open(s->listeners, c, NULL, 0, why, sizeof why);
    if (err) {
        log_event(s->log, LOG_ERROR, "%s", why);
        config_unref(&c);
        return err;
    }
    if (log_reopen(s->log, c->log_file, c->log_format, c->log_level, c->log_access) != 0)
        log_event(s->log, LOG_ERROR, "cannot open the log file %s; logging goes on as before",
                  c->log_file ? c->log_file : "-");
    warn_fixed(s, c);
    for (unsigned i = 0; i < s->worker_count; i++)
        worker_set_config(s->workers[i], c);
    upstream_set_config(s->parts.upstream, c);
    orders_set_config(s->parts.orders, c);
    prefetch_set_config(s->parts.prefetch, c);
    scrubber_set_config(s->parts.scrubber, c);
    uploads_set_ttl(s->parts.uploads, c->upload_ttl_s);
    evictor_set_config(s->parts.evictor, c);
    say_access(s, c);
    config_unref(&s->config);
    s->config = c;
    return 0;
}

static void on_hangup(evutil_socket_t sig, short what, void *arg)
{
    struct server *s = arg;

    (void)sig;
    (void)what;
    /* The listeners that a drain has closed must stay so. */
    if (s->draining)
        return;
    sd_reloading();
    if (reload(s) == 0) {
        STATS_ADD(&s->stats, reloads, 1);
        log_event(s->log, LOG_INFO, "configuration reloaded");
    } else {
        STATS_ADD(&s->stats, reload_failures, 1);
        log_event_about(s->log, LOG_ERROR, NULL,
                        "configuration not reloaded: the old settings stay");
    }
    sd_ready();
}

/* --- drain --- */

static void on_drained(struct msg *m, void *owner)
{
    struct server *s = owner;

    (void)m;
    if (++s->drained_count == s->worker_count)
        event_base_loopbreak(s->base);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
    struct server *s = arg;

    (void)fd;
    (void)what;
    log_event_about(s->log, LOG_WARN, NULL, "drain deadline reached with %u connections open",
                    open_connections(s));
    event_base_loopbreak(s->base);
}

static void on_terminate(evutil_socket_t sig, short what, void *arg)
{
    struct server *s = arg;
    int64_t ms = s->config->drain_timeout_ms;
    struct timeval limit = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    (void)what;
    if (s->draining) {
        event_base_loopbreak(s->base);
        return;
    }
    s->draining = true;
    log_event(s->log, LOG_INFO, "signal %d: draining, at most %lld ms", (int)sig, (long long)ms);
    sd_stopping();
    listeners_close(s->listeners);
    CHECK(event_add(s->deadline, &limit) == 0);
    for (unsigned i = 0; i < s->worker_count; i++) {
        s->drained[i].run = on_drained;
        worker_drain(s->workers[i], &s->drained[i], s->queue);
    }
}

static void on_queue(evutil_socket_t fd, short what, void *arg)
{
    struct server *s = arg;

    (void)fd;
    (void)what;
    queue_run(s->queue, s);
}

/* --- start and end --- */

static void add_events(struct server *s)
{
    s->base = event_base_new();
    CHECK(s->base);
    s->queue = queue_new();
    s->queue_event = event_new(s->base, queue_fd(s->queue), EV_READ | EV_PERSIST, on_queue, s);
    s->deadline = evtimer_new(s->base, on_deadline, s);
    s->signals[0] = evsignal_new(s->base, SIGHUP, on_hangup, s);
    s->signals[1] = evsignal_new(s->base, SIGTERM, on_terminate, s);
    s->signals[2] = evsignal_new(s->base, SIGINT, on_terminate, s);
    CHECK(s->deadline && s->queue_event && event_add(s->queue_event, NULL) == 0);
    for (unsigned i = 0; i < 3; i++)
        CHECK(s->signals[i] && event_add(s->signals[i], NULL) == 0);
}

static unsigned wanted_workers(const struct config *c)
{
    long n = c->workers > 0 ? (long)c->workers : sysconf(_SC_NPROCESSORS_ONLN);

    if (n < 1)
        return 1;
    return n < WORKERS_MAX ? (unsigned)n : WORKERS_MAX;
}

/* By it a request that comes back to this daemon is known; another after a restart
 * does no harm. */
static void make_loop_id(struct server *s)
{
    uint64_t id;

    CHECK(getrandom(&id, sizeof id, 0) == sizeof id);
    snprintf(s->loop_id, sizeof s->loop_id, "cachalot-%016llx", (unsigned long long)id);
}

/* Hashing is most of what an upload costs. */
static unsigned upload_threads(const struct config *c)
{
    unsigned n = wanted_workers(c);

    return n < 2 ? 2 : n > UPLOAD_THREADS_MAX ? UPLOAD_THREADS_MAX : n;
}

static void start_couriers(struct server *s)
{
    struct worker_parts *p = &s->parts;
    struct courier_parts parts = {
        .store = p->store,
        .storage = p->storage,
        .fetches = p->fetches,
        .asks = p->asks,
        .upstream = p->upstream,
        .loop_id = p->loop_id,
        .stats = p->stats,
        .log = p->log,
    };

    p->orders = orders_start(&parts, s->config);
    p->prefetch = prefetch_start(&parts, s->config);
    p->scrubber = scrubber_start(&parts, s->config);
}

static void start_watchdog(struct server *s)
{
    s->watchdog = watchdog_start(s->base, s->log);
    watchdog_ask(s->watchdog, "storage", storage_queue(s->parts.storage));
    watchdog_ask(s->watchdog, "upstream", upstream_queue(s->parts.upstream));
    for (unsigned i = 0; i < s->worker_count; i++)
        watchdog_ask(s->watchdog, "worker", s->workers[i]->queue);
}

static void start_threads(struct server *s)
{
    struct worker_parts *p = &s->parts;

    make_loop_id(s);
    p->conns = &conn_worker_calls;
    p->requests = &request_calls;
    p->stats = &s->stats;
    p->log = s->log;
    p->storage = storage_start(p->store, &s->stats, s->log);
    p->disk = disk_start(DISK_THREADS);
    p->permits = permits_new(PERMITS_MAX);
    p->absences = absences_new(ABSENCES_MAX);
    p->health = health_new(p->stats);
    p->greetings = greetings_new();
    p->loop_id = s->loop_id;
    p->fetches = fetch_table_new();
    p->asks = ask_table_new();
    p->evictor = evictor_start(p->store, p->storage, p->fetches, s->config, p->stats, s->log);
    p->twice = twice_start(p->store, p->storage, p->stats, s->log);
    struct upstream_parts up = {
        .store = p->store,
        .storage = p->storage,
        .fetches = p->fetches,
        .asks = p->asks,
        .health = p->health,
        .twice = p->twice,
        .stats = p->stats,
        .log = p->log,
    };
    p->upstream = upstream_start(&up, s->config);
    p->dialer = dialer_start(DIALER_THREADS);
    p->uploads = uploads_start(p->store, p->storage, p->stats, s->log, upload_threads(s->config),
                               s->config->upload_ttl_s);
    p->logins = logins_start(LOGIN_THREADS);
    start_couriers(s);
    p->watch = watch_start(p->store, storage_tally(p->storage), p->stats);
    s->worker_count = wanted_workers(s->config);
    for (unsigned i = 0; i < s->worker_count; i++)
        s->workers[i] = worker_start(p, s->config);
    evictor_set_workers(p->evictor, s->workers, s->worker_count);
    start_watchdog(s);
}

/* Files in partial/ that no fetch will go on with would take room for ever. Before any
 * thread can open one. */
static void sweep_partials(struct server *s)
{
    struct store *store = s->parts.store;
    struct db_txn *txn;
    unsigned removed = 0;
    int err = db_write(store_db(store), &txn);

    if (err == 0) {
        err = evict_prepare(txn);
        if (err == 0)
            err = partial_sweep(store, txn, time(NULL), PARTIAL_LIFE_S, &removed);
        if (err == 0)
            err = db_commit(&txn);
        else
            db_abort(&txn);
    }
    if (err)
        log_event_about(s->log, LOG_WARN, NULL, "left-over partial files were not removed: %s",
                        err_text(err));
    else if (removed > 0)
        log_event(s->log, LOG_INFO, "removed %u left-over partial files", removed);
}

/* --- start and end of the whole --- */

/* The daemon's files, and who it is in TLS. */
static int open_files(struct server *s, char *why, size_t why_size)
{
    struct config *c = s->config;
    int err = startup_open_store(&s->parts.store, c, &s->stats, s->log, why, why_size);

    return err == 0 ? identity_prepare(c, s->log, why, why_size) : err;
}

static int listen_to_all(struct server *s, char *why, size_t why_size)
{
    static const struct listeners_calls calls = {on_accepted, open_connections};
    struct sd_socket passed[PASSED_MAX];
    unsigned passed_count = sd_sockets(passed, PASSED_MAX);

    s->listeners = listeners_new(s->base, s->log, &calls, s);
    return listeners_open(s->listeners, s->config, passed, passed_count, why, why_size);
}

static int drop_privileges(struct server *s, const struct privileges *p, char *why, size_t why_size)
{
    bool is_root;
    int err = privileges_drop(p, &is_root, why, why_size);

    if (err)
        return err;
    if (is_root && !s->config->user)
        log_event_about(
            s->log, LOG_WARN, NULL,
            "this runs as root, whose %s is: give it to another user, with all that is in "
            "it, to run as that one",
            s->config->path);
    return 0;
}

static void enter_sandbox(struct server *s)
{
    int err = s->config->sandbox ? sandbox_enter(s->config, s->config_path) : 0;

    if (err == ERR_NOT_FOUND)
        log_event(s->log, LOG_DEBUG, "no sandbox: the kernel has no Landlock that is of use");
    else if (err)
        log_event_about(s->log, LOG_WARN, NULL, "no sandbox: the kernel refused: %s",
                        err_text(err));
    else if (s->config->sandbox)
        s->entered = config_ref(s->config);
}

/* What there is but threads. */
static void release(struct server *s)
{
    listeners_free(&s->listeners);
    store_close(&s->parts.store);
    queue_run(s->queue, s);
    queue_free(&s->queue);
    event_free(s->queue_event);
    event_free(s->deadline);
    for (unsigned i = 0; i < 3; i++)
        event_free(s->signals[i]);
    event_base_free(s->base);
    config_unref(&s->config);
    config_unref(&s->entered);
    free(s);
}

int server_start(struct server **sp, const struct server_order *o, char *why, size_t why_size)
{
    struct server *s = mem_new(sizeof *s);

    s->log = o->log;
    s->stats.started_at_s = time(NULL);
    s->config = config_ref(o->config);
    s->config_path = o->config_path;
    int err = open_files(s, why, why_size);
    if (err) {
        store_close(&s->parts.store);
        config_unref(&s->config);
        free(s);
        return err;
    }
    add_events(s);
    err = listen_to_all(s, why, why_size);
    if (!err)
        err = drop_privileges(s, o->privileges, why, why_size);
    if (err) {
        release(s);
        return err;
    }
    enter_sandbox(s);
    sweep_partials(s);
    add_registries(s, s->config);
    start_threads(s);
    say_access(s, s->config);
    *sp = s;
    return 0;
}

void server_run(struct server *s)
{
    log_event(s->log, LOG_INFO, "cachalotd %s serves from %s with %u workers", CACHALOT_VERSION,
              s->config->path, s->worker_count);
    sd_ready();
    CHECK(event_base_dispatch(s->base) >= 0);
    log_event(s->log, LOG_INFO, "stopping");
}

void server_stop(struct server **sp)
{
    struct server *s = *sp;

    if (!s)
        return;
    *sp = NULL;
    listeners_free(&s->listeners);
    evictor_set_workers(s->parts.evictor, NULL, 0);
    for (unsigned i = 0; i < s->worker_count; i++)
        worker_stop(&s->workers[i]);
    watch_stop(&s->parts.watch);
    scrubber_stop(s->parts.scrubber);
    prefetch_stop(&s->parts.prefetch);
    orders_stop(&s->parts.orders);
    logins_stop(&s->parts.logins);
    uploads_stop(&s->parts.uploads);
    dialer_stop(&s->parts.dialer);
    upstream_stop(&s->parts.upstream);
    twice_stop(s->parts.twice);
    evictor_stop(&s->parts.evictor);
    storage_stop(&s->parts.storage);
    twice_free(&s->parts.twice);
    scrubber_free(&s->parts.scrubber);
    disk_stop(&s->parts.disk);
    watchdog_free(&s->watchdog);
    fetch_table_free(&s->parts.fetches);
    ask_table_free(&s->parts.asks);
    permits_free(&s->parts.permits);
    absences_free(&s->parts.absences);
    health_free(&s->parts.health);
    greetings_free(&s->parts.greetings);
    release(s);
}
