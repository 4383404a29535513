/* SPDX-License-Identifier: ISC */
#include "proxy/absence.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <uthash.h>

#include "cache/check.h"
#include "cache/digest.h"

#define KEY_BYTES 16

struct absence {
    uint8_t key[KEY_BYTES];
    int64_t at_ms;
    UT_hash_handle hh;
    TAILQ_ENTRY(absence) link; /* newest first */
};

struct absences {
    pthread_mutex_t lock;
    unsigned max;
    struct absence *known;
    TAILQ_HEAD(absence_list, absence) recent;
};

struct absences *absences_new(unsigned max)
{
    struct absences *a = mem_new(sizeof *a);

    CHECK(pthread_mutex_init(&a->lock, NULL) == 0);
    a->max = max;
    TAILQ_INIT(&a->recent);
    return a;
}

static void forget(struct absences *a, struct absence *one)
{
    HASH_DEL(a->known, one);
    TAILQ_REMOVE(&a->recent, one, link);
    free(one);
}

void absences_free(struct absences **ap)
{
    struct absences *a = *ap;
    struct absence *one;

    if (!a)
        return;
    *ap = NULL;
    /* The analyzer does not see that TAILQ_REMOVE changed the list's head. */
    while ((one = TAILQ_FIRST(&a->recent)))
        forget(a, one); /* NOLINT(clang-analyzer-unix.Malloc) */
    pthread_mutex_destroy(&a->lock);
    free(a);
}

/* Hashed, as what a client asks for may be long. */
static void make_key(const struct name *n, const char *path, uint8_t key[KEY_BYTES])
{
    char text[NAME_MAX_SIZE];
    size_t len = name_key(n, text);
    struct hash *h = hash_new(DIGEST_SHA256);
    struct digest d;

    hash_update(h, text, len + 1);
    hash_update(h, path, strlen(path));
    hash_final(&h, &d);
    memcpy(key, d.bytes, KEY_BYTES);
}

static struct absence *find(struct absences *a, const uint8_t key[KEY_BYTES])
{
    struct absence *one;

    HASH_FIND(hh, a->known, key, KEY_BYTES, one);
    return one;
}

void absence_add(struct absences *a, const struct name *n, const char *path, int64_t now_ms)
{
    uint8_t key[KEY_BYTES];

    make_key(n, path, key);
    pthread_mutex_lock(&a->lock);
    struct absence *one = find(a, key);
    if (one) {
        TAILQ_REMOVE(&a->recent, one, link);
    } else {
        if (HASH_COUNT(a->known) >= a->max)
            forget(a, TAILQ_LAST(&a->recent, absence_list));
        one = mem_new(sizeof *one);
        memcpy(one->key, key, KEY_BYTES);
        HASH_ADD(hh, a->known, key, KEY_BYTES, one);
    }
    one->at_ms = now_ms;
    TAILQ_INSERT_HEAD(&a->recent, one, link);
    pthread_mutex_unlock(&a->lock);
}

bool absence_is_fresh(struct absences *a, const struct name *n, const char *path, int64_t now_ms,
                      int64_t ttl_ms)
{
    uint8_t key[KEY_BYTES];

    make_key(n, path, key);
    pthread_mutex_lock(&a->lock);
    const struct absence *one = find(a, key);
    bool fresh = one && now_ms - one->at_ms < ttl_ms;
    pthread_mutex_unlock(&a->lock);
    return fresh;
}
