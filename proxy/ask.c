/* SPDX-License-Identifier: ISC */
#include "proxy/ask.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HASH_FUNCTION HASH_SAX
#include <uthash.h>

/* The key of the table: what two askers must agree in to share one answer. */
#define ASK_KEY_MAX (NAME_MAX_SIZE + ASK_REFERENCE_MAX + 8 + DIGEST_TEXT_MAX)

struct ask {
    struct ask_table *table;
    unsigned refs; /* with `done`, `askers` and the table: under the table's lock */
    bool done;
    LIST_HEAD(, asker) askers;
    UT_hash_handle hh;
    enum ask_kind kind;
    struct name name;
    char reference[ASK_REFERENCE_MAX];
    struct behalf behalf;
    struct ask_result result;
    size_t key_len;
    char key[ASK_KEY_MAX];
};

struct ask_table {
    pthread_mutex_t lock;
    struct ask *asks;
};

struct ask_table *ask_table_new(void)
{
    struct ask_table *t = mem_new(sizeof *t);

    CHECK(pthread_mutex_init(&t->lock, NULL) == 0);
    return t;
}

void ask_table_free(struct ask_table **tp)
{
    struct ask_table *t = *tp;

    if (!t)
        return;
    *tp = NULL;
    CHECK(!t->asks);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

static size_t make_key(char key[ASK_KEY_MAX], enum ask_kind kind, const struct name *n,
                       const char *reference, const char *authorization)
{
    char credential[DIGEST_TEXT_MAX] = "";
    struct digest d;

    if (authorization) {
        digest_of(DIGEST_SHA256, authorization, strlen(authorization), &d);
        digest_text(&d, credential);
    }
    int len = snprintf(key, ASK_KEY_MAX, "%d %s/%s %s %s", (int)kind, n->registry, n->repository,
                       reference, credential);
    CHECK(len > 0 && len < ASK_KEY_MAX);
    return (size_t)len;
}

struct ask *ask_join(struct ask_table *t, enum ask_kind kind, const struct name *n,
                     const char *reference, const struct behalf *b, bool *created)
{
    char key[ASK_KEY_MAX];
    struct ask *a;
    size_t len = make_key(key, kind, n, reference, b->authorization);

    pthread_mutex_lock(&t->lock);
    HASH_FIND(hh, t->asks, key, len, a);
    *created = !a;
    if (!a) {
        a = mem_new(sizeof *a);
        a->table = t;
        a->kind = kind;
        a->name = *n;
        a->refs = 1; /* the table's, until ask_finish */
        snprintf(a->reference, sizeof a->reference, "%s", reference);
        a->behalf = behalf_copy(b);
        memcpy(a->key, key, len);
        a->key_len = len;
        HASH_ADD(hh, t->asks, key, a->key_len, a);
    }
    a->refs++;
    pthread_mutex_unlock(&t->lock);
    return a;
}

struct ask *ask_ref(struct ask *a)
{
    pthread_mutex_lock(&a->table->lock);
    a->refs++;
    pthread_mutex_unlock(&a->table->lock);
    return a;
}

void ask_unref(struct ask **ap)
{
    struct ask *a = *ap;

    if (!a)
        return;
    *ap = NULL;
    pthread_mutex_lock(&a->table->lock);
    bool last = --a->refs == 0;
    pthread_mutex_unlock(&a->table->lock);
    if (!last)
        return;
    CHECK(a->done && LIST_EMPTY(&a->askers));
    behalf_clear(&a->behalf);
    free(a->result.link);
    free(a->result.body);
    free(a);
}

enum ask_kind ask_kind(const struct ask *a)
{
    return a->kind;
}

const struct name *ask_name(const struct ask *a)
{
    return &a->name;
}

const char *ask_reference(const struct ask *a)
{
    return a->reference;
}

const struct behalf *ask_behalf(const struct ask *a)
{
    return &a->behalf;
}

bool ask_wait(struct asker *w, struct ask *a)
{
    CHECK(!w->ask);
    pthread_mutex_lock(&a->table->lock);
    bool wait = !a->done;
    if (wait) {
        w->ask = a;
        LIST_INSERT_HEAD(&a->askers, w, link);
    }
    pthread_mutex_unlock(&a->table->lock);
    return wait;
}

void ask_cancel(struct asker *w)
{
    struct ask *a = w->ask;

    if (!a)
        return;
    pthread_mutex_lock(&a->table->lock);
    /* ask_finish takes every asker off the list as it wakes it. */
    if (!a->done)
        LIST_REMOVE(w, link);
    w->ask = NULL;
    pthread_mutex_unlock(&a->table->lock);
}

struct ask_result *ask_answer(struct ask *a)
{
    return &a->result;
}

void ask_fail(struct ask *a, enum outcome o, const char *format, ...)
{
    va_list args;

    CHECK(outcome_is_error(o));
    a->result.outcome = o;
    va_start(args, format);
    vsnprintf(a->result.why, sizeof a->result.why, format, args);
    va_end(args);
}

void ask_finish(struct ask_table *t, struct ask *a)
{
    struct asker *w;

    CHECK(a->table == t);
    pthread_mutex_lock(&t->lock);
    CHECK(!a->done);
    a->done = true;
    HASH_DEL(t->asks, a);
    while ((w = LIST_FIRST(&a->askers))) {
        LIST_REMOVE(w, link);
        w->wake(w);
    }
    pthread_mutex_unlock(&t->lock);
    ask_unref(&a);
}

const struct ask_result *ask_result(const struct ask *a)
{
    return &a->result;
}
