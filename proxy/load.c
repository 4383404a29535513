/* SPDX-License-Identifier: ISC */
#include "proxy/load.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "cache/check.h"

struct load {
    atomic_uint refs; /* one of the listener, one of each connection */
};

struct load *load_new(void)
{
    struct load *l = mem_new(sizeof *l);

    atomic_init(&l->refs, 1);
    return l;
}

static void unref(struct load *l)
{
    if (atomic_fetch_sub(&l->refs, 1) == 1)
        free(l);
}

void load_release(struct load **l)
{
    if (*l)
        unref(*l);
    *l = NULL;
}

void load_enter(struct load *l)
{
    atomic_fetch_add(&l->refs, 1);
}

void load_leave(struct load *l)
{
    unref(l);
}

unsigned load_count(const struct load *l)
{
    return atomic_load(&l->refs) - 1;
}
