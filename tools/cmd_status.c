/* SPDX-License-Identifier: ISC */
/* cachalot status: what is held, what was saved, what goes on now. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "cache/ledger.h"
#include "tools/command.h"
#include "tools/daemon.h"
#include "tools/output.h"
#include "tools/upstreams.h"

#define SECONDS_A_DAY 86400

struct held {
    uint64_t blobs;
    uint64_t bytes;
    uint64_t manifests;
    uint64_t tags;
    uint64_t partials;
};

struct sums {
    uint32_t today;
    uint32_t month_start;
    struct ledger_record day;
    struct ledger_record month;
    struct ledger_record all;
};

struct live {
    int err;       /* of asking it; ERR_NOT_FOUND when it does not run */
    char why[300]; /* what that means */
    uint64_t connections;
    uint64_t fetches;
    uint64_t readers;
    uint64_t stale;           /* answers since it was started */
    struct ledger_record run; /* the sums since then */
    struct upstreams upstreams;
};

struct blob_sum {
    struct db_txn *txn;
    struct held *held;
};

static int add_blob(void *arg, struct db_value key, struct db_value value)
{
    (void)value;
    struct blob_sum *sum = arg;
    struct digest d;
    struct blob_record r;
    if (digest_from_key(&d, key.data, key.size) < 0 || blob_get(sum->txn, &d, &r) != 0)
        return 0;
    sum->held->blobs++;
    sum->held->bytes += r.size_bytes;
    return 0;
}

static int count_held(struct db_txn *txn, struct held *held)
{
    struct blob_sum sum = {txn, held};
    *held = (struct held){0};
    int err = db_walk(txn, DB_BLOBS, NULL, 0, NULL, 0, add_blob, &sum);
    if (err == 0)
        err = db_count(txn, DB_MANIFESTS, &held->manifests);
    if (err == 0)
        err = db_count(txn, DB_TAGS, &held->tags);
    if (err == 0)
        err = db_count(txn, DB_PARTIALS, &held->partials);
    return err;
}

static void add_record(struct ledger_record *sum, const struct ledger_record *r)
{
    sum->line_bytes += r->line_bytes;
    sum->lan_bytes += r->lan_bytes;
    sum->line_requests += r->line_requests;
    sum->lan_requests += r->lan_requests;
    sum->hits += r->hits;
}

static int add_day(void *arg, uint32_t day, const char *registry, const struct ledger_record *r)
{
    (void)registry;
    struct sums *sums = arg;
    add_record(&sums->all, r);
    if (day >= sums->month_start)
        add_record(&sums->month, r);
    if (day == sums->today)
        add_record(&sums->day, r);
    return 0;
}

/* Days are UTC, as the ledger's. */
static int sum_ledger(struct db_txn *txn, struct sums *sums)
{
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    uint32_t today = (uint32_t)(now / SECONDS_A_DAY);
    *sums = (struct sums){.today = today, .month_start = today - (uint32_t)(tm.tm_mday - 1)};
    return ledger_walk(txn, add_day, sums);
}

/* Add the value of a sample line to the field that its metric feeds. */
static void take_sample(struct live *live, const char *line)
{
    static const char stale[] = "cachalot_requests_total{result=\"stale\"} ";
    const struct {
        const char *metric;
        uint64_t *field;
    } rows[] = {
        {"cachalot_connections", &live->connections},
        {"cachalot_fetches", &live->fetches},
        {"cachalot_readers", &live->readers},
        {"cachalot_registry_line_bytes_total", &live->run.line_bytes},
        {"cachalot_registry_lan_bytes_total", &live->run.lan_bytes},
        {"cachalot_registry_line_requests_total", &live->run.line_requests},
        {"cachalot_registry_lan_requests_total", &live->run.lan_requests},
        {"cachalot_registry_hits_total", &live->run.hits},
    };
    size_t name_len = strcspn(line, "{ ");
    const char *value = strrchr(line, ' ');
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && value != NULL; i++) {
        if (strlen(rows[i].metric) == name_len && memcmp(rows[i].metric, line, name_len) == 0)
            *rows[i].field += strtoull(value + 1, NULL, 10);
    }
    if (strncmp(line, stale, sizeof stale - 1) == 0)
        live->stale = strtoull(line + sizeof stale - 1, NULL, 10);
    upstreams_take(&live->upstreams, line);
}

static void ask_daemon(const struct options *o, struct live *live)
{
    char *body;
    *live = (struct live){0};
    live->err = daemon_get(o, "/-/metrics", &body, live->why, sizeof live->why);
    if (live->err != 0)
        return;
    char *rest;
    for (char *line = strtok_r(body, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
        take_sample(live, line);
    free(body);
}

static uint64_t saved_bytes(const struct ledger_record *r)
{
    return r->lan_bytes > r->line_bytes ? r->lan_bytes - r->line_bytes : 0;
}

static void add_row(struct table *t, const char *what, const struct ledger_record *r)
{
    char line[TEXT_MAX], lan[TEXT_MAX], saved[TEXT_MAX];
    table_add(t, "%s", what);
    table_add(t, "%s", size_text(line, r->line_bytes));
    table_add(t, "%s", size_text(lan, r->lan_bytes));
    table_add(t, "%s", size_text(saved, saved_bytes(r)));
    table_add(t, "%" PRIu64, r->lan_requests);
    if (r->lan_requests == 0)
        table_add(t, "-");
    else
        table_add(t, "%.1f%%", 100.0 * (double)r->hits / (double)r->lan_requests);
}

static void print_table(const struct options *o, const struct held *held, const struct sums *sums,
                        const struct live *live)
{
    char bytes[TEXT_MAX];
    printf("cache   %s\n", o->cache_path);
    printf("held    %" PRIu64 " blobs with %s, %" PRIu64 " of them manifests; %" PRIu64 " tags\n",
           held->blobs, size_text(bytes, held->bytes), held->manifests, held->tags);
    if (held->partials > 0)
        printf("        %" PRIu64 " downloads begun and not complete\n", held->partials);
    if (live->err == 0)
        printf("daemon  running, %" PRIu64 " connections, %" PRIu64
               " downloads under way for %" PRIu64 " requests\n",
               live->connections, live->fetches, live->readers);
    else
        printf("daemon  %s: %s\n", live->err == ERR_NOT_FOUND ? "not running" : "no answer",
               live->why);
    if (live->stale > 0)
        printf("        %" PRIu64 " answers since its start were stale: what was held, not "
               "confirmed\n",
               live->stale);
    putchar('\n');
    struct table *t = table_new("lrrrrr");
    static const char *const heads[] = {"",      "FROM THE LINE", "TO THE LAN",
                                        "SAVED", "REQUESTS",      "HITS"};
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        table_add(t, "%s", heads[i]);
    if (live->err == 0)
        add_row(t, "since start", &live->run);
    add_row(t, "today", &sums->day);
    add_row(t, "this month", &sums->month);
    add_row(t, "all", &sums->all);
    table_print(t);
    table_free(&t);
    upstreams_print(&live->upstreams, time(NULL));
}

static json_t *record_json(const struct ledger_record *r)
{
    json_t *ratio =
        r->lan_requests == 0 ? json_null() : json_real((double)r->hits / (double)r->lan_requests);
    return json_pack("{sI sI sI sI sI sI so}", "line_bytes", (json_int_t)r->line_bytes, "lan_bytes",
                     (json_int_t)r->lan_bytes, "saved_bytes", (json_int_t)saved_bytes(r),
                     "line_requests", (json_int_t)r->line_requests, "lan_requests",
                     (json_int_t)r->lan_requests, "hits", (json_int_t)r->hits, "hit_ratio", ratio);
}

static json_t *live_json(const struct live *live)
{
    if (live->err != 0)
        return json_pack("{sb ss}", "running", 0, "why", live->why);
    return json_pack("{sb sI sI sI sI so so}", "running", 1, "connections",
                     (json_int_t)live->connections, "fetches", (json_int_t)live->fetches, "readers",
                     (json_int_t)live->readers, "stale_answers", (json_int_t)live->stale,
                     "since_start", record_json(&live->run), "upstreams",
                     upstreams_json(&live->upstreams));
}

static void print_json(const struct options *o, const struct held *held, const struct sums *sums,
                       const struct live *live)
{
    json_print(json_pack("{ss s{sI sI sI sI sI} so s{so so so}}", "cache", o->cache_path, "held",
                         "blobs", (json_int_t)held->blobs, "bytes", (json_int_t)held->bytes,
                         "manifests", (json_int_t)held->manifests, "tags", (json_int_t)held->tags,
                         "partials", (json_int_t)held->partials, "daemon", live_json(live),
                         "ledger", "today", record_json(&sums->day), "month",
                         record_json(&sums->month), "all", record_json(&sums->all)));
}

static enum exit_code print_status(const struct options *o, const struct live *live)
{
    struct cache cache;
    enum exit_code code = cache_open(&cache, o);
    if (code != EXIT_DONE)
        return code;
    struct held held;
    struct sums sums;
    int err = count_held(cache.txn, &held);
    if (err == 0)
        err = sum_ledger(cache.txn, &sums);
    cache_close(&cache);
    if (err != 0)
        return cache_complain(o, err);
    if (o->format == FORMAT_JSON)
        print_json(o, &held, &sums, live);
    else
        print_table(o, &held, &sums, live);
    return output_end();
}

enum exit_code cmd_status(const struct options *o, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    struct live live;
    ask_daemon(o, &live);
    enum exit_code code;
    if (o->quiet)
        code = live.err == 0 ? EXIT_DONE : EXIT_FAILED;
    else
        code = print_status(o, &live);
    upstreams_clear(&live.upstreams);
    return code;
}
