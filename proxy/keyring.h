/* SPDX-License-Identifier: ISC */
/*
 * The credentials of the upstreams, at hand: read from their files, got from their
 * helpers, each kept for a while. Belongs to the thread of its event_base.
 */
#ifndef PROXY_KEYRING_H
#define PROXY_KEYRING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "proxy/credential.h"
#include "proxy/log.h"

struct event_base;
struct keyring;
struct key;

/* What the configuration says of an upstream; all but `registry` may be NULL. Who has
 * neither a file nor a helper is anonymous. */
struct keyring_source {
    const char *registry;
    const char *username;
    const char *password_file;
    const char *helper;
};

enum keyring_state {
    KEYRING_ANONYMOUS,
    KEYRING_READY,
    KEYRING_BUSY,   /* the helper runs: wait for it, and ask again */
    KEYRING_FAILED, /* there is none to be had now; `why` says so */
};

struct keyring_answer {
    enum keyring_state state;
    const struct credential *credential; /* READY: until the event loop goes on */
    uint64_t id;    /* READY: another whenever name or secret change; never 0 */
    int64_t got_ms; /* READY: since when it is known to be so */
    char why[256];
};

/* One who waits: embedded. `ready` is called once, from the event loop. */
struct keyring_waiter {
    struct key *key; /* NULL: does not wait */
    void (*ready)(struct keyring_waiter *w);
    LIST_ENTRY(keyring_waiter) link;
};

/* `log` gets a line when a credential cannot be had; it may be NULL. */
struct keyring *keyring_new(struct event_base *base, struct log *log);
/* Nobody may wait. Kills what runs. NULL is legal; leaves NULL. */
void keyring_free(struct keyring **k);

/* `now_ms` is of CLOCK_MONOTONIC. */
void keyring_get(struct keyring *k, const struct keyring_source *s, int64_t now_ms,
                 struct keyring_answer *a);

/* After KEYRING_BUSY. */
void keyring_wait(struct keyring *k, const struct keyring_source *s, struct keyring_waiter *w);
void keyring_leave(struct keyring_waiter *w);

/* The upstream has refused the credential with this id. Whether keyring_get may give
 * another: a file is read again at once, a helper is run again when its answer
 * is older than a few minutes. */
bool keyring_refused(struct keyring *k, const struct keyring_source *s, uint64_t id,
                     int64_t now_ms);

#endif
