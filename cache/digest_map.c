/* SPDX-License-Identifier: ISC */
#include "cache/digest_map.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define ROOM_MIN 64u

/* Open addressing: a slot has a number and one, 0 when it is empty. */
struct digest_map {
    struct digest *all;
    size_t count;
    size_t room; /* of `all`; there are twice as many slots, a power of two */
    uint32_t *slots;
    uint64_t seeds[DIGEST_BYTES_MAX / 8]; /* who writes the digests must not choose the slots */
};

struct digest_map *digest_map_new(void)
{
    struct digest_map *m = mem_new(sizeof *m);

    CHECK(getrandom(m->seeds, sizeof m->seeds, 0) == (ssize_t)sizeof m->seeds);
    return m;
}

void digest_map_free(struct digest_map **m)
{
    if (*m == NULL)
        return;
    free((*m)->all);
    free((*m)->slots);
    free(*m);
    *m = NULL;
}

/* The slot that has it, or the empty one where it would be. */
static uint32_t *find(const struct digest_map *m, const struct digest *d)
{
    uint64_t words[DIGEST_BYTES_MAX / 8];
    uint64_t mixed = 0;
    size_t mask = m->room * 2 - 1;

    memcpy(words, d->bytes, sizeof words);
    for (size_t i = 0; i < DIGEST_BYTES_MAX / 8; i++)
        mixed += words[i] * m->seeds[i];
    for (size_t at = (size_t)(mixed >> 32) & mask;; at = (at + 1) & mask) {
        uint32_t *slot = &m->slots[at];

        if (*slot == 0 || digest_equal(&m->all[*slot - 1], d))
            return slot;
    }
}

static void grow(struct digest_map *m)
{
    m->room = m->room == 0 ? ROOM_MIN : m->room * 2;
    CHECK(m->room <= UINT32_MAX / 2);
    m->all = mem_resize(m->all, m->room * sizeof *m->all);
    free(m->slots);
    m->slots = mem_new(m->room * 2 * sizeof *m->slots);
    for (size_t i = 0; i < m->count; i++)
        *find(m, &m->all[i]) = (uint32_t)i + 1;
}

bool digest_map_add(struct digest_map *m, const struct digest *d, size_t *number)
{
    if (digest_map_find(m, d, number))
        return false;
    if (m->count == m->room)
        grow(m);
    m->all[m->count] = *d;
    *number = m->count++;
    *find(m, d) = (uint32_t)m->count;
    return true;
}

bool digest_map_find(const struct digest_map *m, const struct digest *d, size_t *number)
{
    if (m->count == 0)
        return false;
    uint32_t slot = *find(m, d);
    if (slot != 0 && number != NULL)
        *number = slot - 1;
    return slot != 0;
}

const struct digest *digest_map_at(const struct digest_map *m, size_t number)
{
    CHECK(number < m->count);
    return &m->all[number];
}

size_t digest_map_count(const struct digest_map *m)
{
    return m->count;
}
