/* SPDX-License-Identifier: ISC */
#include "proxy/upload_owner.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <uthash.h>

#include "cache/check.h"

/* There while it has sessions. */
struct owner {
    UT_hash_handle hh;
    unsigned session_count, resting_count;
    char name[];
};

struct owned {
    UT_hash_handle hh;
    TAILQ_ENTRY(owned) link; /* while it rests */
    struct owner *owner;
    char id[UPLOAD_ID_SIZE];
    bool rests, has_bytes;
    int64_t since_ms;
};

struct upload_owners {
    struct owner *owners;        /* by name */
    struct owned *sessions;      /* by id */
    TAILQ_HEAD(, owned) resting; /* the longest first */
};

struct upload_owners *upload_owners_new(void)
{
    struct upload_owners *o = mem_new(sizeof *o);

    TAILQ_INIT(&o->resting);
    return o;
}

static struct owned *find(const struct upload_owners *o, const char *id)
{
    struct owned *s;

    HASH_FIND(hh, o->sessions, id, UPLOAD_ID_SIZE, s);
    return s;
}

static struct owner *find_owner(const struct upload_owners *o, const char *name)
{
    struct owner *w;

    HASH_FIND(hh, o->owners, name, strlen(name), w);
    return w;
}

static void stop_resting(struct upload_owners *o, struct owned *s)
{
    if (!s->rests)
        return;
    s->rests = false;
    s->owner->resting_count--;
    TAILQ_REMOVE(&o->resting, s, link);
}

static void drop(struct upload_owners *o, struct owned *s)
{
    struct owner *w = s->owner;

    CHECK(w);
    stop_resting(o, s);
    HASH_DEL(o->sessions, s);
    free(s);
    if (--w->session_count > 0)
        return;
    HASH_DEL(o->owners, w);
    free(w);
}

void upload_owners_free(struct upload_owners **op)
{
    struct upload_owners *o = *op;
    struct owned *s;

    if (!o)
        return;
    *op = NULL;
    while ((s = o->sessions))
        drop(o, s);
    free(o);
}

static struct owner *take_owner(struct upload_owners *o, const char *name)
{
    struct owner *w = find_owner(o, name);
    size_t len = strlen(name);

    if (w)
        return w;
    w = mem_new(sizeof *w + len + 1);
    memcpy(w->name, name, len);
    HASH_ADD_KEYPTR(hh, o->owners, w->name, len, w);
    return w;
}

void upload_owners_begin(struct upload_owners *o, const char *owner, const char *id)
{
    struct owned *s = mem_new(sizeof *s);

    CHECK(!find(o, id));
    memcpy(s->id, id, UPLOAD_ID_SIZE);
    s->owner = take_owner(o, owner);
    s->owner->session_count++;
    HASH_ADD(hh, o->sessions, id, UPLOAD_ID_SIZE, s);
}

void upload_owners_use(struct upload_owners *o, const char *id)
{
    struct owned *s = find(o, id);

    if (s)
        stop_resting(o, s);
}

void upload_owners_rest(struct upload_owners *o, const char *id, bool has_bytes, int64_t now_ms)
{
    struct owned *s = find(o, id);

    if (!s)
        return;
    stop_resting(o, s);
    s->has_bytes = s->has_bytes || has_bytes;
    s->rests = true;
    s->since_ms = now_ms;
    s->owner->resting_count++;
    TAILQ_INSERT_TAIL(&o->resting, s, link);
}

void upload_owners_end(struct upload_owners *o, const char *id)
{
    struct owned *s = find(o, id);

    if (s)
        drop(o, s);
}

void upload_owners_expire(struct upload_owners *o, int64_t then_ms)
{
    struct owned *s;

    while ((s = TAILQ_FIRST(&o->resting)) && s->since_ms < then_ms)
        drop(o, s);
}

unsigned upload_owners_resting(const struct upload_owners *o, const char *owner)
{
    const struct owner *w = find_owner(o, owner);

    return w ? w->resting_count : 0;
}

bool upload_owners_take_empty(struct upload_owners *o, const char *owner, char id[UPLOAD_ID_SIZE])
{
    const struct owner *w = owner ? find_owner(o, owner) : NULL;
    struct owned *s;

    TAILQ_FOREACH (s, &o->resting, link) {
        if (!s->has_bytes && (!owner || s->owner == w))
            break;
    }
    if (!s)
        return false;
    memcpy(id, s->id, UPLOAD_ID_SIZE);
    drop(o, s);
    return true;
}
