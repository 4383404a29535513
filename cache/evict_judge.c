/* SPDX-License-Identifier: ISC */
#include "cache/evict_private.h"

#include "cache/err.h"
#include "cache/link.h"
#include "cache/parent.h"

/* Who pulls an image uses its manifest first and its layers after; uses are known to some ten
 * minutes. */
#define TOGETHER_S (20 * 60)

struct why_row {
    const char *word, *text;
    bool is_garbage;
};

static const struct why_row rows[EVICT_WHY_COUNT] = {
    [EVICT_LEAST_USED] = {"least-used", "goes when room is wanted", false},
    [EVICT_RELEASED] = {"released", "its tags were removed", true},
    [EVICT_DELETED] = {"deleted", "no repository has it any more", true},
    [EVICT_ABANDONED] = {"abandoned", "pushed, and no manifest names it", true},
    [EVICT_PART] = {"part", "stays with the manifests that name it", false},
    [EVICT_PINNED] = {"pinned", "stays, as it is pinned", false},
    [EVICT_BUSY] = {"busy", "stays, as it is in use", false},
    [EVICT_LOCAL] = {"local", "stays, as it was pushed here", false},
    [EVICT_WAITS] = {"waits", "stays for push-grace, as a push may count on it", false},
};

const char *evict_why_text(enum evict_why why)
{
    return rows[why].text;
}

const char *evict_why_word(enum evict_why why)
{
    return rows[why].word;
}

bool evict_why_is_garbage(enum evict_why why)
{
    return rows[why].is_garbage;
}

bool evict_rules_take(const struct evict_rules *rules, enum evict_why why)
{
    return rows[why].is_garbage || (why == EVICT_LEAST_USED && !rules->takes_garbage_only);
}

/* --- who has it --- */

struct names_search {
    struct db_txn *txn;
    const struct digest *but;
};

static int find_named(void *arg, const struct digest *parent, int role)
{
    const struct names_search *s = arg;
    struct manifest_record r;

    (void)role;
    if (s->but != NULL && digest_equal(parent, s->but))
        return 0;
    return manifest_get(s->txn, parent, &r) == 0;
}

int evict_is_named(struct db_txn *txn, const struct digest *d, const struct digest *but)
{
    struct names_search s = {txn, but};

    return parent_walk(txn, d, find_named, &s);
}

static int find_any(void *arg, const struct name *n)
{
    (void)arg;
    (void)n;
    return 1;
}

static int is_local(struct db_txn *txn, const struct digest *d)
{
    return link_walk_holders(txn, d, find_any, NULL);
}

/* --- use --- */

struct use_search {
    struct db_txn *txn;
    struct digest digest;
    int64_t used_at_s; /* its own; then with that of the indexes */
    int64_t newest_s;  /* of the platforms of one index */
};

static int find_newest(void *arg, const struct manifest_child *child)
{
    struct use_search *s = arg;
    struct blob_record r;

    if (child->role == CHILD_MANIFEST && blob_get(s->txn, &child->digest, &r) == 0 &&
        r.used_at_s > s->newest_s)
        s->newest_s = r.used_at_s;
    return 0;
}

/* A use of the index counts for that of its platforms which was used last. */
static int add_use_of_index(void *arg, const struct digest *parent, int role)
{
    struct use_search *s = arg;
    struct blob_record own, index;

    (void)role;
    if (blob_get(s->txn, parent, &index) != 0 || index.used_at_s <= s->used_at_s ||
        blob_get(s->txn, &s->digest, &own) != 0)
        return 0;
    s->newest_s = 0;
    int err = manifest_walk(s->txn, parent, find_newest, s);

    if (err == 0 && own.used_at_s == s->newest_s)
        s->used_at_s = index.used_at_s;
    return err == ERR_NOT_FOUND || err == ERR_DAMAGED ? 0 : err;
}

static int find_use(struct db_txn *txn, const struct digest *d, int64_t *used_at_s)
{
    struct use_search s = {.txn = txn, .digest = *d, .used_at_s = *used_at_s};
    int err = parent_walk(txn, d, add_use_of_index, &s);

    *used_at_s = s.used_at_s;
    return err;
}

/* --- the judgement --- */

static bool is_young(const struct evict_rules *rules, const struct blob_record *r)
{
    int64_t age_s;

    /* A clock that was ahead once makes nothing young for ever. */
    return !__builtin_sub_overflow(rules->now_s, r->used_at_s, &age_s) && age_s <= rules->grace_s &&
           age_s > -rules->grace_s;
}

/* Of a manifest. */
static int judge_manifest(struct db_txn *txn, const struct evict_rules *rules,
                          const struct evict_guard *g, const struct blob_record *r,
                          struct evict_unit *u)
{
    int is = evict_guard_pins(g, txn, &u->digest);

    if (is != 0) {
        u->why = EVICT_PINNED;
        return is < 0 ? is : 0;
    }
    is = evict_guard_is_busy(g, txn, &u->digest);
    if (is != 0) {
        u->why = EVICT_BUSY;
        return is < 0 ? is : 0;
    }
    is = is_local(txn, &u->digest);
    if (is < 0)
        return is;
    if (is && !rules->takes_local)
        u->why = EVICT_LOCAL;
    else if (blob_is_released(r) && !is)
        u->why = EVICT_RELEASED;
    else if (r->origin == BLOB_PUSHED && !is)
        u->why = EVICT_DELETED;
    else
        u->why = EVICT_LEAST_USED;
    return u->why == EVICT_LEAST_USED ? find_use(txn, &u->digest, &u->used_at_s) : 0;
}

/* Of what no held manifest names, and is none. */
static int judge_single(struct db_txn *txn, const struct evict_rules *rules,
                        const struct blob_record *r, struct evict_unit *u)
{
    int is = is_local(txn, &u->digest);

    if (is < 0)
        return is;
    if (is)
        u->why = is_young(rules, r) ? EVICT_WAITS : EVICT_ABANDONED;
    else if (r->origin == BLOB_PUSHED)
        u->why = EVICT_DELETED;
    else
        u->why = blob_is_released(r) ? EVICT_RELEASED : EVICT_LEAST_USED;
    return 0;
}

int evict_judge_record(struct db_txn *txn, const struct evict_rules *rules,
                       const struct evict_guard *g, const struct digest *d,
                       const struct blob_record *r, struct evict_unit *u)
{
    struct manifest_record m;
    int err = manifest_get(txn, d, &m);

    *u = (struct evict_unit){.digest = *d, .used_at_s = r->used_at_s, .is_manifest = err == 0};
    if (rules->is_busy != NULL && rules->is_busy(rules->arg, d)) {
        u->why = EVICT_BUSY;
        return 0;
    }
    if (err == 0) {
        u->is_index = m.is_index;
        return judge_manifest(txn, rules, g, r, u);
    }
    if (err != ERR_NOT_FOUND && err != ERR_DAMAGED)
        return err;
    int is = evict_is_named(txn, d, NULL);

    if (is != 0) {
        u->why = EVICT_PART;
        return is < 0 ? is : 0;
    }
    return judge_single(txn, rules, r, u);
}

int evict_judge(struct db_txn *txn, const struct evict_rules *rules, const struct evict_guard *g,
                const struct digest *d, struct evict_unit *u)
{
    struct blob_record r;
    int err = blob_get(txn, d, &r);

    return err == 0 ? evict_judge_record(txn, rules, g, d, &r, u) : err;
}

struct holder_search {
    struct db_txn *txn;
    const struct digest *parent;
};

/* 1 when this one has it for another manifest, which may come yet: it was mounted, say. */
static int find_stranger(void *arg, const struct name *n)
{
    const struct holder_search *s = arg;
    int err = link_get(s->txn, n, s->parent);

    return err == ERR_NOT_FOUND ? 1 : err;
}

int evict_goes_along(struct db_txn *txn, const struct evict_unit *part,
                     const struct evict_unit *parent)
{
    struct holder_search s = {txn, &parent->digest};
    int64_t last_s;

    if (__builtin_add_overflow(parent->used_at_s, TOGETHER_S, &last_s) || part->used_at_s > last_s)
        return 0;
    int is = link_walk_holders(txn, &part->digest, find_stranger, &s);

    return is < 0 ? is : is == 0;
}

struct stay_search {
    struct db_txn *txn;
    const struct evict_rules *rules;
    const struct evict_guard *guard;
    const struct evict_unit *part;
    bool goes_along;
};

/* 1 when this one names it and stays. */
static int find_stay(void *arg, const struct digest *parent, int role)
{
    struct stay_search *s = arg;
    struct evict_unit u;
    int err = evict_judge(s->txn, s->rules, s->guard, parent, &u);

    (void)role;
    if (err != 0)
        return err == ERR_NOT_FOUND || err == ERR_DAMAGED ? 0 : err;
    if (!u.is_manifest)
        return 0;
    if (!evict_rules_take(s->rules, u.why))
        return 1;
    int is = evict_goes_along(s->txn, s->part, &u);

    s->goes_along |= is > 0;
    return is < 0 ? is : 0;
}

int evict_judge_part(struct db_txn *txn, const struct evict_rules *rules,
                     const struct evict_guard *g, const struct blob_record *r, struct evict_unit *u)
{
    struct stay_search s = {.txn = txn, .rules = rules, .guard = g, .part = u};
    int is = parent_walk(txn, &u->digest, find_stay, &s);

    if (is != 0)
        return is < 0 ? is : 0;
    int err = judge_single(txn, rules, r, u);

    if (err == 0 && u->why == EVICT_WAITS && s.goes_along)
        u->why = EVICT_LEAST_USED;
    return err;
}
