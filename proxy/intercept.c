/* SPDX-License-Identifier: ISC */
#include "proxy/intercept.h"
#include "proxy/config_match.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "cache/name.h"

#define PORT ":443"

/* The names that clients connect to for docker.io, which is itself only a name: an
 * authority for it would be one for all of its domain. */
static const char *const docker_hosts[] = {"registry-1.docker.io", "index.docker.io"};

static bool is_docker(const char *registry)
{
    return strcmp(registry, "docker.io") == 0;
}

static bool is_address(const char *host)
{
    struct in6_addr any;

    return *host == '[' || inet_pton(AF_INET, host, &any) == 1 ||
           inet_pton(AF_INET6, host, &any) == 1;
}

/* Whether clients reach the registry by connecting to port 443 of this host. */
static bool is_at(const char *registry, const char *host)
{
    size_t len = strlen(host);

    if (is_docker(registry)) {
        for (size_t i = 0; i < sizeof docker_hosts / sizeof docker_hosts[0]; i++) {
            if (strcmp(docker_hosts[i], host) == 0)
                return true;
        }
        return false;
    }
    return strncmp(registry, host, len) == 0 &&
           (registry[len] == '\0' || strcmp(registry + len, PORT) == 0);
}

static const struct config_upstream *find_registry(const struct config *c, const char *host)
{
    for (unsigned i = 0; i < c->upstream_count; i++) {
        if (is_at(c->upstreams[i].registry, host))
            return &c->upstreams[i];
    }
    return NULL;
}

static const struct config_upstream *find_realm(const struct config *c, const char *host)
{
    for (unsigned i = 0; i < c->upstream_count; i++) {
        const struct config_upstream *u = &c->upstreams[i];

        if (config_host_matches(u->realm_hosts, u->realm_host_count, host))
            return u;
    }
    return NULL;
}

static const struct config_upstream *find_content(const struct config *c, const char *host)
{
    for (unsigned i = 0; i < c->upstream_count; i++) {
        const struct config_upstream *u = &c->upstreams[i];

        if (config_host_matches(u->redirect_hosts, u->redirect_host_count, host) ||
            config_host_matches(u->foreign_hosts, u->foreign_host_count, host))
            return u;
    }
    return NULL;
}

enum intercept intercept_find(const struct config *c, const char *host,
                              const struct config_upstream **u)
{
    char with_port[NAME_MAX_SIZE + sizeof PORT];
    size_t len = strlen(host);

    *u = NULL;
    if (len >= NAME_MAX_SIZE || is_address(host) || strchr(host, ':'))
        return INTERCEPT_REFUSED;
    memcpy(with_port, host, len);
    memcpy(with_port + len, PORT, sizeof PORT);
    if (config_host_matches(c->tunnel_hosts, c->tunnel_host_count, with_port))
        return INTERCEPT_TUNNEL;
    if ((*u = find_registry(c, host)))
        return INTERCEPT_REGISTRY;
    if ((*u = find_realm(c, with_port)))
        return INTERCEPT_TUNNEL;
    if ((*u = find_content(c, with_port)))
        return INTERCEPT_CONTENT;
    return INTERCEPT_REFUSED;
}

bool intercept_opens(const void *arg, const char *host)
{
    const struct config_upstream *u;
    enum intercept kind = intercept_find(arg, host, &u);

    return kind == INTERCEPT_REGISTRY || kind == INTERCEPT_CONTENT;
}

/* --- names for the authority --- */

struct names {
    char **list;
    unsigned count;
};

/* Without its port; one that has another port than ours is not opened. */
static void add(struct names *n, const char *name)
{
    const char *colon = strchr(name, ':');
    size_t len = colon && !strchr(colon + 1, ':') ? (size_t)(colon - name) : strlen(name);

    if (name[len] == ':' && strcmp(name + len, PORT) != 0)
        return;
    for (unsigned i = 0; i < n->count; i++) {
        if (strncmp(n->list[i], name, len) == 0 && n->list[i][len] == '\0')
            return;
    }
    n->list = mem_resize(n->list, (n->count + 1) * sizeof *n->list);
    n->list[n->count++] = mem_copy(name, len);
}

static void add_opened(struct names *n, const struct config *c, const char *host)
{
    const struct config_upstream *u;
    size_t len = strcspn(host, ":");
    char *bare = mem_copy(host, len);

    if (*host == '*' ||
        (*host != '[' && intercept_find(c, bare, &u) != INTERCEPT_TUNNEL && !is_address(bare)))
        add(n, host);
    free(bare);
}

static void add_upstream(struct names *n, const struct config *c, const struct config_upstream *u)
{
    if (is_docker(u->registry)) {
        for (size_t i = 0; i < sizeof docker_hosts / sizeof docker_hosts[0]; i++)
            add_opened(n, c, docker_hosts[i]);
    } else {
        add_opened(n, c, u->registry);
    }
    for (unsigned i = 0; i < u->redirect_host_count; i++)
        add_opened(n, c, u->redirect_hosts[i]);
    for (unsigned i = 0; i < u->foreign_host_count; i++)
        add_opened(n, c, u->foreign_hosts[i]);
}

static bool has_interception(const struct config *c)
{
    for (unsigned i = 0; i < c->listener_count; i++) {
        if (c->listeners[i].role == ROLE_INTERCEPT || c->listeners[i].role == ROLE_TLS_INTERCEPT)
            return true;
    }
    return false;
}

char **intercept_names(const struct config *c, unsigned *count)
{
    struct names n = {NULL, 0};

    for (unsigned i = 0; i < c->listener_count; i++) {
        for (unsigned k = 0; k < c->listeners[i].name_count; k++)
            add(&n, c->listeners[i].names[k]);
    }
    for (unsigned i = 0; has_interception(c) && i < c->upstream_count; i++)
        add_upstream(&n, c, &c->upstreams[i]);
    *count = n.count;
    return n.list;
}

void intercept_names_free(char **names, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

void intercept_print_names(const struct config *c, FILE *out)
{
    unsigned count;
    char **names = intercept_names(c, &count);

    for (unsigned i = 0; i < count; i++)
        fprintf(out, "%s\n", names[i]);
    intercept_names_free(names, count);
}
