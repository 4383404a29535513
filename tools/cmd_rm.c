/* SPDX-License-Identifier: ISC */
/* cachalot rm: take away the names of images. Their bytes are another matter. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache/err.h"
#include "cache/layout.h"
#include "cache/link.h"
#include "cache/local.h"
#include "cache/manifest.h"
#include "cache/pin.h"
#include "cache/release.h"
#include "cache/tag.h"
#include "tools/command.h"
#include "tools/daemon.h"
#include "tools/items.h"
#include "tools/target.h"

#define UPSTREAM_NOTE "the next pull asks the upstream again"
#define LOCAL_NOTE "its manifest stays under its digest"

/* --- a tag --- */

static bool is_pinned(struct db_txn *txn, const struct reference *r)
{
    struct pin p;
    int err = pin_get(txn, r, &p);
    return err == 0 || err == ERR_DAMAGED;
}

static int refuse_pinned(struct items *items, const struct reference *r)
{
    char full[REFERENCE_TEXT_MAX];
    struct pin p;
    reference_text(r, full);
    if (pin_get(items->txn, r, &p) == 0 && *p.owner != '\0')
        return items_refuse(items, EXIT_FAILED,
                            "%s is pinned by [%s] of the settings; take it out there and reload",
                            full, p.owner);
    return items_refuse(items, EXIT_FAILED, "%s is pinned; \"cachalot unpin %s\" first", full,
                        full);
}

static int remove_tag(struct items *items, const struct reference *r)
{
    char full[REFERENCE_TEXT_MAX];
    bool is_local = name_is_local(&r->name);
    if (is_pinned(items->txn, r))
        return refuse_pinned(items, r);
    reference_text(r, full);
    struct tag_record t;
    bool is_known = tag_get(items->txn, &r->name, r->tag, &t) == 0;
    int err = tag_forget(items->txn, &r->name, r->tag);
    if (err == 0 && is_known)
        err = release_manifest(items->txn, &t.digest);
    if (err == 0)
        items_say(items, "removed", full, is_local ? LOCAL_NOTE : UPSTREAM_NOTE);
    return err;
}

/* --- a manifest: all its tags, and the local repositories that have it --- */

struct names {
    struct db_txn *txn;
    const struct name *within; /* NULL: in all repositories */
    struct digest digest;
    struct reference *list; /* tags, and local repositories by digest */
    size_t count;
    size_t previous; /* tags that fall back on it */
};

static void add_name(struct names *n, const struct reference *r)
{
    n->list = mem_resize(n->list, (n->count + 1) * sizeof n->list[0]);
    n->list[n->count++] = *r;
}

static int add_tag(void *arg, const struct name *name, const char *tag, const struct tag_record *t)
{
    struct names *n = arg;
    struct reference r = {.name = *name};
    if (n->within != NULL && !name_equal(name, n->within))
        return 0;
    n->previous += digest_equal(&t->previous, &n->digest);
    if (digest_equal(&t->digest, &n->digest)) {
        memcpy(r.tag, tag, strlen(tag) + 1);
        add_name(n, &r);
    }
    return 0;
}

static int add_holder(void *arg, const struct name *name)
{
    struct names *n = arg;
    struct reference r = {.name = *name, .by_digest = true, .digest = n->digest};
    if (n->within == NULL || name_equal(name, n->within))
        add_name(n, &r);
    return 0;
}

/* Tags come first: those of a manifest that is deleted are gone with it. */
static int find_names(struct names *n)
{
    int err = tag_walk(n->txn, add_tag, n);
    return err == 0 ? link_walk_holders(n->txn, &n->digest, add_holder, n) : err;
}

/* Whether one of them is pinned, or the manifest is there: then which. */
static bool find_pinned(const struct names *n, struct reference *pinned)
{
    for (size_t i = 0; i < n->count; i++) {
        *pinned = n->list[i];
        if (is_pinned(n->txn, pinned))
            return true;
        pinned->by_digest = true;
        pinned->digest = n->digest;
        if (is_pinned(n->txn, pinned))
            return true;
    }
    return false;
}

static int remove_names(struct items *items, const struct names *n)
{
    char full[REFERENCE_TEXT_MAX];
    int err = 0;
    for (size_t i = 0; i < n->count && err == 0; i++) {
        const struct reference *r = &n->list[i];
        if (r->by_digest)
            err = local_delete_manifest(items->txn, &r->name, &n->digest, (int64_t)time(NULL));
        else
            err = tag_forget(items->txn, &r->name, r->tag);
        reference_text(r, full);
        if (err == 0)
            items_say(items, "removed", full, name_is_local(&r->name) ? NULL : UPSTREAM_NOTE);
        /* As good as removed. */
        if (err == ERR_NOT_FOUND)
            err = 0;
    }
    return err == 0 ? release_manifest(items->txn, &n->digest) : err;
}

static int remove_manifest(struct items *items, const struct digest *d, const struct name *within)
{
    struct names n = {.txn = items->txn, .within = within, .digest = *d};
    struct manifest_record m;
    struct reference pinned;
    char digest[DIGEST_TEXT_MAX];
    digest_text(d, digest);
    int err = manifest_get(items->txn, d, &m);
    if (err == ERR_NOT_FOUND)
        return items_refuse(items, EXIT_FAILED,
                            "%s is no manifest that is held; \"cachalot why %s\" says which images "
                            "have it, remove those",
                            digest, digest);
    if (err != 0 && err != ERR_DAMAGED)
        return err;
    err = find_names(&n);
    if (err == 0 && find_pinned(&n, &pinned))
        refuse_pinned(items, &pinned);
    else if (err == 0 && n.count == 0)
        items_refuse(items, EXIT_ABSENT,
                     "%s has no name that could be removed%s; \"cachalot why %s\" says what leads "
                     "to it",
                     digest, n.previous > 0 ? " but as what a tag was before it moved" : "",
                     digest);
    else if (err == 0)
        err = remove_names(items, &n);
    free(n.list);
    return err;
}

/* --- both --- */

/* A tag whose record is damaged can be removed, too. */
static int remove_one(struct items *items, const char *text)
{
    struct target t;
    struct reference r;
    struct digest d;
    int err = reference_find(items->txn, text, &r, &d);
    if ((err == 0 || err == ERR_DAMAGED) && !r.by_digest)
        return remove_tag(items, &r);
    if (err == 0)
        return remove_manifest(items, &d, &r.name);
    enum exit_code code = target_find(&t, items->options, items->txn, text);
    if (code == EXIT_DONE)
        return remove_manifest(items, &t.digest, NULL);
    items->refused++;
    items->why = code;
    return 0;
}

/* Without the daemon, "cachalot gc" does it. */
static void free_bytes(struct items *items)
{
    char why[300];
    char *body = NULL;
    int err = daemon_post(items->options, "/-/api/collect", &body, why, sizeof why);
    free(body);
    if (err != 0 && err != ERR_NOT_FOUND)
        complain(EXIT_DONE, "the bytes are freed later, not now: %s", why);
}

/* index.json lists the tags: it would bring back what was removed when the index is built
 * anew from it. */
static enum exit_code write_layout(struct items *items)
{
    struct db_reader *reader = NULL;
    struct db_txn *txn;
    int err = db_reader_new(store_db(items->store), &reader);
    if (err == 0)
        err = db_read(reader, &txn);
    if (err == 0) {
        err = layout_write_index(items->store, txn);
        db_read_end(reader);
    }
    db_reader_free(&reader);
    free_bytes(items);
    return err == 0 ? EXIT_DONE
                    : complain(EXIT_FAILED,
                               "index.json in %s was not rewritten: %s; cachalotd does so when the "
                               "next tag changes",
                               store_path(items->store), err_text(err));
}

enum exit_code cmd_rm(const struct options *o, int argc, char **argv)
{
    return items_run(o, argc, argv, remove_one, write_layout);
}
