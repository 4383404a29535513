/* SPDX-License-Identifier: ISC */
/* cachalot check: whether what is kept is what it was. */
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cache/audit.h"
#include "cache/db_probe.h"
#include "cache/err.h"
#include "cache/recover.h"
#include "cache/repair.h"
#include "cache/usage.h"
#include "tools/command.h"
#include "tools/findings.h"
#include "tools/output.h"
#include "tools/progress.h"

#define PROBES_MAX 5

static int add_progress(void *arg, uint64_t bytes)
{
    progress_add(arg, bytes);
    return 0;
}

static enum exit_code run_audit(const struct options *o, struct cache *cache, struct audit *a)
{
    struct progress p;
    struct usage usage = {0};
    struct audit_options options = {
        .is_quick = option_is_given(o, "quick"),
        .is_live = store_is_in_use(cache->store),
        .now_s = time(NULL),
        .pace = add_progress,
        .arg = &p,
    };
    int err = db_read(cache->reader, &cache->txn);
    if (err == 0) {
        err = usage_get(cache->txn, &usage);
        cache_end_read(cache);
    }
    progress_begin(&p, o, "check", usage.bytes);
    if (err == 0)
        err = audit_run(a, cache->store, cache->reader, &options);
    progress_end(&p);
    return err == 0 ? EXIT_DONE : cache_complain(o, err);
}

/* Anew, for writing: what was read may be repaired meanwhile by the daemon. */
static enum exit_code repair(const struct options *o, struct audit *a)
{
    struct cache cache;
    enum exit_code code = cache_open_to_add(&cache, o);
    if (code != EXIT_DONE)
        return code;
    int err = audit_repair(a, cache.store, time(NULL));
    cache_close(&cache);
    return err == 0 ? EXIT_DONE
                    : complain(EXIT_FAILED, "the index in %s cannot be written: %s", o->cache_path,
                               err_text(err));
}

static enum exit_code audit(const struct options *o, struct audit *a)
{
    struct cache cache;
    enum exit_code code = cache_open(&cache, o);
    if (code != EXIT_DONE)
        return code;
    cache_end_read(&cache);
    code = run_audit(o, &cache, a);
    cache_close(&cache);
    return code;
}

static enum exit_code say(const struct options *o, const struct audit *a)
{
    struct cache cache;
    enum exit_code code = cache_open(&cache, o);
    if (code != EXIT_DONE)
        return code;
    cache_end_read(&cache);
    findings_print(o, &cache, a);
    cache_close(&cache);
    return output_end();
}

/* What the superuser makes must be the daemon's: from here on this is its user. */
static enum exit_code become_owner(const struct options *o)
{
    struct stat st;
    if (geteuid() != 0 || stat(o->cache_path, &st) != 0 || st.st_uid == 0)
        return EXIT_DONE;
    if (setgroups(0, NULL) == 0 && setresgid(st.st_gid, st.st_gid, st.st_gid) == 0 &&
        setresuid(st.st_uid, st.st_uid, st.st_uid) == 0)
        return EXIT_DONE;
    return complain(EXIT_FAILED, "this cannot become the user %lu, to whom %s belongs: %s",
                    (unsigned long)st.st_uid, o->cache_path, strerror(errno));
}

static void say_rebuilt(const struct options *o, const struct recovery *r)
{
    const struct rebuild *b = &r->rebuild;
    char bytes[TEXT_MAX];
    if (o->quiet || o->format == FORMAT_JSON)
        return;
    printf("The index was made anew: %" PRIu64 " blobs with %s, %" PRIu64 " of them public and "
           "%" PRIu64 " manifests; %" PRIu64 " tags.\n",
           b->blobs, size_text(bytes, b->bytes), b->public_blobs, b->manifests, b->tags);
    if (!b->has_index_json)
        puts("There was no index.json: all tags are lost.");
    if (b->lost_tags > 0)
        printf("Tags of index.json whose manifest is gone: %" PRIu64 ".\n", b->lost_tags);
    if (r->aside[0] != '\0')
        printf("The old index is kept as %s/%s.\n", o->cache_path, r->aside);
    putchar('\n');
}

/* As the daemon it would make what is missing. */
static enum exit_code require_cache(const struct options *o)
{
    char *path = mem_format("%s/oci-layout", o->cache_path);
    bool is_there = access(path, F_OK) == 0;
    int errnum = errno;
    free(path);
    return is_there ? EXIT_DONE
                    : complain(EXIT_FAILED, "there is no cache in %s: %s", o->cache_path,
                               strerror(errnum));
}

static enum exit_code rebuild(const struct options *o)
{
    struct store *store;
    struct recovery r;
    char why[512];
    enum exit_code code = require_cache(o);
    if (code == EXIT_DONE)
        code = become_owner(o);
    if (code != EXIT_DONE)
        return code;
    int err = recover_rebuild(&store, o->cache_path, 0, time(NULL), &r, why, sizeof why);
    if (err == ERR_BUSY)
        return complain(EXIT_FAILED, "%s, for --rebuild wants the index for itself", why);
    if (err != 0)
        return complain(EXIT_FAILED, "%s", why);
    say_rebuilt(o, &r);
    store_close(&store);
    return EXIT_DONE;
}

/* A damaged index would end this process by a signal. What others write meanwhile may look like
 * damage, but hardly each time. */
static enum exit_code probe(const struct options *o)
{
    char *path = mem_format("%s/db", o->cache_path);
    int err = ERR_DAMAGED;
    for (int i = 0; err == ERR_DAMAGED && i < PROBES_MAX; i++)
        err = db_probe(path);
    free(path);
    if (err != ERR_DAMAGED)
        return EXIT_DONE;
    return complain(EXIT_INTEGRITY,
                    "the index in %s is damaged; (re)start cachalotd, which makes it anew, or run "
                    "\"cachalot check --rebuild\" without it",
                    o->cache_path);
}

enum exit_code cmd_check(const struct options *o, int argc, char **argv)
{
    struct audit a = {0};
    (void)argc;
    (void)argv;
    enum exit_code code = option_is_given(o, "rebuild") ? rebuild(o) : probe(o);
    if (code == EXIT_DONE)
        code = audit(o, &a);
    enum exit_code repaired = EXIT_DONE;
    if (code == EXIT_DONE && option_is_given(o, "fix") && a.count > 0)
        repaired = repair(o, &a);
    if (code == EXIT_DONE)
        code = say(o, &a);
    if (code == EXIT_DONE)
        code = repaired;
    if (code == EXIT_DONE && findings_are_damage(&a))
        code = EXIT_INTEGRITY;
    audit_clear(&a);
    return code;
}
