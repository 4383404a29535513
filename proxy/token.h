/* SPDX-License-Identifier: ISC */
/*
 * Tokens of registries: how one is asked for, what the answer says, and those that
 * are held. As Docker's registries do it (distribution, "Token Authentication
 * Specification"), which is RFC 6750 with a beginning of its own. No I/O.
 *
 * A cache belongs to one thread. Times are of CLOCK_MONOTONIC.
 */
#ifndef PROXY_TOKEN_H
#define PROXY_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"

#define TOKEN_TEXT_MAX (64u * 1024)
#define TOKEN_ANSWER_MAX (128u * 1024) /* bytes of the body that has it */

struct token {
    char *text; /* visible ASCII: fit for a field */
    int64_t got_ms;
    int64_t life_ms;
};

/* Take the token out of a JSON answer: "token" or "access_token"; "expires_in" is
 * 60 s when absent, at least 60 s and at most 12 h. `asked_ms` is when it was asked for.
 * ERR_INVALID with a sentence in `why`, which quotes nothing of the answer. */
MUST_CHECK int token_parse(struct token *t, const void *answer, size_t len, int64_t asked_ms,
                           char *why, size_t why_size);

/* Forget it, its bytes in memory too. */
void token_clear(struct token *t);

/* "<realm>?service=...&scope=...&account=...", owned by the caller. An empty value is
 * left out, a scope of several words is as many parameters; `account` may be NULL. */
char *token_url(const char *realm, const char *service, const char *scope, const char *account);

/* The body of a POST that trades an identity token for one (RFC 6749 section 6), owned
 * by the caller (secret_free). */
char *token_form(const char *service, const char *scope, const char *refresh_token);

/* All that a token depends on; two who differ in any of it never share one. */
struct token_key {
    const char *registry;
    uint64_t credential; /* 0: anonymous */
    const char *realm;
    const char *service;
    const char *scope;
};

struct token_cache;

struct token_cache *token_cache_new(void);
/* NULL is legal; leaves NULL. */
void token_cache_free(struct token_cache **c);

/* The token that is held and has not expired, until the next call; or NULL. */
const struct token *token_cache_find(struct token_cache *c, const struct token_key *key,
                                     int64_t now_ms);
/* Hold it from here on; `t` is left empty. */
void token_cache_put(struct token_cache *c, const struct token_key *key, struct token *t);
/* A token with this text was refused: hold it no more. */
void token_cache_drop(struct token_cache *c, const struct token_key *key, const char *text);

/* Whether 80 % of its life are over: time for another. */
bool token_is_due(const struct token *t, int64_t now_ms);

#endif
