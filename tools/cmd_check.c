/* SPDX-License-Identifier: ISC */
/* cachalot check: whether what is kept is what it was. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cache/audit.h"
#include "cache/err.h"
#include "cache/repair.h"
#include "tools/command.h"
#include "tools/findings.h"
#include "tools/output.h"
#include "tools/progress.h"

static int add_progress(void *arg, uint64_t bytes)
{
    progress_add(arg, bytes);
    return 0;
}

static enum exit_code run_audit(const struct options *o, struct cache *cache, struct audit *a)
{
    struct progress p;
    uint64_t blobs, bytes;
    struct audit_options options = {
        .is_quick = option_is_given(o, "quick"),
        .is_live = store_is_in_use(cache->store),
        .now_s = time(NULL),
        .pace = add_progress,
        .arg = &p,
    };
    int err = audit_measure(cache->reader, &blobs, &bytes);
    progress_begin(&p, o, "check", bytes);
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

enum exit_code cmd_check(const struct options *o, int argc, char **argv)
{
    struct audit a = {0};
    (void)argc;
    (void)argv;
    enum exit_code code = audit(o, &a);
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
