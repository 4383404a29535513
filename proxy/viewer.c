/* SPDX-License-Identifier: ISC */
#include "proxy/viewer.h"

#include <stdlib.h>
#include <string.h>

#include "cache/repository.h"
#include "proxy/access.h"
#include "proxy/bearer.h"

static bool may_pull(const struct viewer *v, const struct name *n)
{
    if (v->has_token)
        return v->grants && (bearer_grants_for(v->grants, n) & RIGHT_PULL);
    return access_allows(v->config, v->peer, v->user, n, RIGHT_PULL);
}

/* A record that cannot be read, or is not there, opens nothing. */
static bool is_public(struct db_txn *txn, const struct name *n)
{
    struct repository_record r;

    return repository_get(txn, n, &r) == 0 && r.visibility == REPOSITORY_PUBLIC;
}

static bool judge(const struct viewer *v, struct db_txn *txn, const struct name *n)
{
    if (v->is_operator)
        return true;
    if (v->mirror_of && strcmp(v->mirror_of, n->registry) != 0)
        return false;
    if (name_is_local(n))
        return may_pull(v, n);
    const struct config_upstream *u = config_find_upstream(v->config, n->registry);
    if (!u || !is_public(txn, n))
        return false;
    return u->visibility == VISIBILITY_PUBLIC || may_pull(v, n);
}

bool viewer_may_see(struct viewer *v, struct db_txn *txn, const struct name *n)
{
    if (!n->repository[0])
        return v->is_operator;
    if (!name_equal(n, &v->last)) {
        v->last = *n;
        v->last_seen = judge(v, txn, n);
    }
    return v->last_seen;
}

void viewer_clear(struct viewer *v)
{
    config_unref(&v->config);
    bearer_grants_free(&v->grants);
    free(v->user);
    free(v->peer);
    free(v->mirror_of);
    *v = (struct viewer){0};
}
