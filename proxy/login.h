/* SPDX-License-Identifier: ISC */
/*
 * Who a client is, by its Authorization field: a password (Basic, RFC 7617), or a token
 * (Bearer, RFC 6750) that a token server has signed or, where there is none, a pass of our
 * own; and what it may do then.
 *
 * Tokens and passes are checked at once. Passwords are checked by threads of their own, one check
 * for all who wait for the same; a right one is remembered for five minutes, for as long as the
 * password file says the same of it, and is right at once then.
 *
 *   WAITING     for a thread, or for the end of a check
 *      |  \
 *      |   `--login_cancel-->  gone
 *   ANSWERED    the message is under way  --login_cancel-->  ABANDONED
 *      |                                                         |
 *     gone, then `done`                                         gone
 */
#ifndef PROXY_LOGIN_H
#define PROXY_LOGIN_H

#include <stdbool.h>
#include <stddef.h>

#include "cache/name.h"
#include "proxy/config.h"
#include "proxy/pass.h"
#include "proxy/password.h"
#include "proxy/queue.h"
#include "proxy/right.h"

#define LOGIN_THREADS_MAX 8
#define LOGIN_CHECKS_MAX 64 /* passwords that wait for a thread; one more is LOGIN_LIMITED */

enum login_result {
    LOGIN_ANONYMOUS, /* it said nothing, or there is nothing to hold that against */
    LOGIN_KNOWN,
    LOGIN_WRONG,   /* 401, with a challenge */
    LOGIN_LIMITED, /* 429: too many were wrong, or are being checked */
    LOGIN_PENDING,
};

struct login {
    enum login_result result;
    bool is_token;
    bool is_pass;                  /* one of our own; of anybody, or of nobody (LOGIN_ANONYMOUS) */
    char user[CONFIG_USER_SIZE];   /* of LOGIN_KNOWN; empty for the token of somebody anonymous */
    char hash[PASSWORD_HASH_SIZE]; /* that his password was found to have; else empty */
    unsigned grants;               /* of a token: enum right, for the repository that was asked */
    int retry_after_s;             /* of LOGIN_LIMITED */
    const char *why; /* of LOGIN_WRONG and LOGIN_LIMITED: a sentence for people; no secrets */
};

struct logins;
struct login_check;

struct logins *logins_start(unsigned threads);
/* What is not answered yet is, with LOGIN_LIMITED: the queues must be there still. After it
 * nothing is cancelled any more. NULL is legal; leaves NULL. */
void logins_stop(struct logins **l);

struct login_order {
    const struct config *config; /* not used after login_begin */
    const char *authorization;   /* the field's value, or NULL; not used after login_begin */
    const char *peer;            /* the client's address; the same */
    /* Whose grants a token is read for, or NULL for the list of repositories; the same. Who
     * asks about more than one has login_grants too. */
    const struct name *repository;
    struct queue *answers;
    /* Run by the queue's thread, once, unless login_cancel came first; never before
     * login_begin has returned. The check is gone by then. */
    void (*done)(void *arg, const struct login *l);
    void *arg;
};

/* NULL when the answer is known at once, in `*now`; else that is LOGIN_PENDING and `done`
 * will be called. The thread of `answers`. */
struct login_check *login_begin(struct logins *l, const struct login_order *o, struct login *now);

/* The thread of `answers`: `done` is not called any more. Its message may be in the queue
 * already, which must be run once more before it is freed. NULL is legal; leaves NULL. */
void login_cancel(struct login_check **c);

struct bearer_grants;

/* All that the token grants which the order has; NULL when it is not good any more. Owned by
 * the caller. Checks the signature once more: to be kept while there is more to ask. */
struct bearer_grants *login_grants(const struct login_order *o);

/* A pass for the client that gave a password, or nothing: LOGIN_KNOWN or LOGIN_ANONYMOUS. */
void login_give_pass(const struct logins *l, const struct login *who, char out[PASS_TEXT_SIZE]);

/* Whether that client may: by what its token grants alone when it has one (`repository`
 * is then the one that was asked), else by the rules for its user, or for anybody. */
bool login_allows(const struct login *l, const struct config *c, const char *peer,
                  const struct name *repository, enum right right);

#define LOGIN_CHALLENGE_SIZE 4096

#define LOGIN_PASS_PATH "/-/token"

/* The value of WWW-Authenticate; empty when clients cannot say who they are. `actions`
 * ("pull,push") are of the scope, which is left out with a NULL repository.
 *
 * With a token server it is Bearer, and names that. With passwords it is Bearer too and
 * names ourselves, LOGIN_PASS_PATH at `origin` ("https://HOST:PORT"), because clients that
 * have no password can answer it: at Basic they give up, though they might be let pull. It
 * is Basic with an empty `origin`: for who is not known to have come from anywhere, or shows
 * that he means to answer Basic. */
void login_challenge(const struct config *c, const char *origin, const struct name *repository,
                     const char *actions, char *out, size_t size);

#endif
