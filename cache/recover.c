/* SPDX-License-Identifier: ISC */
#include "cache/recover.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "cache/db_probe.h"
#include "cache/err.h"
#include "cache/folder.h"

static int find_file(void *arg, const char *name)
{
    (void)arg;
    return name[0] != '.';
}

static bool folder_has_files(int folder_fd)
{
    return folder_walk(folder_fd, find_file, NULL) == 1;
}

/* Whether there is an index to be made anew. */
static bool has_blobs(const struct store *s)
{
    return folder_has_files(store_blobs_fd(s, DIGEST_SHA256)) ||
           folder_has_files(store_blobs_fd(s, DIGEST_SHA512));
}

static enum recovery_cause find_cause(const struct store *s)
{
    char *path = mem_format("%s/db", store_path(s));
    int err = db_probe(path);

    free(path);
    if (err == ERR_NOT_FOUND && has_blobs(s))
        return RECOVERY_MISSING;
    /* Why it cannot be opened, if that is so, store_open_index says. */
    return err == ERR_DAMAGED ? RECOVERY_DAMAGED : RECOVERY_NONE;
}

static int rebuild(struct store *s, size_t map_bytes, int64_t now_s, struct recovery *r, char *why,
                   size_t why_size)
{
    int err = store_begin_index(s, map_bytes, why, why_size);

    if (err != 0)
        return err;
    err = rebuild_index(s, now_s, &r->rebuild);
    if (err != 0) {
        snprintf(why, why_size, "the index of %s is lost and cannot be made anew: %s%s",
                 store_path(s), err_text(err),
                 err == ERR_FULL ? "; make it larger by index-size in [cache]" : "");
        return err;
    }
    return store_adopt_index(s, map_bytes, now_s, r->aside, why, why_size);
}

static int open_index(struct store *s, size_t map_bytes, int64_t now_s, struct recovery *r,
                      char *why, size_t why_size)
{
    bool is_alone = store_keep_writers_out(s);

    if (r->cause == RECOVERY_NONE)
        r->cause = find_cause(s);
    /* Pages that a command writes while they are walked look damaged. */
    if (r->cause == RECOVERY_DAMAGED && !is_alone)
        r->cause = RECOVERY_NONE;
    if (r->cause == RECOVERY_NONE) {
        int err = store_open_index(s, map_bytes, why, why_size);

        if (err == 0 && is_alone)
            store_let_writers_in(s);
        /* Walked, but without what every index has. */
        if (err != ERR_DAMAGED)
            return err;
        r->cause = RECOVERY_DAMAGED;
    }
    if (!is_alone) {
        snprintf(why, why_size,
                 "a cachalot command has the index of %s open, which is to be made anew; wait "
                 "until that has ended",
                 store_path(s));
        return ERR_BUSY;
    }
    int err = rebuild(s, map_bytes, now_s, r, why, why_size);

    if (err == 0)
        store_let_writers_in(s);
    return err;
}

static int open_store(struct store **s, const char *path, size_t map_bytes, int64_t now_s,
                      struct recovery *r, char *why, size_t why_size)
{
    int err = store_open_files(s, path, STORE_OWN, why, why_size);

    if (err != 0)
        return err;
    err = open_index(*s, map_bytes, now_s, r, why, why_size);
    if (err != 0)
        store_close(s);
    return err;
}

int recover_open(struct store **s, const char *path, size_t map_bytes, int64_t now_s,
                 struct recovery *r, char *why, size_t why_size)
{
    *r = (struct recovery){.cause = RECOVERY_NONE};
    return open_store(s, path, map_bytes, now_s, r, why, why_size);
}

int recover_rebuild(struct store **s, const char *path, size_t map_bytes, int64_t now_s,
                    struct recovery *r, char *why, size_t why_size)
{
    *r = (struct recovery){.cause = RECOVERY_ASKED};
    return open_store(s, path, map_bytes, now_s, r, why, why_size);
}
