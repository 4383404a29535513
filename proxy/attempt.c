/* SPDX-License-Identifier: ISC */
#include "proxy/attempt.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <uthash.h>

#include "cache/check.h"
#include "cache/digest.h"

#define KEY_BYTES 16
#define NETWORK_BYTES 8

/* Of one address, or of one user there. */
struct count {
    uint8_t key[KEY_BYTES];
    int made;
    int64_t since_ms;
    UT_hash_handle hh;
    TAILQ_ENTRY(count) link; /* the last one looked for first */
};

struct attempts {
    pthread_mutex_t lock;
    unsigned max;
    struct count *counts;
    TAILQ_HEAD(count_list, count) recent;
};

struct attempts *attempts_new(unsigned max)
{
    struct attempts *a = mem_new(sizeof *a);

    CHECK(max >= 2); /* those of one attempt */
    CHECK(pthread_mutex_init(&a->lock, NULL) == 0);
    a->max = max;
    TAILQ_INIT(&a->recent);
    return a;
}

static void forget(struct attempts *a, struct count *c)
{
    HASH_DEL(a->counts, c);
    TAILQ_REMOVE(&a->recent, c, link);
    free(c);
}

void attempts_free(struct attempts **ap)
{
    struct attempts *a = *ap;
    struct count *c;

    if (a == NULL)
        return;
    *ap = NULL;
    /* The analyzer does not see that TAILQ_REMOVE changed the list's head. */
    while ((c = TAILQ_FIRST(&a->recent)))
        forget(a, c); /* NOLINT(clang-analyzer-unix.Malloc) */
    pthread_mutex_destroy(&a->lock);
    free(a);
}

/* Hashed, as a user's name may be anything. `user` is NULL for the address alone. */
static void make_key(const char *peer, const char *user, uint8_t key[KEY_BYTES])
{
    struct in6_addr address;
    struct hash *h = hash_new(DIGEST_SHA256);
    struct digest d;

    /* Who has one address of a network has all of them. */
    if (inet_pton(AF_INET6, peer, &address) == 1 && !IN6_IS_ADDR_V4MAPPED(&address))
        hash_update(h, &address, NETWORK_BYTES);
    else
        hash_update(h, peer, strlen(peer) + 1);
    if (user != NULL)
        hash_update(h, user, strlen(user) + 1);
    hash_final(&h, &d);
    memcpy(key, d.bytes, KEY_BYTES);
}

/* The count, made when there is none; begun anew when its time is over. */
static struct count *find(struct attempts *a, const char *peer, const char *user, int64_t now_ms)
{
    uint8_t key[KEY_BYTES];
    struct count *c;

    make_key(peer, user, key);
    HASH_FIND(hh, a->counts, key, KEY_BYTES, c);
    if (c != NULL) {
        TAILQ_REMOVE(&a->recent, c, link);
    } else {
        if (HASH_COUNT(a->counts) >= a->max)
            forget(a, TAILQ_LAST(&a->recent, count_list));
        c = mem_new(sizeof *c);
        memcpy(c->key, key, KEY_BYTES);
        HASH_ADD(hh, a->counts, key, KEY_BYTES, c);
    }
    TAILQ_INSERT_HEAD(&a->recent, c, link);
    if (c->made == 0 || now_ms - c->since_ms >= ATTEMPTS_MS) {
        c->made = 0;
        c->since_ms = now_ms;
    }
    return c;
}

/* In seconds, rounded up: 0 when another may be made now. */
static int wait_of(const struct count *c, int most, int64_t now_ms)
{
    if (c->made < most)
        return 0;
    return (int)((c->since_ms + ATTEMPTS_MS - now_ms + 999) / 1000);
}

int attempt_begin(struct attempts *a, const char *peer, const char *user, int64_t now_ms)
{
    pthread_mutex_lock(&a->lock);
    struct count *of_address = find(a, peer, NULL, now_ms);
    int wait_s = wait_of(of_address, ATTEMPTS_OF_ADDRESS, now_ms);
    /* Not before: who has none left must not fill the table with names. */
    struct count *of_user = wait_s == 0 ? find(a, peer, user, now_ms) : NULL;

    if (of_user != NULL)
        wait_s = wait_of(of_user, ATTEMPTS_OF_USER, now_ms);
    if (of_user != NULL && wait_s == 0) {
        of_address->made++;
        of_user->made++;
    }
    pthread_mutex_unlock(&a->lock);
    return wait_s;
}

void attempt_forgive(struct attempts *a, const char *peer, const char *user, int64_t now_ms)
{
    pthread_mutex_lock(&a->lock);
    struct count *counts[] = {find(a, peer, NULL, now_ms), NULL};
    counts[1] = find(a, peer, user, now_ms);
    for (unsigned i = 0; i < 2; i++)
        counts[i]->made -= counts[i]->made > 0 ? 1 : 0;
    pthread_mutex_unlock(&a->lock);
}
