/* SPDX-License-Identifier: ISC */
/*
 * How clients are told of a cachalot: the texts for people, scripts and files, made of a few
 * facts. Pure: no I/O, no configuration; the command and the daemon say the same.
 *
 * A plan is what one kind of client needs: files of ours, each of which begins with a line that
 * says so (setup_mark), and JSON to be merged into settings that are the client's own.
 */
#ifndef CACHE_SETUP_H
#define CACHE_SETUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "cache/check.h"

enum setup_client {
    SETUP_DOCKER,
    SETUP_CONTAINERD,
    SETUP_PODMAN,
    SETUP_K3S,
    SETUP_PROXY,   /* the proxy, for whatever runs on Linux */
    SETUP_WINDOWS, /* has no plan, but a script: setup_write_windows */
    SETUP_CLIENT_COUNT,
};

/* "docker", ...; SETUP_CLIENT_COUNT for a word that is none. */
const char *setup_client_name(enum setup_client c);
enum setup_client setup_client_find(const char *name);

enum setup_door_kind {
    SETUP_DOOR_REGISTRY,
    SETUP_DOOR_MIRROR, /* of docker.io */
    SETUP_DOOR_PROXY,
    SETUP_DOOR_COUNT,
};

/* "registry", "mirror", "proxy". */
const char *setup_door_name(enum setup_door_kind kind);

struct setup_door {
    unsigned port; /* 0: there is no such door */
    bool tls;
    bool own_authority; /* its certificate is of cachalot's authority */
};

struct setup_facts {
    const char *host; /* what clients call cachalot, setup_host_is_valid */
    struct setup_door doors[SETUP_DOOR_COUNT];
    const char *const *registries; /* canonical, those that may be asked for */
    size_t registry_count;
    const char *ca_pem; /* certificate of cachalot's authority; NULL: it has none */
    const char *ca_sha256;
};

/* A DNS name, an IPv4 address or an IPv6 address in brackets: of characters that mean
 * nothing to a shell, PowerShell, JSON, TOML, YAML or HTML. */
bool setup_host_is_valid(const char *text, size_t len);

/* Whether all of them are of their grammar, so that texts can be made of them; for
 * facts that came from a network. */
bool setup_facts_are_valid(const struct setup_facts *f);

/* The host that clients ask for what is named after the registry. */
const char *setup_origin(const char *registry);

/* "http://HOST:PORT" of a door that there is, owned by the caller. */
char *setup_url(const struct setup_facts *f, enum setup_door_kind kind);

enum setup_kind {
    SETUP_FILE,   /* ours, whole */
    SETUP_MERGE,  /* a JSON object that belongs into the object that the file is */
    SETUP_ANCHOR, /* ours; another path where the system keeps its authorities otherwise */
};

/* Where Debian and where Red Hat keep the authorities that were added by hand. */
#define SETUP_ANCHOR_DEBIAN "/usr/local/share/ca-certificates/cachalot.crt"
#define SETUP_ANCHOR_RED_HAT "/etc/pki/ca-trust/source/anchors/cachalot.crt"

struct setup_item {
    enum setup_kind kind;
    char *path;
    char *content;
};

#define SETUP_ITEMS_MAX 256

struct setup_plan {
    enum setup_client client;
    struct setup_item *items; /* the main file first */
    size_t count;
    char *notes;          /* lines for people */
    const char *commands; /* lines for a shell that make the client take it; "": none */
};

/* Make the plan. ERR_NOT_FOUND when cachalot has no such door, then `why` says which option gives
 * one; ERR_TOO_LARGE for more registries than SETUP_ITEMS_MAX lets. */
MUST_CHECK int setup_plan(struct setup_plan *p, enum setup_client client,
                          const struct setup_facts *f, char *why, size_t why_size);
void setup_plan_clear(struct setup_plan *p);

/* Where the files of plans are, as patterns of paths whose '*' has no slash; ends with a
 * NULL. And where what is merged goes, or NULL. */
const char *const *setup_patterns(enum setup_client client);
const char *setup_merge_path(enum setup_client client);
/* What makes the client take a change, as in its plan. */
const char *setup_commands(enum setup_client client);

/* The first line of a file of ours, without its end, for whatever client it was. */
#define SETUP_MARK "# Written by cachalot setup "
/* Whether a content begins with that line of that client. */
bool setup_is_marked(const char *content, enum setup_client client);

/* For people: each file with its path, and what else there is to do. */
void setup_write_text(FILE *out, const struct setup_plan *p, const struct setup_facts *f);
/* For the shell of the client's machine: does it, or undoes it with the argument --undo. */
void setup_write_script(FILE *out, const struct setup_plan *p, const struct setup_facts *f);
/* For PowerShell 5.1: Docker on Windows. The door of the proxy is needed, or that of the
 * mirror; ERR_NOT_FOUND as setup_plan. */
MUST_CHECK int setup_write_windows(FILE *out, const struct setup_facts *f, char *why,
                                   size_t why_size);

#endif
