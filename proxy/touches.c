/* SPDX-License-Identifier: ISC */
#include "proxy/touches.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cache/clients.h"
#include "cache/lock.h"

/* Open addressing, a power of two, filled to three quarters at most. */
#define SLOTS 4096

struct slot {
    struct digest digest; /* alg 0: free */
    bool is_due;
    unsigned added; /* clients, of which the last CLIENTS_MAX are there */
    struct in6_addr clients[CLIENTS_MAX];
};

struct set {
    unsigned count;
    struct slot slots[SLOTS];
};

struct touches {
    pthread_mutex_t lock;
    struct set *used;    /* under the lock */
    struct set *touched; /* being written; empty otherwise */
};

struct touches *touches_new(void)
{
    struct touches *t = mem_new(sizeof *t);

    lock_init(&t->lock);
    t->used = mem_new(sizeof *t->used);
    t->touched = mem_new(sizeof *t->touched);
    return t;
}

void touches_free(struct touches **tp)
{
    struct touches *t = *tp;

    if (t == NULL)
        return;
    *tp = NULL;
    pthread_mutex_destroy(&t->lock);
    free(t->used);
    free(t->touched);
    free(t);
}

/* Its slot, or the free one where it would be; there is always one. */
static struct slot *find_slot(struct set *set, const struct digest *d)
{
    uint32_t i;

    memcpy(&i, d->bytes, sizeof i);
    while (set->slots[i % SLOTS].digest.alg != 0 && !digest_equal(&set->slots[i % SLOTS].digest, d))
        i++;
    return &set->slots[i % SLOTS];
}

static size_t client_count(const struct slot *s)
{
    return s->added < CLIENTS_MAX ? s->added : CLIENTS_MAX;
}

static void add_client(struct slot *s, const struct in6_addr *client)
{
    for (size_t i = 0; i < client_count(s); i++)
        if (IN6_ARE_ADDR_EQUAL(&s->clients[i], client))
            return;
    s->clients[s->added++ % CLIENTS_MAX] = *client;
}

void touches_add(struct touches *t, const struct digest *d, const struct in6_addr *client,
                 bool is_due)
{
    pthread_mutex_lock(&t->lock);
    struct slot *slot = find_slot(t->used, d);
    if (slot->digest.alg == 0 && t->used->count < SLOTS / 4 * 3) {
        slot->digest = *d;
        t->used->count++;
    }
    if (slot->digest.alg != 0) {
        slot->is_due = slot->is_due || is_due;
        if (!IN6_IS_ADDR_UNSPECIFIED(client))
            add_client(slot, client);
    }
    pthread_mutex_unlock(&t->lock);
}

bool touches_has(struct touches *t, const struct digest *d)
{
    pthread_mutex_lock(&t->lock);
    bool has = find_slot(t->used, d)->is_due || find_slot(t->touched, d)->is_due;
    pthread_mutex_unlock(&t->lock);
    return has;
}

bool touches_begin(struct touches *t)
{
    pthread_mutex_lock(&t->lock);
    bool any = t->used->count > 0;
    if (any) {
        struct set *set = t->used;
        t->used = t->touched;
        t->touched = set;
    }
    pthread_mutex_unlock(&t->lock);
    return any;
}

int touches_walk(struct touches *t, touches_visit *visit, void *arg)
{
    int result = 0;

    for (unsigned i = 0; result == 0 && i < SLOTS; i++) {
        const struct slot *s = &t->touched->slots[i];
        if (s->digest.alg != 0)
            result = visit(arg, &s->digest, s->clients, client_count(s));
    }
    return result;
}

void touches_end(struct touches *t)
{
    pthread_mutex_lock(&t->lock);
    /* Not the pages that nothing was put into: they are no memory yet. */
    for (unsigned i = 0; i < SLOTS; i++)
        if (t->touched->slots[i].digest.alg != 0)
            memset(&t->touched->slots[i], 0, sizeof t->touched->slots[i]);
    t->touched->count = 0;
    pthread_mutex_unlock(&t->lock);
}
