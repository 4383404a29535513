/* SPDX-License-Identifier: ISC */
/* cachalot status: what is held, what was saved, what goes on now. */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "cache/err.h"
#include "tools/command.h"
#include "tools/live.h"
#include "tools/output.h"
#include "tools/terminal.h"
#include "tools/totals.h"

static void print_room(const struct live *live)
{
    char taken[TEXT_MAX], limit[TEXT_MAX], spare[TEXT_MAX], min[TEXT_MAX];
    printf("room    %s of %s taken; %s free on disk, %s kept so\n",
           size_text(taken, live->cache_bytes),
           live->limit_bytes > 0 ? size_text(limit, live->limit_bytes) : "no limit",
           size_text(spare, live->free_bytes), size_text(min, live->min_free_bytes));
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
    if (held->lost > 0)
        printf("lost    %" PRIu64 " blob%s went bad and could not be had again; \"cachalot check "
               "--quick\" names %s\n",
               held->lost, held->lost == 1 ? "" : "s", held->lost == 1 ? "it" : "them");
    if (live->err == 0)
        print_room(live);
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
    struct table *t = sums_table_new();
    if (live->err == 0)
        sums_table_add(t, "since start", &live->run);
    sums_table_add(t, "today", &sums->day);
    sums_table_add(t, "this month", &sums->month);
    sums_table_add(t, "all", &sums->all);
    table_print(t);
    table_free(&t);
    struct terminal_size size;
    bool has_style = terminal_has_style(STDOUT_FILENO);
    terminal_size(STDOUT_FILENO, &size);
    upstreams_write(stdout, &live->upstreams, time(NULL), &size, has_style);
    downloads_write(stdout, &live->downloads, &size, size.lines, has_style);
    prefetches_write(stdout, live->prefetches, time(NULL), &size, has_style);
}

static void print_json(const struct options *o, const struct held *held, const struct sums *sums,
                       const struct live *live)
{
    json_print(json_pack("{ss s{sI sI sI sI sI sI} so s{so so so}}", "cache", o->cache_path, "held",
                         "blobs", (json_int_t)held->blobs, "bytes", (json_int_t)held->bytes,
                         "manifests", (json_int_t)held->manifests, "tags", (json_int_t)held->tags,
                         "partials", (json_int_t)held->partials, "lost", (json_int_t)held->lost,
                         "daemon", live_json(live), "ledger", "today", record_json(&sums->day),
                         "month", record_json(&sums->month), "all", record_json(&sums->all)));
}

static enum exit_code print_status(const struct options *o, const struct live *live)
{
    struct cache cache;
    enum exit_code code = cache_open(&cache, o);
    if (code != EXIT_DONE)
        return code;
    struct held held;
    struct sums sums;
    int err = held_count(cache.txn, &held);
    if (err == 0)
        err = sums_read(cache.txn, (int64_t)time(NULL), &sums);
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
    live_ask(&live, o);
    enum exit_code code;
    if (o->quiet)
        code = live.err == 0 ? EXIT_DONE : EXIT_FAILED;
    else
        code = print_status(o, &live);
    live_clear(&live);
    return code;
}
