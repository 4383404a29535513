/* SPDX-License-Identifier: ISC */
#include "proxy/stats.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cache/check.h"
#include "proxy/version.h"

/* The row that serves for every registry that came too late for one of its own. */
#define OTHERS (STATS_REGISTRIES_MAX - 1)

/* Names of registries are written before the count that lets others read them. */
struct registry_stats *stats_find_registry(struct stats *s, const char *registry)
{
    unsigned count = atomic_load_explicit(&s->registry_count, memory_order_acquire);
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(s->registries[i].registry, registry) == 0)
            return &s->registries[i];
    }
    return count == STATS_REGISTRIES_MAX ? &s->registries[OTHERS] : NULL;
}

struct registry_stats *stats_add_registry(struct stats *s, const char *registry)
{
    struct registry_stats *found = stats_find_registry(s, registry);
    if (found != NULL)
        return found;
    unsigned count = atomic_load_explicit(&s->registry_count, memory_order_relaxed);
    struct registry_stats *new = &s->registries[count];
    const char *name = count == OTHERS ? "others" : registry;
    size_t len = strnlen(name, sizeof new->registry - 1);
    memcpy(new->registry, name, len);
    new->registry[len] = '\0';
#define UPSTREAM_INITIAL(field, metric, help, initial)                                             \
    atomic_store_explicit(&new->field, initial, memory_order_relaxed);
    STATS_UPSTREAM_TABLE(UPSTREAM_INITIAL)
#undef UPSTREAM_INITIAL
    atomic_store_explicit(&s->registry_count, count + 1, memory_order_release);
    return new;
}

void stats_note_failure(struct registry_stats *r, enum outcome why, int64_t now_s)
{
    uint64_t both = (uint64_t)now_s * OUTCOME_COUNT + (uint64_t)why;
    atomic_store_explicit(&r->failure, both, memory_order_relaxed);
}

static uint64_t read_counter(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void write_head(FILE *out, const char *metric, const char *type, const char *help)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", metric, help, metric, type);
}

static void write_counters(const struct stats *s, FILE *out)
{
#define STATS_WRITE(field, metric, type, help)                                                     \
    write_head(out, metric, type, help);                                                           \
    fprintf(out, "%s %" PRIu64 "\n", metric, read_counter(&s->field));
    STATS_TABLE(STATS_WRITE)
#undef STATS_WRITE
}

static void write_outcomes(const struct stats *s, FILE *out)
{
    static const char metric[] = "cachalot_requests_total";
    write_head(out, metric, "counter", "Requests ended, by how.");
    for (int i = 0; i < OUTCOME_COUNT; i++)
        fprintf(out, "%s{result=\"%s\"} %" PRIu64 "\n", metric, outcome_row((enum outcome)i)->word,
                read_counter(&s->requests[i]));
}

struct registry_row {
    size_t offset;
    const char *metric;
    const char *help;
};

static void write_by_registry(const struct stats *s, const struct registry_row *row,
                              const char *type, FILE *out)
{
    unsigned count = atomic_load_explicit(&s->registry_count, memory_order_acquire);
    write_head(out, row->metric, type, row->help);
    for (unsigned i = 0; i < count; i++) {
        const char *base = (const char *)&s->registries[i];
        uint64_t value = read_counter((const _Atomic uint64_t *)(base + row->offset));
        if (value != STATS_UNKNOWN)
            fprintf(out, "%s{registry=\"%s\"} %" PRIu64 "\n", row->metric,
                    s->registries[i].registry, value);
    }
}

static void write_registries(const struct stats *s, FILE *out)
{
    static const struct registry_row counters[] = {
#define COUNTER_ROW(field, metric, help) {offsetof(struct registry_stats, field), metric, help},
        STATS_REGISTRY_TABLE(COUNTER_ROW)
#undef COUNTER_ROW
    };
    static const struct registry_row gauges[] = {
#define GAUGE_ROW(field, metric, help, initial)                                                    \
    {offsetof(struct registry_stats, field), metric, help},
        STATS_UPSTREAM_TABLE(GAUGE_ROW)
#undef GAUGE_ROW
    };
    for (size_t i = 0; i < sizeof counters / sizeof counters[0]; i++)
        write_by_registry(s, &counters[i], "counter", out);
    for (size_t i = 0; i < sizeof gauges / sizeof gauges[0]; i++)
        write_by_registry(s, &gauges[i], "gauge", out);
}

/* One series a registry: what goes wrong takes the place of what went wrong before. */
static void write_failures(const struct stats *s, FILE *out)
{
    static const char metric[] = "cachalot_upstream_failure_timestamp_seconds";
    unsigned count = atomic_load_explicit(&s->registry_count, memory_order_acquire);
    write_head(out, metric, "gauge", "When the registry was last asked in vain, and why it was.");
    for (unsigned i = 0; i < count; i++) {
        uint64_t both = read_counter(&s->registries[i].failure);
        if (both == 0)
            continue;
        const struct outcome_row *why = outcome_row((enum outcome)(both % OUTCOME_COUNT));
        fprintf(out, "%s{registry=\"%s\",result=\"%s\",text=\"%s\"} %" PRIu64 "\n", metric,
                s->registries[i].registry, why->word, why->text, both / OUTCOME_COUNT);
    }
}

char *stats_format(struct stats *s, size_t *len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, len);
    CHECK(out != NULL);
    write_head(out, "cachalot_build_info", "gauge", "The version that runs, as a label.");
    fprintf(out, "cachalot_build_info{version=\"%s\"} 1\n", CACHALOT_VERSION);
    write_head(out, "process_start_time_seconds", "gauge", "When the daemon was started.");
    fprintf(out, "process_start_time_seconds %" PRId64 "\n", s->started_at_s);
    write_counters(s, out);
    write_outcomes(s, out);
    write_registries(s, out);
    write_failures(s, out);
    CHECK(fclose(out) == 0);
    return text;
}
