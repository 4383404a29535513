/* SPDX-License-Identifier: ISC */
#include "proxy/permit.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>

#include <uthash.h>

#include "cache/check.h"
#include "cache/digest.h"

struct proof_key {
    struct fingerprint credential;
    struct fingerprint repository;
};

struct proof {
    struct proof_key key;
    int64_t at_ms;
    UT_hash_handle hh;
    TAILQ_ENTRY(proof) link; /* newest first */
};

struct permits {
    uint8_t secret[32];
    pthread_mutex_t lock;
    unsigned max;
    struct proof *proofs;
    TAILQ_HEAD(proof_list, proof) recent;
};

struct permits *permits_new(unsigned max)
{
    struct permits *p = mem_new(sizeof *p);

    CHECK(getrandom(p->secret, sizeof p->secret, 0) == sizeof p->secret);
    CHECK(pthread_mutex_init(&p->lock, NULL) == 0);
    p->max = max;
    TAILQ_INIT(&p->recent);
    return p;
}

static void proof_free(struct permits *p, struct proof *proof)
{
    HASH_DEL(p->proofs, proof);
    TAILQ_REMOVE(&p->recent, proof, link);
    free(proof);
}

void permits_free(struct permits **pp)
{
    struct permits *p = *pp;
    struct proof *proof;

    if (!p)
        return;
    *pp = NULL;
    /* The analyzer does not see that TAILQ_REMOVE changed the list's head. */
    while ((proof = TAILQ_FIRST(&p->recent)))
        proof_free(p, proof); /* NOLINT(clang-analyzer-unix.Malloc) */
    pthread_mutex_destroy(&p->lock);
    explicit_bzero(p->secret, sizeof p->secret);
    free(p);
}

/* Secret, text, secret: the hash is a name, not a signature that others verify. */
static struct fingerprint keyed(const struct permits *p, const char *text, size_t len)
{
    struct hash *h = hash_new(DIGEST_SHA256);
    struct fingerprint f;
    struct digest d;

    hash_update(h, p->secret, sizeof p->secret);
    hash_update(h, text, len);
    hash_update(h, p->secret, sizeof p->secret);
    hash_final(&h, &d);
    memcpy(f.bytes, d.bytes, sizeof f.bytes);
    return f;
}

struct fingerprint permit_fingerprint(const struct permits *p, const char *authorization)
{
    return keyed(p, authorization, strlen(authorization));
}

static struct proof_key key_of(const struct permits *p, const struct fingerprint *f,
                               const struct name *n)
{
    char text[NAME_MAX_SIZE];
    size_t len = name_key(n, text);

    return (struct proof_key){.credential = *f, .repository = keyed(p, text, len)};
}

static struct proof *find(struct permits *p, const struct proof_key *key)
{
    struct proof *proof;

    HASH_FIND(hh, p->proofs, key, sizeof *key, proof);
    return proof;
}

void permit_add(struct permits *p, const struct fingerprint *f, const struct name *n,
                int64_t now_ms)
{
    struct proof_key key = key_of(p, f, n);

    pthread_mutex_lock(&p->lock);
    struct proof *proof = find(p, &key);
    if (proof) {
        TAILQ_REMOVE(&p->recent, proof, link);
    } else {
        if (HASH_COUNT(p->proofs) >= p->max)
            proof_free(p, TAILQ_LAST(&p->recent, proof_list));
        proof = mem_new(sizeof *proof);
        proof->key = key;
        HASH_ADD(hh, p->proofs, key, sizeof proof->key, proof);
    }
    proof->at_ms = now_ms;
    TAILQ_INSERT_HEAD(&p->recent, proof, link);
    pthread_mutex_unlock(&p->lock);
}

bool permit_is_fresh(struct permits *p, const struct fingerprint *f, const struct name *n,
                     int64_t now_ms, int64_t ttl_ms)
{
    struct proof_key key = key_of(p, f, n);

    pthread_mutex_lock(&p->lock);
    const struct proof *proof = find(p, &key);
    bool fresh = proof && now_ms - proof->at_ms < ttl_ms;
    pthread_mutex_unlock(&p->lock);
    return fresh;
}

void permit_drop(struct permits *p, const struct fingerprint *f, const struct name *n)
{
    struct proof_key key = key_of(p, f, n);

    pthread_mutex_lock(&p->lock);
    struct proof *proof = find(p, &key);
    if (proof)
        proof_free(p, proof);
    pthread_mutex_unlock(&p->lock);
}
