/* SPDX-License-Identifier: ISC */
/* cachalot top: what goes on, drawn again every second. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cache/err.h"
#include "tools/command.h"
#include "tools/live.h"
#include "tools/output.h"
#include "tools/screen.h"
#include "tools/totals.h"

#define PERIOD_MS 1000
/* What is held changes slowly, and takes time to count. */
#define HELD_PERIOD_MS 10000

struct top {
    const struct options *options;
    struct cache cache;
    struct held held;
    int64_t held_at_ms; /* 0: not yet */
    struct sums sums;
    struct live live;
    int64_t live_at_ms;
    struct live before; /* the last answer, if there was one (err is 0) */
    int64_t before_at_ms;
};

/* --- asking --- */

/* No read is left open: it would keep the daemon from using pages again. */
static int read_index(struct top *t)
{
    int err = db_read(t->cache.reader, &t->cache.txn);
    if (err != 0)
        return err;
    err = sums_read(t->cache.txn, (int64_t)time(NULL), &t->sums);
    if (err == 0 && (t->held_at_ms == 0 || screen_clock_ms() - t->held_at_ms >= HELD_PERIOD_MS)) {
        err = held_count(t->cache.txn, &t->held);
        t->held_at_ms = screen_clock_ms();
    }
    cache_end_read(&t->cache);
    return err;
}

static void ask(struct top *t)
{
    if (t->live.err == 0) {
        live_clear(&t->before);
        t->before = t->live;
        t->before_at_ms = t->live_at_ms;
    } else {
        live_clear(&t->live);
    }
    live_ask(&t->live, t->options);
    t->live_at_ms = screen_clock_ms();
    if (t->before_at_ms > 0)
        downloads_compare(&t->live.downloads, &t->before.downloads,
                          t->live_at_ms - t->before_at_ms);
}

/* --- drawing --- */

static uint64_t per_second(uint64_t now, uint64_t before, int64_t passed_ms)
{
    return now > before ? (uint64_t)((double)(now - before) * 1000 / (double)passed_ms) : 0;
}

static void add_now(struct table *t, const struct top *top)
{
    char line[TEXT_MAX], lan[TEXT_MAX], ratio[TEXT_MAX];
    const struct ledger_record *now = &top->live.run;
    const struct ledger_record *then = &top->before.run;
    int64_t passed_ms = top->live_at_ms - top->before_at_ms;
    if (top->before_at_ms == 0 || passed_ms <= 0 || now->lan_requests < then->lan_requests)
        return;
    struct ledger_record since = {.lan_requests = now->lan_requests - then->lan_requests,
                                  .hits = now->hits - then->hits};
    table_add(t, "a second");
    table_add(t, "%s", size_text(line, per_second(now->line_bytes, then->line_bytes, passed_ms)));
    table_add(t, "%s", size_text(lan, per_second(now->lan_bytes, then->lan_bytes, passed_ms)));
    table_add(t, "-");
    table_add(t, "%" PRIu64, per_second(now->lan_requests, then->lan_requests, passed_ms));
    table_add(t, "%s", ratio_text(ratio, &since));
}

static void write_sums(FILE *out, const struct top *top, const struct terminal_size *size,
                       bool has_style)
{
    struct table *t = sums_table_new();
    if (top->live.err == 0) {
        add_now(t, top);
        sums_table_add(t, "since start", &top->live.run);
    }
    sums_table_add(t, "today", &top->sums.day);
    sums_table_add(t, "this month", &top->sums.month);
    sums_table_add(t, "all", &top->sums.all);
    char *text = table_text(t, size->columns, has_style);
    fprintf(out, "\n%s", text);
    free(text);
    table_free(&t);
}

static void write_head(FILE *out, const struct top *top)
{
    char clock[TEXT_MAX] = "", bytes[TEXT_MAX];
    const struct live *live = &top->live;
    time_t now = time(NULL);
    struct tm tm;
    if (localtime_r(&now, &tm) != NULL)
        strftime(clock, sizeof clock, "%H:%M:%S", &tm);
    fprintf(out, "cachalot %s  q ends  %s\n", clock, top->options->cache_path);
    fprintf(out, "%" PRIu64 " blobs with %s, %" PRIu64 " tags\n", top->held.blobs,
            size_text(bytes, top->held.bytes), top->held.tags);
    if (live->err == 0)
        fprintf(out,
                "%" PRIu64 " connections, %" PRIu64 " downloads for %" PRIu64 " requests, %" PRIu64
                " answers were stale\n",
                live->connections, live->fetches, live->readers, live->stale);
    else
        fprintf(out, "cachalotd %s: %s\n",
                live->err == ERR_NOT_FOUND ? "does not run" : "does not answer", live->why);
}

static size_t count_lines(const char *text)
{
    size_t lines = 0;
    for (; *text != '\0'; text++)
        lines += *text == '\n';
    return lines;
}

/* Downloads get what room is left, and three lines at least. */
static char *write_all(const struct top *top)
{
    struct terminal_size size;
    bool has_style = terminal_has_style(STDOUT_FILENO);
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    CHECK(out != NULL);
    terminal_size(STDOUT_FILENO, &size);
    write_head(out, top);
    write_sums(out, top, &size, has_style);
    CHECK(fflush(out) == 0);
    size_t used = count_lines(text) + 3;
    size_t room = size.lines > used + 3 ? size.lines - used : 3;
    downloads_write(out, &top->live.downloads, &size, room, has_style);
    upstreams_write(out, &top->live.upstreams, (int64_t)time(NULL), &size, has_style);
    CHECK(fclose(out) == 0);
    return text;
}

static bool draw(const struct screen *screen, const struct top *top)
{
    char *text = write_all(top);
    bool done = screen_draw(screen, text);
    free(text);
    return done;
}

/* Until it is ended, or the index cannot be read: then the error. */
static int run(struct top *t)
{
    struct screen *screen = screen_open();
    enum screen_event event = SCREEN_TIMEOUT;
    int err = 0;
    while (event != SCREEN_END && err == 0) {
        if (!draw(screen, t))
            break;
        event = screen_wait(screen, PERIOD_MS);
        if (event == SCREEN_TIMEOUT) {
            ask(t);
            err = read_index(t);
        }
    }
    screen_close(&screen);
    return err;
}

static enum exit_code watch(struct top *t)
{
    live_ask(&t->live, t->options);
    t->live_at_ms = screen_clock_ms();
    if (t->live.err != 0)
        return complain(EXIT_FAILED, "%s", t->live.why);
    cache_end_read(&t->cache);
    int err = read_index(t);
    if (err == 0)
        err = run(t);
    return err == 0 ? EXIT_DONE : cache_complain(t->options, err);
}

enum exit_code cmd_top(const struct options *o, int argc, char **argv)
{
    struct top t = {.options = o};
    struct terminal_size size;
    (void)argc;
    (void)argv;
    if (o->format == FORMAT_JSON || o->quiet || !terminal_size(STDOUT_FILENO, &size))
        return complain(EXIT_USAGE, "top draws on a terminal; \"cachalot status\" prints the same "
                                    "once, also with --format json");
    enum exit_code code = cache_open(&t.cache, o);
    if (code != EXIT_DONE)
        return code;
    code = watch(&t);
    live_clear(&t.live);
    live_clear(&t.before);
    cache_close(&t.cache);
    return code;
}
