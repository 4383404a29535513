/* SPDX-License-Identifier: ISC */
/* cachalot fetch: have the daemon bring whole images into the cache. */
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/platform.h"
#include "cache/reference.h"
#include "tools/command.h"
#include "tools/daemon.h"
#include "tools/output.h"
#include "tools/progress.h"

#define HUB "docker.io"
#define ASK_AGAIN_MS 200
#define WHY_MAX 600
#define SHORT_NAME_SIZE 15
/* Orders that wait: the daemon takes so many of everybody's, and more. */
#define AHEAD_MAX 256
/* As many as the daemon takes of one order. */
#define PLATFORMS_MAX 16

struct job {
    char reference[REFERENCE_TEXT_MAX];
    json_int_t id;
    bool has_ended;
    bool has_failed;
    bool is_absent;
    json_t *answer; /* the last, or NULL */
    char why[WHY_MAX];
};

struct jobs {
    const struct options *o;
    struct job *list;
    size_t count;
    char *platforms; /* as parameters of a query */
};

/* Somebody pressed Ctrl-C. */
static volatile sig_atomic_t is_cancelled;

static void note_cancel(int number)
{
    (void)number;
    is_cancelled = 1;
}

/* Once only: who presses it again is not to wait for the daemon. */
static void catch_cancel(void)
{
    struct sigaction action = {.sa_handler = note_cancel, .sa_flags = SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* --- what is ordered --- */

/* Add "name=value" to the query; the text is owned by the caller. */
static char *add_parameter(char *query, const char *name, const char *value)
{
    char *escaped = mem_new(3 * strlen(value) + 1);
    size_t len = 0;
    for (const char *p = value; *p != '\0'; p++) {
        bool is_plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                        (*p >= '0' && *p <= '9') || strchr("-._~/:@", *p) != NULL;
        if (is_plain)
            escaped[len++] = *p;
        else
            len += (size_t)snprintf(escaped + len, 4, "%%%02X", (unsigned char)*p);
    }
    escaped[len] = '\0';
    char *longer = mem_format("%s&%s=%s", query, name, escaped);
    free(escaped);
    free(query);
    return longer;
}

static enum exit_code read_platforms(struct jobs *jobs)
{
    const char *given;
    jobs->platforms = mem_format("%s", "");
    for (size_t i = 0; (given = option_text_at(jobs->o, "platform", i)) != NULL; i++) {
        struct platform p;
        char canonical[PLATFORM_TEXT_MAX];
        if (platform_parse(&p, given) != 0)
            return complain(EXIT_USAGE,
                            "%s is not a platform; take OS/ARCH[/VARIANT][:OS.VERSION], e.g. "
                            "linux/amd64 or windows/amd64:10.0.20348",
                            given);
        if (i == PLATFORMS_MAX)
            return complain(EXIT_USAGE, "there are more than %d platforms; fetch the others apart",
                            PLATFORMS_MAX);
        platform_text(&p, canonical);
        jobs->platforms = add_parameter(jobs->platforms, "platform", canonical);
    }
    return EXIT_DONE;
}

static enum exit_code read_references(struct jobs *jobs, char **argv)
{
    for (size_t i = 0; i < jobs->count; i++) {
        struct reference r;
        if (reference_parse(&r, argv[i], HUB) != 0)
            return complain(EXIT_USAGE,
                            "%s is not a reference of an image; take "
                            "[HOST/]REPOSITORY[:TAG|@DIGEST], e.g. docker.io/library/alpine:3",
                            argv[i]);
        reference_text(&r, jobs->list[i].reference);
    }
    return EXIT_DONE;
}

static void fail(struct job *j, bool is_absent)
{
    j->has_ended = j->has_failed = true;
    j->is_absent = is_absent;
}

/* EXIT_DONE, also when the daemon does not take this one; else it cannot be asked. */
static enum exit_code order(struct jobs *jobs, struct job *j)
{
    char *query = add_parameter(mem_format("%s", ""), "reference", j->reference);
    char *path = mem_format("/-/api/fetch?%s%s", query + 1, jobs->platforms);
    char *body = NULL;
    int err = daemon_post(jobs->o, path, &body, j->why, sizeof j->why);
    free(path);
    free(query);
    if (err == ERR_NOT_FOUND || err == ERR_DENIED || err == ERR_IO)
        return complain(EXIT_FAILED, "cachalotd, which fetches, cannot be asked: %s", j->why);
    if (err != 0) {
        fail(j, err == ERR_MISMATCH);
        return EXIT_DONE;
    }
    json_t *root = json_loads(body, 0, NULL);
    j->id = json_integer_value(json_object_get(root, "id"));
    json_decref(root);
    free(body);
    return EXIT_DONE;
}

/* --- how it fares --- */

static json_int_t number(const struct job *j, const char *name)
{
    return json_integer_value(json_object_get(j->answer, name));
}

static const char *text(const struct job *j, const char *name)
{
    const char *value = json_string_value(json_object_get(j->answer, name));
    return value != NULL ? value : "";
}

static void take_end(struct job *j)
{
    if (strcmp(text(j, "state"), "ended") != 0)
        return;
    j->has_ended = true;
    if (!json_is_true(json_object_get(j->answer, "is_error")))
        return;
    fail(j, json_is_true(json_object_get(j->answer, "not_found")));
    char *why = printable(text(j, "why"));
    snprintf(j->why, sizeof j->why, "%s", why);
    free(why);
}

static void look(const struct jobs *jobs, struct job *j)
{
    char *path = mem_format("/-/api/fetch?id=%" JSON_INTEGER_FORMAT, j->id);
    char *body = NULL;
    int err = daemon_get(jobs->o, path, &body, j->why, sizeof j->why);
    free(path);
    if (err != 0) {
        if (err == ERR_MISMATCH || err == ERR_NOT_FOUND)
            snprintf(j->why, sizeof j->why,
                     "cachalotd has ended meanwhile; what came is kept: run this again");
        fail(j, false);
        return;
    }
    json_decref(j->answer);
    j->answer = json_loads(body, 0, NULL);
    free(body);
    take_end(j);
}

/* The last component of the name: beside a bar there is no room for more. */
static void short_name(const struct job *j, char out[SHORT_NAME_SIZE])
{
    const char *slash = strrchr(j->reference, '/');
    const char *name = slash != NULL ? slash + 1 : j->reference;
    snprintf(out, SHORT_NAME_SIZE, "%.*s", (int)strcspn(name, ":@"), name);
}

static void follow(const struct jobs *jobs, struct job *j)
{
    struct progress bar;
    char name[SHORT_NAME_SIZE];
    short_name(j, name);
    progress_begin(&bar, jobs->o, name, 0);
    for (look(jobs, j); !j->has_ended && !is_cancelled; look(jobs, j)) {
        uint64_t done = (uint64_t)number(j, "bytes_done");
        bar.total_bytes = (uint64_t)number(j, "bytes");
        bar.what = number(j, "resting_until") > 0 ? "waiting (429)" : name;
        progress_add(&bar, done > bar.done_bytes ? done - bar.done_bytes : 0);
        poll(NULL, 0, ASK_AGAIN_MS);
    }
    progress_end(&bar);
}

/* --- how it ended --- */

static const char *result_word(const struct job *j)
{
    if (j->has_failed)
        return j->is_absent ? "not found" : "failed";
    return strcmp(text(j, "result"), "hit") == 0 ? "held already" : "fetched";
}

static void print_table(const struct jobs *jobs)
{
    struct table *t = table_new("mlrr");
    char size[TEXT_MAX], fetched[TEXT_MAX];
    table_add(t, "REFERENCE");
    table_add(t, "RESULT");
    table_add(t, "SIZE");
    table_add(t, "FETCHED");
    for (size_t i = 0; i < jobs->count; i++) {
        const struct job *j = &jobs->list[i];
        table_add(t, "%s", j->reference);
        table_add(t, "%s", result_word(j));
        table_add(t, "%s", size_text(size, (uint64_t)number(j, "bytes")));
        table_add(t, "%s", size_text(fetched, (uint64_t)number(j, "fetched_bytes")));
    }
    table_print(t);
    table_free(&t);
}

static void print_json(const struct jobs *jobs)
{
    json_t *list = json_array();
    for (size_t i = 0; i < jobs->count; i++) {
        const struct job *j = &jobs->list[i];
        const char *digest = text(j, "digest");
        json_array_append_new(
            list, json_pack("{ss ss ss* sI sI sI ss*}", "reference", j->reference, "result",
                            result_word(j), "digest", *digest != '\0' ? digest : NULL, "blobs",
                            number(j, "blobs"), "bytes", number(j, "bytes"), "fetched_bytes",
                            number(j, "fetched_bytes"), "why", j->has_failed ? j->why : NULL));
    }
    json_print(list);
}

static enum exit_code end_code(const struct jobs *jobs)
{
    size_t failed = 0, absent = 0;
    for (size_t i = 0; i < jobs->count; i++) {
        const struct job *j = &jobs->list[i];
        failed += j->has_failed;
        absent += j->has_failed && j->is_absent;
        if (j->has_failed)
            complain(EXIT_FAILED, "%s: %s", j->reference, j->why);
    }
    if (failed == 0)
        return EXIT_DONE;
    if (failed < jobs->count)
        return EXIT_SOME_FAILED;
    return absent == failed ? EXIT_ABSENT : EXIT_FAILED;
}

static enum exit_code cancel(const struct jobs *jobs, size_t ordered)
{
    size_t left = 0;
    for (size_t i = 0; i < jobs->count; i++) {
        char why[WHY_MAX];
        char *body = NULL;
        left += !jobs->list[i].has_ended;
        if (jobs->list[i].has_ended || i >= ordered)
            continue;
        char *path = mem_format("/-/api/fetch?cancel&id=%" JSON_INTEGER_FORMAT, jobs->list[i].id);
        if (daemon_post(jobs->o, path, &body, why, sizeof why) != 0)
            complain(EXIT_FAILED, "%s could not be cancelled: %s", jobs->list[i].reference, why);
        free(path);
        free(body);
    }
    return complain(EXIT_FAILED, "cancelled with %zu of %zu images to go; what came is kept", left,
                    jobs->count);
}

static enum exit_code report_orders(const struct jobs *jobs)
{
    size_t count = 0;
    for (size_t i = 0; i < jobs->count; i++)
        count += !jobs->list[i].has_ended;
    if (jobs->o->format == FORMAT_JSON && !jobs->o->quiet) {
        json_t *list = json_array();
        for (size_t i = 0; i < jobs->count; i++)
            if (!jobs->list[i].has_ended)
                json_array_append_new(list,
                                      json_pack("{ss sI}", "reference", jobs->list[i].reference,
                                                "id", jobs->list[i].id));
        json_print(list);
    } else if (!jobs->o->quiet) {
        printf("%zu %s ordered; \"cachalot status\" shows what is under way\n", count,
               count == 1 ? "image is" : "images are");
    }
    enum exit_code code = end_code(jobs);
    enum exit_code printed = output_end();
    return code != EXIT_DONE ? code : printed;
}

static enum exit_code run(struct jobs *jobs)
{
    bool is_detached = option_is_given(jobs->o, "detach");
    enum exit_code code = EXIT_DONE;
    size_t ordered = 0;
    for (size_t i = 0; i < jobs->count && !is_cancelled; i++) {
        for (; ordered < jobs->count && (is_detached || ordered < i + AHEAD_MAX); ordered++) {
            code = order(jobs, &jobs->list[ordered]);
            if (code != EXIT_DONE)
                return code;
        }
        if (is_detached)
            return report_orders(jobs);
        if (!jobs->list[i].has_ended)
            follow(jobs, &jobs->list[i]);
    }
    if (is_cancelled)
        return cancel(jobs, ordered);
    if (jobs->o->format == FORMAT_JSON && !jobs->o->quiet)
        print_json(jobs);
    else if (!jobs->o->quiet)
        print_table(jobs);
    code = end_code(jobs);
    enum exit_code printed = output_end();
    return code != EXIT_DONE ? code : printed;
}

enum exit_code cmd_fetch(const struct options *o, int argc, char **argv)
{
    struct jobs jobs = {.o = o, .count = (size_t)argc};
    jobs.list = mem_new(jobs.count * sizeof jobs.list[0]);
    enum exit_code code = read_platforms(&jobs);
    if (code == EXIT_DONE)
        code = read_references(&jobs, argv);
    catch_cancel();
    if (code == EXIT_DONE)
        code = run(&jobs);
    for (size_t i = 0; i < jobs.count; i++)
        json_decref(jobs.list[i].answer);
    free(jobs.list);
    free(jobs.platforms);
    return code;
}
