/* SPDX-License-Identifier: ISC */
#include "tools/probe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/json.h"
#include "tools/client_files.h"
#include "tools/facts.h"
#include "tools/program.h"
#include "tools/wire.h"

/* A manifest may have to come from far away. */
#define PATIENCE_S 90
#define PATIENCE_TEXT "90"

static const char accept[] = "Accept: application/vnd.oci.image.index.v1+json, "
                             "application/vnd.docker.distribution.manifest.list.v2+json, "
                             "application/vnd.oci.image.manifest.v1+json, "
                             "application/vnd.docker.distribution.manifest.v2+json\r\n";

/* How the door is asked. */
struct way {
    const struct setup_facts *facts;
    enum setup_door_kind kind;
    char *base;    /* URL that targets are appended to */
    char *proxy;   /* URL, or NULL */
    char *ca_path; /* NULL: the system's authorities */
};

static enum setup_door_kind door_of(enum setup_client client, const struct setup_facts *f,
                                    const struct reference *image)
{
    bool is_hub = strcmp(image->name.registry, "docker.io") == 0;
    if (client == SETUP_PROXY)
        return SETUP_DOOR_PROXY;
    if (client == SETUP_DOCKER && (is_hub || f->doors[SETUP_DOOR_REGISTRY].port == 0))
        return f->doors[SETUP_DOOR_MIRROR].port != 0 ? SETUP_DOOR_MIRROR : SETUP_DOOR_REGISTRY;
    return SETUP_DOOR_REGISTRY;
}

/* The certificate that a plan has, where there is one; owned by the caller. What is among the
 * system's authorities is to be trusted by them, unless the root is another. */
static char *find_ca(enum setup_client client, const struct setup_facts *f, const char *root)
{
    struct setup_plan plan;
    char why[256];
    char *found = NULL;
    if (setup_plan(&plan, client, f, why, sizeof why) != 0)
        return NULL;
    for (size_t i = 0; i < plan.count && found == NULL; i++) {
        const char *dot = strrchr(plan.items[i].path, '.');
        if (dot != NULL && strcmp(dot, ".crt") == 0)
            found = files_path(&plan.items[i], root);
    }
    setup_plan_clear(&plan);
    struct stat st;
    if (found == NULL || stat(found, &st) == 0)
        return found;
    free(found);
    return NULL;
}

static void way_find(struct way *w, enum setup_client client, const struct setup_facts *f,
                     const struct reference *image, const char *root)
{
    *w = (struct way){.facts = f, .kind = door_of(client, f, image)};
    char *url = setup_url(f, w->kind);
    if (w->kind == SETUP_DOOR_PROXY) {
        w->base = mem_format("https://%s", setup_origin(image->name.registry));
        w->proxy = url;
    } else {
        w->base = url;
    }
    bool uses_system = w->kind == SETUP_DOOR_PROXY && *root == '\0';
    if (!uses_system)
        w->ca_path = find_ca(client, f, root);
}

static void way_clear(struct way *w)
{
    free(w->base);
    free(w->proxy);
    free(w->ca_path);
}

/* --- asking --- */

static enum exit_code ask_plain(const struct way *w, const char *target, struct answer *a)
{
    char why[512];
    int fd;
    unsigned port = w->facts->doors[w->kind].port;
    if (wire_connect(w->facts->host, port, &fd, why, sizeof why) != 0) {
        complain(EXIT_FAILED, "%s; is cachalotd running, and --host right?", why);
        return EXIT_FAILED;
    }
    char *authority = mem_format("%s:%u", w->facts->host, port);
    int errnum = wire_limit(fd, PATIENCE_S);
    if (errnum == 0)
        errnum = wire_get(fd, authority, target, accept, a);
    close(fd);
    if (errnum != 0)
        complain(EXIT_FAILED, "%s did not answer: %s; see the log of cachalotd", authority,
                 strerror(errnum));
    free(authority);
    return errnum == 0 ? EXIT_DONE : EXIT_FAILED;
}

/* TLS is for curl to do, which checks certificates as clients do. */
static enum exit_code ask_by_curl(const struct way *w, const char *target, struct answer *a)
{
    char *url = mem_format("%s%s", w->base, target);
    char *header = mem_format("%.*s", (int)strcspn(accept, "\r"), accept);
    const char *argv[20] = {"curl",
                            "--disable",
                            "--silent",
                            "--show-error",
                            "--http1.1",
                            "--include",
                            "--suppress-connect-headers",
                            "--max-time",
                            PATIENCE_TEXT,
                            "--header",
                            header};
    size_t n = 11;
    /* Without this it would go by the environment. */
    argv[n++] = w->proxy != NULL ? "--proxy" : "--noproxy";
    argv[n++] = w->proxy != NULL ? w->proxy : "*";
    if (w->ca_path != NULL) {
        argv[n++] = "--cacert";
        argv[n++] = w->ca_path;
    }
    argv[n++] = url;
    char *output;
    int status = 0;
    int errnum = program_read("curl", (char *const *)argv, &output, &status);
    if (errnum != 0)
        complain(EXIT_FAILED, "curl, which speaks TLS, cannot be run: %s; install it",
                 strerror(errnum));
    else if (status != 0)
        complain(EXIT_FAILED, "%s%s%s was not reached in the way of the client; see above", w->base,
                 w->proxy != NULL ? " by " : "", w->proxy != NULL ? w->proxy : "");
    bool is_answered = errnum == 0 && status == 0;
    if (is_answered)
        answer_take(a, output);
    else
        free(output);
    free(header);
    free(url);
    return is_answered ? EXIT_DONE : EXIT_FAILED;
}

static enum exit_code ask(const struct way *w, const char *target, struct answer *a)
{
    *a = (struct answer){0};
    if (w->proxy != NULL || w->facts->doors[w->kind].tls)
        return ask_by_curl(w, target, a);
    return ask_plain(w, target, a);
}

/* The cause in an error document, distribution-spec "Error Codes"; owned by the caller. */
static char *error_text(const char *body)
{
    char why[256];
    json_t *json;
    if (json_parse(&json, body, strlen(body), why, sizeof why) != 0)
        return NULL;
    const json_t *first = json_array_get(json_object_get(json, "errors"), 0);
    const char *message = json_member_text(first, "message");
    const char *detail = json_member_text(first, "detail");
    bool has_detail = detail != NULL && *detail != '\0';
    char *text = NULL;
    if (message != NULL)
        text = mem_format("%s%s%s", message, has_detail ? ": " : "", has_detail ? detail : "");
    json_decref(json);
    return text;
}

static enum exit_code see_doctor(struct probe *p, const struct way *w)
{
    struct answer a;
    enum exit_code code = ask(w, "/-/setup/doctor.json", &a);
    if (code != EXIT_DONE)
        return code;
    p->door = a.status == 200 ? facts_parse(a.body) : NULL;
    if (p->door == NULL)
        code = complain(EXIT_FAILED, "what answers at %s is not cachalot: \"%.*s\"", w->base,
                        (int)strcspn(a.head, "\r\n"), a.head);
    answer_clear(&a);
    return code;
}

/* In the form that the client asks. */
static char *manifest_target(enum setup_client client, const struct way *w,
                             const struct reference *image)
{
    char digest[DIGEST_TEXT_MAX];
    const char *repository = image->name.repository, *registry = image->name.registry;
    const char *last = image->by_digest ? digest_text(&image->digest, digest) : image->tag;
    if (w->kind != SETUP_DOOR_REGISTRY)
        return mem_format("/v2/%s/manifests/%s", repository, last);
    if (client == SETUP_PODMAN)
        return mem_format("/v2/%s/%s/manifests/%s", registry, repository, last);
    return mem_format("/v2/%s/manifests/%s?ns=%s", repository, last, registry);
}

enum exit_code probe_run(struct probe *p, enum setup_client client, const struct setup_facts *f,
                         const struct reference *image, const char *root)
{
    struct way w;
    struct answer a;
    *p = (struct probe){0};
    way_find(&w, client, f, image, root);
    p->url =
        mem_copy(w.proxy != NULL ? w.proxy : w.base, strlen(w.proxy != NULL ? w.proxy : w.base));
    char *target = manifest_target(client, &w, image);
    enum exit_code code = see_doctor(p, &w);
    if (code == EXIT_DONE)
        code = ask(&w, target, &a);
    if (code == EXIT_DONE) {
        p->status = a.status;
        p->cache_status = answer_field(&a, "Cache-Status");
        p->error = a.status == 200 ? NULL : error_text(a.body);
        p->is_hit = p->cache_status != NULL && strstr(p->cache_status, "; hit") != NULL;
        answer_clear(&a);
    }
    free(target);
    way_clear(&w);
    return code;
}

void probe_clear(struct probe *p)
{
    free(p->url);
    free(p->cache_status);
    free(p->error);
    json_decref(p->door);
    *p = (struct probe){0};
}
