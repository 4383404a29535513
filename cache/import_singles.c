/* SPDX-License-Identifier: ISC */
/*
 * manifest.json, the way of Docker's older archives: a config and layers for each image,
 * and no manifest. One is made here, of Docker's schema 2: so these images get a digest
 * that no registry gave them, always the same for the same archive.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/import_private.h"
#include "cache/json.h"
#include "cache/json_list.h"
#include "cache/json_long.h"

#define MANIFEST_TYPE "application/vnd.docker.distribution.manifest.v2+json"
#define CONFIG_TYPE "application/vnd.docker.container.image.v1+json"
#define LAYER_TYPE "application/vnd.docker.image.rootfs.diff.tar"

struct single_walk {
    struct import *import;
    FILE *file; /* the manifest that is made */
    unsigned layers;
    struct import_image image; /* that is named */
    int err;
};

static bool find_file(struct single_walk *w, const char *name, size_t *number)
{
    char quote[IMPORT_QUOTE_MAX];

    if (import_find_file(w->import, name, number))
        return true;
    if (w->err == 0)
        w->err = import_fail(w->import, ERR_INVALID,
                             "%s: manifest.json names \"%s\", which is not there", w->import->label,
                             import_quote(name, quote));
    return false;
}

static void put_descriptor(const struct single_walk *w, const char *type, const char *suffix,
                           size_t number)
{
    const struct import *i = w->import;
    char digest[DIGEST_TEXT_MAX];

    fprintf(w->file, "{\"mediaType\":\"%s%s\",\"size\":%" PRIu64 ",\"digest\":\"%s\"}", type,
            suffix, i->contents[number].size_bytes,
            digest_text(digest_map_at(i->numbers, number), digest));
}

static void take_layer(void *arg, const char *name)
{
    struct single_walk *w = arg;
    size_t number;

    if (w->err != 0 || !find_file(w, name, &number))
        return;
    if (w->layers++ > 0)
        fputc(',', w->file);
    put_descriptor(w, LAYER_TYPE, import_compression(&w->import->contents[number]), number);
}

static char *manifest_text(struct single_walk *w, const struct json_t *object, size_t *len)
{
    const char *config = json_member_text(object, "Config");
    char *text = NULL;
    size_t number;

    w->file = open_memstream(&text, len);
    CHECK(w->file != NULL);
    w->layers = 0;
    fputs("{\"schemaVersion\":2,\"mediaType\":\"" MANIFEST_TYPE "\",\"config\":", w->file);
    if (config == NULL)
        w->err = import_fail(w->import, ERR_INVALID,
                             "%s: manifest.json has an image without a config", w->import->label);
    else if (find_file(w, config, &number))
        put_descriptor(w, CONFIG_TYPE, "", number);
    fputs(",\"layers\":[", w->file);
    json_member_walk_texts(object, "Layers", take_layer, w);
    fputs("]}", w->file);
    CHECK(fclose(w->file) == 0);
    return text;
}

static void take_tag(void *arg, const char *name)
{
    struct single_walk *w = arg;

    if (w->err == 0)
        w->err = import_add_image(w->import, name, &w->image);
}

static int take_single(void *arg, const struct json_t *object)
{
    struct single_walk *w = arg;
    size_t before = w->import->image_count;
    size_t number;
    size_t len;

    char *text = manifest_text(w, object, &len);
    if (w->err == 0)
        w->err = import_put(w->import, text, len, &number);
    if (w->err == 0) {
        w->image.digest = *digest_map_at(w->import->numbers, number);
        w->image.size_bytes = len;
        json_member_walk_texts(object, "RepoTags", take_tag, w);
    }
    if (w->err == 0 && w->import->image_count == before)
        w->err = import_add_image(w->import, NULL, &w->image);
    free(text);
    return w->err;
}

int import_make_images(struct import *i)
{
    char manifest_type[] = MANIFEST_TYPE;
    struct single_walk w = {.import = i, .image = {.media_type = manifest_type}};
    char why[256] = "";
    bool has_list;
    /* Parsers of peers' JSON take objects. */
    char *text = mem_format("{\"images\":%s}", i->singles);
    int err =
        json_long_walk(text, strlen(text), "images", take_single, &w, &has_list, why, sizeof why);

    free(text);
    if (why[0] != '\0')
        return import_fail(i, err, "%s: manifest.json is %s", i->label, why);
    return err;
}
