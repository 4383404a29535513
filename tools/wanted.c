/* SPDX-License-Identifier: ISC */
#include "tools/wanted.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/tag.h"
#include "tools/output.h"

/* Lines of what is missing that people get to see. */
#define MISSING_SHOWN 10

void wanted_init(struct wanted *w, const struct options *o, struct cache *c)
{
    *w = (struct wanted){.options = o, .cache = c};
    w->references = digest_map_new();
    bundle_init(&w->bundle);
}

void wanted_clear(struct wanted *w)
{
    bundle_clear(&w->bundle);
    digest_map_free(&w->references);
    for (size_t i = 0; i < w->to_fetch_count; i++)
        free(w->to_fetch[i]);
    free(w->to_fetch);
}

enum exit_code wanted_set_platforms(struct wanted *w)
{
    const char *text;
    for (size_t i = 0; (text = option_text_at(w->options, "platform", i)) != NULL; i++) {
        if (strcmp(text, "held") == 0) {
            w->wish.held_only = true;
            continue;
        }
        if (w->wish.platform_count == BUNDLE_PLATFORMS_MAX)
            return complain(EXIT_USAGE, "more than %d platforms are too many",
                            BUNDLE_PLATFORMS_MAX);
        struct platform *p = &w->wish.platforms[w->wish.platform_count];
        if (platform_parse(p, text) != 0)
            return complain(EXIT_USAGE,
                            "%s is no platform; take os/arch[/variant][:os.version], like "
                            "linux/amd64 or windows/amd64:10.0.20348, or \"held\"",
                            text);
        w->wish.platform_count++;
    }
    return EXIT_DONE;
}

/* --- the references --- */

static enum exit_code add_image(struct wanted *w, const struct reference *r, const struct digest *d)
{
    char text[REFERENCE_TEXT_MAX];
    int err = bundle_add(&w->bundle, w->cache->store, w->cache->txn, r, d, &w->wish);
    if (err == 0)
        return EXIT_DONE;
    if (err != ERR_NOT_FOUND)
        return cache_complain(w->options, err);
    reference_text(r, text);
    w->absent++;
    if (w->wish.held_only)
        complain(EXIT_ABSENT, "%s is left out: no image of it is held whole", text);
    else if (w->wish.platform_count > 0)
        complain(EXIT_ABSENT,
                 "%s has none of these platforms, or is not held; \"cachalot inspect %s\" shows it",
                 text, text);
    else
        complain(EXIT_ABSENT, "the manifest of %s is not held; \"cachalot fetch %s\" gets it", text,
                 text);
    return EXIT_DONE;
}

/* Nobody but clients has what is in local repositories. */
static void add_to_fetch(struct wanted *w, const struct reference *r)
{
    char text[REFERENCE_TEXT_MAX];
    if (name_is_local(&r->name))
        return;
    size_t len = reference_text(r, text);
    w->to_fetch = mem_resize(w->to_fetch, (w->to_fetch_count + 1) * sizeof w->to_fetch[0]);
    w->to_fetch[w->to_fetch_count++] = mem_copy(text, len);
}

static enum exit_code add_reference(struct wanted *w, const char *text)
{
    char canonical[REFERENCE_TEXT_MAX];
    struct reference r;
    struct digest d, hash;
    size_t number;
    int err = reference_find(w->cache->txn, text, &r, &d);
    if (err == ERR_INVALID)
        return complain(EXIT_USAGE, "%s is no reference; take [registry/]repository[:tag][@digest]",
                        text);
    if (err != 0 && err != ERR_NOT_FOUND)
        return cache_complain(w->options, err);
    /* However often it is named, and however it is written. */
    digest_of(DIGEST_SHA256, canonical, reference_text(&r, canonical), &hash);
    if (!digest_map_add(w->references, &hash, &number))
        return EXIT_DONE;
    if (w->wants_fetch) {
        add_to_fetch(w, &r);
        return EXIT_DONE;
    }
    if (err == 0)
        return add_image(w, &r, &d);
    w->absent++;
    complain(EXIT_ABSENT,
             "%s is not held; \"cachalot ls\" lists what is, \"cachalot fetch %s\" "
             "gets it",
             canonical, canonical);
    return EXIT_DONE;
}

static enum exit_code add_list(struct wanted *w, const char *path)
{
    enum exit_code code = EXIT_DONE;
    char *list = mem_copy(w->list, w->list_len);
    char *rest = list;
    char *line, *save;
    if (strlen(list) != w->list_len)
        code = complain(EXIT_USAGE, "%s has a NUL in it; write it as plain text, in UTF-8", path);
    for (unsigned n = 1; code == EXIT_DONE && (line = strsep(&rest, "\n")) != NULL; n++) {
        line[strcspn(line, "#")] = '\0';
        const char *word = strtok_r(line, " \t\r", &save);
        if (word != NULL && strtok_r(NULL, " \t\r", &save) != NULL)
            code = complain(EXIT_USAGE,
                            "line %u of %s has more than one word; write one reference a line", n,
                            path);
        else if (word != NULL)
            code = add_reference(w, word);
    }
    free(list);
    return code;
}

static int add_tag(void *arg, const struct name *n, const char *tag, const struct tag_record *r)
{
    struct wanted *w = arg;
    struct reference reference = {.name = *n};
    char text[REFERENCE_TEXT_MAX];
    struct digest d;
    strcpy(reference.tag, tag);
    reference_text(&reference, text);
    /* By its key, for a local name could be taken for one of Docker's. */
    (void)tag_shown(w->cache->txn, r, &d);
    return (int)add_image(w, &reference, &d);
}

enum exit_code wanted_add(struct wanted *w, int argc, char **argv)
{
    const char *list = option_text(w->options, "file");
    enum exit_code code = EXIT_DONE;
    w->wish.no_referrers = option_is_given(w->options, "no-referrers");
    bool all = option_is_given(w->options, "all");
    if (all == (argc > 0 || list != NULL))
        return complain(EXIT_USAGE,
                        "name the images, or a file of them with -f LIST, or say --all");
    if (all) {
        w->wish.held_only = true;
        int result = tag_walk(w->cache->txn, add_tag, w);
        if (result < 0)
            return cache_complain(w->options, result);
        return (enum exit_code)result;
    }
    for (int i = 0; code == EXIT_DONE && i < argc; i++)
        code = add_reference(w, argv[i]);
    if (code == EXIT_DONE && list != NULL)
        code = add_list(w, list);
    return code;
}

/* --- what is missing --- */

static void missing_reference(const struct bundle *b, const struct bundle_missing *m,
                              char out[REFERENCE_TEXT_MAX])
{
    struct reference r;
    bundle_reference(&b->images[m->image], &r);
    reference_text(&r, out);
}

static json_t *missing_json(const struct bundle *b)
{
    json_t *array = json_array();
    for (size_t i = 0; i < b->missing_count; i++) {
        const struct bundle_missing *m = &b->missing[i];
        char reference[REFERENCE_TEXT_MAX], digest[DIGEST_TEXT_MAX];
        missing_reference(b, m, reference);
        json_array_append_new(array, json_pack("{ss ss sI ss ss}", "reference", reference, "digest",
                                               digest_text(&m->digest, digest), "bytes",
                                               (json_int_t)m->size_bytes, "kind",
                                               m->is_manifest ? "manifest" : "blob", "platform",
                                               m->platform));
    }
    return array;
}

static void show_missing(const struct bundle *b)
{
    uint64_t bytes = 0;
    char size[TEXT_MAX];
    for (size_t i = 0; i < b->missing_count; i++) {
        const struct bundle_missing *m = &b->missing[i];
        char reference[REFERENCE_TEXT_MAX], digest[DIGEST_TEXT_MAX];
        bytes += m->size_bytes;
        if (i >= MISSING_SHOWN)
            continue;
        missing_reference(b, m, reference);
        fprintf(stderr, "  %s: %s %s (%s)%s%s\n", reference, m->is_manifest ? "manifest" : "blob",
                digest_text(&m->digest, digest), size_text(size, m->size_bytes),
                *m->platform != '\0' ? " of " : "", m->platform);
    }
    if (b->missing_count > MISSING_SHOWN)
        fprintf(stderr, "  and %zu more; --format json lists them all\n",
                b->missing_count - MISSING_SHOWN);
    fprintf(stderr, "  in all %s, and what manifests that are missing name\n",
            size_text(size, bytes));
}

static bool lacks_platforms(const struct bundle *b)
{
    for (size_t i = 0; i < b->missing_count; i++)
        if (b->missing[i].platform[0] != '\0')
            return true;
    return false;
}

enum exit_code wanted_check(const struct wanted *w)
{
    const struct bundle *b = &w->bundle;
    if (b->missing_count == 0)
        return EXIT_DONE;
    if (w->options->format == FORMAT_JSON && !w->options->quiet)
        json_print(json_pack("{so}", "missing", missing_json(b)));
    complain(EXIT_ABSENT, "not all of it is held, so nothing is written; missing are:");
    show_missing(b);
    return complain(EXIT_ABSENT,
                    "pull these through cachalotd, or get them with \"cachalot fetch\" or the "
                    "option --fetch%s",
                    lacks_platforms(b) ? "; or leave platforms out with --platform held, or "
                                         "--platform os/arch"
                                       : "");
}
