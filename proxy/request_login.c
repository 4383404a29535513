/* SPDX-License-Identifier: ISC */
#include "proxy/request_login.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proxy/access.h"
#include "proxy/bearer.h"
#include "proxy/http_forward.h"
#include "proxy/login.h"
#include "proxy/request_private.h"
#include "proxy/viewer.h"

struct guest {
    struct login login;
    struct login_check *check;    /* while it is under way */
    struct bearer_grants *grants; /* of his token; NULL: not read yet, or it is not good */
    bool has_grants;
    enum right right; /* that is asked for; 0: only who he is */
    void (*granted)(struct request *r);
};

/* --- where we are --- */

/* Whether the first such field has the value; `name` is with its colon. */
static bool has_field(struct span fields, const char *name, const char *value)
{
    while (fields.p != NULL && fields.len > 0) {
        struct span line = span_cut(&fields, '\n');
        size_t len = strlen(name);

        if (line.len < len || !span_equal_fold((struct span){line.p, len}, name))
            continue;
        line = span_from(line, len);
        while (line.len > 0 && (*line.p == ' ' || *line.p == '\t'))
            line = span_from(line, 1);
        while (line.len > 0 && strchr("\r \t", line.p[line.len - 1]))
            line.len--;
        return span_equal_fold(line, value);
    }
    return false;
}

/* What a proxy before us says of the client's side counts for nothing but where that client
 * is sent with its own password, and only towards TLS. */
static bool came_by_tls(const struct request *r, const struct http_head *h)
{
    return conn_listener(r->conn)->identity || has_field(h->fields, "X-Forwarded-Proto:", "https");
}

static bool is_local_registry(const struct request *r)
{
    return conn_listener(r->conn)->role == ROLE_REGISTRY;
}

/* Whether there are passes: where tokens are somebody else's, they are the only ones. */
static bool has_passes(const struct request *r)
{
    const struct config_auth *a = &r->worker->config->auth;

    return is_local_registry(r) && a->passwords && !a->key;
}

void request_login_begin(struct request *r, const struct http_head *h)
{
    struct span host = http_target_authority(h->target);

    r->origin[0] = '\0';
    if (!has_passes(r))
        return;
    /* RFC 9112 section 3.2.2: that of the target comes before the field. */
    if (!host.p)
        host = h->host;
    if (!host.p || host.len == 0 || host.len + sizeof "https://" > sizeof r->origin)
        return;
    snprintf(r->origin, sizeof r->origin, "%s://%.*s", came_by_tls(r, h) ? "https" : "http",
             (int)host.len, host.p);
}

/* --- who it is --- */

static const struct name *repository_of(const struct request *r)
{
    return r->target.name.repository[0] ? &r->target.name : NULL;
}

/* What the client says of itself to us: elsewhere than on a registry listener that is for
 * the upstream. */
static const char *credentials(const struct request *r)
{
    return is_local_registry(r) ? r->behalf.authorization : NULL;
}

/* Who answers Basic already, or asks for the pass that the other challenge is about. */
static bool wants_basic(const struct request *r)
{
    const char *said = credentials(r);

    return r->target.endpoint == ENDPOINT_TOKEN || r->target.endpoint == ENDPOINT_REPORT ||
           (said && strncasecmp(said, "Basic ", 6) == 0);
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

    login_challenge(r->worker->config, wants_basic(r) ? "" : r->origin, repository_of(r),
                    scope_actions(r->guest->right), text, sizeof text);
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

    return is_local_registry(r) && (g->login.is_token || g->login.result == LOGIN_ANONYMOUS) &&
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
    const struct login *l = &r->guest->login;

    if (l->result == LOGIN_ANONYMOUS && !l->is_pass &&
        access_wants_users(r->worker->config, conn_peer(r->conn)))
        challenge(r, NULL);
    else
        request_text(r, "application/json", "{}", 2);
}

void request_greet(struct request *r)
{
    ask(r, 0, greeted);
}

static void send_pass(struct request *r)
{
    char pass[PASS_TEXT_SIZE], date[32], text[2 * PASS_TEXT_SIZE + 128];
    time_t now_s = (time_t)r->worker->now_s;
    struct tm tm;

    login_give_pass(r->worker->parts.logins, &r->guest->login, pass);
    gmtime_r(&now_s, &tm);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &tm);
    int len = snprintf(text, sizeof text,
                       "{\"token\":\"%s\",\"access_token\":\"%s\",\"expires_in\":%d,"
                       "\"issued_at\":\"%s\"}",
                       pass, pass, PASS_TOLD_S, date);
    request_text(r, "application/json", text, (size_t)len);
    explicit_bzero(pass, sizeof pass);
    explicit_bzero(text, sizeof text);
}

/* A pass is not good for another: it would never end. */
static void asked_pass(struct request *r)
{
    if (r->guest->login.is_pass)
        challenge(r, "a token is given for a password, not for a token");
    else
        send_pass(r);
}

void request_give_pass(struct request *r)
{
    if (has_passes(r))
        ask(r, 0, asked_pass);
    else
        request_error(r, OUT_NO_ROUTE, "there is no password-file in [auth], or a token server", 0);
}

/* --- who looks --- */

void request_know(struct request *r, void (*known)(struct request *r))
{
    ask(r, 0, known);
}

/* Whether it would help a browser's user to say who he is. */
static bool has_passwords(const struct request *r)
{
    return is_local_registry(r) && r->worker->config->auth.passwords;
}

void request_sign_in(struct request *r)
{
    static const struct reply_extra fields[] = {{"Location", "/"}, {NULL, NULL}};

    if (!has_passwords(r))
        request_error(r, OUT_NO_ROUTE, "there is no password-file in [auth]", 0);
    else if (r->guest->login.result == LOGIN_KNOWN)
        request_done(r, OUT_LOCAL, 303, fields);
    else
        challenge(r, NULL);
}

const char *request_user(const struct request *r)
{
    return r->guest && r->guest->login.user[0] ? r->guest->login.user : NULL;
}

/* Checked once, however many repositories are asked about. */
static const struct bearer_grants *grants_of(struct request *r)
{
    struct guest *g = r->guest;
    const struct login_order order = {
        .config = r->worker->config,
        .authorization = credentials(r),
    };

    if (!g->has_grants)
        g->grants = login_grants(&order);
    g->has_grants = true;
    return g->grants;
}

void request_viewer(struct request *r, struct viewer *v)
{
    struct guest *g = r->guest;
    const char *user = request_user(r);
    const char *peer = conn_peer(r->conn);
    const struct config_listener *l = conn_listener(r->conn);

    *v = (struct viewer){
        .config = config_ref(r->worker->config),
        .is_operator = l->is_admin,
        .mirror_of = l->role == ROLE_MIRROR ? mem_copy(l->mirror_of, strlen(l->mirror_of)) : NULL,
        .peer = mem_copy(peer, strlen(peer)),
        .user = user ? mem_copy(user, strlen(user)) : NULL,
        .has_token = g->login.is_token,
        .may_login = has_passwords(r),
    };
    if (!v->has_token)
        return;
    (void)grants_of(r);
    v->grants = g->grants;
    g->grants = NULL;
}

bool request_may(struct request *r, const struct name *n, enum right right)
{
    if (!r->guest->login.is_token)
        return may(r, n, right);
    const struct bearer_grants *grants = grants_of(r);
    return grants && (bearer_grants_for(grants, n) & right);
}

void request_login_end(struct request *r)
{
    if (!r->guest)
        return;
    login_cancel(&r->guest->check);
    bearer_grants_free(&r->guest->grants);
    free(r->guest);
    r->guest = NULL;
}
