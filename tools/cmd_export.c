/* SPDX-License-Identifier: ISC */
/* cachalot export: images into a file, for a cache that no line leads to. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/bundle_text.h"
#include "cache/bundle_write.h"
#include "cache/err.h"
#include "cache/import.h"
#include "cache/receipt.h"
#include "cache/repository.h"
#include "tools/command.h"
#include "tools/files.h"
#include "tools/output.h"
#include "tools/progress.h"
#include "tools/wanted.h"

#define KEY_SIZE_MAX (64u * 1024)
#define LIST_SIZE_MAX (16u * 1024 * 1024)
#define PART_NAME "%s/bundle-%04u.tar"
#define PART_PATTERN "%s/bundle-[0-9][0-9][0-9][0-9].tar"

struct export
{
    const struct options *options;
    const char *output;
    bool is_folder;
    char *list; /* that of -f: read once, as it may come through a pipe */
    size_t list_len;
    struct bundle_record record;
    char *index;
    size_t index_len;
    char *singles;
    size_t singles_len;
    bool is_signed;
    uint8_t signature[BUNDLE_SIGNATURE_BYTES];
    struct receipt receipt;
    struct progress progress;
    json_t *files;
    uint64_t file_bytes;
};

static void export_clear(struct export *e)
{
    bundle_record_clear(&e->record);
    receipt_clear(&e->receipt);
    json_decref(e->files);
    free(e->list);
    free(e->index);
    free(e->singles);
}

/* --- what the options say --- */

static enum exit_code check_output(struct export *e)
{
    struct stat st;
    e->output = option_text(e->options, "output");
    if (e->output == NULL || *e->output == '\0')
        return complain(EXIT_USAGE, "say where to with -o FILE, -o DIR/ or -o -");
    bool has_slash = e->output[strlen(e->output) - 1] == '/';
    bool is_there = stat(e->output, &st) == 0;
    e->is_folder = has_slash || (is_there && S_ISDIR(st.st_mode));
    if (has_slash && !is_there && mkdir(e->output, 0777) != 0)
        return complain(EXIT_FAILED,
                        "the folder %s cannot be made: %s; name another in one that is there",
                        e->output, strerror(errno));
    const char *size = option_text(e->options, "part-size");
    if (size != NULL && !size_parse(size, &e->record.part_bytes))
        return complain(EXIT_USAGE, "%s is no size; take one like 4095MiB", size);
    return EXIT_DONE;
}

/* Parts of two bundles in one folder would be refused by an import. */
static enum exit_code check_folder(const struct export *e)
{
    glob_t found;
    if (!e->is_folder)
        return EXIT_DONE;
    char *pattern = mem_format(PART_PATTERN, e->output);
    bool is_used = glob(pattern, GLOB_NOSORT, NULL, &found) == 0;
    free(pattern);
    if (!is_used)
        return EXIT_DONE;
    globfree(&found);
    return complain(EXIT_FAILED,
                    "%s has parts of a bundle already; name another folder, or remove them",
                    e->output);
}

static enum exit_code read_receipt(struct export *e)
{
    const char *path = option_text(e->options, "have");
    const char *key_path = option_text(e->options, "verify");
    char why[128];
    char *text, *key = NULL;
    size_t len, key_len;
    if (path == NULL)
        return key_path == NULL ? EXIT_DONE
                                : complain(EXIT_USAGE, "--verify is for the receipt of --have");
    enum exit_code code = file_read(path, RECEIPT_SIZE_MAX, &text, &len);
    if (code != EXIT_DONE)
        return code;
    if (receipt_parse(&e->receipt, text, len, why, sizeof why) != 0)
        code = complain(EXIT_FAILED,
                        "%s is no receipt: %s; make one with \"cachalot have\" at the receiver's",
                        path, why);
    if (code == EXIT_DONE && key_path != NULL)
        code = file_read(key_path, KEY_SIZE_MAX, &key, &key_len);
    if (code == EXIT_DONE && key_path != NULL) {
        int err = e->receipt.is_signed ? bundle_verify(key, key_len, text, e->receipt.signed_bytes,
                                                       e->receipt.signature)
                                       : ERR_MISMATCH;
        if (err == ERR_INVALID)
            code = complain(EXIT_USAGE, "%s has no public Ed25519 key in PEM", key_path);
        else if (err != 0)
            code = complain(EXIT_INTEGRITY, "%s is not signed with the key of %s", path, key_path);
    }
    free(key);
    free(text);
    return code;
}

static enum exit_code sign(struct export *e)
{
    const char *path = option_text(e->options, "sign");
    char *key;
    size_t len;
    if (path == NULL)
        return EXIT_DONE;
    enum exit_code code = file_read(path, KEY_SIZE_MAX, &key, &len);
    if (code != EXIT_DONE)
        return code;
    if (bundle_sign(key, len, e->index, e->index_len, e->signature) != 0)
        code = complain(EXIT_USAGE,
                        "%s has no private Ed25519 key in PEM; \"openssl genpkey -algorithm "
                        "ed25519\" makes one",
                        path);
    explicit_bzero(key, len);
    free(key);
    e->is_signed = code == EXIT_DONE;
    return code;
}

/* --- writing --- */

static void advance(void *arg, uint64_t bytes)
{
    progress_add(arg, bytes);
}

static enum exit_code complain_write(const struct export *e, const struct bundle_output *out,
                                     const char *path, int err)
{
    const struct digest *d = &out->failed;
    char text[DIGEST_TEXT_MAX];
    enum exit_code code = EXIT_FAILED;
    const char *what = err_text(err);
    if (d->alg == 0)
        return complain(EXIT_FAILED, "%s cannot be written: %s", path, what);
    if (faccessat(store_blobs_fd(out->store, d->alg), store_blob_name(d, text), F_OK, 0) != 0) {
        code = EXIT_ABSENT;
        what = "is not held any more";
    } else if (err == ERR_MISMATCH) {
        code = EXIT_INTEGRITY;
        what = "is damaged";
    }
    return complain(code, "the blob %s in %s %s; pull its image again, then export again",
                    digest_text(d, text), e->options->cache_path, what);
}

static enum exit_code write_part(struct export *e, struct bundle_output *out, unsigned part)
{
    struct output_file file;
    struct stat st;
    char *path = e->is_folder ? mem_format(PART_NAME, e->output, part)
                              : mem_copy(e->output, strlen(e->output));
    enum exit_code code = output_file_open(&file, path);
    if (code == EXIT_DONE) {
        int err = bundle_output_part(out, part, file.fd);
        if (err == 0 && fstat(file.fd, &st) == 0)
            e->file_bytes += (uint64_t)st.st_size;
        if (err != 0) {
            progress_end(&e->progress);
            code = complain_write(e, out, path, err);
            output_file_discard(&file);
        } else {
            code = output_file_finish(&file);
        }
    }
    if (code == EXIT_DONE)
        json_array_append_new(e->files, json_string(path));
    free(path);
    return code;
}

/* Which parts: all, or the one of --part. */
static enum exit_code choose_parts(const struct export *e, unsigned *first, unsigned *last)
{
    const char *text = option_text(e->options, "part");
    char *end = NULL;
    *first = 1;
    *last = e->record.parts;
    if (text != NULL) {
        unsigned long number = strtoul(text, &end, 10);
        if (*text == '\0' || *end != '\0' || number < 1 || number > e->record.parts)
            return complain(EXIT_USAGE, "there is no part %s; there are 1 to %u", text,
                            e->record.parts);
        *first = *last = (unsigned)number;
    }
    if (*first != *last && !e->is_folder)
        return complain(EXIT_USAGE, "that makes %u parts; name a folder for them with -o DIR/",
                        *last);
    return *first == *last && text != NULL ? EXIT_DONE : check_folder(e);
}

static uint64_t all_bytes(const struct bundle_record *r)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < r->count; i++)
        bytes += r->items[i].size_bytes;
    return bytes;
}

/* `parts` is how many another part says that there are; 0: that is found out. */
static enum exit_code write_parts(struct export *e, struct store *store, unsigned parts)
{
    unsigned first, last;
    struct bundle_output out = {
        .store = store,
        .record = &e->record,
        .index = e->index,
        .index_len = e->index_len,
        .singles = e->singles,
        .singles_len = e->singles_len,
        .signature = e->is_signed ? e->signature : NULL,
        .advanced = advance,
        .arg = &e->progress,
    };
    if (bundle_output_begin(&out) != 0)
        return complain(EXIT_USAGE, "parts of that size are too small, or would be too many; name "
                                    "a larger one with --part-size");
    if (parts > 0 && parts != e->record.parts)
        return complain(EXIT_INTEGRITY, "the record of the other part has another number of parts "
                                        "than its blobs make; is it of a newer version?");
    enum exit_code code = choose_parts(e, &first, &last);
    if (e->record.parts > 1)
        out.singles = NULL;
    progress_begin(&e->progress, e->options, "export", first == last ? 0 : all_bytes(&e->record));
    if (e->record.parts == 1)
        e->progress.total_bytes = all_bytes(&e->record);
    for (unsigned part = first; code == EXIT_DONE && part <= last; part++)
        code = write_part(e, &out, part);
    progress_end(&e->progress);
    bundle_output_end(&out);
    return code;
}

/* --- what was written --- */

static size_t count_referrers(const struct bundle *b)
{
    size_t count = 0;
    for (size_t i = 0; i < b->image_count; i++)
        count += b->images[i].is_attached ? 1 : 0;
    return count;
}

static enum exit_code report(const struct export *e, const struct bundle *b)
{
    size_t referrers = count_referrers(b), images = b->image_count - referrers;
    char bytes[TEXT_MAX], spared[TEXT_MAX], digest[DIGEST_TEXT_MAX];
    /* The bundle itself may be on standard output. */
    FILE *out = strcmp(e->output, "-") == 0 ? stderr : stdout;
    if (e->options->quiet)
        return EXIT_DONE;
    if (e->options->format == FORMAT_JSON) {
        json_t *json = json_pack(
            "{ss sO sI sI sI sI sI sI sI}", "index", digest_text(&e->record.index, digest), "files",
            e->files, "parts", (json_int_t)e->record.parts, "images", (json_int_t)images, "blobs",
            (json_int_t)e->record.count, "bytes", (json_int_t)all_bytes(&e->record), "spared_blobs",
            (json_int_t)b->spared_count, "spared_bytes", (json_int_t)b->spared_bytes, "referrers",
            (json_int_t)referrers);
        if (out == stderr) {
            json_dumpf(json, stderr, JSON_INDENT(2));
            json_decref(json);
            return EXIT_DONE;
        }
        json_print(json);
        return output_end();
    }
    const char *part = option_text(e->options, "part");
    if (part != NULL)
        fprintf(out, "part %s of %u", part, e->record.parts);
    else
        fprintf(out, "%zu %s, ", images, images == 1 ? "image" : "images");
    if (part == NULL && referrers > 0)
        fprintf(out, "%zu %s, ", referrers, referrers == 1 ? "referrer" : "referrers");
    if (part == NULL)
        fprintf(out, "%zu blobs, %s", e->record.count, size_text(bytes, all_bytes(&e->record)));
    if (part == NULL && e->record.parts > 1)
        fprintf(out, ", in %u parts", e->record.parts);
    if (b->spared_count > 0)
        fprintf(out, "; %zu blobs (%s) are there already", b->spared_count,
                size_text(spared, b->spared_bytes));
    fputc('\n', out);
    return out == stdout ? output_end() : EXIT_DONE;
}

/* Who imports it serves it to everybody that he serves. */
static void warn_of_private(const struct wanted *w)
{
    for (size_t i = 0; i < w->bundle.image_count; i++) {
        struct reference r;
        char text[REFERENCE_TEXT_MAX];
        struct repository_record record;
        bundle_reference(&w->bundle.images[i], &r);
        if (repository_get(w->cache->txn, &r.name, &record) != 0 ||
            record.visibility != REPOSITORY_PRIVATE)
            continue;
        reference_text(&r, text);
        complain(EXIT_DONE, "note: %s is private; whoever gets the bundle can read it", text);
    }
}

/* --- the two ways --- */

static enum exit_code take_plan(struct export *e, struct wanted *w)
{
    struct bundle *b = &w->bundle;
    bundle_sort(b);
    if (b->blob_count > BUNDLE_BLOBS_MAX)
        return complain(EXIT_FAILED, "%zu blobs are more than the %u of a bundle; export less",
                        b->blob_count, BUNDLE_BLOBS_MAX);
    e->index = bundle_index_text(b, &e->index_len);
    e->record.items = mem_new((b->blob_count + 1) * sizeof *e->record.items);
    e->record.count = b->blob_count;
    e->record.parts = 1;
    for (size_t i = 0; i < b->blob_count; i++)
        e->record.items[i] = (struct bundle_item){b->blobs[i].digest, b->blobs[i].size_bytes};
    bundle_forget_blobs(b);
    if (w->wish.have == NULL) {
        int err = bundle_singles_text(b, w->cache->txn, &e->singles, &e->singles_len);
        if (err != 0)
            return cache_complain(e->options, err);
    }
    return sign(e);
}

static enum exit_code choose(struct export *e, struct wanted *w, int argc, char **argv)
{
    enum exit_code code = wanted_set_platforms(w);
    w->wish.have = e->receipt.digests;
    w->list = e->list;
    w->list_len = e->list_len;
    return code == EXIT_DONE ? wanted_add(w, argc, argv) : code;
}

/* Have the daemon ask what the tags lead to now, and bring what is missing. */
static enum exit_code fetch_missing(struct export *e, int argc, char **argv)
{
    struct options quiet = *e->options;
    struct cache cache;
    struct wanted w;
    enum exit_code code = cache_open(&cache, e->options);
    if (code != EXIT_DONE)
        return code;
    wanted_init(&w, e->options, &cache);
    w.wants_fetch = true;
    code = choose(e, &w, argc, argv);
    if (code == EXIT_DONE && w.wish.held_only)
        code = complain(EXIT_USAGE, "--fetch is for what is not held; leave out --all and held");
    cache_close(&cache);
    /* Its table is not what this command prints. */
    quiet.quiet = true;
    if (code == EXIT_DONE && w.to_fetch_count > 0) {
        code = cmd_fetch(&quiet, (int)w.to_fetch_count, w.to_fetch);
        if (code != EXIT_DONE)
            complain(code, "nothing is written; without --fetch what is held is, as it is");
    }
    wanted_clear(&w);
    return code;
}

static enum exit_code export_wanted(struct export *e, struct wanted *w, int argc, char **argv)
{
    enum exit_code code = choose(e, w, argc, argv);
    if (code == EXIT_DONE)
        code = wanted_check(w);
    if (code == EXIT_DONE && (w->bundle.image_count == 0 || (w->absent > 0 && !w->wish.held_only)))
        return complain(EXIT_ABSENT, "nothing is written; \"cachalot ls\" lists what is held");
    if (code == EXIT_DONE)
        code = take_plan(e, w);
    if (code != EXIT_DONE)
        return code;
    warn_of_private(w);
    /* The files outlive what the index says of them, and a read pins its pages. */
    cache_end_read(w->cache);
    code = write_parts(e, w->cache->store, 0);
    if (code == EXIT_DONE)
        code = report(e, &w->bundle);
    return code == EXIT_DONE && w->absent > 0 ? EXIT_SOME_FAILED : code;
}

/* A part of a bundle that another part tells of. */
static enum exit_code take_like(struct export *e, const char *path)
{
    char why[IMPORT_WHY_MAX];
    struct import_head head;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return complain(EXIT_FAILED, "%s cannot be opened: %s", path, strerror(errno));
    int err = import_peek(fd, &head, why);
    close(fd);
    if (err != 0)
        return complain(EXIT_INTEGRITY, "%s is no part of a bundle: %s", path,
                        err == ERR_NOT_FOUND ? "it has no record" : why);
    bundle_record_clear(&e->record);
    e->record = head.record;
    e->index = head.index;
    e->index_len = head.index_len;
    e->is_signed = head.signature != NULL && head.signature_len == sizeof e->signature;
    if (e->is_signed)
        memcpy(e->signature, head.signature, sizeof e->signature);
    free(head.signature);
    struct digest d;
    if (e->index != NULL)
        digest_of(DIGEST_SHA256, e->index, e->index_len, &d);
    if (e->index == NULL || !digest_equal(&d, &e->record.index))
        return complain(EXIT_INTEGRITY, "%s is damaged: its index is not that of its record", path);
    return e->record.parts > 1
               ? EXIT_DONE
               : complain(EXIT_USAGE, "%s is a bundle of one part; export it again", path);
}

static enum exit_code export_like(struct export *e, struct cache *cache, int argc)
{
    const char *path = option_text(e->options, "like");
    const struct bundle nothing = {0};
    if (argc > 0 || !option_is_given(e->options, "part"))
        return complain(EXIT_USAGE,
                        "--like wants the --part that is to be made, and no references");
    enum exit_code code = take_like(e, path);
    cache_end_read(cache);
    if (code == EXIT_DONE)
        code = write_parts(e, cache->store, e->record.parts);
    return code == EXIT_DONE ? report(e, &nothing) : code;
}

enum exit_code cmd_export(const struct options *o, int argc, char **argv)
{
    struct export e = {.options = o, .files = json_array()};
    struct cache cache;
    struct wanted w;
    const char *list = option_text(o, "file");
    enum exit_code code = check_output(&e);
    if (code == EXIT_DONE && list != NULL)
        code = file_read(list, LIST_SIZE_MAX, &e.list, &e.list_len);
    if (code == EXIT_DONE)
        code = read_receipt(&e);
    if (code == EXIT_DONE && option_is_given(o, "fetch"))
        code = fetch_missing(&e, argc, argv);
    if (code == EXIT_DONE)
        code = cache_open(&cache, o);
    if (code == EXIT_DONE) {
        wanted_init(&w, o, &cache);
        code = option_is_given(o, "like") ? export_like(&e, &cache, argc)
                                          : export_wanted(&e, &w, argc, argv);
        wanted_clear(&w);
        cache_close(&cache);
    }
    export_clear(&e);
    return code;
}
