/* SPDX-License-Identifier: ISC */
/*
 * Eviction: what goes when room is wanted, and what goes because nothing leads to it.
 *
 * What goes is an image, not a file. A unit is
 *   a manifest with its config and those of its layers that no other held manifest names;
 *   an image index, alone: its platforms are units of their own, so it may become sparse;
 *   a blob that no held manifest names.
 * So a layer that another image needs stays as long as that image does, however long ago
 * it was last sent; and a manifest that is held never loses a layer: it goes first.
 *
 * The order is that of last use, the longest ago first, and an index before its platforms.
 * Who asks for an index and no more has the platform's manifest already: such a use counts
 * for that platform of it which was used last. Uses are known to ten minutes or so.
 *
 * Never go: what is pinned; what was pushed here, unless the settings say so; and what is
 * in use, as the manifests that name a blob which is being fetched. All of it is asked
 * again in the transaction that takes a unit away: the order is found beside, by looking at
 * every record, a part at a time, keeping the few that would go first.
 *
 * Garbage goes without need: what was let go of (blob_release, as "cachalot rm" does) and
 * is wanted by no pin; and what was pushed, and no manifest names it and no repository has
 * it, or it has waited for its manifest longer than a push takes. What was pushed with an
 * image and used with it does not wait when that is evicted.
 *
 * A unit goes in two transactions. The first forgets its records, and notes each file as
 * leaving (usage.h); the second removes the files of those that are leaving still, with the
 * index locked for all other processes. So no record is without its file, a file that came
 * again meanwhile stays, and what a power cut leaves is known and removed at the next start.
 */
#ifndef CACHE_EVICT_H
#define CACHE_EVICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/blob.h"
#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"
#include "cache/name.h"
#include "cache/store.h"

/* The grace unless the settings say otherwise, and the longest. */
#define EVICT_GRACE_DEFAULT "1h"
#define EVICT_GRACE_MAX_S (30 * 86400)

struct evict_rules {
    int64_t now_s;
    int64_t grace_s; /* since its last use, how long what was pushed may wait for a manifest */
    bool takes_local;
    bool takes_garbage_only;
    /* Whether the content is in use; NULL: nothing is. */
    bool (*is_busy)(void *arg, const struct digest *d);
    void *arg;
};

/* Manifests that must not go: found once, for a transaction or a plan. */
struct evict_guard;

/* Those that are pinned, and those that name one of the `busy` contents. */
MUST_CHECK int evict_guard_new(struct evict_guard **g, struct db_txn *txn,
                               const struct digest *busy, size_t busy_count);
/* NULL is legal; leaves NULL. */
void evict_guard_free(struct evict_guard **g);

/* Why a unit may go or stays. */
enum evict_why {
    EVICT_LEAST_USED, /* when room is wanted */
    EVICT_RELEASED,   /* garbage: it was let go of */
    EVICT_DELETED,    /* garbage: it was pushed, and no repository has it any more */
    EVICT_ABANDONED,  /* garbage: it was pushed, and no manifest came that names it */
    EVICT_PART,       /* stays as long as a manifest that names it */
    EVICT_PINNED,     /* stays */
    EVICT_BUSY,       /* stays: in use */
    EVICT_LOCAL,      /* stays: a local repository has it */
    EVICT_WAITS,      /* stays: pushed, and used lately; a push may count on it */
    EVICT_WHY_COUNT
};
/* For people, and as a word for programs. */
const char *evict_why_text(enum evict_why why);
const char *evict_why_word(enum evict_why why);
bool evict_why_is_garbage(enum evict_why why);

struct evict_unit {
    struct digest digest;
    int64_t used_at_s;
    bool is_manifest, is_index;
    enum evict_why why;
};

/* What is to be said of one content that is held. ERR_NOT_FOUND when it is not. */
MUST_CHECK int evict_judge(struct db_txn *txn, const struct evict_rules *rules,
                           const struct evict_guard *g, const struct digest *d,
                           struct evict_unit *u);

/* --- the end of a unit --- */

#define EVICTED_NAMES_MAX 3

struct evicted {
    struct digest *list; /* files that are to be removed */
    size_t count, room;
    uint64_t bytes; /* on the disk */
    uint64_t images;
    uint64_t pushed_images;               /* of them, those that a local repository had */
    struct name names[EVICTED_NAMES_MAX]; /* repositories of some of them, each once */
    unsigned name_count;
};

/* One more file, of so many bytes. */
void evicted_add(struct evicted *e, const struct digest *d, uint64_t size_bytes);
/* Empty it, keeping the memory; evicted_clear frees that, too, and leaves zeros. */
void evicted_reset(struct evicted *e);
void evicted_clear(struct evicted *e);

/* Forget the unit, if it may still go, and add its files to `e`. ERR_BUSY when it stays,
 * ERR_NOT_FOUND when it is not there. */
MUST_CHECK int evict_forget(struct db_txn *txn, const struct evict_rules *rules,
                            const struct evict_guard *g, const struct digest *d, struct evicted *e);
/* The same of units in this order, until so many bytes are in `e`; those that stay are passed
 * over. `*forgotten`: how many were. */
MUST_CHECK int evict_forget_units(struct db_txn *txn, const struct evict_rules *rules,
                                  const struct evict_guard *g, const struct digest *units,
                                  size_t count, uint64_t bytes, struct evicted *e,
                                  unsigned *forgotten);

/* The same of a file in blobs/ that no record names; of any other nothing is done. */
MUST_CHECK int evict_forget_file(struct store *s, struct db_txn *txn, const struct digest *d,
                                 struct evicted *e);

/* In a later write transaction: remove the file, if it is still leaving. With `fd`, it is
 * opened before (O_PATH), so that its bytes go when that is closed; -1 when it was not
 * there. Unless ERR_IO, an error leaves it for the next time. */
MUST_CHECK int evict_remove(struct store *s, struct db_txn *txn, const struct digest *d, int *fd);

/* Before the first of all this: what an index of an earlier release does not know. */
MUST_CHECK int evict_prepare(struct db_txn *txn);

#endif
