/* SPDX-License-Identifier: ISC */
/* Which images an archive has, and under which names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/bundle_text.h"
#include "cache/err.h"
#include "cache/import_private.h"
#include "cache/json.h"
#include "cache/json_list.h"
#include "cache/json_long.h"

/* --- names --- */

/* A tag alone is no name, though it could be read as one. */
static bool is_whole(const char *text)
{
    return text != NULL && strpbrk(text, "/:@") != NULL;
}

static void set_tag(struct reference *r, const char *tag)
{
    bool is_tag = tag != NULL && name_is_tag(tag, strlen(tag));

    snprintf(r->tag, sizeof r->tag, "%s", is_tag ? tag : "latest");
}

/* With --as it follows its image into the repository. */
static int name_attached(struct import *i, const char *name, struct reference *r)
{
    struct reference wanted;
    char quote[IMPORT_QUOTE_MAX];

    if (reference_parse(r, name, NULL) != 0)
        return import_fail(i, ERR_INVALID, "%s names an image \"%s\", which is no reference",
                           i->label, import_quote(name, quote));
    if (i->settings.name == NULL)
        return 0;
    if (reference_parse(&wanted, i->settings.name, NULL) != 0)
        return import_fail(i, ERR_INVALID, "\"%s\" is no reference", i->settings.name);
    r->name = wanted.name;
    return 0;
}

static int name_image(struct import *i, const char *name, const char *tag, struct reference *r)
{
    const char *wanted = i->settings.name;
    /* Others mean Docker's, where we mean a local repository. */
    const char *registry = i->is_bundle || wanted != NULL ? NULL : "docker.io";
    const char *text = wanted != NULL ? wanted : name;
    char quote[IMPORT_QUOTE_MAX];

    i->name_misfits = text == NULL;
    if (text == NULL)
        return import_fail(i, ERR_INVALID,
                           "%s does not name its image; say how it is called with --as REFERENCE",
                           i->label);
    if (reference_parse(r, text, registry) != 0)
        return import_fail(i, ERR_INVALID,
                           "%s names an image \"%s\", which is no reference; give it another with "
                           "--as REFERENCE",
                           i->label, import_quote(text, quote));
    const char *last = strrchr(text, '/');
    if (wanted != NULL && !r->by_digest && strchr(last != NULL ? last : text, ':') == NULL)
        set_tag(r, tag);
    return 0;
}

static void add_image(struct import *i, const struct import_image *image, const struct reference *r)
{
    char key[REFERENCE_TEXT_MAX];
    size_t len = reference_key(r, key);
    struct import_image added = *image;

    added.name = mem_copy(key, len);
    added.media_type = mem_copy(image->media_type, strlen(image->media_type));
    if ((i->image_count & (i->image_count - 1)) == 0)
        i->images = mem_resize(i->images,
                               (i->image_count == 0 ? 1 : i->image_count * 2) * sizeof *i->images);
    i->images[i->image_count++] = added;
}

/* Whether there is an image already that is not this one. */
static bool is_another(const struct import *i, const struct import_image *image)
{
    for (size_t k = 0; k < i->image_count; k++)
        if (!i->images[k].is_attached && !digest_equal(&i->images[k].digest, &image->digest))
            return true;
    return false;
}

int import_add_image(struct import *i, const char *name, const struct import_image *image)
{
    struct reference r = {0};
    bool is_named = is_whole(name);
    int err = image->is_attached
                  ? name_attached(i, name, &r)
                  : name_image(i, is_named ? name : NULL, is_named ? NULL : name, &r);

    if (err != 0)
        return err;
    i->name_misfits = i->settings.name != NULL && !image->is_attached && is_another(i, image);
    if (i->name_misfits)
        return import_fail(i, ERR_INVALID, "%s has several images; --as is for archives with one",
                           i->label);
    if (r.by_digest && !digest_equal(&r.digest, &image->digest))
        return import_fail(i, ERR_INVALID, "%s names an image by the digest of another", i->label);
    add_image(i, image, &r);
    return 0;
}

/* --- index.json --- */

/* Docker since 25 has the name in one annotation and the tag in the other, as ctr has. */
static int take_descriptor(void *arg, const struct json_t *object)
{
    struct import *i = arg;
    struct import_image image = {0};
    const char *digest = json_member_text(object, "digest");
    const char *media_type = json_member_text(object, "mediaType");
    const struct json_t *notes = json_member_object(object, "annotations");
    const char *name = notes != NULL ? json_member_text(notes, BUNDLE_IMAGE_NAME) : NULL;
    const char *other = notes != NULL ? json_member_text(notes, BUNDLE_REF_NAME) : NULL;
    int64_t size;

    if (digest == NULL || digest_parse(&image.digest, digest, strlen(digest)) != 0 ||
        media_type == NULL || strlen(media_type) >= MEDIA_TYPE_MAX ||
        !json_member_number(object, "size", &size) || size < 0)
        return import_fail(i, ERR_INVALID,
                           "%s: index.json has a manifest without digest, size or media type",
                           i->label);
    image.size_bytes = (uint64_t)size;
    /* Copied when it is added. */
    image.media_type = (char *)(uintptr_t)media_type;
    const char *sparse =
        i->is_bundle && notes != NULL ? json_member_text(notes, BUNDLE_SPARSE) : NULL;
    image.is_sparse = sparse != NULL && strcmp(sparse, "true") == 0;
    const char *attached =
        i->is_bundle && notes != NULL ? json_member_text(notes, BUNDLE_ATTACHED) : NULL;
    image.is_attached = attached != NULL;
    if (attached != NULL)
        return import_add_image(i, attached, &image);
    return import_add_image(i, is_whole(name) ? name : other, &image);
}

static int check_bundle_index(struct import *i)
{
    struct digest d;

    digest_of(DIGEST_SHA256, i->index, i->index_len, &d);
    if (digest_equal(&d, &i->record.index) && i->index_len == i->record.index_bytes)
        return 0;
    return import_fail(i, ERR_MISMATCH, "%s: index.json is not that of the bundle's record",
                       i->label);
}

static int take_index(struct import *i)
{
    char why[256] = "";
    bool has_list;
    int err = json_long_walk(i->index, i->index_len, "manifests", take_descriptor, i, &has_list,
                             why, sizeof why);

    if (why[0] != '\0')
        return import_fail(i, err, "%s: index.json is %s", i->label, why);
    if (err == 0 && !has_list)
        return import_fail(i, ERR_INVALID, "%s: index.json names no manifests", i->label);
    return err;
}

int import_name_images(struct import *i)
{
    int err = i->is_bundle ? check_bundle_index(i) : 0;

    if (err == 0 && i->index != NULL) {
        if (!i->has_layout)
            return import_fail(i, ERR_INVALID, "%s has an index.json and no oci-layout", i->label);
        err = take_index(i);
    } else if (err == 0 && i->singles != NULL) {
        err = import_make_images(i);
    } else if (err == 0) {
        return import_fail(i, ERR_INVALID,
                           "%s has neither index.json nor manifest.json: it is no archive of "
                           "images",
                           i->label);
    }
    if (err == 0 && i->image_count == 0)
        return import_fail(i, ERR_INVALID, "%s has no image", i->label);
    return err;
}
