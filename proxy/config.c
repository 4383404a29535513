/* SPDX-License-Identifier: ISC */
/*
 * From ini files to a configuration.
 *
 * Sources are read in order: the shipped upstreams, then the files, then the
 * shipped listeners if there are none yet. In one source an option may be set once
 * (lists add up); a later source sets it anew.
 */
#include "proxy/config_private.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"

static const char shipped_upstreams[] = "[upstream docker.io]\n"
                                        "url = https://registry-1.docker.io\n"
                                        "[upstream mcr.microsoft.com]\n"
                                        "[upstream ghcr.io]\n"
                                        "[upstream quay.io]\n"
                                        "[upstream registry.k8s.io]\n"
                                        "[upstream gcr.io]\n";

static const char shipped_listeners[] = "[listener registry]\n"
                                        "role = registry\n"
                                        "address = 5000\n"
                                        "[listener mirror]\n"
                                        "role = mirror\n"
                                        "upstream = docker.io\n"
                                        "address = 5001\n";

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
        /* seen.where and errors copy the name; nothing keeps it. */
        if (load_file(l, file) != 0)
            l->error_count += l->error_count == 0;
        free(file);
        free(entries[i]);
    }
    free(entries);
    free(folder);
}

static bool was_set(const struct seen *seen, const char *option)
{
    size_t count;
    const struct option_row *rows = option_rows(&count);
    for (size_t r = 0; r < count; r++) {
        if (rows[r].section == seen->kind && strcmp(rows[r].doc.name, option) == 0)
            return seen->source[r] != 0;
    }
    return false;
}

static void finish_listener(struct loader *l, const struct seen *seen)
{
    struct config_listener *listener = &l->config->listeners[seen->i];
    if (listener->address_count == 0)
        loader_complain(l,
                        "%s: listener.address: [listener %s] has none; accepted: address = PORT, "
                        "IPV4:PORT, [IPV6]:PORT or unix:/PATH",
                        seen->where, listener->name);
    if (listener->role != ROLE_MIRROR) {
        if (was_set(seen, "upstream"))
            loader_complain(
                l,
                "%s: listener.upstream: [listener %s] is not a mirror; accepted: upstream "
                "together with role = mirror",
                seen->where, listener->name);
        free(listener->mirror_of);
        listener->mirror_of = NULL;
    } else if (config_find_upstream(l->config, listener->mirror_of) == NULL) {
        loader_complain(
            l,
            "%s: listener.upstream: the upstream %s of [listener %s] is not configured; add "
            "a section [upstream %s]",
            seen->where, listener->mirror_of, listener->name, listener->mirror_of);
    }
}

/* Complain once of each address that an earlier listener, or the same, has. */
static void finish_addresses(struct loader *l, const struct seen *seen)
{
    const struct config_listener *mine = &l->config->listeners[seen->i];
    for (unsigned a = 0; a < mine->address_count; a++) {
        for (unsigned i = 0; i <= seen->i; i++) {
            const struct config_listener *other = &l->config->listeners[i];
            unsigned count = i < seen->i ? other->address_count : a;
            for (unsigned b = 0; b < count; b++) {
                if (address_overlaps(mine->addresses[a], other->addresses[b]))
                    loader_complain(l,
                                    "%s: listener.address: %s of [listener %s] is taken by %s of "
                                    "[listener %s]; accepted: each address once",
                                    seen->where, mine->addresses[a], mine->name,
                                    other->addresses[b], other->name);
            }
        }
    }
}

static void finish_upstream(struct config_upstream *u)
{
    if (u->url_count == 0)
        u->urls[u->url_count++] = mem_format("https://%s", u->registry);
}

static void finish_socket(struct loader *l)
{
    struct config *c = l->config;
    if (c->admin_socket != NULL && strcmp(c->admin_socket, "none") == 0) {
        free(c->admin_socket);
        c->admin_socket = NULL;
        return;
    }
    if (c->admin_socket != NULL)
        return;
    c->admin_socket = mem_format("%s/cachalot.sock", c->path);
    if (strlen(c->admin_socket) > SOCKET_PATH_MAX)
        loader_complain(
            l,
            "admin.socket: %s is longer than the %d characters of a socket's path; accepted: "
            "a shorter one in [admin] socket, or none",
            c->admin_socket, SOCKET_PATH_MAX);
}

/* What an option means together with others. */
static void finish(struct loader *l)
{
    if (l->config->listener_count == 0)
        load_text(l, shipped_listeners);
    for (unsigned s = 0; s < l->seen_count; s++) {
        if (l->seen[s].kind == SECTION_UPSTREAM)
            finish_upstream(&l->config->upstreams[l->seen[s].i]);
    }
    for (unsigned s = 0; s < l->seen_count; s++) {
        if (l->seen[s].kind != SECTION_LISTENER)
            continue;
        finish_listener(l, &l->seen[s]);
        finish_addresses(l, &l->seen[s]);
    }
    finish_socket(l);
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
    finish(l);
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
    }
    for (unsigned i = 0; i < gone->upstream_count; i++) {
        clear_section(gone, SECTION_UPSTREAM, i);
        free(gone->upstreams[i].registry);
    }
    free(gone->listeners);
    free(gone->upstreams);
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
}
