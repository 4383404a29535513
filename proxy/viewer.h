/* SPDX-License-Identifier: ISC */
/*
 * Who looks at what the daemon shows, and which repositories it names to him: those that he
 * could pull from by the listener that he came by.
 *
 *   the Unix socket      all
 *   a local repository   what the access rules let him, or his token
 *   an upstream's        what its registry gave without anybody's credentials, or with the
 *                        configured ones when these are for everybody; where they are not
 *                        (visibility = private), what the access rules let him
 *
 * A repository that only clients' own credentials opened is named to nobody: who may see it
 * is known to its registry alone. Nor is what no section [upstream] is for.
 */
#ifndef PROXY_VIEWER_H
#define PROXY_VIEWER_H

#include <stdbool.h>

#include "cache/db.h"
#include "cache/name.h"
#include "proxy/config.h"

struct bearer_grants;

struct viewer {
    struct config *config;        /* referenced */
    bool is_operator;             /* by the Unix socket */
    char *mirror_of;              /* the one registry that the listener serves; or NULL */
    char *peer;                   /* his address */
    char *user;                   /* or NULL */
    bool has_token;               /* then its grants count, and no rule */
    struct bearer_grants *grants; /* NULL: none */
    bool may_login;               /* here, with a password */
    struct name last;             /* asked about, and the answer: lists come in order */
    bool last_seen;
};

/* Any thread, one at a time. */
bool viewer_may_see(struct viewer *v, struct db_txn *txn, const struct name *n);
/* Let go of what it holds. */
void viewer_clear(struct viewer *v);

#endif
