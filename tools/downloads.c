/* SPDX-License-Identifier: ISC */
#include "tools/downloads.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/daemon.h"
#include "tools/output.h"

#define SHORT_DIGEST 12
#define BAR_WIDTH 14

/* --- what the daemon says --- */

static int64_t member(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_integer(value) ? json_integer_value(value) : -1;
}

/* Bytes a second; -1 when no time has passed. */
static int64_t rate_of(int64_t bytes, int64_t ms)
{
    return ms > 0 && bytes >= 0 ? (int64_t)((double)bytes * 1000 / (double)ms) : -1;
}

static void take_one(struct downloads *d, const json_t *said)
{
    const char *digest = json_string_value(json_object_get(said, "digest"));
    const char *name = json_string_value(json_object_get(said, "name"));
    const char *state = json_string_value(json_object_get(said, "state"));
    if (digest == NULL || name == NULL || state == NULL || strcmp(state, "failed") == 0)
        return;
    d->list = mem_resize(d->list, (d->count + 1) * sizeof d->list[0]);
    struct download *one = &d->list[d->count++];
    *one = (struct download){
        .digest = printable(digest),
        .name = printable(name),
        .size_bytes = member(said, "size_bytes"),
        .done_bytes = member(said, "done_bytes"),
        .kept_bytes = member(said, "kept_bytes"),
        .elapsed_ms = member(said, "elapsed_ms"),
    };
    one->rate = rate_of(one->done_bytes - one->kept_bytes, one->elapsed_ms);
}

/* How much is to come; what does not say ends last. */
static int64_t left_bytes(const struct download *d)
{
    return d->size_bytes >= 0 ? d->size_bytes - d->done_bytes : INT64_MAX;
}

static int compare_ends(const void *a, const void *b)
{
    const struct download *x = a;
    const struct download *y = b;
    if (left_bytes(x) != left_bytes(y))
        return left_bytes(x) < left_bytes(y) ? -1 : 1;
    return strcmp(x->digest, y->digest);
}

void downloads_take(struct downloads *d, const char *json)
{
    json_t *said = json_loads(json, 0, NULL);
    const json_t *list = json_object_get(said, "fetches");
    for (size_t i = 0; i < json_array_size(list); i++)
        take_one(d, json_array_get(list, i));
    json_decref(said);
    if (d->count > 1)
        qsort(d->list, d->count, sizeof d->list[0], compare_ends);
}

void downloads_ask(struct downloads *d, const struct options *o)
{
    char why[300];
    char *body;
    *d = (struct downloads){0};
    if (daemon_get(o, "/-/api/fetches", &body, why, sizeof why) != 0)
        return;
    downloads_take(d, body);
    free(body);
}

void downloads_clear(struct downloads *d)
{
    for (size_t i = 0; i < d->count; i++) {
        free(d->list[i].digest);
        free(d->list[i].name);
    }
    free(d->list);
    *d = (struct downloads){0};
}

void downloads_compare(struct downloads *d, const struct downloads *before, int64_t passed_ms)
{
    for (size_t i = 0; i < d->count; i++) {
        struct download *now = &d->list[i];
        for (size_t j = 0; j < before->count; j++) {
            const struct download *then = &before->list[j];
            /* One that began anew is another one. */
            if (strcmp(now->digest, then->digest) == 0 && now->done_bytes >= then->done_bytes &&
                then->size_bytes >= 0)
                now->rate = rate_of(now->done_bytes - then->done_bytes, passed_ms);
        }
    }
}

/* --- for programs --- */

static json_t *number_json(int64_t value)
{
    return value < 0 ? json_null() : json_integer(value);
}

json_t *downloads_json(const struct downloads *d)
{
    json_t *all = json_array();
    for (size_t i = 0; i < d->count; i++) {
        const struct download *one = &d->list[i];
        json_array_append_new(
            all, json_pack("{ss ss so so so so so}", "digest", one->digest, "name", one->name,
                           "size_bytes", number_json(one->size_bytes), "done_bytes",
                           number_json(one->done_bytes), "kept_bytes", number_json(one->kept_bytes),
                           "elapsed_ms", number_json(one->elapsed_ms), "bytes_per_second",
                           number_json(one->rate)));
    }
    return all;
}

/* --- for people --- */

static void add_progress(struct table *t, const struct download *d, bool is_terminal)
{
    char bar[BAR_MAX] = "";
    if (d->size_bytes < 0) {
        table_add(t, "asking");
        return;
    }
    if (is_terminal)
        bar_text(bar, BAR_WIDTH, (uint64_t)d->done_bytes, (uint64_t)d->size_bytes);
    double share = d->size_bytes > 0 ? (double)d->done_bytes / (double)d->size_bytes : 1;
    table_add(t, "%s%s%.0f%%", bar, *bar != '\0' ? " " : "", 100 * share);
}

static void add_rate(struct table *t, const struct download *d)
{
    char text[TEXT_MAX];
    if (d->size_bytes < 0 || d->rate < 0) {
        table_add(t, "-");
        table_add(t, "-");
        return;
    }
    table_add(t, "%s/s", short_size_text(text, (uint64_t)d->rate));
    if (d->rate == 0)
        table_add(t, "-");
    else
        table_add(t, "%s", age_text(text, left_bytes(d) / d->rate));
}

static void add_row(struct table *t, const struct download *d, bool is_terminal)
{
    char size[TEXT_MAX];
    const char *hex = strchr(d->digest, ':');
    table_add(t, "%s", d->name);
    table_add(t, "%.*s", SHORT_DIGEST, hex != NULL ? hex + 1 : d->digest);
    add_progress(t, d, is_terminal);
    table_add(t, "%s", d->size_bytes < 0 ? "-" : short_size_text(size, (uint64_t)d->size_bytes));
    add_rate(t, d);
}

void downloads_write(FILE *out, const struct downloads *d, const struct terminal_size *size,
                     size_t max, bool has_style)
{
    static const char *const heads[] = {"DOWNLOAD", "DIGEST", "DONE", "OF", "RATE", "LEFT"};
    bool is_terminal = size->columns > 0;
    if (d->count == 0)
        return;
    struct table *t = table_new("mlrrrr");
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        table_add(t, "%s", heads[i]);
    for (size_t i = 0; i < d->count && (i < max || !is_terminal); i++)
        add_row(t, &d->list[i], is_terminal);
    char *text = table_text(t, size->columns, has_style);
    fprintf(out, "\n%s", text);
    free(text);
    table_free(&t);
    if (is_terminal && d->count > max)
        fprintf(out, "and %zu more\n", d->count - max);
}
