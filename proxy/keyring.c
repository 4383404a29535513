/* SPDX-License-Identifier: ISC */
#include "proxy/keyring.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "proxy/helper.h"

/* A password is read again after so long, a helper is run again. */
#define FILE_AGE_MS (60 * 1000)
#define HELPER_AGE_MS (3600 * 1000)
/* Who fails is not tried again at once. */
#define FAILURE_AGE_MS (10 * 1000)
/* A helper whose answer was refused is not run again sooner. */
#define HELPER_REST_MS (120 * 1000)
#define HELPER_TIMEOUT_MS (30 * 1000)

LIST_HEAD(waiter_list, keyring_waiter);

struct key {
    struct keyring *keyring;
    LIST_ENTRY(key) link;
    char *registry;
    char *username; /* these three as the source has them; NULL: not given */
    char *password_file;
    char *program;
    struct helper *helper; /* runs */
    struct waiter_list waiters;
    struct credential *credential; /* NULL: none was ever had */
    uint64_t id;
    int64_t asked_ms; /* the last try */
    bool is_stale;    /* it was refused: try again whatever its age */
    bool has_failed;  /* the last try */
    char why[256];
};

struct keyring {
    struct event_base *base;
    struct log *log;
    LIST_HEAD(, key) keys;
    uint64_t last_id;
};

struct keyring *keyring_new(struct event_base *base, struct log *log)
{
    struct keyring *k = mem_new(sizeof *k);

    k->base = base;
    k->log = log;
    LIST_INIT(&k->keys);
    return k;
}

static void key_free(struct key *key)
{
    CHECK(LIST_EMPTY(&key->waiters));
    LIST_REMOVE(key, link);
    helper_stop(&key->helper);
    credential_free(&key->credential);
    free(key->registry);
    free(key->username);
    free(key->password_file);
    free(key->program);
    free(key);
}

void keyring_free(struct keyring **kp)
{
    struct keyring *k = *kp;

    if (k == NULL)
        return;
    *kp = NULL;
    for (struct key *key = LIST_FIRST(&k->keys), *next; key != NULL; key = next) {
        next = LIST_NEXT(key, link);
        key_free(key);
    }
    free(k);
}

/* --- which key --- */

static bool is_same(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static char *copy(const char *text)
{
    return text != NULL ? mem_copy(text, strlen(text)) : NULL;
}

static bool is_of(const struct key *key, const struct keyring_source *s)
{
    return strcmp(key->registry, s->registry) == 0 && is_same(key->username, s->username) &&
           is_same(key->password_file, s->password_file) && is_same(key->program, s->helper);
}

/* The key of this source. Others of the same registry are of an older configuration, and
 * go when nobody waits for them. */
static struct key *find(struct keyring *k, const struct keyring_source *s)
{
    struct key *found = NULL;

    for (struct key *key = LIST_FIRST(&k->keys), *next; key != NULL; key = next) {
        next = LIST_NEXT(key, link);
        if (is_of(key, s))
            found = key;
        else if (strcmp(key->registry, s->registry) == 0 && LIST_EMPTY(&key->waiters))
            key_free(key);
    }
    if (found != NULL)
        return found;
    found = mem_new(sizeof *found);
    found->keyring = k;
    found->registry = copy(s->registry);
    found->username = copy(s->username);
    found->password_file = copy(s->password_file);
    found->program = copy(s->helper);
    found->is_stale = true;
    LIST_INIT(&found->waiters);
    LIST_INSERT_HEAD(&k->keys, found, link);
    return found;
}

/* --- getting it --- */

/* Take over what came; NULL when that failed. What a helper gave before is kept then: it
 * serves until the helper is well again, or it is refused. A file that is gone was
 * taken away. */
static void take(struct key *key, struct credential *c)
{
    key->has_failed = c == NULL;
    if (c == NULL) {
        log_event(key->keyring->log, LOG_WARN, "the credential of %s: %s", key->registry, key->why);
        if (key->program == NULL)
            credential_free(&key->credential);
        return;
    }
    if (key->credential == NULL || !credential_equal(key->credential, c))
        key->id = ++key->keyring->last_id;
    credential_free(&key->credential);
    key->credential = c;
}

static void helper_ended(void *arg, const char *answer, size_t len, const char *why)
{
    struct key *key = arg;
    struct waiter_list woken = LIST_HEAD_INITIALIZER(woken);
    struct credential *c = NULL;
    struct keyring_waiter *w;

    key->helper = NULL;
    if (answer == NULL)
        snprintf(key->why, sizeof key->why, "%s", why);
    else if (credential_parse(&c, answer, len, key->why, sizeof key->why) != 0)
        c = NULL;
    take(key, c);
    /* Those who are there now: a callback may wait anew, for another run. */
    while ((w = LIST_FIRST(&key->waiters))) {
        LIST_REMOVE(w, link);
        LIST_INSERT_HEAD(&woken, w, link);
    }
    while ((w = LIST_FIRST(&woken))) {
        keyring_leave(w);
        w->ready(w);
    }
}

static void run_helper(struct key *key)
{
    struct helper_order order = {
        .program = key->program,
        .server = credential_server(key->registry),
        .timeout_ms = HELPER_TIMEOUT_MS,
        .answer_max = CREDENTIAL_ANSWER_MAX,
        .done = helper_ended,
        .arg = key,
    };

    key->helper = helper_start(key->keyring->base, &order);
}

static void read_file(struct key *key)
{
    struct credential *c = NULL;
    const char *username = key->username != NULL ? key->username : "";

    if (credential_read(&c, username, key->password_file, key->why, sizeof key->why) != 0)
        c = NULL;
    take(key, c);
}

static bool is_due(const struct key *key, int64_t now_ms)
{
    int64_t age_ms = key->program != NULL ? HELPER_AGE_MS : FILE_AGE_MS;

    if (key->has_failed)
        age_ms = FAILURE_AGE_MS;
    return key->is_stale || now_ms - key->asked_ms >= age_ms;
}

void keyring_get(struct keyring *k, const struct keyring_source *s, int64_t now_ms,
                 struct keyring_answer *a)
{
    *a = (struct keyring_answer){.state = KEYRING_ANONYMOUS};
    if (s->helper == NULL && s->password_file == NULL)
        return;
    struct key *key = find(k, s);
    if (key->helper == NULL && is_due(key, now_ms)) {
        key->is_stale = false;
        key->asked_ms = now_ms;
        if (key->program != NULL)
            run_helper(key);
        else
            read_file(key);
    }
    if (key->helper != NULL) {
        a->state = KEYRING_BUSY;
    } else if (key->credential == NULL) {
        a->state = KEYRING_FAILED;
        memcpy(a->why, key->why, sizeof a->why);
    } else {
        a->state = KEYRING_READY;
        a->credential = key->credential;
        a->id = key->id;
        a->got_ms = key->asked_ms;
    }
}

void keyring_wait(struct keyring *k, const struct keyring_source *s, struct keyring_waiter *w)
{
    struct key *key = find(k, s);

    CHECK(w->key == NULL && key->helper != NULL);
    w->key = key;
    LIST_INSERT_HEAD(&key->waiters, w, link);
}

void keyring_leave(struct keyring_waiter *w)
{
    if (w->key == NULL)
        return;
    w->key = NULL;
    LIST_REMOVE(w, link);
}

bool keyring_refused(struct keyring *k, const struct keyring_source *s, uint64_t id, int64_t now_ms)
{
    if (s->helper == NULL && s->password_file == NULL)
        return false;
    struct key *key = find(k, s);
    if (key->helper != NULL || key->id != id)
        return true;
    if (key->program == NULL) {
        key->asked_ms = now_ms;
        read_file(key);
        return key->id != id;
    }
    if (now_ms - key->asked_ms < HELPER_REST_MS)
        return false;
    key->is_stale = true;
    return true;
}
