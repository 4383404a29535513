/* SPDX-License-Identifier: ISC */
#include "tools/prefetches.h"

#include <stdlib.h>
#include <string.h>

#include "tools/daemon.h"
#include "tools/output.h"

json_t *prefetches_ask(const struct options *o)
{
    char why[300];
    char *body;
    if (daemon_get(o, "/-/api/prefetch", &body, why, sizeof why) != 0)
        return json_array();
    json_t *said = json_loads(body, 0, NULL);
    json_t *list = json_object_get(said, "prefetches");
    list = json_is_array(list) ? json_incref(list) : json_array();
    json_decref(said);
    free(body);
    return list;
}

static json_int_t number(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

static void add_text(struct table *t, const char *text)
{
    char *clean = printable(text != NULL ? text : "");
    table_add(t, "%s", clean);
    free(clean);
}

static void add_running(struct table *t, const json_t *running)
{
    const char *reference = json_string_value(json_object_get(running, "reference"));
    char *text = mem_format(
        "%s: %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT " blobs%s",
        reference != NULL ? reference : "", number(running, "blobs_done"), number(running, "blobs"),
        number(running, "resting_until") > 0 ? ", waiting: the upstream said 429" : "");
    add_text(t, text);
    free(text);
}

static void add_last(struct table *t, const json_t *last)
{
    char bytes[TEXT_MAX];
    const char *why = json_string_value(json_object_get(last, "why"));
    char *text;
    if (!json_is_object(last)) {
        table_add(t, "-");
        return;
    }
    if (number(last, "ended_at") == 0)
        text = mem_format("%s", "cut short");
    else if (number(last, "failed") > 0)
        text = mem_format("%" JSON_INTEGER_FORMAT " failed: %s", number(last, "failed"),
                          why != NULL ? why : "");
    else
        text = mem_format("%" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT
                          " images new, %s fetched",
                          number(last, "changed"), number(last, "images"),
                          size_text(bytes, (uint64_t)number(last, "fetched_bytes")));
    add_text(t, text);
    free(text);
}

static void add_row(struct table *t, const json_t *prefetch, int64_t now_s)
{
    const json_t *running = json_object_get(prefetch, "running");
    const json_t *last = json_object_get(prefetch, "last");
    bool is_running = json_is_object(running);
    char text[TEXT_MAX];
    add_text(t, json_string_value(json_object_get(prefetch, "name")));
    if (is_running)
        table_add(t, "now");
    else
        table_add(t, "%s", age_text(text, number(prefetch, "next_at") - now_s));
    if (json_is_object(last))
        table_add(t, "%s", age_text(text, now_s - number(last, "began_at")));
    else
        table_add(t, "-");
    if (is_running)
        add_running(t, running);
    else
        add_last(t, last);
}

void prefetches_write(FILE *out, const json_t *prefetches, int64_t now_s,
                      const struct terminal_size *size, bool has_style)
{
    static const char *const heads[] = {"PREFETCH", "IN", "AGO", "HOW IT WENT"};
    if (json_array_size(prefetches) == 0)
        return;
    struct table *t = table_new("lrrw");
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        table_add(t, "%s", heads[i]);
    for (size_t i = 0; i < json_array_size(prefetches); i++)
        add_row(t, json_array_get(prefetches, i), now_s);
    char *text = table_text(t, size->columns, has_style);
    fprintf(out, "\n%s", text);
    free(text);
    table_free(&t);
}
