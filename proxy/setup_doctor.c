/* SPDX-License-Identifier: ISC */
#include "proxy/setup_private.h"

#include <stdlib.h>
#include <string.h>

#include "cache/json.h"
#include "proxy/version.h"

static const char *role_name(const struct config_listener *l)
{
    static const char *const names[] = {
        [ROLE_REGISTRY] = "registry",
        [ROLE_MIRROR] = "mirror",
        [ROLE_INTERCEPT] = "intercept",
        [ROLE_TLS_INTERCEPT] = "tls-intercept",
    };
    return names[l->role];
}

static const char *listener_name(const struct config_listener *l)
{
    return l->name ? l->name : "-";
}

static bool came_by_proxy(const struct setup_visit *v)
{
    return v->listener->role == ROLE_INTERCEPT && (v->opened || v->is_relayed);
}

static bool has_tls(const struct setup_visit *v)
{
    return v->listener->tls || v->opened;
}

/* --- JSON --- */

static void write_string(FILE *out, const char *text)
{
    char *quoted = text ? json_quote(text) : NULL;

    fputs(quoted ? quoted : "null", out);
    free(quoted);
}

static void write_member(FILE *out, const char *name, const char *value)
{
    fprintf(out, "\"%s\":", name);
    write_string(out, value);
    fputc(',', out);
}

static void write_door(FILE *out, const struct setup_facts *f, enum setup_door_kind kind)
{
    static const char *const words[] = {"false", "true"};
    const struct setup_door *d = &f->doors[kind];

    fprintf(out, "%s\"%s\":", kind > 0 ? "," : "", setup_door_name(kind));
    if (d->port == 0)
        fputs("null", out);
    else
        fprintf(out, "{\"port\":%u,\"tls\":%s,\"own_authority\":%s}", d->port, words[d->tls],
                words[d->own_authority]);
}

void setup_write_doctor_json(FILE *out, const struct setup_visit *v, const struct setup_facts *f)
{
    fputc('{', out);
    write_member(out, "version", CACHALOT_VERSION);
    write_member(out, "client", v->client);
    write_member(out, "host", f->host[0] ? f->host : NULL);
    write_member(out, "listener", listener_name(v->listener));
    write_member(out, "role", role_name(v->listener));
    write_member(out, "mirror_of", v->listener->mirror_of);
    fprintf(out, "\"tls\":%s,\"proxy\":%s,", has_tls(v) ? "true" : "false",
            came_by_proxy(v) ? "true" : "false");
    write_member(out, "opened_as", v->opened);
    fputs("\"doors\":{", out);
    for (unsigned kind = 0; kind < SETUP_DOOR_COUNT; kind++)
        write_door(out, f, (enum setup_door_kind)kind);
    fputs("},\"registries\":[", out);
    for (size_t i = 0; i < f->registry_count; i++) {
        fputs(i > 0 ? "," : "", out);
        write_string(out, f->registries[i]);
    }
    fputs("],", out);
    write_member(out, "ca_sha256", f->ca_sha256);
    fputs("\"ca\":", out);
    write_string(out, f->ca_pem);
    fputs("}\n", out);
}

/* --- text --- */

static void write_advice(FILE *out, const struct setup_visit *v, const struct setup_facts *f)
{
    const char *host = f->host[0] ? f->host : "HOST";
    const char *example = f->registry_count > 0 ? f->registries[0] : "docker.io";

    if (v->opened || v->is_relayed) {
        fprintf(out, "What is pulled from %s comes by way of cachalot; no name has to change.\n%s",
                host,
                v->opened ? "If this client was not told to ignore certificates, it trusts "
                            "cachalot's authority.\n"
                          : "");
        return;
    }
    switch (v->listener->role) {
    case ROLE_REGISTRY:
        fprintf(out,
                "This door is for names with their registry, %s:%u/%s/..., for containerd\n"
                "(hosts.toml), podman (a mirror in registries.conf), and for local repositories.\n",
                host, f->doors[SETUP_DOOR_REGISTRY].port, example);
        break;
    case ROLE_MIRROR:
        fprintf(out, "This door is a mirror of %s alone, for Docker's registry-mirrors.\n",
                v->listener->mirror_of);
        break;
    case ROLE_INTERCEPT:
        fprintf(out,
                "This door is a proxy, and it was asked for itself. A client that goes by it gets\n"
                "this page at https://%s/-/setup/doctor, and then also trusts the authority.\n",
                setup_origin(example));
        break;
    case ROLE_TLS_INTERCEPT:
        fputs("This door is for the TLS of hosts whose names lead here.\n", out);
        break;
    }
}

void setup_write_doctor(FILE *out, const struct setup_visit *v, const struct setup_facts *f)
{
    const struct config_listener *l = v->listener;

    fprintf(out, "This is cachalot %s.\n\n", CACHALOT_VERSION);
    fprintf(out, "you        %s\n", v->client);
    fprintf(out, "asked for  %.*s\n", v->host.p ? (int)v->host.len : 1,
            v->host.p ? v->host.p : "-");
    fprintf(out, "listener   %s, role %s%s%s\n", listener_name(l), role_name(l),
            l->mirror_of ? " of " : "", l->mirror_of ? l->mirror_of : "");
    fprintf(out, "TLS        %s%s\n",
            v->opened    ? "yes, opened as "
            : has_tls(v) ? "yes"
                         : "no",
            v->opened ? v->opened : "");
    fprintf(out, "proxy      %s\n", came_by_proxy(v) ? "yes" : "no");
    fprintf(out, "authority  %s%s\n\n", f->ca_sha256 ? "SHA-256 " : "none",
            f->ca_sha256 ? f->ca_sha256 : "");
    write_advice(out, v, f);
}

/* --- HTML --- */

static void write_escaped(FILE *out, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '&':
            fputs("&amp;", out);
            break;
        case '"':
            fputs("&quot;", out);
            break;
        default:
            fputc(*text, out);
        }
    }
}

static const struct {
    const char *title;
    enum setup_door_kind door, or_door;
    const char *page;
    const char *command; /* %s is the address of this page */
} entries[] = {
    {"Docker on Linux", SETUP_DOOR_MIRROR, SETUP_DOOR_REGISTRY, "docker.sh",
     "curl -fsS %s/-/setup/docker.sh | sudo sh"},
    {"containerd, Kubernetes", SETUP_DOOR_REGISTRY, SETUP_DOOR_REGISTRY, "containerd.sh",
     "curl -fsS %s/-/setup/containerd.sh | sudo sh"},
    {"podman, buildah, skopeo, CRI-O", SETUP_DOOR_REGISTRY, SETUP_DOOR_REGISTRY, "podman.conf",
     "curl -fsS %s/-/setup/podman.sh | sudo sh"},
    {"k3s, RKE2", SETUP_DOOR_REGISTRY, SETUP_DOOR_REGISTRY, "k3s",
     "curl -fsS %s/-/setup/k3s.sh | sudo sh"},
    {"Docker on Windows", SETUP_DOOR_PROXY, SETUP_DOOR_MIRROR, "windows.ps1",
     "Invoke-WebRequest -UseBasicParsing %s/-/setup/windows.ps1 -OutFile cachalot.ps1; "
     "powershell -ExecutionPolicy Bypass -File cachalot.ps1"},
    {"Anything on Linux, by the proxy", SETUP_DOOR_PROXY, SETUP_DOOR_PROXY, "proxy.sh",
     "curl -fsS %s/-/setup/proxy.sh | sudo sh"},
};

/* The address by which the client has found us, owned by the caller. */
static char *own_address(const struct setup_visit *v)
{
    return mem_format("http%s://%.*s", has_tls(v) ? "s" : "", (int)v->host.len, v->host.p);
}

/* Owned by the caller. */
static char *entry_command(size_t i, const char *base)
{
    const char *mark = strstr(entries[i].command, "%s");

    return mem_format("%.*s%s%s", (int)(mark - entries[i].command), entries[i].command, base,
                      mark + 2);
}

static bool has_entry(const struct setup_facts *f, size_t i)
{
    return f->doors[entries[i].door].port != 0 || f->doors[entries[i].or_door].port != 0;
}

static void write_entry(FILE *out, size_t i, const char *base)
{
    char *command = entry_command(i, base);

    fprintf(out, "<h2>%s</h2>\n<p><a href=\"/-/setup/%s\">%s</a></p>\n<pre>", entries[i].title,
            entries[i].page, entries[i].page);
    write_escaped(out, command);
    fputs("</pre>\n", out);
    free(command);
}

void setup_write_index(FILE *out, const struct setup_visit *v, const struct setup_facts *f)
{
    char *base = own_address(v);

    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
          "<title>cachalot: set up clients</title>\n<h1>Set up clients of cachalot at ",
          out);
    write_escaped(out, f->host);
    fputs("</h1>\n<p>Look at what a script does before you run it. Each takes back what it did "
          "with --undo (-Undo).</p>\n",
          out);
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
        if (has_entry(f, i))
            write_entry(out, i, base);
    }
    fputs("<h2>By which door does a client come?</h2>\n"
          "<p><a href=\"/-/setup/doctor\">doctor</a>, "
          "<a href=\"/-/setup/doctor.json\">doctor.json</a></p>\n",
          out);
    if (f->ca_sha256) {
        fputs("<h2>The authority</h2>\n<p><a href=\"/-/setup/ca.crt\">ca.crt</a>, to be compared "
              "with what <code>cachalot ca show</code> says on the server. SHA-256:</p>\n<pre>",
              out);
        write_escaped(out, f->ca_sha256);
        fputs("</pre>\n", out);
    }
    fputs("</html>\n", out);
    free(base);
}

void setup_write_index_json(FILE *out, const struct setup_visit *v, const struct setup_facts *f)
{
    char *base = own_address(v);
    bool is_first = true;

    fputs("{\"clients\":[", out);
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
        if (!has_entry(f, i))
            continue;
        char *command = entry_command(i, base);
        fputs(is_first ? "\n{" : ",\n{", out);
        write_member(out, "title", entries[i].title);
        write_member(out, "page", entries[i].page);
        fputs("\"command\":", out);
        write_string(out, command);
        fputc('}', out);
        free(command);
        is_first = false;
    }
    fputs("],\"ca_sha256\":", out);
    write_string(out, f->ca_sha256);
    fputs("}\n", out);
    free(base);
}
