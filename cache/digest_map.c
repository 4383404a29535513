/* SPDX-License-Identifier: ISC */
#include "cache/digest_map.h"

#include <stdlib.h>
#include <uthash.h>

struct numbered {
    struct digest digest;
    size_t number;
    UT_hash_handle hh;
};

struct digest_map {
    struct numbered *all;
};

struct digest_map *digest_map_new(void)
{
    return mem_new(sizeof(struct digest_map));
}

void digest_map_free(struct digest_map **m)
{
    if (*m == NULL)
        return;
    struct numbered *one = (*m)->all;

    HASH_CLEAR(hh, (*m)->all);
    while (one != NULL) {
        struct numbered *next = one->hh.next;

        free(one);
        one = next;
    }
    free(*m);
    *m = NULL;
}

static struct numbered *find(const struct digest_map *m, const struct digest *d)
{
    struct numbered *found;

    HASH_FIND(hh, m->all, d, sizeof *d, found);
    return found;
}

bool digest_map_add(struct digest_map *m, const struct digest *d, size_t *number)
{
    struct numbered *one = find(m, d);
    bool is_new = one == NULL;

    if (is_new) {
        one = mem_new(sizeof *one);
        one->digest = *d;
        one->number = HASH_COUNT(m->all);
        HASH_ADD(hh, m->all, digest, sizeof one->digest, one);
    }
    *number = one->number;
    return is_new;
}

bool digest_map_find(const struct digest_map *m, const struct digest *d, size_t *number)
{
    const struct numbered *one = find(m, d);

    if (one != NULL && number != NULL)
        *number = one->number;
    return one != NULL;
}

size_t digest_map_count(const struct digest_map *m)
{
    return HASH_COUNT(m->all);
}
