/* SPDX-License-Identifier: ISC */
#include "proxy/setup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/setup.h"
#include "proxy/setup_private.h"

/* --- facts --- */

static enum setup_door_kind door_kind(const struct config_listener *l)
{
    switch (l->role) {
    case ROLE_REGISTRY:
        return SETUP_DOOR_REGISTRY;
    case ROLE_MIRROR:
        return strcmp(l->mirror_of, "docker.io") == 0 ? SETUP_DOOR_MIRROR : SETUP_DOOR_COUNT;
    case ROLE_INTERCEPT:
        return SETUP_DOOR_PROXY;
    case ROLE_TLS_INTERCEPT:
        break;
    }
    return SETUP_DOOR_COUNT;
}

/* The port of its first address that has one, else 0. */
static unsigned first_port(const struct config_listener *l)
{
    for (unsigned i = 0; i < l->address_count; i++) {
        const char *address = l->addresses[i];
        const char *colon = strrchr(address, ':');

        if (strncmp(address, "unix:", 5) != 0)
            return (unsigned)strtoul(colon ? colon + 1 : address, NULL, 10);
    }
    return 0;
}

static void take_listener(struct setup_facts *f, const struct config_listener *l, unsigned port)
{
    enum setup_door_kind kind = door_kind(l);

    if (l->is_admin || kind == SETUP_DOOR_COUNT || f->doors[kind].port != 0)
        return;
    f->doors[kind].port = port;
    f->doors[kind].tls = l->tls;
    f->doors[kind].own_authority = l->tls && !l->certificate;
}

/* The name in a Host field, and its port: that of the scheme when it has none. */
static struct span split_host(const struct setup_visit *v, unsigned *port)
{
    struct span name = v->host;
    const char *colon = name.p ? memrchr(name.p, ':', name.len) : NULL;

    *port = v->listener->tls || v->opened ? 443 : 80;
    if (colon && name.p[name.len - 1] != ']') {
        if (colon + 1 < name.p + name.len)
            *port = (unsigned)strtoul(colon + 1, NULL, 10);
        name.len = (size_t)(colon - name.p);
    }
    return name;
}

void setup_facts_take(struct setup_facts *f, const struct setup_visit *v)
{
    const struct config *c = v->config;
    const char **registries = mem_new((c->upstream_count + 1) * sizeof *registries);
    bool is_direct = !v->opened && !v->is_relayed;
    unsigned port;
    struct span name = split_host(v, &port);

    *f = (struct setup_facts){.ca_pem = c->ca_pem, .ca_sha256 = c->ca_sha256};
    f->host = mem_copy(name.p ? name.p : "", name.p ? name.len : 0);
    /* The door that the client has found is open to it, and by the port that it knows:
     * another may lie between. */
    if (is_direct && port != 0)
        take_listener(f, v->listener, port);
    for (unsigned i = 0; i < c->listener_count; i++)
        take_listener(f, &c->listeners[i], first_port(&c->listeners[i]));
    for (unsigned i = 0; i < c->upstream_count; i++)
        registries[i] = c->upstreams[i].registry;
    f->registries = registries;
    f->registry_count = c->upstream_count;
}

void setup_facts_release(struct setup_facts *f)
{
    free((void *)f->host);
    free((void *)f->registries);
    *f = (struct setup_facts){0};
}

/* --- pages --- */

static void write_file(FILE *out, const struct setup_plan *plan, const struct setup_facts *f)
{
    (void)f;
    fputs(plan->items[0].content, out);
}

static const struct {
    const char *page;
    enum setup_client client;
    void (*write)(FILE *out, const struct setup_plan *plan, const struct setup_facts *f);
} plans[] = {
    {"docker.sh", SETUP_DOCKER, setup_write_script},
    {"containerd.sh", SETUP_CONTAINERD, setup_write_script},
    {"proxy.sh", SETUP_PROXY, setup_write_script},
    {"podman.conf", SETUP_PODMAN, write_file},
    {"podman.sh", SETUP_PODMAN, setup_write_script},
    {"k3s", SETUP_K3S, write_file},
    {"k3s.sh", SETUP_K3S, setup_write_script},
};

#define PLANS (sizeof plans / sizeof plans[0])

static enum outcome write_plan(FILE *out, struct setup_page *p, const struct setup_facts *f,
                               const char *page)
{
    struct setup_plan plan;
    size_t i = 0;

    while (i < PLANS && strcmp(plans[i].page, page) != 0)
        i++;
    if (i == PLANS) {
        snprintf(p->why, sizeof p->why, "/-/setup/ lists what there is");
        return OUT_NO_ROUTE;
    }
    if (setup_plan(&plan, plans[i].client, f, p->why, sizeof p->why) != 0)
        return OUT_NO_ROUTE;
    plans[i].write(out, &plan, f);
    setup_plan_clear(&plan);
    return OUT_LOCAL;
}

bool setup_is_doctor(const char *page)
{
    return strcmp(page, "doctor") == 0 || strcmp(page, "doctor.json") == 0;
}

static enum outcome write_page(FILE *out, struct setup_page *p, const struct setup_visit *v,
                               const struct setup_facts *f)
{
    if (strcmp(v->page, "doctor.json") == 0) {
        p->media_type = "application/json";
        setup_write_doctor_json(out, v, f);
        return OUT_LOCAL;
    }
    p->media_type = "text/plain; charset=utf-8";
    if (strcmp(v->page, "doctor") == 0) {
        setup_write_doctor(out, v, f);
        return OUT_LOCAL;
    }
    if (!setup_facts_are_valid(f)) {
        snprintf(p->why, sizeof p->why,
                 "ask by the name or address that clients are to use: Host is not one");
        return OUT_BAD_REQUEST;
    }
    if (v->page[0] == '\0') {
        p->media_type = "text/html; charset=utf-8";
        setup_write_index(out, v, f);
        return OUT_LOCAL;
    }
    if (strcmp(v->page, "index.json") == 0) {
        p->media_type = "application/json";
        setup_write_index_json(out, v, f);
        return OUT_LOCAL;
    }
    if (strcmp(v->page, "windows.ps1") == 0)
        return setup_write_windows(out, f, p->why, sizeof p->why) == 0 ? OUT_LOCAL : OUT_NO_ROUTE;
    return write_plan(out, p, f, v->page);
}

void setup_make(struct setup_page *p, const struct setup_visit *v)
{
    struct setup_facts f;

    *p = (struct setup_page){0};
    FILE *out = open_memstream(&p->text, &p->len);
    CHECK(out != NULL);
    setup_facts_take(&f, v);
    p->outcome = write_page(out, p, v, &f);
    setup_facts_release(&f);
    CHECK(fclose(out) == 0);
}
