/* SPDX-License-Identifier: ISC */
/*
 * Inside the upstream thread: who we are to a registry. An exchange asks here before
 * its first hop, and again when the registry refuses it.
 */
#ifndef PROXY_UPSTREAM_AUTH_H
#define PROXY_UPSTREAM_AUTH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "proxy/challenge.h"
#include "proxy/config.h"
#include "proxy/keyring.h"
#include "proxy/realm.h"
#include "proxy/token.h"

struct failure;
struct head;
struct upstream;

/* --- what is known of all registries --- */

struct shape;
struct grant;

struct authority {
    struct upstream *upstream;
    struct keyring *keyring;
    struct token_cache *tokens;
    struct shape *shapes; /* what was demanded of whom asked for a repository */
    LIST_HEAD(, grant) grants;
};

struct authority *authority_new(struct upstream *u);
/* Every exchange must have ended. NULL is legal; leaves NULL. */
void authority_free(struct authority **a);

/* --- one exchange --- */

struct demand {
    struct challenge challenge;
    bool is_inside; /* the registry is at an address that is not public */
};

enum auth_step {
    AUTH_GO,      /* set off, with `field` when there is one */
    AUTH_WAIT,    /* `ready` follows */
    AUTH_REFUSED, /* nothing better can be said */
};

/* Embedded in the exchange. */
struct auth {
    struct authority *authority;
    const struct config_upstream *to;
    bool is_mute;     /* a client says who it is: we add nothing */
    char *url;        /* of the first hop */
    char *repository; /* as the registry knows it */
    int64_t begun_ms;
    bool is_known;   /* `demand` is what the registry wants */
    bool was_denied; /* lately, with a new token */
    struct demand demand;
    char *field;         /* the value of Authorization for the registry's origin, or NULL */
    int64_t got_ms;      /* since when that is at hand */
    uint64_t credential; /* whose it is; 0: nobody's */
    uint64_t refused;    /* the credential that was refused; 0: none */
    bool is_renewed;     /* an exchange has another try, once */
    bool is_rekeyed;     /* and its token server too */
    struct keyring_waiter key_wait;
    struct grant *grant; /* waits for it */
    LIST_ENTRY(auth) link;
    /* `f` is NULL when it is time to set off. */
    void (*ready)(struct auth *a, const struct failure *f);
};

/* `to` must live as long; the texts are copied. */
void auth_init(struct auth *a, struct authority *authority, const struct config_upstream *to,
               const char *url, const char *repository, bool is_mute);
/* Waits no more. Legal when it was never begun. */
void auth_clear(struct auth *a);

/* Before the first hop. On AUTH_REFUSED the reason is in `f`. */
enum auth_step auth_begin(struct auth *a, struct failure *f);

/* The registry itself answered with 400, 401 or 403. On AUTH_REFUSED the reason is in
 * `f` if there is more to say than the status, and so is a challenge that a client may
 * meet with credentials of its own: its realm is allowed, and we have none. */
enum auth_step auth_refused(struct auth *a, const struct head *h, bool is_inside,
                            struct failure *f);

/* --- tokens on their way; from here on for upstream_auth.c and upstream_grant.c --- */

/* Have the token got that is demanded of `a`, for the credential in `k`; all who ask
 * for one key join one grant. */
enum auth_step grant_join(struct auth *a, const struct token_key *key,
                          const struct keyring_answer *k, bool waits, struct failure *f);
void grant_leave(struct auth *a);
void grant_stop_all(struct authority *authority);

/* The end of a grant for one who waited. `may_differ`: the credential was refused, and
 * there may be another by now. */
void auth_granted(struct auth *a, const struct failure *f, bool may_differ);

/* What the configuration says of credentials and realms. */
struct keyring_source auth_source(const struct config_upstream *to);
struct realm_policy auth_policy(const struct auth *a);

#endif
