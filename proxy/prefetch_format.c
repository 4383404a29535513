/* SPDX-License-Identifier: ISC */
#include "proxy/prefetch_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cache/json.h"

static void print_references(FILE *out, const struct config_prefetch *s)
{
    fputs(",\"references\":[", out);
    for (unsigned i = 0; i < s->reference_count; i++)
        fprintf(out, "%s\"%s\"", i > 0 ? "," : "", s->references[i]);
    fputs("],\"platforms\":[", out);
    for (unsigned i = 0; i < s->platform_count; i++)
        fprintf(out, "%s\"%s\"", i > 0 ? "," : "", s->platforms[i]);
    fputc(']', out);
}

static void print_running(FILE *out, const struct prefetch *p)
{
    const struct errand_progress *now = &p->progress;
    char text[REFERENCE_TEXT_MAX] = "";

    if (p->now.name.repository[0])
        reference_text(&p->now, text);
    fprintf(out,
            "{\"reference\":\"%s\",\"resting_until\":%" PRId64
            ",\"blobs\":%u,\"blobs_done\":%u,\"bytes\":%" PRIu64 ",\"bytes_done\":%" PRIu64 "}",
            text, now->resting_until_s, now->blobs, now->blobs_done, now->bytes, now->bytes_done);
}

/* A run that goes on has no end yet. */
static void print_last(FILE *out, const struct prefetch_record *r)
{
    char *why = json_quote(r->why);

    fprintf(out,
            "{\"began_at\":%" PRId64 ",\"ended_at\":%" PRId64
            ",\"images\":%u,\"changed\":%u,\"failed\":%u,\"fetched_bytes\":%" PRIu64 ",\"why\":%s}",
            r->began_at_s, r->ended_at_s, r->references, r->changed, r->failed, r->fetched_bytes,
            why ? why : "\"\"");
    free(why);
}

static void print_plan(FILE *out, const struct prefetch *p, const struct plan *plan)
{
    const struct config_prefetch *s = plan->settings;
    char schedule[SCHEDULE_TEXT_SIZE];

    schedule_text(&s->schedule, schedule);
    fprintf(out, "{\"name\":\"%s\",\"schedule\":\"%s\",\"zone\":\"%s\"", s->name, schedule,
            s->zone_name ? s->zone_name : "");
    print_references(out, s);
    fprintf(out, ",\"keep\":%" PRId64 ",\"next_at\":%" PRId64 ",\"running\":", s->keep,
            plan->next_s);
    if (p->running == plan)
        print_running(out, p);
    else
        fputs("null", out);
    fputs(",\"last\":", out);
    if (plan->record.began_at_s > 0)
        print_last(out, &plan->record);
    else
        fputs("null", out);
    fputc('}', out);
}

char *prefetch_format(struct prefetch *p, size_t *len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, len);

    CHECK(out);
    pthread_mutex_lock(&p->lock);
    fputs("{\"prefetches\":[", out);
    for (unsigned i = 0; i < p->plan_count; i++) {
        fputs(i > 0 ? ",\n" : "\n", out);
        print_plan(out, p, &p->plans[i]);
    }
    pthread_mutex_unlock(&p->lock);
    fputs("]}\n", out);
    CHECK(fclose(out) == 0);
    return text;
}
