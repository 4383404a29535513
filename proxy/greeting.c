/* SPDX-License-Identifier: ISC */
#include "proxy/greeting.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Enough for a crowd. Registries change their challenges once in years; but a client that is
 * challenged while the line is cut can get no token, and nothing of what is held: whether
 * the registry is there must be known. */
#define KEPT_MS (5 * 1000)
#define GREETINGS_MAX 64

struct greeting {
    char registry[NAME_MAX_SIZE];
    char challenge[ASK_CHALLENGE_MAX];
    int64_t at_ms;
};

struct greetings {
    pthread_mutex_t lock;
    struct greeting list[GREETINGS_MAX];
    unsigned count;
};

struct greetings *greetings_new(void)
{
    struct greetings *g = mem_new(sizeof *g);

    pthread_mutex_init(&g->lock, NULL);
    return g;
}

void greetings_free(struct greetings **g)
{
    if (!*g)
        return;
    pthread_mutex_destroy(&(*g)->lock);
    free(*g);
    *g = NULL;
}

static struct greeting *find(struct greetings *g, const char *registry)
{
    for (unsigned i = 0; i < g->count; i++) {
        if (strcmp(g->list[i].registry, registry) == 0)
            return &g->list[i];
    }
    return NULL;
}

static struct greeting *oldest(struct greetings *g)
{
    struct greeting *old = &g->list[0];

    for (unsigned i = 1; i < g->count; i++) {
        if (g->list[i].at_ms < old->at_ms)
            old = &g->list[i];
    }
    return old;
}

void greeting_put(struct greetings *g, const char *registry, const char *challenge, int64_t now_ms)
{
    pthread_mutex_lock(&g->lock);
    struct greeting *one = find(g, registry);
    if (!one)
        one = g->count < GREETINGS_MAX ? &g->list[g->count++] : oldest(g);
    snprintf(one->registry, sizeof one->registry, "%s", registry);
    snprintf(one->challenge, sizeof one->challenge, "%s", challenge);
    one->at_ms = now_ms;
    pthread_mutex_unlock(&g->lock);
}

bool greeting_get(struct greetings *g, const char *registry, int64_t now_ms,
                  char challenge[ASK_CHALLENGE_MAX])
{
    pthread_mutex_lock(&g->lock);
    const struct greeting *one = find(g, registry);
    bool is_fresh = one && now_ms - one->at_ms < KEPT_MS;
    if (is_fresh)
        memcpy(challenge, one->challenge, ASK_CHALLENGE_MAX);
    pthread_mutex_unlock(&g->lock);
    return is_fresh;
}
