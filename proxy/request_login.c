/* SPDX-License-Identifier: ISC */
#include "proxy/request_login.h"

#include <stdlib.h>

#include "proxy/access.h"
#include "proxy/login.h"
#include "proxy/request_private.h"

struct guest {
    struct login login;
    struct login_check *check; /* while it is under way */
    enum right right;          /* that is asked for; 0: only who he is */
    void (*granted)(struct request *r);
};

static const struct name *repository_of(const struct request *r)
{
    return r->target.name.repository[0] ? &r->target.name : NULL;
}

/* What the client says of itself to us: elsewhere than on a registry listener that is for
 * the upstream. */
static const char *credentials(const struct request *r)
{
    return conn_listener(r->conn)->role == ROLE_REGISTRY ? r->behalf.authorization : NULL;
}

static const char *scope_actions(enum right right)
{
    switch (right) {
    case RIGHT_PULL:
        return "pull";
    case RIGHT_PUSH:
        return "pull,push";
    case RIGHT_DELETE:
        return "delete";
    }
    return "pull";
}

static void challenge(struct request *r, const char *why)
{
    char text[LOGIN_CHALLENGE_SIZE];

    login_challenge(r->worker->config, repository_of(r), scope_actions(r->guest->right), text,
                    sizeof text);
    request_challenge(r, OUT_LOGIN, text[0] ? text : NULL, why);
}

static bool may(const struct request *r, const struct name *n, enum right right)
{
    return login_allows(&r->guest->login, r->worker->config, conn_peer(r->conn), n, right);
}

/* Whether a login would help, and can be asked for. */
static bool can_be_challenged(const struct request *r)
{
    const struct guest *g = r->guest;

    return conn_listener(r->conn)->role == ROLE_REGISTRY &&
           (g->login.is_token || g->login.result == LOGIN_ANONYMOUS) &&
           access_any_user_could(r->worker->config, conn_peer(r->conn), &r->target.name, g->right);
}

static void judge(struct request *r)
{
    struct guest *g = r->guest;

    if (!g->right || may(r, &r->target.name, g->right))
        g->granted(r);
    else if (can_be_challenged(r))
        challenge(r, NULL);
    else
        request_error(
            r, OUT_ACCESS,
            name_is_local(&r->target.name)
                ? "see [access] in cachalot.ini"
                : "this upstream's content is private (visibility = private): see [access] "
                  "in cachalot.ini",
            0);
}

static void answered(struct request *r)
{
    struct guest *g = r->guest;

    switch (g->login.result) {
    case LOGIN_ANONYMOUS:
    case LOGIN_KNOWN:
        judge(r);
        break;
    case LOGIN_WRONG:
        challenge(r, g->login.why);
        break;
    case LOGIN_LIMITED:
        request_error(r, OUT_LOGIN_LIMITED, g->login.why, g->login.retry_after_s);
        break;
    case LOGIN_PENDING:
        CHECK(!"an answer");
    }
}

static void on_login(void *arg, const struct login *l)
{
    struct request *r = arg;

    worker_clock(r->worker);
    r->guest->check = NULL;
    r->guest->login = *l;
    answered(r);
}

static void ask(struct request *r, enum right right, void (*granted)(struct request *r))
{
    struct guest *g = mem_new(sizeof *g);
    struct login_order order = {
        .config = r->worker->config,
        .authorization = credentials(r),
        .peer = conn_peer(r->conn),
        .repository = repository_of(r),
        .answers = r->worker->queue,
        .done = on_login,
        .arg = r,
    };

    CHECK(!r->guest);
    r->guest = g;
    g->right = right;
    g->granted = granted;
    g->check = login_begin(r->worker->parts.logins, &order, &g->login);
    if (g->check)
        request_enter(r, REQUEST_WORKING);
    else
        answered(r);
}

void request_login(struct request *r, enum right right, void (*granted)(struct request *r))
{
    ask(r, right, granted);
}

/* Clients that take their challenge from the ping alone get it there, unless nobody needs
 * to say who he is. */
static void greeted(struct request *r)
{
    if (r->guest->login.result == LOGIN_ANONYMOUS &&
        access_wants_users(r->worker->config, conn_peer(r->conn)))
        challenge(r, NULL);
    else
        request_text(r, "application/json", "{}", 2);
}

void request_greet(struct request *r)
{
    ask(r, 0, greeted);
}

/* A token says what it grants for one repository: it is read again for another. */
bool request_may(struct request *r, const struct name *n, enum right right)
{
    struct login_order order = {
        .config = r->worker->config,
        .authorization = credentials(r),
        .peer = conn_peer(r->conn),
        .repository = n,
        .answers = r->worker->queue,
    };
    struct login again;

    if (!r->guest->login.is_token)
        return may(r, n, right);
    struct login_check *check = login_begin(r->worker->parts.logins, &order, &again);
    login_cancel(&check);
    return again.result == LOGIN_KNOWN &&
           login_allows(&again, r->worker->config, conn_peer(r->conn), n, right);
}

void request_login_end(struct request *r)
{
    if (!r->guest)
        return;
    login_cancel(&r->guest->check);
    free(r->guest);
    r->guest = NULL;
}
