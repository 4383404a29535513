/* SPDX-License-Identifier: ISC */
#include "proxy/touches.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cache/lock.h"

/* Open addressing, a power of two, filled to three quarters at most. */
#define SLOTS 4096

struct set {
    unsigned count;
    struct digest slots[SLOTS]; /* alg 0: free */
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
static struct digest *find_slot(struct set *set, const struct digest *d)
{
    uint32_t i;

    memcpy(&i, d->bytes, sizeof i);
    while (set->slots[i % SLOTS].alg != 0 && !digest_equal(&set->slots[i % SLOTS], d))
        i++;
    return &set->slots[i % SLOTS];
}

void touches_add(struct touches *t, const struct digest *d)
{
    pthread_mutex_lock(&t->lock);
    struct digest *slot = find_slot(t->used, d);
    if (slot->alg == 0 && t->used->count < SLOTS / 4 * 3) {
        *slot = *d;
        t->used->count++;
    }
    pthread_mutex_unlock(&t->lock);
}

bool touches_has(struct touches *t, const struct digest *d)
{
    pthread_mutex_lock(&t->lock);
    bool has = find_slot(t->used, d)->alg != 0 || find_slot(t->touched, d)->alg != 0;
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

    for (unsigned i = 0; result == 0 && i < SLOTS; i++)
        if (t->touched->slots[i].alg != 0)
            result = visit(arg, &t->touched->slots[i]);
    return result;
}

void touches_end(struct touches *t)
{
    pthread_mutex_lock(&t->lock);
    memset(t->touched, 0, sizeof *t->touched);
    pthread_mutex_unlock(&t->lock);
}
