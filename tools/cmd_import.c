/* SPDX-License-Identifier: ISC */
/* cachalot import: images from archives. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cache/bundle_sign.h"
#include "cache/err.h"
#include "cache/import.h"
#include "tools/archives.h"
#include "tools/command.h"
#include "tools/files.h"
#include "tools/make_room.h"
#include "tools/output.h"
#include "tools/progress.h"

#define KEY_SIZE_MAX (64u * 1024)
#define MISSING_SHOWN 10
#define SHORT_DIGEST 12

struct import_run {
    const struct options *options;
    struct import_settings settings;
    char *key;
    struct progress progress;
    struct make_room room;
    struct table *table;
    json_t *images;
    size_t image_count, referrer_count;
    uint64_t carried_count, carried_bytes, added_count, added_bytes;
};

static void advance(void *arg, uint64_t bytes)
{
    progress_add(&((struct import_run *)arg)->progress, bytes);
}

static int need_room(void *arg, uint64_t bytes)
{
    return make_room(&((struct import_run *)arg)->room, bytes);
}

/* --- what the options say --- */

static enum exit_code check_name(const char *name)
{
    struct reference r;
    if (name == NULL || reference_parse(&r, name, NULL) == 0)
        return EXIT_DONE;
    return complain(EXIT_USAGE, "--as %s is no reference; take [registry/]repository[:tag]", name);
}

/* The settings may demand one that nobody on the command line can do without. */
static enum exit_code read_key(struct import_run *run)
{
    const char *demanded = run->options->import_key_path;
    const char *given = option_text(run->options, "verify");
    char *other;
    size_t len, other_len;
    if (demanded == NULL && given == NULL)
        return EXIT_DONE;
    enum exit_code code =
        file_read(demanded != NULL ? demanded : given, KEY_SIZE_MAX, &run->key, &len);
    if (code != EXIT_DONE)
        return code;
    run->settings.key = run->key;
    run->settings.key_len = len;
    uint8_t none[BUNDLE_SIGNATURE_BYTES] = {0};
    if (bundle_verify(run->key, len, "", 0, none) == ERR_INVALID)
        return complain(EXIT_USAGE,
                        "%s has no public Ed25519 key in PEM; \"openssl pkey -in KEY "
                        "-pubout\" prints one",
                        demanded != NULL ? demanded : given);
    if (demanded == NULL || given == NULL)
        return EXIT_DONE;
    code = file_read(given, KEY_SIZE_MAX, &other, &other_len);
    if (code != EXIT_DONE)
        return code;
    if (other_len != len || memcmp(other, run->key, len) != 0)
        code = complain(EXIT_USAGE,
                        "%s is not the key of require-signature, %s, which must have signed", given,
                        demanded);
    free(other);
    return code;
}

/* --- what came of it --- */

static void show_reference(const struct import_image *image, char out[REFERENCE_TEXT_MAX])
{
    struct reference r;
    import_reference(image, &r);
    reference_text(&r, out);
}

static void note_result(struct import_run *run, const struct import *i)
{
    struct import_result r;
    import_result(i, &r);
    run->carried_count += r.carried_count;
    run->carried_bytes += r.carried_bytes;
    run->added_count += r.added_count;
    run->added_bytes += r.added_bytes;
    for (size_t k = 0; k < r.image_count; k++) {
        char reference[REFERENCE_TEXT_MAX], digest[DIGEST_TEXT_MAX];
        show_reference(&r.images[k], reference);
        digest_text(&r.images[k].digest, digest);
        if (r.images[k].is_attached)
            run->referrer_count++;
        else
            run->image_count++;
        if (run->options->quiet)
            continue;
        if (run->options->format == FORMAT_JSON) {
            json_array_append_new(run->images,
                                  json_pack("{ss ss sb sb}", "reference", reference, "digest",
                                            digest, "sparse", r.images[k].is_sparse, "referrer",
                                            r.images[k].is_attached));
            continue;
        }
        table_add(run->table, "%s", reference);
        table_add(run->table, "%.*s", SHORT_DIGEST, strchr(digest, ':') + 1);
        table_add(run->table, "%s",
                  r.images[k].is_attached ? "referrer"
                  : r.images[k].is_sparse ? "some platforms"
                                          : "");
    }
}

static enum exit_code report(const struct import_run *run)
{
    const struct options *o = run->options;
    char carried[TEXT_MAX], added[TEXT_MAX];
    size_t images = run->image_count;
    if (o->quiet)
        return EXIT_DONE;
    if (o->format == FORMAT_JSON) {
        json_print(json_pack(
            "{sO sI sI sI sI sb}", "images", run->images, "blobs", (json_int_t)run->carried_count,
            "bytes", (json_int_t)run->carried_bytes, "added_blobs", (json_int_t)run->added_count,
            "added_bytes", (json_int_t)run->added_bytes, "published", !run->settings.verify_only));
        return output_end();
    }
    table_print(run->table);
    printf("%s%zu %s, ", run->settings.verify_only ? "verified: " : "", images,
           images == 1 ? "image" : "images");
    if (run->referrer_count > 0)
        printf("%zu %s, ", run->referrer_count,
               run->referrer_count == 1 ? "referrer" : "referrers");
    printf("%" PRIu64 " blobs, %s", run->carried_count, size_text(carried, run->carried_bytes));
    if (!run->settings.verify_only)
        printf("; new were %" PRIu64 " blobs, %s", run->added_count,
               size_text(added, run->added_bytes));
    putchar('\n');
    return output_end();
}

/* What to ask the sender for. He may have some platforms of an index only, as he had. */
static void show_missing(const struct import_run *run, const struct import_result *r)
{
    for (size_t k = 0; k < r->missing_count && k < MISSING_SHOWN; k++) {
        const struct import_missing *m = &r->missing[k];
        char reference[REFERENCE_TEXT_MAX], digest[DIGEST_TEXT_MAX], size[TEXT_MAX];
        show_reference(&r->images[m->image], reference);
        fprintf(stderr, "  %s: %s (%s)\n", reference, digest_text(&m->digest, digest),
                size_text(size, m->size_bytes));
    }
    if (r->missing_count > MISSING_SHOWN)
        fprintf(stderr, "  and %zu more\n", r->missing_count - MISSING_SHOWN);
    if (!r->is_bundle) {
        complain(EXIT_ABSENT, "save the image again where all of it is");
        return;
    }
    complain(EXIT_ABSENT,
             "the sender thought that these are here: make a receipt with \"cachalot -C %s have "
             "-o here.receipt\", take it to the sender, and there run:",
             run->options->cache_path);
    bool is_sparse = false;
    for (size_t k = 0; k < r->missing_count; k++)
        is_sparse = is_sparse || r->images[r->missing[k].image].is_sparse;
    fprintf(stderr, "  cachalot export --have here.receipt%s -o FILE",
            is_sparse ? " --platform held" : "");
    size_t last = SIZE_MAX;
    for (size_t k = 0; k < r->missing_count; k++) {
        char reference[REFERENCE_TEXT_MAX];
        if (r->missing[k].image == last)
            continue;
        last = r->missing[k].image;
        show_reference(&r->images[last], reference);
        fprintf(stderr, " %s", reference);
    }
    fputc('\n', stderr);
}

static enum exit_code complain_import(struct import_run *run, const struct import *i, int err)
{
    struct import_result r;
    enum exit_code code = EXIT_FAILED;
    if (err == ERR_INVALID || err == ERR_MISMATCH || err == ERR_TOO_LARGE)
        code = EXIT_INTEGRITY;
    else if (err == ERR_NOT_FOUND)
        code = EXIT_ABSENT;
    progress_end(&run->progress);
    complain(code, "%s%s", import_why(i), code == EXIT_INTEGRITY ? "; nothing was imported" : "");
    import_result(i, &r);
    if (r.name_misfits)
        code = EXIT_USAGE;
    if (r.missing_count > 0)
        show_missing(run, &r);
    return code;
}

/* --- the archives --- */

static int import_one(struct import *i, const struct archive *a, enum exit_code *code)
{
    bool is_input = strcmp(a->path, "-") == 0;
    int fd = is_input ? STDIN_FILENO : open(a->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        *code = complain(EXIT_FAILED, "%s cannot be opened: %s", a->path, strerror(errno));
        return 0;
    }
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    int err = import_archive(i, fd, is_input ? "standard input" : a->path);
    if (!is_input)
        close(fd);
    return err;
}

static enum exit_code import_group(struct import_run *run, const struct archives *a, size_t first,
                                   size_t count)
{
    char why[IMPORT_WHY_MAX];
    struct import *i;
    enum exit_code code = EXIT_DONE;
    int err = import_new(&i, &run->settings, why);
    if (err != 0)
        return complain(EXIT_FAILED, "%s", why);
    for (size_t k = first; err == 0 && code == EXIT_DONE && k < first + count; k++)
        err = import_one(i, &a->all[k], &code);
    if (err == 0 && code == EXIT_DONE)
        err = import_finish(i);
    if (err != 0)
        code = complain_import(run, i, err);
    else if (code == EXIT_DONE)
        note_result(run, i);
    import_free(&i);
    return code;
}

static enum exit_code import_all(struct import_run *run, const struct archives *a)
{
    enum exit_code worst = EXIT_DONE;
    size_t failed = 0, groups = 0;
    for (size_t first = 0, count; first < a->count; first += count) {
        count = archives_group(a, first);
        groups++;
        enum exit_code code =
            run->settings.verify_only ? EXIT_DONE : archives_check(a, first, count);
        if (code == EXIT_DONE)
            code = import_group(run, a, first, count);
        if (code != EXIT_DONE) {
            worst = code;
            failed++;
        }
    }
    progress_end(&run->progress);
    if (failed < groups && report(run) != EXIT_DONE)
        return EXIT_FAILED;
    return failed > 0 && failed < groups ? EXIT_SOME_FAILED : worst;
}

/* What is only verified needs no cache, but a delta rests on what it holds. */
static enum exit_code open_cache(struct import_run *run, struct cache *c)
{
    char why[512];
    *c = (struct cache){0};
    if (!run->settings.verify_only)
        return cache_open_to_add(c, run->options);
    if (store_open(&c->store, run->options->cache_path, STORE_READ, 0, why, sizeof why) != 0)
        c->store = NULL;
    return EXIT_DONE;
}

enum exit_code cmd_import(const struct options *o, int argc, char **argv)
{
    struct import_run run = {
        .options = o,
        .table = table_new("mll"),
        .images = json_array(),
        .settings = {.verify_only = option_is_given(o, "verify-only"),
                     .name = option_text(o, "as"),
                     .now_s = (int64_t)time(NULL),
                     .need_room = need_room,
                     .advanced = advance},
    };
    struct archives archives = {0};
    struct cache cache = {0};
    uint64_t bytes = 0;
    run.settings.arg = &run;
    table_add(run.table, "REFERENCE");
    table_add(run.table, "DIGEST");
    table_add(run.table, "%s", "");
    enum exit_code code = check_name(run.settings.name);
    if (code == EXIT_DONE)
        code = read_key(&run);
    if (code == EXIT_DONE)
        code = archives_find(&archives, argc, argv);
    if (code == EXIT_DONE)
        code = open_cache(&run, &cache);
    if (code == EXIT_DONE) {
        run.settings.store = cache.store;
        run.room = (struct make_room){.options = o, .store = cache.store};
        for (size_t i = 0; i < archives.count; i++)
            bytes += archives.all[i].size_bytes;
        progress_begin(&run.progress, o, run.settings.verify_only ? "verify" : "import", bytes);
        code = import_all(&run, &archives);
    }
    cache_close(&cache);
    archives_clear(&archives);
    table_free(&run.table);
    json_decref(run.images);
    free(run.key);
    return code;
}
