/* SPDX-License-Identifier: ISC */
#include "proxy/login.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "cache/lock.h"
#include "proxy/access.h"
#include "proxy/attempt.h"
#include "proxy/base64.h"
#include "proxy/bearer.h"
#include "proxy/challenge.h"
#include "proxy/password.h"
#include "proxy/permit.h"
#include "proxy/secret.h"
#include "proxy/socket.h"
#include "proxy/span.h"
#include "proxy/thread.h"

#define REMEMBER_MS (5 * 60 * 1000)
#define REMEMBERED_MAX 16384
#define ATTEMPTS_MAX 16384
#define BUSY_RETRY_S 2
/* "USER:PASSWORD" in base64, and a bit: no such user or password is longer. */
#define BASIC_TEXT_MAX 1024
/* ":" in base64: podman and skopeo say so, once challenged, when they have nothing to say. */
#define BASIC_NOBODY "Og=="

_Static_assert(PASSWORD_USER_SIZE == CONFIG_USER_SIZE && BEARER_SUBJECT_SIZE == CONFIG_USER_SIZE,
               "a user has one name");

enum check_state { WAITING, ANSWERED, ABANDONED };

/* One who waits. */
struct login_check {
    struct msg msg;
    LIST_ENTRY(login_check) link; /* of its job */
    enum check_state state;       /* by the lock of the logins */
    struct logins *logins;
    struct queue *answers;
    void (*done)(void *arg, const struct login *l);
    void *arg;
    struct login result;
};

/* One password to be checked, for all who gave it. */
struct job {
    LIST_ENTRY(job) link;     /* of all of them */
    STAILQ_ENTRY(job) queued; /* for a thread */
    LIST_HEAD(, login_check) checks;
    struct fingerprint print;
    char user[CONFIG_USER_SIZE];
    char peer[SOCKET_PEER_MAX]; /* whose attempt it is */
    char hash[PASSWORD_HASH_SIZE];
    bool is_user;
    char *password;
};

struct logins {
    uint8_t pass_key[PASS_KEY_BYTES];
    struct permits *remembered;
    struct attempts *attempts;
    pthread_mutex_t lock; /* guards what follows, and the jobs and checks */
    pthread_cond_t posted;
    LIST_HEAD(, job) jobs;
    STAILQ_HEAD(, job) waiting;
    unsigned waiting_count;
    bool stopping;
    unsigned thread_count;
    pthread_t threads[LOGIN_THREADS_MAX];
};

/* Nobody's: what is remembered is no right in a repository. */
static const struct name no_name;

static void refuse(struct login *l, const char *why)
{
    *l = (struct login){.result = LOGIN_WRONG, .why = why};
}

static void limit(struct login *l, int retry_after_s, const char *why)
{
    *l = (struct login){.result = LOGIN_LIMITED, .retry_after_s = retry_after_s, .why = why};
}

static void accept_user(struct login *l, const char *user, const char *hash)
{
    *l = (struct login){.result = LOGIN_KNOWN};
    snprintf(l->user, sizeof l->user, "%s", user);
    snprintf(l->hash, sizeof l->hash, "%s", hash);
}

/* --- threads --- */

static void job_free(struct job *j)
{
    secret_free(j->password);
    free(j);
}

/* With the lock held: from then on the checks are their own threads' alone. */
static void answer(struct job *j, const struct login *result)
{
    struct login_check *c;

    LIST_REMOVE(j, link);
    while ((c = LIST_FIRST(&j->checks))) {
        LIST_REMOVE(c, link);
        c->result = *result;
        c->state = ANSWERED;
        queue_post(c->answers, &c->msg);
    }
}

/* With the lock held: the next one, taken from the queue. */
static struct job *take_waiting(struct logins *l)
{
    struct job *j = STAILQ_FIRST(&l->waiting);

    if (j != NULL) {
        STAILQ_REMOVE_HEAD(&l->waiting, queued);
        l->waiting_count--;
    }
    return j;
}

static void check(struct logins *l, const struct job *j, struct login *result)
{
    bool matches = password_matches(j->hash, j->password);
    int64_t now_ms = clock_now_ms();

    if (!matches || !j->is_user) {
        refuse(result, "the user or the password is wrong");
        return;
    }
    attempt_forgive(l->attempts, j->peer, j->user, now_ms);
    permit_add(l->remembered, &j->print, &no_name, now_ms);
    accept_user(result, j->user, j->hash);
}

static void *logins_main(void *arg)
{
    struct logins *l = arg;
    struct login result;
    struct job *j;

    pthread_mutex_lock(&l->lock);
    while (!l->stopping) {
        j = take_waiting(l);
        if (j == NULL) {
            pthread_cond_wait(&l->posted, &l->lock);
            continue;
        }
        pthread_mutex_unlock(&l->lock);
        check(l, j, &result);
        pthread_mutex_lock(&l->lock);
        answer(j, &result);
        job_free(j);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

struct logins *logins_start(unsigned threads)
{
    struct logins *l = mem_new(sizeof *l);

    CHECK(threads > 0 && threads <= LOGIN_THREADS_MAX);
    lock_init(&l->lock);
    CHECK(pthread_cond_init(&l->posted, NULL) == 0);
    LIST_INIT(&l->jobs);
    STAILQ_INIT(&l->waiting);
    CHECK(getrandom(l->pass_key, sizeof l->pass_key, 0) == sizeof l->pass_key);
    l->remembered = permits_new(REMEMBERED_MAX);
    l->attempts = attempts_new(ATTEMPTS_MAX);
    l->thread_count = threads;
    for (unsigned i = 0; i < threads; i++)
        thread_start(&l->threads[i], "login", logins_main, l);
    return l;
}

void logins_stop(struct logins **lp)
{
    struct logins *l = *lp;
    struct login result;
    struct job *j;

    if (l == NULL)
        return;
    *lp = NULL;
    limit(&result, BUSY_RETRY_S, "cachalot is shutting down");
    pthread_mutex_lock(&l->lock);
    l->stopping = true;
    while ((j = take_waiting(l))) {
        answer(j, &result);
        job_free(j);
    }
    pthread_cond_broadcast(&l->posted);
    pthread_mutex_unlock(&l->lock);
    for (unsigned i = 0; i < l->thread_count; i++)
        thread_join(l->threads[i]);
    permits_free(&l->remembered);
    attempts_free(&l->attempts);
    pthread_cond_destroy(&l->posted);
    pthread_mutex_destroy(&l->lock);
    explicit_bzero(l->pass_key, sizeof l->pass_key);
    free(l);
}

/* --- the thread that asks --- */

static void answered(struct msg *m, void *owner)
{
    struct login_check *c = CONTAINER_OF(m, struct login_check, msg);
    struct login_check was = *c;

    (void)owner;
    free(c);
    if (was.state == ANSWERED)
        was.done(was.arg, &was.result);
}

void login_cancel(struct login_check **cp)
{
    struct login_check *c = *cp;

    if (c == NULL)
        return;
    *cp = NULL;
    pthread_mutex_lock(&c->logins->lock);
    bool is_waiting = c->state == WAITING;
    if (is_waiting)
        LIST_REMOVE(c, link);
    else
        c->state = ABANDONED;
    pthread_mutex_unlock(&c->logins->lock);
    if (is_waiting)
        free(c);
}

/* --- passwords --- */

/* The two halves of a Basic credential in memory that is the caller's; `password` points into
 * it. NULL when it is none. */
static char *decode_basic(const char *text, size_t len, char **password)
{
    size_t decoded_len;

    if (len > BASIC_TEXT_MAX)
        return NULL;
    char *pair = mem_new(BASE64_BYTES_MAX(len) + 1);
    bool is_good = base64_decode(BASE64_PLAIN, text, len, (uint8_t *)pair, &decoded_len) == 0;
    if (is_good) {
        pair[decoded_len] = '\0';
        *password = strchr(pair, ':');
        is_good = strlen(pair) == decoded_len && *password != NULL;
    }
    if (is_good) {
        *(*password)++ = '\0';
        is_good =
            pair[0] != '\0' && strlen(pair) < CONFIG_USER_SIZE && strlen(*password) <= PASSWORD_MAX;
    }
    if (is_good)
        return pair;
    explicit_bzero(pair, BASE64_BYTES_MAX(len) + 1);
    free(pair);
    return NULL;
}

/* The name of a password of a user, for as long as its hash is the same. */
static struct fingerprint print_of(const struct logins *l, const char *user, const char *hash,
                                   const char *password)
{
    /* Neither a name nor a hash has a colon. Not by printf, which has memory of its own. */
    char *known = mem_format("%s:%s:", user, hash);
    char *text = secret_join(known, password);
    struct fingerprint f = permit_fingerprint(l->remembered, text);

    free(known);
    secret_free(text);
    return f;
}

static struct job *job_new(const struct login_order *o, const char *user, const char *password,
                           const char *hash, bool is_user, const struct fingerprint *print)
{
    struct job *j = mem_new(sizeof *j);

    LIST_INIT(&j->checks);
    j->print = *print;
    snprintf(j->user, sizeof j->user, "%s", user);
    snprintf(j->peer, sizeof j->peer, "%s", o->peer);
    snprintf(j->hash, sizeof j->hash, "%s", hash);
    j->is_user = is_user;
    j->password = mem_copy(password, strlen(password));
    return j;
}

/* With the lock held: the check of the same password that waits or runs. */
static struct job *find_job(const struct logins *l, const struct fingerprint *print)
{
    struct job *j;

    LIST_FOREACH (j, &l->jobs, link) {
        if (memcmp(&j->print, print, sizeof *print) == 0)
            break;
    }
    return j;
}

/* With the lock held: whether another password may be checked now; else `*now` says how it
 * is limited. */
static bool may_queue(struct logins *l, const struct login_order *o, const char *user,
                      struct login *now)
{
    if (l->stopping || l->waiting_count == LOGIN_CHECKS_MAX) {
        limit(now, BUSY_RETRY_S, "too many passwords are being checked");
        return false;
    }
    int wait_s = attempt_begin(l->attempts, o->peer, user, clock_now_ms());
    if (wait_s > 0)
        limit(now, wait_s, "too many passwords were wrong");
    return wait_s == 0;
}

/* With the lock held. */
static struct login_check *join(struct logins *l, struct job *j, const struct login_order *o)
{
    struct login_check *c = mem_new(sizeof *c);

    c->msg.run = answered;
    c->state = WAITING;
    c->logins = l;
    c->answers = o->answers;
    c->done = o->done;
    c->arg = o->arg;
    LIST_INSERT_HEAD(&j->checks, c, link);
    return c;
}

static struct login_check *check_password(struct logins *l, const struct login_order *o,
                                          const char *user, const char *password, struct login *now)
{
    bool is_user;
    const char *hash = passwords_find(o->config->auth.passwords, user, &is_user);
    struct fingerprint print = print_of(l, user, hash, password);
    struct login_check *c = NULL;

    /* Looked up for strangers too: what they do must not take less time. */
    bool is_fresh = permit_is_fresh(l->remembered, &print, &no_name, clock_now_ms(), REMEMBER_MS);
    if (is_fresh && is_user) {
        accept_user(now, user, hash);
        return NULL;
    }
    pthread_mutex_lock(&l->lock);
    struct job *j = find_job(l, &print);
    if (j == NULL && may_queue(l, o, user, now)) {
        j = job_new(o, user, password, hash, is_user, &print);
        LIST_INSERT_HEAD(&l->jobs, j, link);
        STAILQ_INSERT_TAIL(&l->waiting, j, queued);
        l->waiting_count++;
        pthread_cond_signal(&l->posted);
    }
    if (j != NULL) {
        c = join(l, j, o);
        now->result = LOGIN_PENDING;
    }
    pthread_mutex_unlock(&l->lock);
    return c;
}

static struct login_check *begin_basic(struct logins *l, const struct login_order *o,
                                       struct span text, struct login *now)
{
    char *password;

    if (span_equal(text, BASIC_NOBODY))
        return NULL;
    if (o->config->auth.passwords == NULL) {
        refuse(now, "passwords are not taken here, but tokens");
        return NULL;
    }
    char *user = decode_basic(text.p, text.len, &password);
    if (user == NULL) {
        refuse(now, "the user or the password is not valid");
        return NULL;
    }
    struct login_check *c = check_password(l, o, user, password, now);
    explicit_bzero(password, strlen(password));
    free(user);
    return c;
}

/* --- tokens --- */

static struct bearer_policy policy_of(const struct config *c)
{
    const struct config_auth *a = &c->auth;

    return (struct bearer_policy){a->key, a->token_issuer, a->token_service};
}

static void check_token(const struct login_order *o, struct span text, struct login *now)
{
    const struct bearer_policy policy = policy_of(o->config);
    struct bearer b;
    const char *why;

    if (bearer_check(&policy, text.p, text.len, (int64_t)time(NULL), o->repository, &b, &why) !=
        0) {
        refuse(now, why);
    } else {
        accept_user(now, b.subject, "");
        now->is_token = true;
        now->grants = b.grants;
    }
}

/* --- passes --- */

static uint64_t own_clock_s(void)
{
    return (uint64_t)clock_now_ms() / 1000;
}

void login_give_pass(const struct logins *l, const struct login *who, char out[PASS_TEXT_SIZE])
{
    struct pass p = {.until_s = own_clock_s() + PASS_GOOD_S};

    CHECK(!who->is_pass && !who->is_token);
    CHECK((who->result == LOGIN_KNOWN && who->hash[0]) || who->result == LOGIN_ANONYMOUS);
    memcpy(p.user, who->user, sizeof p.user);
    pass_write(&p, l->pass_key, who->hash, out);
}

static void check_pass(const struct logins *l, const struct login_order *o, struct span text,
                       struct login *now)
{
    struct pass p;
    bool is_user = true;
    const char *hash = "";

    if (pass_read(&p, text.p, text.len) != 0) {
        refuse(now, "the token is none of cachalot's");
        return;
    }
    if (p.user[0] != '\0')
        hash = passwords_find(o->config->auth.passwords, p.user, &is_user);
    if (!pass_is_genuine(&p, text.p, text.len, l->pass_key, hash) || !is_user) {
        refuse(now, "the token is from before the password was changed, or cachalot was started");
        return;
    }
    if (own_clock_s() >= p.until_s) {
        refuse(now, "the token has expired");
        return;
    }
    if (p.user[0] != '\0')
        accept_user(now, p.user, "");
    now->is_pass = true;
}

/* --- all of them --- */

/* What follows the scheme, which is left in `scheme`; without a `p` when nothing does. */
static struct span cut_scheme(const struct login_order *o, struct span *scheme)
{
    struct span text = {o->authorization, strlen(o->authorization)};

    *scheme = span_cut(&text, ' ');
    while (text.p != NULL && text.len > 0 && text.p[0] == ' ')
        text = span_from(text, 1);
    return text;
}

struct login_check *login_begin(struct logins *l, const struct login_order *o, struct login *now)
{
    const struct config_auth *a = &o->config->auth;
    struct span scheme;

    *now = (struct login){.result = LOGIN_ANONYMOUS};
    /* Clients send what they once were told to; with nothing to check it by, nobody is wrong. */
    if (o->authorization == NULL || (a->passwords == NULL && a->key == NULL))
        return NULL;
    struct span text = cut_scheme(o, &scheme);
    if (text.p != NULL && span_equal_fold(scheme, "Basic"))
        return begin_basic(l, o, text, now);
    if (text.p == NULL || !span_equal_fold(scheme, "Bearer"))
        refuse(now, "the field Authorization is of no kind that is taken here");
    else if (a->key != NULL)
        check_token(o, text, now);
    else
        check_pass(l, o, text, now);
    return NULL;
}

struct bearer_grants *login_grants(const struct login_order *o)
{
    const struct bearer_policy policy = policy_of(o->config);
    struct bearer_grants *g = NULL;
    struct span scheme;
    const char *why;

    CHECK(o->authorization != NULL);
    if (policy.key == NULL)
        return NULL;
    struct span text = cut_scheme(o, &scheme);
    if (text.p == NULL || !span_equal_fold(scheme, "Bearer") ||
        bearer_grants_read(&policy, text.p, text.len, (int64_t)time(NULL), &g, &why) != 0)
        return NULL;
    return g;
}

bool login_allows(const struct login *l, const struct config *c, const char *peer,
                  const struct name *repository, enum right right)
{
    if (l->is_token)
        return (l->grants & right) != 0;
    return access_allows(c, peer, l->result == LOGIN_KNOWN ? l->user : NULL, repository, right);
}

void login_challenge(const struct config *c, const char *origin, const struct name *repository,
                     const char *actions, char *out, size_t size)
{
    const struct config_auth *a = &c->auth;
    struct challenge challenge = {.scheme = CHALLENGE_BEARER};
    char name[NAME_MAX_SIZE];

    CHECK(size > 0);
    out[0] = '\0';
    if (a->token_key != NULL) {
        snprintf(challenge.realm, sizeof challenge.realm, "%s", a->token_realm);
        snprintf(challenge.service, sizeof challenge.service, "%s", a->token_service);
    } else if (a->password_file != NULL && origin[0] != '\0') {
        snprintf(challenge.realm, sizeof challenge.realm, "%s" LOGIN_PASS_PATH, origin);
        snprintf(challenge.service, sizeof challenge.service, "cachalot");
    } else if (a->password_file != NULL) {
        challenge.scheme = CHALLENGE_BASIC;
        snprintf(challenge.realm, sizeof challenge.realm, "%s",
                 a->realm != NULL ? a->realm : "cachalot");
    } else {
        return;
    }
    if (challenge.scheme == CHALLENGE_BEARER && repository != NULL) {
        name_text(repository, name);
        snprintf(challenge.scope, sizeof challenge.scope, "repository:%s:%s", name, actions);
    }
    challenge_format(&challenge, out, size);
}
