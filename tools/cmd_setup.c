/* SPDX-License-Identifier: ISC */
/* cachalot setup: what clients are to be told, print it, do it, undo it, check it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/reference.h"
#include "cache/setup.h"
#include "tools/client_files.h"
#include "tools/command.h"
#include "tools/facts.h"
#include "tools/output.h"
#include "tools/probe.h"

#define PROBE "docker.io/library/hello-world:latest"

/* --- printing what a client needs --- */

static json_t *plan_json(const struct setup_plan *p, const struct setup_facts *f)
{
    static const char *const kinds[] = {
        [SETUP_FILE] = "file", [SETUP_MERGE] = "merge", [SETUP_ANCHOR] = "authority"};
    json_t *files = json_array();
    for (size_t i = 0; i < p->count; i++) {
        const struct setup_item *item = &p->items[i];
        json_array_append_new(files, json_pack("{ss ss ss}", "path", item->path, "kind",
                                               kinds[item->kind], "content", item->content));
    }
    return json_pack("{ss ss so ss ss}", "client", setup_client_name(p->client), "host", f->host,
                     "files", files, "notes", p->notes, "commands", p->commands);
}

static enum exit_code print_plan(const struct options *o, const struct setup_plan *p,
                                 const struct setup_facts *f)
{
    if (o->format == FORMAT_JSON)
        json_print(plan_json(p, f));
    else
        setup_write_text(stdout, p, f);
    return output_end();
}

static enum exit_code print_windows(const struct options *o, const struct setup_facts *f)
{
    char why[256];
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    CHECK(out != NULL);
    int err = setup_write_windows(out, f, why, sizeof why);
    CHECK(fclose(out) == 0);
    if (err == 0 && o->format == FORMAT_JSON)
        json_print(json_pack("{ss ss ss}", "client", "windows", "host", f->host, "script", text));
    else if (err == 0)
        fputs(text, stdout);
    free(text);
    return err == 0 ? output_end() : complain(EXIT_ABSENT, "%s", why);
}

/* --- what was done to files --- */

static json_t *report_json(const struct file_report *r)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < r->count; i++)
        json_array_append_new(rows, json_pack("{ss ss ss?}", "path", r->rows[i].path, "change",
                                              file_change_name(r->rows[i].change), "error",
                                              r->rows[i].why));
    return rows;
}

static void print_rows(const struct file_report *r)
{
    struct table *t = table_new("ll");
    for (size_t i = 0; i < r->count; i++) {
        table_add(t, "%s", file_change_name(r->rows[i].change));
        table_add(t, "%s", r->rows[i].path);
    }
    table_print(t);
    table_free(&t);
}

/* After the table, each with what to do. */
static enum exit_code complain_of(const struct file_report *r)
{
    for (size_t i = 0; i < r->count; i++) {
        if (r->rows[i].why != NULL)
            complain(EXIT_SOME_FAILED, "%s: %s", r->rows[i].path, r->rows[i].why);
    }
    if (r->failures == 0)
        return EXIT_DONE;
    return r->failures == r->count ? EXIT_FAILED : EXIT_SOME_FAILED;
}

/* `commands` are what makes the client take a change; "" for none. */
static enum exit_code print_report(const struct options *o, const struct file_report *r,
                                   const char *commands, enum file_action action)
{
    bool is_wanted = r->changes > 0 && *commands != '\0';
    if (o->format == FORMAT_JSON) {
        json_print(json_pack("{so sb ss}", "files", report_json(r), "done", action == FILES_DO,
                             "commands", is_wanted ? commands : ""));
    } else if (!o->quiet) {
        if (action == FILES_LOOK)
            puts("Nothing was changed; this would be:\n");
        print_rows(r);
        if (is_wanted)
            printf("\nThen, as root:\n\n%s", commands);
    }
    enum exit_code code = complain_of(r);
    enum exit_code printed = output_end();
    return code != EXIT_DONE ? code : printed;
}

/* --- checking --- */

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL ? text : "";
}

static json_t *probe_json(const struct probe *p, const char *image)
{
    json_t *door = p->door;
    return json_pack("{s{ss ss ss ss sb sb ss} s{ss si ss? sb}}", "door", "url", p->url, "listener",
                     text_of(door, "listener"), "role", text_of(door, "role"), "mirror_of",
                     text_of(door, "mirror_of"), "tls", json_is_true(json_object_get(door, "tls")),
                     "proxy", json_is_true(json_object_get(door, "proxy")), "opened_as",
                     text_of(door, "opened_as"), "probe", "image", image, "status", p->status,
                     "cache_status", p->cache_status, "hit", p->is_hit);
}

static void print_probe(const struct probe *p, const struct file_report *r, const char *image)
{
    const char *of = text_of(p->door, "mirror_of"), *opened = text_of(p->door, "opened_as");
    printf("files  %zu as they should be, %zu not\n", r->count - r->changes - r->failures,
           r->changes + r->failures);
    printf("door   %s, listener %s, role %s%s%s%s%s%s\n", p->url, text_of(p->door, "listener"),
           text_of(p->door, "role"), *of != '\0' ? " of " : "", of,
           json_is_true(json_object_get(p->door, "tls")) ? ", TLS" : "",
           *opened != '\0' ? " opened as " : "", opened);
    printf("probe  %s: %s\n", image,
           p->is_hit          ? "hit, it came from the cache"
           : p->status == 200 ? "miss, it was fetched just now and is kept"
                              : "there was an error");
}

static enum exit_code judge(const struct probe *p, const struct file_report *r, const char *image,
                            const char *client)
{
    if (p->status == 404)
        return complain(EXIT_ABSENT, "%s is not there (%s); name another with --image", image,
                        p->error != NULL ? p->error : "404");
    if (p->status != 200)
        return complain(EXIT_FAILED, "%s was answered with %d, %s; see the log of cachalotd", image,
                        p->status, p->error != NULL ? p->error : "which says nothing more");
    if (r->changes + r->failures == 0)
        return EXIT_DONE;
    return complain(EXIT_SOME_FAILED,
                    "the door is open, but this machine is not set up for it as it should be: "
                    "cachalot setup %s --write",
                    client);
}

static enum exit_code check(const struct options *o, const struct setup_plan *plan,
                            const struct setup_facts *f, const char *root)
{
    const char *text = option_text(o, "image");
    char image[REFERENCE_TEXT_MAX];
    struct reference ref;
    struct file_report r;
    struct probe p;
    if (reference_parse(&ref, text != NULL ? text : PROBE, "docker.io") != 0)
        return complain(EXIT_USAGE, "%s is no image; say --image NAME:TAG", text);
    reference_text(&ref, image);
    files_write(&r, plan, root, FILES_LOOK);
    enum exit_code code = probe_run(&p, plan->client, f, &ref, root);
    if (code == EXIT_DONE && o->format == FORMAT_JSON) {
        json_t *all = probe_json(&p, image);
        json_object_set_new(all, "files", report_json(&r));
        json_print(all);
    } else if (code == EXIT_DONE && !o->quiet) {
        print_probe(&p, &r, image);
    }
    if (code == EXIT_DONE)
        code = output_end();
    if (code == EXIT_DONE)
        code = judge(&p, &r, image, setup_client_name(plan->client));
    probe_clear(&p);
    file_report_clear(&r);
    return code;
}

/* --- the command --- */

static enum exit_code write_files(const struct options *o, const struct setup_plan *p,
                                  const char *root, enum file_action action)
{
    struct file_report r;
    files_write(&r, p, root, action);
    enum exit_code code = print_report(o, &r, p->commands, action);
    file_report_clear(&r);
    return code;
}

static enum exit_code undo(const struct options *o, enum setup_client client, const char *root,
                           enum file_action action)
{
    struct file_report r;
    files_undo(&r, client, root, action);
    enum exit_code code = EXIT_ABSENT;
    if (r.count == 0)
        complain(code, "there is nothing of cachalot setup %s on this machine",
                 setup_client_name(client));
    else
        code = print_report(o, &r, setup_commands(client), action);
    file_report_clear(&r);
    return code;
}

static enum exit_code run_plan(const struct options *o, enum setup_client client,
                               const struct setup_facts *f, const char *root)
{
    struct setup_plan plan;
    char why[256];
    enum exit_code code;
    bool is_trial = option_is_given(o, "dry-run");
    if (setup_plan(&plan, client, f, why, sizeof why) != 0)
        return complain(EXIT_ABSENT, "%s", why);
    if (option_is_given(o, "check"))
        code = check(o, &plan, f, root);
    else if (option_is_given(o, "write") || is_trial)
        code = write_files(o, &plan, root, is_trial ? FILES_LOOK : FILES_DO);
    else
        code = print_plan(o, &plan, f);
    setup_plan_clear(&plan);
    return code;
}

static enum exit_code check_options(const struct options *o, enum setup_client client)
{
    int actions =
        option_is_given(o, "check") + option_is_given(o, "write") + option_is_given(o, "undo");
    if (actions > 1)
        return complain(EXIT_USAGE, "--check, --write and --undo are one or the other");
    if (option_is_given(o, "check") && option_is_given(o, "dry-run"))
        return complain(EXIT_USAGE, "--check changes nothing, --dry-run is for --write and --undo");
    if (client == SETUP_WINDOWS && (actions > 0 || option_is_given(o, "dry-run")))
        return complain(EXIT_USAGE,
                        "the script that \"cachalot setup windows\" prints does that, on "
                        "Windows: -Check, -Undo");
    return EXIT_DONE;
}

enum exit_code cmd_setup(const struct options *o, int argc, char **argv)
{
    (void)argc;
    enum setup_client client = setup_client_find(argv[0]);
    const char *root = option_text(o, "root");
    if (client == SETUP_CLIENT_COUNT)
        return complain(EXIT_USAGE,
                        "setup knows docker, containerd, podman, k3s, windows and proxy, "
                        "not %s; what runs in Kubernetes goes by containerd or k3s",
                        argv[0]);
    enum exit_code code = check_options(o, client);
    if (code != EXIT_DONE)
        return code;
    root = root != NULL && strcmp(root, "/") != 0 ? root : "";
    if (option_is_given(o, "undo"))
        return undo(o, client, root, option_is_given(o, "dry-run") ? FILES_LOOK : FILES_DO);
    struct facts f;
    code = facts_read(&f, o, option_text(o, "host"));
    if (code != EXIT_DONE)
        return code;
    code =
        client == SETUP_WINDOWS ? print_windows(o, &f.setup) : run_plan(o, client, &f.setup, root);
    facts_clear(&f);
    return code;
}
