/* SPDX-License-Identifier: ISC */
#include "tools/live.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/daemon.h"

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
        {"cachalot_cache_bytes", &live->cache_bytes},
        {"cachalot_cache_limit_bytes", &live->limit_bytes},
        {"cachalot_cache_min_free_bytes", &live->min_free_bytes},
        {"cachalot_cache_free_bytes", &live->free_bytes},
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

void live_ask(struct live *live, const struct options *o)
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
    downloads_ask(&live->downloads, o);
    live->prefetches = prefetches_ask(o);
}

void live_clear(struct live *live)
{
    upstreams_clear(&live->upstreams);
    downloads_clear(&live->downloads);
    json_decref(live->prefetches);
}

json_t *live_json(const struct live *live)
{
    if (live->err != 0)
        return json_pack("{sb ss}", "running", 0, "why", live->why);
    return json_pack(
        "{sb s{sI sI sI sI} sI sI sI sI so so so sO}", "running", 1, "room", "cache_bytes",
        (json_int_t)live->cache_bytes, "limit_bytes", (json_int_t)live->limit_bytes, "free_bytes",
        (json_int_t)live->free_bytes, "min_free_bytes", (json_int_t)live->min_free_bytes,
        "connections", (json_int_t)live->connections, "fetches", (json_int_t)live->fetches,
        "readers", (json_int_t)live->readers, "stale_answers", (json_int_t)live->stale,
        "since_start", record_json(&live->run), "upstreams", upstreams_json(&live->upstreams),
        "downloads", downloads_json(&live->downloads), "prefetches", live->prefetches);
}

json_t *record_json(const struct ledger_record *r)
{
    json_t *ratio =
        r->lan_requests == 0 ? json_null() : json_real((double)r->hits / (double)r->lan_requests);
    return json_pack("{sI sI sI sI sI sI so}", "line_bytes", (json_int_t)r->line_bytes, "lan_bytes",
                     (json_int_t)r->lan_bytes, "saved_bytes", (json_int_t)ledger_saved_bytes(r),
                     "line_requests", (json_int_t)r->line_requests, "lan_requests",
                     (json_int_t)r->lan_requests, "hits", (json_int_t)r->hits, "hit_ratio", ratio);
}

char *ratio_text(char out[32], const struct ledger_record *r)
{
    if (r->lan_requests == 0)
        snprintf(out, 32, "-");
    else
        snprintf(out, 32, "%.1f%%", 100.0 * (double)r->hits / (double)r->lan_requests);
    return out;
}

struct table *sums_table_new(void)
{
    static const char *const heads[] = {"",      "FROM THE LINE", "TO THE LAN",
                                        "SAVED", "REQUESTS",      "HITS"};
    struct table *t = table_new("lrrrrr");
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        table_add(t, "%s", heads[i]);
    return t;
}

void sums_table_add(struct table *t, const char *what, const struct ledger_record *r)
{
    char line[TEXT_MAX], lan[TEXT_MAX], saved[TEXT_MAX], ratio[TEXT_MAX];
    table_add(t, "%s", what);
    table_add(t, "%s", size_text(line, r->line_bytes));
    table_add(t, "%s", size_text(lan, r->lan_bytes));
    table_add(t, "%s", size_text(saved, ledger_saved_bytes(r)));
    table_add(t, "%" PRIu64, r->lan_requests);
    table_add(t, "%s", ratio_text(ratio, r));
}
