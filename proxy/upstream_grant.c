/* SPDX-License-Identifier: ISC */
/*
 * A token on its way: one request to a token server, for all who wait for that token.
 * It goes on when nobody does, since the next one will.
 */
#include "proxy/upstream_auth.h"

#include <stdlib.h>
#include <string.h>

#include "proxy/secret.h"
#include "proxy/thread.h"
#include "proxy/upstream_private.h"

struct grant {
    struct authority *authority;
    LIST_ENTRY(grant) link;
    struct config *config; /* for `to` */
    const struct config_upstream *to;
    char *realm;
    char *service;
    char *scope;
    uint64_t credential;
    LIST_HEAD(, auth) waiters;
    struct transfer *transfer;
    int64_t asked_ms;
    char *answer; /* secret */
    size_t len;
};

static struct token_key key_of(const struct grant *g)
{
    return (struct token_key){g->to->registry, g->credential, g->realm, g->service, g->scope};
}

static struct grant *find(const struct authority *authority, const struct token_key *k)
{
    struct grant *g;

    LIST_FOREACH (g, &authority->grants, link) {
        if (g->credential == k->credential && strcmp(g->to->registry, k->registry) == 0 &&
            strcmp(g->realm, k->realm) == 0 && strcmp(g->service, k->service) == 0 &&
            strcmp(g->scope, k->scope) == 0)
            return g;
    }
    return NULL;
}

static void grant_free(struct grant *g)
{
    CHECK(LIST_EMPTY(&g->waiters));
    LIST_REMOVE(g, link);
    transfer_cancel(&g->transfer);
    explicit_bzero(g->answer, TOKEN_ANSWER_MAX);
    free(g->answer);
    free(g->realm);
    free(g->service);
    free(g->scope);
    config_unref(&g->config);
    free(g);
}

void grant_leave(struct auth *a)
{
    if (!a->grant)
        return;
    a->grant = NULL;
    LIST_REMOVE(a, link);
}

void grant_stop_all(struct authority *authority)
{
    for (struct grant *g = LIST_FIRST(&authority->grants), *next; g; g = next) {
        next = LIST_NEXT(g, link);
        grant_free(g);
    }
}

/* --- the answer --- */

static struct span server(const struct grant *g)
{
    return realm_authority(g->realm);
}

static bool on_head(void *arg, const struct head *h, struct failure *f)
{
    (void)arg;
    (void)h;
    (void)f;
    return true;
}

static bool on_body(void *arg, const void *data, size_t len, struct failure *f)
{
    struct grant *g = arg;

    if (len > TOKEN_ANSWER_MAX - g->len) {
        failure_set(f, OUT_UPSTREAM_BROKEN, false,
                    "%.*s: the token's answer has more than %u bytes", (int)server(g).len,
                    server(g).p, TOKEN_ANSWER_MAX);
        return false;
    }
    memcpy(g->answer + g->len, data, len);
    g->len += len;
    return true;
}

static bool keep_token(struct grant *g, struct failure *f)
{
    struct token_key key = key_of(g);
    struct token t;
    char why[128];

    if (token_parse(&t, g->answer, g->len, g->asked_ms, why, sizeof why) != 0) {
        failure_set(f, OUT_UPSTREAM_BROKEN, true, "%.*s: %s", (int)server(g).len, server(g).p, why);
        return false;
    }
    log_event(g->authority->upstream->parts.log, LOG_DEBUG, "%.*s gave a token for %s: %lld s",
              (int)server(g).len, server(g).p, g->scope, (long long)(t.life_ms / 1000));
    token_cache_put(g->authority->tokens, &key, &t);
    return true;
}

/* What a refusal by the token server means. Whether there may be other credentials. */
static bool explain(struct grant *g, struct failure *f)
{
    struct keyring_source source = auth_source(g->to);

    if (f->outcome != OUT_UPSTREAM_DENIED)
        return false;
    if (g->credential == 0) {
        failure_set(f, OUT_UPSTREAM_DENIED, false,
                    "%.*s gives no token for %.100s: it does not exist or needs credentials",
                    (int)server(g).len, server(g).p, g->scope);
        return false;
    }
    failure_set(f, OUT_UPSTREAM_DENIED, false,
                "%.*s gives the user of [upstream %.80s] no token for %.80s", (int)server(g).len,
                server(g).p, g->to->registry, g->scope);
    return keyring_refused(g->authority->keyring, &source, g->credential, clock_now_ms());
}

static void on_done(void *arg, const struct failure *failed)
{
    struct grant *g = arg;
    LIST_HEAD(, auth) waiters = LIST_HEAD_INITIALIZER(waiters);
    struct failure f;
    bool may_differ = false;
    struct auth *a;

    g->transfer = NULL;
    bool good = !failed && keep_token(g, &f);
    if (failed) {
        f = *failed;
        may_differ = explain(g, &f);
    }
    /* Before they hear of it: who finds no token may want another grant. */
    while ((a = LIST_FIRST(&g->waiters))) {
        LIST_REMOVE(a, link);
        LIST_INSERT_HEAD(&waiters, a, link);
    }
    grant_free(g);
    while ((a = LIST_FIRST(&waiters))) {
        grant_leave(a);
        auth_granted(a, good ? NULL : &f, may_differ);
    }
}

static const struct transfer_calls calls = {
    .head = on_head,
    .body = on_body,
    .done = on_done,
};

/* --- the question --- */

static bool ask(struct grant *g, const struct keyring_answer *k, bool is_guarded)
{
    const struct credential *c = k->state == KEYRING_READY ? k->credential : NULL;
    bool by_form = c && c->is_identity;
    char *url = by_form ? mem_copy(g->realm, strlen(g->realm))
                        : token_url(g->realm, g->service, g->scope, c ? c->username : NULL);
    char *form = by_form ? token_form(g->service, g->scope, c->secret) : NULL;
    char *basic = c && !by_form ? secret_basic(c->username, c->secret) : NULL;
    struct behalf behalf = {.authorization = basic};
    struct transfer_order order = {
        .to = g->to,
        .registry = g->to->registry,
        .url = url,
        .behalf = &behalf,
        .timeout_ms = g->to->request_timeout_ms,
        .not_found = OUT_UPSTREAM_BROKEN,
        .is_token = true,
        .is_guarded = is_guarded,
        .form = form,
    };

    g->asked_ms = clock_now_ms();
    g->transfer = transfer_start(g->authority->upstream, &order, &calls, g);
    free(url);
    secret_free(form);
    secret_free(basic);
    return g->transfer != NULL;
}

static struct grant *grant_new(struct authority *authority, const struct token_key *key)
{
    struct config *config = authority->upstream->config;
    const struct config_upstream *to = config_find_upstream(config, key->registry);

    if (!to)
        return NULL;
    struct grant *g = mem_new(sizeof *g);
    g->authority = authority;
    g->config = config_ref(config);
    g->to = to;
    g->realm = mem_copy(key->realm, strlen(key->realm));
    g->service = mem_copy(key->service, strlen(key->service));
    g->scope = mem_copy(key->scope, strlen(key->scope));
    g->credential = key->credential;
    g->answer = mem_new(TOKEN_ANSWER_MAX);
    LIST_INIT(&g->waiters);
    LIST_INSERT_HEAD(&authority->grants, g, link);
    return g;
}

enum auth_step grant_join(struct auth *a, const struct token_key *key,
                          const struct keyring_answer *k, bool waits, struct failure *f)
{
    struct realm_policy policy = auth_policy(a);
    struct grant *g = find(a->authority, key);
    char why[sizeof f->why];

    /* The configuration may have changed since the challenge came. */
    if (realm_check(&policy, key->realm, why, sizeof why) != 0) {
        failure_set(f, OUT_UPSTREAM_DENIED, false, "%s", why);
        return AUTH_REFUSED;
    }
    if (!g)
        g = grant_new(a->authority, key);
    if (g && !g->transfer &&
        !ask(g, k, !a->demand.is_inside && !realm_may_be_inside(&policy, key->realm))) {
        grant_free(g);
        g = NULL;
    }
    if (!g) {
        failure_set(f, OUT_UPSTREAM_BROKEN, false, "%s: its token server cannot be asked",
                    key->registry);
        return AUTH_REFUSED;
    }
    if (waits) {
        a->grant = g;
        LIST_INSERT_HEAD(&g->waiters, a, link);
    }
    return AUTH_WAIT;
}
