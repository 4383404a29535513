/* SPDX-License-Identifier: ISC */
/*
 * Foreign layers: a registry may not have them, and its manifests say where they are
 * kept. They are looked for at the registry first; elsewhere nobody is told who we
 * are, and their digest decides.
 */
#include "proxy/upstream_private.h"

#include <stdio.h>
#include <string.h>

#include "cache/err.h"

int foreign_find(struct upstream *u, const char *registry, const struct digest *d,
                 struct foreign_urls *urls)
{
    struct db_txn *txn;
    int err = db_read(u->reader, &txn);

    if (err)
        return err;
    err = foreign_urls_get(txn, registry, d, urls);
    db_read_end(u->reader);
    return err;
}

/* "Not there" and "not for you" add nothing to what the registry said. */
struct failure foreign_failure(const struct failure *own, const struct failure *elsewhere)
{
    int status = outcome_row(elsewhere->outcome)->status;
    bool adds_nothing = status == 401 || status == 403 || status == 404;
    struct failure both = adds_nothing ? *own : *elsewhere;

    snprintf(both.why, sizeof both.why, "%.120s; %.130s", own->why, elsewhere->why);
    return both;
}
