/* SPDX-License-Identifier: ISC */
#include "cache/setup.h"

#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/name.h"

#define DOCKER_SETTINGS "/etc/docker/daemon.json"
#define PORT_MAX 65535u
#define CERTIFICATE_MAX 65536u
#define FINGERPRINT_LEN 95u /* 32 pairs of digits and the colons between */

static const char *const client_names[SETUP_CLIENT_COUNT] = {
    [SETUP_DOCKER] = "docker", [SETUP_CONTAINERD] = "containerd", [SETUP_PODMAN] = "podman",
    [SETUP_K3S] = "k3s",       [SETUP_PROXY] = "proxy",           [SETUP_WINDOWS] = "windows",
};

static const char *const door_names[SETUP_DOOR_COUNT] = {
    [SETUP_DOOR_REGISTRY] = "registry",
    [SETUP_DOOR_MIRROR] = "mirror",
    [SETUP_DOOR_PROXY] = "proxy",
};

const char *setup_client_name(enum setup_client c)
{
    return client_names[c];
}

enum setup_client setup_client_find(const char *name)
{
    unsigned c = 0;

    while (c < SETUP_CLIENT_COUNT && strcmp(client_names[c], name) != 0)
        c++;
    return (enum setup_client)c;
}

const char *setup_door_name(enum setup_door_kind kind)
{
    return door_names[kind];
}

/* --- facts --- */

bool setup_host_is_valid(const char *text, size_t len)
{
    const char *colon = memrchr(text, ':', len);
    bool has_port = colon != NULL && text[len - 1] != ']';

    return !has_port && name_is_registry(text, len);
}

static bool consists_of(const char *text, const char *characters)
{
    return text[strspn(text, characters)] == '\0';
}

static bool certificate_is_valid(const char *pem, const char *sha256)
{
    static const char begin[] = "-----BEGIN CERTIFICATE-----\n";
    static const char end[] = "-----END CERTIFICATE-----\n";
    static const char base64[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\n";
    size_t len = strlen(pem);
    const size_t begin_len = sizeof begin - 1, end_len = sizeof end - 1;

    if (strlen(sha256) != FINGERPRINT_LEN || !consists_of(sha256, "0123456789ABCDEF:"))
        return false;
    if (len > CERTIFICATE_MAX || len < begin_len + end_len || strncmp(pem, begin, begin_len) != 0)
        return false;
    return begin_len + strspn(pem + begin_len, base64) == len - end_len &&
           strcmp(pem + len - end_len, end) == 0;
}

bool setup_facts_are_valid(const struct setup_facts *f)
{
    if (!setup_host_is_valid(f->host, strlen(f->host)))
        return false;
    for (unsigned i = 0; i < SETUP_DOOR_COUNT; i++) {
        if (f->doors[i].port > PORT_MAX || (f->doors[i].own_authority && f->ca_pem == NULL))
            return false;
    }
    if (f->doors[SETUP_DOOR_PROXY].port != 0 && f->ca_pem == NULL)
        return false;
    for (size_t i = 0; i < f->registry_count; i++) {
        if (!name_is_registry(f->registries[i], strlen(f->registries[i])))
            return false;
    }
    if (f->ca_pem == NULL || f->ca_sha256 == NULL)
        return f->ca_pem == NULL && f->ca_sha256 == NULL;
    return certificate_is_valid(f->ca_pem, f->ca_sha256);
}

char *setup_url(const struct setup_facts *f, enum setup_door_kind kind)
{
    const struct setup_door *d = &f->doors[kind];

    CHECK(d->port != 0);
    return mem_format("http%s://%s:%u", d->tls ? "s" : "", f->host, d->port);
}

/* --- making a plan --- */

/* A text that is being written. */
struct text {
    FILE *out;
    char *p;
    size_t len;
};

static FILE *text_begin(struct text *t)
{
    t->out = open_memstream(&t->p, &t->len);
    CHECK(t->out != NULL);
    return t->out;
}

static char *text_end(struct text *t)
{
    CHECK(fclose(t->out) == 0);
    return t->p;
}

static void add(struct setup_plan *p, enum setup_kind kind, char *path, char *content)
{
    CHECK(p->count < SETUP_ITEMS_MAX);
    p->items[p->count] = (struct setup_item){kind, path, content};
    p->count++;
}

static void write_mark(FILE *out, enum setup_client client)
{
    fprintf(out, SETUP_MARK "%s; what is changed here is lost when that is run again.\n",
            client_names[client]);
}

bool setup_is_marked(const char *content, enum setup_client client)
{
    const size_t len = sizeof SETUP_MARK - 1;
    size_t name_len = strlen(client_names[client]);

    return strncmp(content, SETUP_MARK, len) == 0 &&
           strncmp(content + len, client_names[client], name_len) == 0 &&
           content[len + name_len] == ';';
}

static void add_certificate(struct setup_plan *p, enum setup_kind kind, char *path,
                            const struct setup_facts *f)
{
    struct text t;
    FILE *out = text_begin(&t);

    write_mark(out, p->client);
    fprintf(out, "# The authority of cachalot at %s, SHA-256\n# %s\n%s", f->host, f->ca_sha256,
            f->ca_pem);
    add(p, kind, path, text_end(&t));
}

const char *setup_origin(const char *registry)
{
    return strcmp(registry, "docker.io") == 0 ? "registry-1.docker.io" : registry;
}

/* hosts.toml for each registry, as containerd and Docker's containerd store read it. */
static void add_hosts(struct setup_plan *p, const struct setup_facts *f, const char *folder)
{
    bool own = f->doors[SETUP_DOOR_REGISTRY].own_authority;
    char *url = setup_url(f, SETUP_DOOR_REGISTRY);

    for (size_t i = 0; i < f->registry_count; i++) {
        struct text t;
        FILE *out = text_begin(&t);

        write_mark(out, p->client);
        fprintf(out, "server = \"https://%s\"\n\n", setup_origin(f->registries[i]));
        fprintf(out, "[host.\"%s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", url);
        fprintf(out, "%s  dial_timeout = \"2s\"\n", own ? "  ca = \"../cachalot-ca.crt\"\n" : "");
        add(p, SETUP_FILE, mem_format("%s/%s/hosts.toml", folder, f->registries[i]), text_end(&t));
    }
    if (own)
        add_certificate(p, SETUP_FILE, mem_format("%s/cachalot-ca.crt", folder), f);
    free(url);
}

/* The certificate beside the settings of a host, as Docker and podman look for it. */
static void add_door_certificate(struct setup_plan *p, const struct setup_facts *f,
                                 enum setup_door_kind kind, const char *folder)
{
    const struct setup_door *d = &f->doors[kind];

    if (d->port != 0 && d->own_authority)
        add_certificate(p, SETUP_FILE, mem_format("%s/%s:%u/ca.crt", folder, f->host, d->port), f);
}

/* --- the clients --- */

/* Engines take these without TLS unasked. */
static bool is_loopback(const char *host)
{
    return strcmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 ||
           strcmp(host, "[::1]") == 0;
}

static bool wants_insecure(const struct setup_facts *f)
{
    const struct setup_door *d = &f->doors[SETUP_DOOR_REGISTRY];

    return d->port != 0 && !d->tls && !is_loopback(f->host);
}

static void write_list(FILE *out, const char *name, const char *value, bool is_last)
{
    fprintf(out, "    \"%s\": [\n        \"%s\"\n    ]%s\n", name, value, is_last ? "" : ",");
}

static void add_docker_settings(struct setup_plan *p, const struct setup_facts *f)
{
    const struct setup_door *registry = &f->doors[SETUP_DOOR_REGISTRY];
    bool has_mirror = f->doors[SETUP_DOOR_MIRROR].port != 0;
    struct text t;

    if (!has_mirror && !wants_insecure(f))
        return;
    FILE *out = text_begin(&t);
    fputs("{\n", out);
    if (wants_insecure(f)) {
        char *name = mem_format("%s:%u", f->host, registry->port);
        write_list(out, "insecure-registries", name, !has_mirror);
        free(name);
    }
    if (has_mirror) {
        char *url = setup_url(f, SETUP_DOOR_MIRROR);
        write_list(out, "registry-mirrors", url, true);
        free(url);
    }
    fputs("}\n", out);
    add(p, SETUP_MERGE, mem_copy(DOCKER_SETTINGS, sizeof DOCKER_SETTINGS - 1), text_end(&t));
}

static void plan_docker(struct setup_plan *p, const struct setup_facts *f, FILE *notes)
{
    const struct setup_door *registry = &f->doors[SETUP_DOOR_REGISTRY];

    add_docker_settings(p, f);
    if (f->doors[SETUP_DOOR_MIRROR].port != 0)
        fputs("registry-mirrors is for docker.io alone.\n", notes);
    add_door_certificate(p, f, SETUP_DOOR_MIRROR, "/etc/docker/certs.d");
    if (registry->port != 0) {
        add_hosts(p, f, "/etc/docker/certs.d");
        add_door_certificate(p, f, SETUP_DOOR_REGISTRY, "/etc/docker/certs.d");
        fprintf(notes,
                "hosts.toml is read by engine 28 and later with the containerd image store (see\n"
                "\"docker info\"). Others pull %s:%u/mcr.microsoft.com/..., or go by the proxy.\n",
                f->host, registry->port);
        if (wants_insecure(f))
            fputs(
                "That port speaks plain HTTP, which engines take from insecure-registries alone;\n"
                "it needs not stand there when cachalot is told tls = yes.\n",
                notes);
    }
}

static void plan_containerd(struct setup_plan *p, const struct setup_facts *f, FILE *notes)
{
    add_hosts(p, f, "/etc/containerd/certs.d");
    fputs("These files are read at each pull. containerd 1.x and its CRI read that folder when\n"
          "/etc/containerd/config.toml names it; restart containerd after that change.\n"
          "  version = 2 (containerd 1.x):\n"
          "    [plugins.\"io.containerd.grpc.v1.cri\".registry]\n"
          "      config_path = \"/etc/containerd/certs.d\"\n"
          "  version = 3 (containerd 2.x, where that is the default):\n"
          "    [plugins.\"io.containerd.cri.v1.images\".registry]\n"
          "      config_path = \"/etc/containerd/certs.d\"\n"
          "ctr wants --hosts-dir /etc/containerd/certs.d, nerdctl nothing.\n",
          notes);
}

static void plan_podman(struct setup_plan *p, const struct setup_facts *f, FILE *notes)
{
    const struct setup_door *d = &f->doors[SETUP_DOOR_REGISTRY];
    struct text t;
    FILE *out = text_begin(&t);

    write_mark(out, p->client);
    for (size_t i = 0; i < f->registry_count; i++) {
        const char *name = f->registries[i];

        fprintf(out, "\n[[registry]]\nprefix = \"%s\"\nlocation = \"%s\"\n\n", name, name);
        fprintf(out, "[[registry.mirror]]\nlocation = \"%s:%u/%s\"\n%s", f->host, d->port, name,
                d->tls ? "" : "insecure = true\n");
    }
    const char path[] = "/etc/containers/registries.conf.d/50-cachalot.conf";
    add(p, SETUP_FILE, mem_copy(path, sizeof path - 1), text_end(&t));
    add_door_certificate(p, f, SETUP_DOOR_REGISTRY, "/etc/containers/certs.d");
    fputs("podman, buildah, skopeo and CRI-O read this at each pull (CRI-O: reload it).\n", notes);
}

static void plan_k3s(struct setup_plan *p, const struct setup_facts *f, FILE *notes)
{
    const struct setup_door *d = &f->doors[SETUP_DOOR_REGISTRY];
    char *url = setup_url(f, SETUP_DOOR_REGISTRY);
    struct text t;
    FILE *out = text_begin(&t);
    const char path[] = "/etc/rancher/k3s/registries.yaml";
    const char ca_path[] = "/etc/rancher/k3s/cachalot-ca.crt";

    write_mark(out, p->client);
    fputs("mirrors:\n", out);
    for (size_t i = 0; i < f->registry_count; i++)
        fprintf(out, "  \"%s\":\n    endpoint:\n      - \"%s\"\n", f->registries[i], url);
    if (d->own_authority)
        fprintf(out, "configs:\n  \"%s:%u\":\n    tls:\n      ca_file: \"%s\"\n", f->host, d->port,
                ca_path);
    add(p, SETUP_FILE, mem_copy(path, sizeof path - 1), text_end(&t));
    if (d->own_authority)
        add_certificate(p, SETUP_FILE, mem_copy(ca_path, sizeof ca_path - 1), f);
    fputs("On each node; RKE2 reads the same from /etc/rancher/rke2/registries.yaml. Both fall\n"
          "back to the registries unless run with --disable-default-registry-endpoint.\n",
          notes);
    free(url);
}

static void add_drop_in(struct setup_plan *p, const struct setup_facts *f, const char *unit)
{
    char *url = setup_url(f, SETUP_DOOR_PROXY);
    struct text t;
    FILE *out = text_begin(&t);

    write_mark(out, p->client);
    fprintf(out, "[Service]\nEnvironment=\"HTTPS_PROXY=%s\"\n", url);
    /* An IPv6 address stands without its brackets here. */
    int bracket = f->host[0] == '[';
    fprintf(out, "Environment=\"NO_PROXY=localhost,127.0.0.0/8,::1,%.*s\"\n",
            (int)strlen(f->host) - 2 * bracket, f->host + bracket);
    add(p, SETUP_FILE, mem_format("/etc/systemd/system/%s.service.d/cachalot.conf", unit),
        text_end(&t));
    free(url);
}

static void plan_proxy(struct setup_plan *p, const struct setup_facts *f, FILE *notes)
{
    char *url = setup_url(f, SETUP_DOOR_PROXY);

    add_certificate(p, SETUP_ANCHOR, mem_copy(SETUP_ANCHOR_DEBIAN, sizeof SETUP_ANCHOR_DEBIAN - 1),
                    f);
    add_drop_in(p, f, "docker");
    add_drop_in(p, f, "containerd");
    fprintf(notes,
            "For any registry that cachalot is configured for, by the names that images have.\n"
            "Compare the fingerprint with what \"cachalot ca show\" says there:\n  %s\n"
            "cachalot connects to no other hosts: add yours, as registry.example, to NO_PROXY.\n"
            "Red Hat and its like keep the certificate in\n  %s\n"
            "and want update-ca-trust. podman, skopeo and others take the proxy from the\n"
            "environment: HTTPS_PROXY=%s\n"
            "A restart of docker stops its containers, unless it is set to live-restore.\n",
            f->ca_sha256, SETUP_ANCHOR_RED_HAT, url);
    free(url);
}

static const char proxy_commands[] = "update-ca-certificates --fresh\n"
                                     "systemctl daemon-reload\n"
                                     "systemctl try-restart containerd docker\n";

static const char *const commands[SETUP_CLIENT_COUNT] = {
    [SETUP_DOCKER] = "systemctl reload docker\n",
    [SETUP_CONTAINERD] = "",
    [SETUP_PODMAN] = "",
    [SETUP_K3S] = "systemctl restart k3s # on an agent: k3s-agent\n",
    [SETUP_PROXY] = proxy_commands,
    [SETUP_WINDOWS] = "",
};

#define PATTERNS_MAX 5

static const struct {
    void (*plan)(struct setup_plan *p, const struct setup_facts *f, FILE *notes);
    enum setup_door_kind doors[2]; /* one of which is needed */
    const char *patterns[PATTERNS_MAX];
} clients[SETUP_CLIENT_COUNT] = {
    [SETUP_DOCKER] = {plan_docker,
                      {SETUP_DOOR_MIRROR, SETUP_DOOR_REGISTRY},
                      {"/etc/docker/certs.d/*/hosts.toml", "/etc/docker/certs.d/*/ca.crt",
                       "/etc/docker/certs.d/cachalot-ca.crt"}},
    [SETUP_CONTAINERD] = {plan_containerd,
                          {SETUP_DOOR_REGISTRY, SETUP_DOOR_REGISTRY},
                          {"/etc/containerd/certs.d/*/hosts.toml",
                           "/etc/containerd/certs.d/cachalot-ca.crt"}},
    [SETUP_PODMAN] = {plan_podman,
                      {SETUP_DOOR_REGISTRY, SETUP_DOOR_REGISTRY},
                      {"/etc/containers/registries.conf.d/50-cachalot.conf",
                       "/etc/containers/certs.d/*/ca.crt"}},
    [SETUP_K3S] = {plan_k3s,
                   {SETUP_DOOR_REGISTRY, SETUP_DOOR_REGISTRY},
                   {"/etc/rancher/k3s/registries.yaml", "/etc/rancher/k3s/cachalot-ca.crt"}},
    [SETUP_PROXY] = {plan_proxy,
                     {SETUP_DOOR_PROXY, SETUP_DOOR_PROXY},
                     {SETUP_ANCHOR_DEBIAN, SETUP_ANCHOR_RED_HAT,
                      "/etc/systemd/system/docker.service.d/cachalot.conf",
                      "/etc/systemd/system/containerd.service.d/cachalot.conf"}},
};

const char *const *setup_patterns(enum setup_client client)
{
    return clients[client].patterns;
}

const char *setup_commands(enum setup_client client)
{
    return commands[client];
}

const char *setup_merge_path(enum setup_client client)
{
    return client == SETUP_DOCKER ? DOCKER_SETTINGS : NULL;
}

int setup_plan(struct setup_plan *p, enum setup_client client, const struct setup_facts *f,
               char *why, size_t why_size)
{
    static const char *const roles[SETUP_DOOR_COUNT] = {
        [SETUP_DOOR_REGISTRY] = "registry",
        [SETUP_DOOR_MIRROR] = "mirror",
        [SETUP_DOOR_PROXY] = "intercept",
    };
    const enum setup_door_kind *doors = clients[client].doors;

    CHECK(clients[client].plan != NULL);
    *p = (struct setup_plan){.client = client, .commands = commands[client]};
    if (f->doors[doors[0]].port == 0 && f->doors[doors[1]].port == 0) {
        snprintf(why, why_size, "cachalot has no listener with role = %s, which %s needs",
                 roles[doors[0]], client_names[client]);
        return ERR_NOT_FOUND;
    }
    const size_t others = 8; /* certificates, daemon.json */
    if (f->registry_count > SETUP_ITEMS_MAX - others) {
        snprintf(why, why_size, "cachalot has more upstreams than %u",
                 (unsigned)(SETUP_ITEMS_MAX - others));
        return ERR_TOO_LARGE;
    }
    struct text notes;
    p->items = mem_new(SETUP_ITEMS_MAX * sizeof p->items[0]);
    clients[client].plan(p, f, text_begin(&notes));
    p->notes = text_end(&notes);
    return 0;
}

void setup_plan_clear(struct setup_plan *p)
{
    for (size_t i = 0; i < p->count; i++) {
        free(p->items[i].path);
        free(p->items[i].content);
    }
    free(p->items);
    free(p->notes);
    *p = (struct setup_plan){.commands = ""};
}
