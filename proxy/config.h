/* SPDX-License-Identifier: ISC */
/*
 * Configuration: one table of options drives parsing, checking, the dump and the
 * check of etc/cachalot.ini and the man page (see config_table.c).
 *
 * A struct config is an immutable snapshot. SIGHUP makes another; whoever still
 * uses the old one holds a reference.
 */
#ifndef PROXY_CONFIG_H
#define PROXY_CONFIG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "cache/check.h"
#include "cache/room.h"
#include "proxy/config_access.h"
#include "proxy/config_listener.h"
#include "proxy/config_prefetch.h"
#include "proxy/log.h"
#include "proxy/rate.h"

#define CONFIG_URLS_MAX 8

/* Who may have what an upstream gives to the configured credentials: every client, or
 * those whom local access rules let. */
enum visibility { VISIBILITY_PUBLIC, VISIBILITY_PRIVATE };

/* What an upstream's addresses may be. */
enum address_family { ADDRESSES_ANY, ADDRESSES_IPV4, ADDRESSES_IPV6 };

/* The door by which an upstream that is another cachalot is asked: /v2/HOST/REPOSITORY
 * or /v2/REPOSITORY?ns=HOST. */
enum parent { PARENT_NO, PARENT_PREFIX, PARENT_NS };

struct config_upstream {
    char *registry;              /* canonical host[:port] */
    char *urls[CONFIG_URLS_MAX]; /* "https://registry-1.docker.io", no slash at the end */
    unsigned url_count;
    enum parent parent;
    bool offline; /* never asked; struct config has one for all */
    /* Credentials; each NULL when not given, and then never one alone of a pair. */
    char *username;
    char *password_file;
    char *credential_helper; /* absolute path of a program */
    enum visibility visibility;
    /* Patterns for config_host_matches. Its own host need not be among them. */
    char *realm_hosts[CONFIG_HOSTS_MAX];
    unsigned realm_host_count;
    char *redirect_hosts[CONFIG_HOSTS_MAX]; /* none: any public host */
    unsigned redirect_host_count;
    char *foreign_hosts[CONFIG_HOSTS_MAX];
    unsigned foreign_host_count;
    bool serve_urls; /* what its manifests say of urls counts for who asks the urls */
    int64_t tag_ttl_s;
    int64_t not_found_ttl_ms;
    int64_t proof_ttl_ms;     /* of a client's right to private content */
    int64_t offline_grace_ms; /* longer than proof_ttl_ms while the upstream is down */
    int64_t connect_timeout_ms;
    int64_t request_timeout_ms; /* of a small request in total */
    int64_t stall_timeout_ms;   /* no bytes for so long: the connection is given up */
    int64_t retries;            /* of one fetch or request, after the first try */
    int64_t connections;        /* of one blob in pieces */
    struct rate rate;
    struct rate background_rate;
    enum address_family addresses;
    char *proxy; /* "http://HOST:PORT", NULL: none */
    char *proxy_username;
    char *proxy_password_file;
    char *ca_file; /* NULL: the system's */
    char *certificate;
    char *key;
};

#define WORKERS_MAX 256
struct config {
    atomic_uint refs; /* config_ref, config_unref */
    /* [cache] */
    char *path;
    char *user; /* that root becomes; NULL: the owner of path */
    bool sandbox;
    int64_t index_size_bytes;
    struct room_limits room;
    bool evict_local;     /* what was pushed here may go, too */
    int64_t push_grace_s; /* of what was pushed and no manifest names yet */
    int64_t workers;      /* at most WORKERS_MAX; 0: one a processor */
    int64_t drain_timeout_ms;
    int64_t scrub_s;          /* from one round to the next; 0: none */
    int64_t scrub_rate_bytes; /* a second, at most */
    int64_t upload_ttl_s;     /* of an upload that nobody goes on with */
    bool offline;             /* no upstream is asked */
    char *import_key_path;    /* for the cachalot command, which reads it itself; NULL: none */
    struct rate rate;         /* of all upstreams together */
    struct rate background_rate;
    /* [log] */
    char *log_file; /* NULL: standard error */
    enum log_format log_format;
    enum log_level log_level;
    bool log_access;
    /* [admin] */
    char *admin_socket;            /* NULL: none */
    char *page[CONFIG_RANGES_MAX]; /* who gets the status page; for config_address_matches */
    unsigned page_count;
    /* [intercept] */
    char *ca_path; /* directory of the certificate authority */
    char *tunnel_hosts[CONFIG_HOSTS_MAX];
    unsigned tunnel_host_count;
    char *ca_pem; /* with its SHA-256, set by identity_prepare, or NULL */
    char *ca_sha256;

    struct config_auth auth;
    struct config_listener *listeners;
    unsigned listener_count;
    struct config_upstream *upstreams;
    unsigned upstream_count;
    struct config_access *access; /* at least one */
    unsigned access_count;
    struct config_prefetch *prefetches; /* at least one */
    unsigned prefetch_count;
};

/* Read `path` and every *.ini of `conf.d` beside it, in order of their names. A
 * `path` of NULL gives the defaults: the shipped listeners and upstreams. A file
 * that names a listener section replaces the shipped listeners, one with an access section
 * the shipped rule, and one with a prefetch section the shipped one; upstream sections add
 * to, or change, the shipped upstreams.
 * On failure, as of a password file of no use, the reasons go to `errors`, one a line,
 * "file:line: section.option: what is wrong; accepted: ..."; ERR_INVALID or ERR_NOT_FOUND. */
MUST_CHECK int config_load(struct config **c, const char *path, FILE *errors);

/* The same from one stream in place of files, opening none; `name` is used in messages. */
MUST_CHECK int config_load_stream(struct config **c, const char *name, FILE *in, FILE *errors);

struct config *config_ref(struct config *c);
/* The last reference frees it; leaves NULL. */
void config_unref(struct config **c);

/* The upstream of a canonical registry, or NULL. */
const struct config_upstream *config_find_upstream(const struct config *c, const char *registry);

/* Each path that an option gives, as of a file with a password. */
void config_each_path(const struct config *c, void (*each)(void *arg, const char *path), void *arg);

/* Write the whole in effect as an ini file that config_load takes back. */
void config_dump(const struct config *c, FILE *out);

#endif
