/* SPDX-License-Identifier: ISC */
/* What options mean together, once all sources are read. */
#include "proxy/config_loader.h"

#include <stdlib.h>
#include <string.h>

#include "cache/prefetch.h"
#include "proxy/credential.h"

/* The last source that sets an option of a section; 0 when none does. */
static unsigned source_of(const struct seen *seen, const char *option)
{
    size_t count;
    const struct option_row *rows = option_rows(&count);
    for (size_t r = 0; r < count; r++) {
        if (rows[r].section == seen->kind && strcmp(rows[r].doc.name, option) == 0)
            return seen->source[r];
    }
    return 0;
}

static void check_listener(struct loader *l, const struct seen *seen)
{
    struct config_listener *listener = &l->config->listeners[seen->i];
    if (listener->address_count == 0)
        loader_complain(l,
                        "%s: listener.address: [listener %s] has none; accepted: address = PORT, "
                        "IPV4:PORT, [IPV6]:PORT or unix:/PATH",
                        seen->where, listener->name);
    if (listener->role != ROLE_MIRROR) {
        if (source_of(seen, "upstream") != 0)
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
static void check_addresses(struct loader *l, const struct seen *seen)
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

static void complain_of_listener(struct loader *l, const struct seen *seen, const char *option,
                                 const char *fault, const char *accepted)
{
    loader_complain(l, "%s: listener.%s: [listener %s] has %s; accepted: %s", seen->where, option,
                    l->config->listeners[seen->i].name, fault, accepted);
}

/* What a client is shown: the files, or a certificate of our own for the names. */
static void check_tls(struct loader *l, const struct seen *seen)
{
    const struct config_listener *listener = &l->config->listeners[seen->i];
    bool intercepts = listener->role == ROLE_INTERCEPT || listener->role == ROLE_TLS_INTERCEPT;
    bool has_files = listener->certificate != NULL || listener->key != NULL;

    if (intercepts && (listener->tls || has_files || listener->name_count > 0))
        complain_of_listener(l, seen, "tls", "a role that shows a certificate for each host",
                             "tls, certificate, key and names with the roles registry and mirror");
    else if (!listener->tls && (has_files || listener->name_count > 0))
        complain_of_listener(l, seen, has_files ? "certificate" : "names", "no TLS",
                             "together with tls = yes");
    else if ((listener->certificate == NULL) != (listener->key == NULL))
        complain_of_listener(l, seen, "key", "not both certificate and key",
                             "certificate together with key");
    else if (has_files && listener->name_count > 0)
        complain_of_listener(l, seen, "names", "a certificate too",
                             "either names or certificate and key");
    else if (listener->tls && !has_files && listener->name_count == 0)
        complain_of_listener(l, seen, "tls", "nothing to show",
                             "tls together with names, or with certificate and key");
}

static void complain_of_upstream(struct loader *l, const struct seen *seen, const char *option,
                                 const char *fault, const char *accepted)
{
    loader_complain(l, "%s: upstream.%s: [upstream %s] has %s; accepted: %s", seen->where, option,
                    l->config->upstreams[seen->i].registry, fault, accepted);
}

/* Two options of which neither means anything without the other. */
static void check_pair(struct loader *l, const struct seen *seen, const char *const names[2],
                       const char *const values[2])
{
    if ((values[0] == NULL) == (values[1] == NULL))
        return;
    unsigned given = values[0] == NULL ? 1 : 0;
    char *fault = mem_format("no %s", names[1 - given]);
    char *accepted = mem_format("%s together with %s", names[0], names[1]);
    complain_of_upstream(l, seen, names[given], fault, accepted);
    free(accepted);
    free(fault);
}

/* The password is read again when it is needed: this is for whoever waits for the
 * errors of a configuration, not for those of a pull. */
static void check_password(struct loader *l, const struct seen *seen, const char *option,
                           const char *username, const char *path)
{
    struct credential *c;
    char why[256];
    if (!l->opens_files || username == NULL || path == NULL)
        return;
    if (credential_read(&c, username, path, why, sizeof why) == 0)
        credential_free(&c);
    else
        loader_complain(l,
                        "%s: upstream.%s: [upstream %s]: %s; accepted: a file of one line, the "
                        "password, that only its owner and group can read",
                        seen->where, option, l->config->upstreams[seen->i].registry, why);
}

static void check_credentials(struct loader *l, const struct seen *seen)
{
    const struct config_upstream *u = &l->config->upstreams[seen->i];
    check_pair(l, seen, (const char *[]){"username", "password-file"},
               (const char *[]){u->username, u->password_file});
    check_pair(l, seen, (const char *[]){"certificate", "key"},
               (const char *[]){u->certificate, u->key});
    check_pair(l, seen, (const char *[]){"proxy-username", "proxy-password-file"},
               (const char *[]){u->proxy_username, u->proxy_password_file});
    check_password(l, seen, "password-file", u->username, u->password_file);
    check_password(l, seen, "proxy-password-file", u->proxy_username, u->proxy_password_file);
    if (u->proxy_username != NULL && u->proxy == NULL)
        complain_of_upstream(l, seen, "proxy-username", "no proxy",
                             "proxy-username together with proxy");
    if (u->credential_helper != NULL && u->username != NULL)
        complain_of_upstream(l, seen, "credential-helper", "a username too",
                             "either credential-helper or username and password-file");
    if (u->visibility == VISIBILITY_PRIVATE && u->username == NULL &&
        u->credential_helper == NULL && u->certificate == NULL)
        complain_of_upstream(l, seen, "visibility", "no credentials",
                             "private together with username, credential-helper or certificate");
}

static void check_upstream(struct loader *l, const struct seen *seen)
{
    struct config_upstream *u = &l->config->upstreams[seen->i];
    if (u->parent != PARENT_NO && source_of(seen, "url") <= SOURCE_SHIPPED)
        complain_of_upstream(l, seen, "parent", "no url of another cachalot",
                             "prefix or ns together with url");
    if (u->url_count == 0)
        u->urls[u->url_count++] = mem_format("https://%s", u->registry);
    check_credentials(l, seen);
}

static void check_access(struct loader *l, const struct seen *seen)
{
    const struct config_access *a = &l->config->access[seen->i];
    if (a->user_count > 0 && l->config->auth.password_file == NULL)
        loader_complain(l,
                        "%s: access.users: [access %s] has users, and [auth] no password-file; "
                        "accepted: users together with password-file in [auth]",
                        seen->where, a->name);
}

static void check_prefetch(struct loader *l, const struct seen *seen)
{
    const struct config_prefetch *p = &l->config->prefetches[seen->i];
    char tags[CONFIG_TAGS_SIZE];
    struct reference r;
    if (strlen(p->name) >= PREFETCH_NAME_MAX)
        loader_complain(l,
                        "%s: [prefetch %s]: the name is too long; accepted: at most %d characters",
                        seen->where, p->name, PREFETCH_NAME_MAX - 1);
    for (unsigned i = 0; i < p->reference_count; i++) {
        CHECK(config_reference(p->references[i], &r, tags) == 0);
        if (config_find_upstream(l->config, r.name.registry) == NULL)
            loader_complain(
                l,
                "%s: prefetch.references: the upstream of %.120s is not configured; add "
                "a section [upstream %.80s]",
                seen->where, p->references[i], r.name.registry);
    }
    loader_load_zone(l, seen);
}

static void check_socket(struct loader *l)
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

void loader_check(struct loader *l)
{
    for (unsigned s = 0; s < l->seen_count; s++) {
        const struct seen *seen = &l->seen[s];
        if (seen->kind == SECTION_UPSTREAM)
            check_upstream(l, seen);
        if (seen->kind == SECTION_ACCESS)
            check_access(l, seen);
        if (seen->kind == SECTION_PREFETCH)
            check_prefetch(l, seen);
        if (seen->kind == SECTION_AUTH)
            loader_check_auth(l, seen);
        if (seen->kind == SECTION_LISTENER) {
            check_listener(l, seen);
            check_addresses(l, seen);
            check_tls(l, seen);
        }
    }
    check_socket(l);
    if (l->config->ca_path == NULL)
        l->config->ca_path = mem_format("%s/ca", l->config->path);
}
