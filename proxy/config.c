/* SPDX-License-Identifier: ISC */
/*
 * From ini files to a configuration.
 *
 * Sources are read in order: the shipped upstreams, then the files, then the
 * shipped listeners if there are none yet, the shipped rule of access and prefetch too. In one
 * source an option may be set once (lists add up); a later source sets it anew.
 */
#include "proxy/config.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/signature.h"
#include "proxy/config_loader.h"
#include "proxy/password.h"
#include "proxy/tls.h"

static const char shipped_upstreams[] =
    "[upstream docker.io]\n"
    "url = https://registry-1.docker.io\n"
    "realm-hosts = auth.docker.io\n"
    "redirect-hosts = production.cloudflare.docker.com production.cloudfront.docker.com\n"
    "redirect-hosts = *.r2.cloudflarestorage.com\n"
    "[upstream mcr.microsoft.com]\n"
    "redirect-hosts = *.data.mcr.microsoft.com\n"
    "serve-urls = yes\n"
    "[upstream ghcr.io]\n"
    "redirect-hosts = pkg-containers.githubusercontent.com\n"
    "[upstream quay.io]\n"
    "redirect-hosts = cdn.quay.io cdn01.quay.io cdn02.quay.io cdn03.quay.io *.amazonaws.com\n"
    "[upstream registry.k8s.io]\n"
    "redirect-hosts = *.pkg.dev *.googleapis.com storage.googleapis.com *.amazonaws.com\n"
    "[upstream gcr.io]\n"
    "redirect-hosts = *.googleapis.com storage.googleapis.com\n";

static const char shipped_listeners[] = "[listener registry]\n"
                                        "role = registry\n"
                                        "address = 5000\n"
                                        "[listener mirror]\n"
                                        "role = mirror\n"
                                        "upstream = docker.io\n"
                                        "address = 5001\n"
                                        "[listener intercept]\n"
                                        "role = intercept\n"
                                        "address = 3128\n";

static const char shipped_access[] = "[access everybody]\n";

static const char shipped_prefetch[] = "[prefetch images]\n";

static void load_text(struct loader *l, const char *text)
{
    FILE *in = fmemopen((char *)(uintptr_t)text, strlen(text), "r");
    CHECK(in != NULL);
    loader_read(l, "built in", in);
    fclose(in);
}

static int load_file(struct loader *l, const char *path)
{
    FILE *in = fopen(path, "re");
    if (in == NULL) {
        int err = err_from_errno(errno);
        loader_complain(l, "%s: cannot be opened: %s", path, strerror(errno));
        return err;
    }
    loader_read(l, path, in);
    fclose(in);
    return 0;
}

static int is_ini(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);
    return entry->d_name[0] != '.' && len > 4 && strcmp(entry->d_name + len - 4, ".ini") == 0;
}

/* Bytes, whatever the locale: alphasort would collate. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void load_folder(struct loader *l, const char *path)
{
    const char *slash = strrchr(path, '/');
    int dir_len = slash == NULL ? 0 : (int)(slash - path) + 1;
    char *folder = mem_format("%.*sconf.d", dir_len, path);
    struct dirent **entries = NULL;
    int count = scandir(folder, &entries, is_ini, by_name);
    if (count < 0 && errno != ENOENT)
        loader_complain(l, "%s: cannot be read: %s", folder, strerror(errno));
    for (int i = 0; i < count; i++) {
        char *file = mem_format("%s/%s", folder, entries[i]->d_name);
        (void)load_file(l, file); /* it has complained */
        free(file);
        free(entries[i]);
    }
    free(entries);
    free(folder);
}

static void begin(struct loader *l, FILE *errors)
{
    *l = (struct loader){.errors = errors, .config = mem_new(sizeof(struct config))};
    atomic_init(&l->config->refs, 1);
    for (enum section s = SECTION_CACHE; s < SECTION_LISTENER; s++)
        section_set_defaults(l->config, s, 0);
    load_text(l, shipped_upstreams);
}

static int end(struct loader *l, struct config **c)
{
    if (l->config->listener_count == 0)
        load_text(l, shipped_listeners);
    if (l->config->access_count == 0)
        load_text(l, shipped_access);
    if (l->config->prefetch_count == 0)
        load_text(l, shipped_prefetch);
    loader_check(l);
    for (unsigned s = 0; s < l->seen_count; s++)
        free(l->seen[s].where);
    free(l->seen);
    free(l->line_buf);
    if (l->error_count > 0)
        config_unref(&l->config);
    *c = l->config;
    return *c == NULL ? ERR_INVALID : 0;
}

int config_load(struct config **c, const char *path, FILE *errors)
{
    struct loader l;
    begin(&l, errors);
    l.opens_files = true;
    int err = path == NULL ? 0 : load_file(&l, path);
    if (path != NULL)
        load_folder(&l, path);
    int end_err = end(&l, c);
    return err == ERR_NOT_FOUND ? err : end_err;
}

int config_load_stream(struct config **c, const char *name, FILE *in, FILE *errors)
{
    struct loader l;
    begin(&l, errors);
    loader_read(&l, name, in);
    return end(&l, c);
}

struct config *config_ref(struct config *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

static void clear_section(struct config *c, enum section kind, unsigned i)
{
    size_t count;
    const struct option_row *rows = option_rows(&count);
    for (size_t r = 0; r < count; r++) {
        if (rows[r].section == kind)
            option_clear(&rows[r], section_base(c, kind, i));
    }
}

void config_unref(struct config **c)
{
    struct config *gone = *c;
    *c = NULL;
    if (gone == NULL || atomic_fetch_sub_explicit(&gone->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (enum section s = SECTION_CACHE; s < SECTION_LISTENER; s++)
        clear_section(gone, s, 0);
    for (unsigned i = 0; i < gone->listener_count; i++) {
        clear_section(gone, SECTION_LISTENER, i);
        free(gone->listeners[i].name);
        tls_server_unref(&gone->listeners[i].identity);
    }
    for (unsigned i = 0; i < gone->upstream_count; i++) {
        clear_section(gone, SECTION_UPSTREAM, i);
        free(gone->upstreams[i].registry);
    }
    for (unsigned i = 0; i < gone->access_count; i++) {
        clear_section(gone, SECTION_ACCESS, i);
        free(gone->access[i].name);
    }
    for (unsigned i = 0; i < gone->prefetch_count; i++) {
        clear_section(gone, SECTION_PREFETCH, i);
        free(gone->prefetches[i].name);
        zone_free(&gone->prefetches[i].zone);
    }
    passwords_free(&gone->auth.passwords);
    signature_key_free(&gone->auth.key);
    free(gone->ca_pem);
    free(gone->ca_sha256);
    free(gone->listeners);
    free(gone->upstreams);
    free(gone->access);
    free(gone->prefetches);
    free(gone);
}

const struct config_upstream *config_find_upstream(const struct config *c, const char *registry)
{
    for (unsigned i = 0; i < c->upstream_count; i++) {
        if (strcmp(c->upstreams[i].registry, registry) == 0)
            return &c->upstreams[i];
    }
    return NULL;
}

static unsigned section_count(const struct config *c, enum section kind)
{
    switch (kind) {
    case SECTION_LISTENER:
        return c->listener_count;
    case SECTION_UPSTREAM:
        return c->upstream_count;
    case SECTION_ACCESS:
        return c->access_count;
    case SECTION_PREFETCH:
        return c->prefetch_count;
    default:
        return 1;
    }
}

void config_each_path(const struct config *c, void (*each)(void *arg, const char *path), void *arg)
{
    size_t count;
    const struct option_row *rows = option_rows(&count);
    for (size_t r = 0; r < count; r++) {
        if (rows[r].type != OPTION_PATH)
            continue;
        for (unsigned i = 0; i < section_count(c, rows[r].section); i++) {
            const char *base = section_base((struct config *)(uintptr_t)c, rows[r].section, i);
            const char *path = *(char *const *)(const void *)(base + rows[r].offset);
            if (path != NULL)
                each(arg, path);
        }
    }
}

static void dump_section(const struct config *c, enum section kind, unsigned i, const char *name,
                         FILE *out)
{
    size_t count;
    const struct option_row *rows = option_rows(&count);
    const void *base = section_base((struct config *)(uintptr_t)c, kind, i);
    fprintf(out, "%s[%s%s%s]\n", kind == SECTION_CACHE ? "" : "\n", section_name(kind),
            *name == '\0' ? "" : " ", name);
    for (size_t r = 0; r < count; r++) {
        if (rows[r].section == kind)
            option_write(&rows[r], base, out);
    }
}

void config_dump(const struct config *c, FILE *out)
{
    for (enum section s = SECTION_CACHE; s < SECTION_LISTENER; s++)
        dump_section(c, s, 0, "", out);
    for (unsigned i = 0; i < c->listener_count; i++)
        dump_section(c, SECTION_LISTENER, i, c->listeners[i].name, out);
    for (unsigned i = 0; i < c->upstream_count; i++)
        dump_section(c, SECTION_UPSTREAM, i, c->upstreams[i].registry, out);
    for (unsigned i = 0; i < c->access_count; i++)
        dump_section(c, SECTION_ACCESS, i, c->access[i].name, out);
    for (unsigned i = 0; i < c->prefetch_count; i++)
        dump_section(c, SECTION_PREFETCH, i, c->prefetches[i].name, out);
}
