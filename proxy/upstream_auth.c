/* SPDX-License-Identifier: ISC */
/*
 * Who we are to a registry, exchange by exchange.
 *
 * A first exchange goes without credentials; the challenge that answers it is
 * remembered for the repository, so that later ones bring what is wanted at once. What
 * is refused though it was at hand before the exchange began may be out of date: it is
 * got anew, once. What was got for this very exchange and is refused stays so.
 */
#include "proxy/upstream_auth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "proxy/secret.h"
#include "proxy/thread.h"
#include "proxy/upstream_private.h"

#define SHAPES_MAX 1024
/* A token that is younger has not expired, whatever was answered. */
#define EXPIRED_AGE_MS (60 * 1000)
/* A repository that refused a new token is not tried with another for so long: what
 * does not exist, registries refuse in the same way. */
#define DENIED_MS (60 * 1000)

/* Held in the order of their coming. */
struct shape {
    char *key; /* origin and repository */
    struct demand demand;
    int64_t denied_ms; /* when it refused a new token; 0: it did not */
    UT_hash_handle hh;
};

struct authority *authority_new(struct upstream *u)
{
    struct authority *authority = mem_new(sizeof *authority);

    authority->upstream = u;
    authority->keyring = keyring_new(u->base, u->parts.log);
    authority->tokens = token_cache_new();
    LIST_INIT(&authority->grants);
    return authority;
}

/* --- what was demanded --- */

static char *shape_key(const struct auth *a)
{
    struct span authority = realm_authority(a->url);

    return mem_format("%.*s %s", (int)(authority.p + authority.len - a->url), a->url,
                      a->repository);
}

static struct shape *shape_find(const struct auth *a)
{
    char *key = shape_key(a);
    struct shape *s;

    HASH_FIND_STR(a->authority->shapes, key, s);
    free(key);
    return s;
}

static void shape_drop(struct authority *authority, struct shape *s)
{
    HASH_DEL(authority->shapes, s);
    free(s->key);
    free(s);
}

static void forget(struct auth *a)
{
    struct shape *s = shape_find(a);

    if (s)
        shape_drop(a->authority, s);
}

static void remember(struct auth *a, const struct demand *d)
{
    struct authority *authority = a->authority;
    struct shape *s = shape_find(a);

    a->is_known = true;
    a->demand = *d;
    if (!s) {
        /* The first of the list came first. */
        if (HASH_COUNT(authority->shapes) >= SHAPES_MAX)
            shape_drop(authority, authority->shapes);
        s = mem_new(sizeof *s);
        s->key = shape_key(a);
        /* The analyzer does not see that HASH_DEL has moved the head off what was freed. */
        HASH_ADD_KEYPTR(hh, authority->shapes, s->key, strlen(s->key), s); /* NOLINT */
    }
    s->demand = *d;
}

void authority_free(struct authority **ap)
{
    struct authority *authority = *ap;

    if (!authority)
        return;
    *ap = NULL;
    grant_stop_all(authority);
    for (struct shape *s = authority->shapes, *next; s; s = next) {
        next = s->hh.next;
        shape_drop(authority, s);
    }
    token_cache_free(&authority->tokens);
    keyring_free(&authority->keyring);
    free(authority);
}

/* --- what is brought --- */

struct keyring_source auth_source(const struct config_upstream *to)
{
    return (struct keyring_source){
        .registry = to->registry,
        .username = to->username,
        .password_file = to->password_file,
        .helper = to->credential_helper,
    };
}

struct realm_policy auth_policy(const struct auth *a)
{
    return (struct realm_policy){
        .registry = a->to->registry,
        .url = a->url,
        .hosts = a->to->realm_hosts,
        .host_count = a->to->realm_host_count,
    };
}

static void set_field(struct auth *a, char *field, int64_t got_ms, uint64_t credential)
{
    secret_free(a->field);
    a->field = field;
    a->got_ms = got_ms;
    a->credential = credential;
}

static enum auth_step take_basic(struct auth *a, const struct keyring_answer *k, struct failure *f)
{
    const char *registry = a->to->registry;

    if (k->state == KEYRING_ANONYMOUS) {
        failure_set(f, OUT_UPSTREAM_DENIED, false,
                    "%s: wants a password, and [upstream %s] has none", registry, registry);
        return AUTH_REFUSED;
    }
    if (k->credential->is_identity) {
        failure_set(f, OUT_UPSTREAM_DENIED, false,
                    "%s: wants a password, and the helper gave an identity token", registry);
        return AUTH_REFUSED;
    }
    if (k->id == a->refused) {
        failure_set(f, OUT_UPSTREAM_DENIED, false,
                    "%s: refused the user name or password of [upstream %s]", registry, registry);
        return AUTH_REFUSED;
    }
    set_field(a, secret_basic(k->credential->username, k->credential->secret), k->got_ms, k->id);
    return AUTH_GO;
}

static struct token_key token_key_of(const struct auth *a, uint64_t credential)
{
    const struct challenge *c = &a->demand.challenge;

    return (struct token_key){
        .registry = a->to->registry,
        .credential = credential,
        .realm = c->realm,
        .service = c->service,
        .scope = c->scope,
    };
}

static enum auth_step take_token(struct auth *a, const struct keyring_answer *k, struct failure *f)
{
    struct token_key key = token_key_of(a, k->id);
    int64_t now_ms = clock_now_ms();
    const struct token *t = token_cache_find(a->authority->tokens, &key, now_ms);
    struct failure ignored;

    if (!t)
        return grant_join(a, &key, k, true, f);
    bool is_due = token_is_due(t, now_ms);
    set_field(a, secret_join("Bearer ", t->text), t->got_ms, k->id);
    if (is_due)
        (void)grant_join(a, &key, k, false, &ignored);
    return AUTH_GO;
}

/* Bring what is demanded. */
static enum auth_step take(struct auth *a, struct failure *f)
{
    struct keyring_source source = auth_source(a->to);
    struct keyring_answer k;

    set_field(a, NULL, 0, 0);
    keyring_get(a->authority->keyring, &source, clock_now_ms(), &k);
    switch (k.state) {
    case KEYRING_BUSY:
        keyring_wait(a->authority->keyring, &source, &a->key_wait);
        return AUTH_WAIT;
    case KEYRING_FAILED:
        failure_set(f, OUT_CREDENTIAL, source.helper != NULL, "%s: %s", a->to->registry, k.why);
        return AUTH_REFUSED;
    case KEYRING_READY:
        break;
    case KEYRING_ANONYMOUS:
        break;
    }
    if (a->demand.challenge.scheme == CHALLENGE_BASIC)
        return take_basic(a, &k, f);
    return take_token(a, &k, f);
}

/* Let a client that was refused bring credentials of its own, if we have none. */
static void offer(const struct auth *a, struct failure *f)
{
    struct realm_policy policy = auth_policy(a);
    const struct challenge *c = &a->demand.challenge;
    bool has_own = a->to->password_file || a->to->credential_helper;
    char why[sizeof f->why];

    if (f->outcome != OUT_UPSTREAM_DENIED || !a->is_known || (has_own && !a->is_mute))
        return;
    if (c->scheme == CHALLENGE_BEARER && realm_check(&policy, c->realm, why, sizeof why) != 0)
        return;
    challenge_format(c, f->challenge, sizeof f->challenge);
}

/* After a wait. */
static void resume(struct auth *a, const struct failure *f)
{
    struct failure own;
    enum auth_step step = AUTH_REFUSED;

    if (f)
        own = *f;
    else
        step = take(a, &own);
    switch (step) {
    case AUTH_WAIT:
        break;
    case AUTH_REFUSED:
        offer(a, &own);
        a->ready(a, &own);
        break;
    case AUTH_GO:
        a->ready(a, NULL);
        break;
    }
}

static void key_is_ready(struct keyring_waiter *w)
{
    resume(CONTAINER_OF(w, struct auth, key_wait), NULL);
}

void auth_granted(struct auth *a, const struct failure *f, bool may_differ)
{
    bool again = f && may_differ && !a->is_rekeyed;

    a->is_rekeyed |= again;
    /* The realm may have moved: the next exchange hears of it. */
    if (f)
        forget(a);
    resume(a, again ? NULL : f);
}

/* --- the exchange --- */

void auth_init(struct auth *a, struct authority *authority, const struct config_upstream *to,
               const char *url, const char *repository, bool is_mute)
{
    *a = (struct auth){
        .authority = authority,
        .to = to,
        .is_mute = is_mute,
        .url = mem_copy(url, strlen(url)),
        .repository = mem_copy(repository, strlen(repository)),
        .key_wait.ready = key_is_ready,
        .begun_ms = clock_now_ms(),
    };
}

void auth_clear(struct auth *a)
{
    keyring_leave(&a->key_wait);
    grant_leave(a);
    secret_free(a->field);
    a->field = NULL;
    free(a->url);
    free(a->repository);
    a->url = a->repository = NULL;
}

enum auth_step auth_begin(struct auth *a, struct failure *f)
{
    const struct shape *s = a->is_mute ? NULL : shape_find(a);

    if (!s)
        return AUTH_GO;
    a->is_known = true;
    a->demand = s->demand;
    a->was_denied = s->denied_ms > 0 && a->begun_ms - s->denied_ms < DENIED_MS;
    enum auth_step step = take(a, f);
    if (step == AUTH_REFUSED)
        offer(a, f);
    return step;
}

/* The challenge that we answer: a token rather than a password, which stays with the
 * registry at least. */
static bool choose(const struct auth *a, const struct challenges *cs, struct demand *d,
                   struct failure *f)
{
    const struct challenge *bearer = cs ? challenge_find(cs, CHALLENGE_BEARER) : NULL;
    const struct challenge *basic = cs ? challenge_find(cs, CHALLENGE_BASIC) : NULL;
    struct realm_policy policy = auth_policy(a);
    char why[sizeof f->why];

    if (bearer && realm_check(&policy, bearer->realm, why, sizeof why) == 0)
        d->challenge = *bearer;
    else if (basic)
        d->challenge = *basic;
    else if (bearer)
        failure_set(f, OUT_UPSTREAM_DENIED, false, "%s", why);
    else
        failure_set(f, OUT_UPSTREAM_DENIED, false,
                    "%s: answered 401 without a challenge that can be met", a->to->registry);
    return d->challenge.scheme != CHALLENGE_OTHER;
}

static bool is_same(const struct challenge *a, const struct challenge *b)
{
    return a->scheme == b->scheme && strcmp(a->realm, b->realm) == 0 &&
           strcmp(a->service, b->service) == 0 && strcmp(a->scope, b->scope) == 0;
}

/* What was brought is good no more: see that it is not brought again. False when there is
 * nothing else. */
static bool renew(struct auth *a)
{
    struct keyring_source source = auth_source(a->to);

    if (!a->field || a->is_renewed || a->got_ms >= a->begun_ms)
        return false;
    a->is_renewed = true;
    if (a->demand.challenge.scheme == CHALLENGE_BASIC) {
        a->refused = a->credential;
        return keyring_refused(a->authority->keyring, &source, a->credential, clock_now_ms());
    }
    if (a->was_denied)
        return false;
    struct token_key key = token_key_of(a, a->credential);
    token_cache_drop(a->authority->tokens, &key, a->field + strlen("Bearer "));
    return true;
}

static void deny(const struct auth *a, struct failure *f)
{
    const char *registry = a->to->registry;
    struct shape *s = shape_find(a);

    if (s)
        s->denied_ms = clock_now_ms();
    if (a->demand.challenge.scheme == CHALLENGE_BASIC)
        failure_set(f, OUT_UPSTREAM_DENIED, false,
                    "%s: refused the user name or password of [upstream %s]", registry, registry);
    else if (a->credential == 0)
        failure_set(f, OUT_UPSTREAM_DENIED, false,
                    "%s: the repository %s does not exist or needs credentials", registry,
                    a->repository);
    else
        failure_set(f, OUT_UPSTREAM_DENIED, false,
                    "%s: the repository %s does not exist, or is not for the user of [upstream %s]",
                    registry, a->repository, registry);
}

/* The registry wants to know who we are, or does not like who we said. */
static enum auth_step meet(struct auth *a, const struct demand *d, struct failure *f)
{
    bool is_new = !a->is_known || !is_same(&d->challenge, &a->demand.challenge);

    if (!a->field || (is_new && !a->is_renewed)) {
        a->is_renewed = a->field != NULL;
        remember(a, d);
        return take(a, f);
    }
    if (renew(a))
        return take(a, f);
    deny(a, f);
    return AUTH_REFUSED;
}

enum auth_step auth_refused(struct auth *a, const struct head *h, bool is_inside, struct failure *f)
{
    struct demand d = {.is_inside = is_inside};
    struct challenge *c = &d.challenge;
    struct failure own;
    enum auth_step step = AUTH_REFUSED;

    /* Amazon's registries answer with 400 and 403 when a token has expired. */
    if (h->status != 401)
        return clock_now_ms() - a->got_ms >= EXPIRED_AGE_MS && renew(a) ? take(a, f) : AUTH_REFUSED;
    if (!choose(a, h->challenges, &d, &own)) {
        if (!a->is_mute)
            *f = own;
        return AUTH_REFUSED;
    }
    if (c->scope[0] == '\0')
        snprintf(c->scope, sizeof c->scope, "repository:%s:pull", a->repository);
    if (a->is_mute) {
        a->is_known = true;
        a->demand = d;
    } else {
        step = meet(a, &d, f);
    }
    if (step == AUTH_REFUSED)
        offer(a, f);
    return step;
}
