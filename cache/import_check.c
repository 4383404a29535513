/* SPDX-License-Identifier: ISC */
/* Whether everything is there that the images of an import name. */
#include <stdlib.h>
#include <string.h>

#include "cache/bundle.h"
#include "cache/err.h"
#include "cache/import_private.h"

struct check {
    struct import *import;
    size_t image;
    unsigned depth;
};

static const char *reference_of(const struct import *i, size_t image, char out[REFERENCE_TEXT_MAX])
{
    struct reference r;

    import_reference(&i->images[image], &r);
    reference_text(&r, out);
    return out;
}

static int add_missing(const struct check *c, const struct digest *d, uint64_t size_bytes)
{
    struct import *i = c->import;

    if ((i->missing_count & (i->missing_count - 1)) == 0)
        i->missing = mem_resize(i->missing, (i->missing_count == 0 ? 1 : i->missing_count * 2) *
                                                sizeof *i->missing);
    i->missing[i->missing_count++] = (struct import_missing){c->image, *d, size_bytes};
    return 0;
}

/* Whether it is there, of the size that is said: 0, ERR_NOT_FOUND or ERR_MISMATCH. What an
 * archive of others does not bring counts only if it is public: it proves nothing to name
 * a digest. */
static int find(const struct check *c, const struct digest *d, uint64_t size_bytes)
{
    struct import *i = c->import;
    struct import_content *content = import_find(i, d);
    struct blob_record r = {.origin = BLOB_PUBLIC};
    int err = 0;

    if (content != NULL) {
        content->is_needed = true;
        r.size_bytes = content->size_bytes;
    } else {
        err = import_held(i, d, &r);
    }
    if (err == 0 && !i->is_bundle && r.origin != BLOB_PUBLIC)
        err = ERR_NOT_FOUND;
    if (err == 0 && r.size_bytes != size_bytes) {
        char text[DIGEST_TEXT_MAX];
        char reference[REFERENCE_TEXT_MAX];

        return import_fail(i, ERR_INVALID, "%s: %s says another size of %s than it has", i->label,
                           reference_of(i, c->image, reference), digest_text(d, text));
    }
    return err;
}

static int check_manifest(const struct check *c, const struct digest *d, const char *media_type);

/* The children of an index may be left out by who says so, and by other tools, if one at
 * least is there. */
static int check_inner(const struct check *c, const struct descriptor *child, unsigned *present)
{
    const struct import *i = c->import;
    struct check inner = *c;
    int err = find(c, &child->digest, child->size_bytes);

    inner.depth++;
    if (err == ERR_NOT_FOUND)
        return !i->is_bundle || i->images[c->image].is_sparse
                   ? 0
                   : add_missing(c, &child->digest, child->size_bytes);
    if (err != 0)
        return err;
    (*present)++;
    return check_manifest(&inner, &child->digest, child->media_type);
}

static int check_blob(const struct check *c, const struct descriptor *child)
{
    int err = find(c, &child->digest, child->size_bytes);

    if (err != ERR_NOT_FOUND)
        return err;
    /* Docker leaves these out, and clients get them elsewhere. */
    if (!c->import->is_bundle && media_type_is_foreign(child->media_type))
        return 0;
    return add_missing(c, &child->digest, child->size_bytes);
}

static int check_children(const struct check *c, const struct digest *d, const struct manifest *m)
{
    unsigned present = 0;
    int err = 0;

    for (unsigned k = 0; err == 0 && k < manifest_child_count(m); k++) {
        const struct descriptor *child = manifest_child(m, k);

        err =
            child->role == CHILD_MANIFEST ? check_inner(c, child, &present) : check_blob(c, child);
    }
    if (err == 0 && manifest_is_index(m) && manifest_child_count(m) > 0 && present == 0 &&
        c->import->missing_count == 0)
        return add_missing(c, d, 0);
    return err;
}

static int check_manifest(const struct check *c, const struct digest *d, const char *media_type)
{
    struct import *i = c->import;
    char reference[REFERENCE_TEXT_MAX];
    char text[DIGEST_TEXT_MAX];
    char why[256] = "it cannot be read";
    struct manifest *m = NULL;
    char *data;
    size_t len;

    reference_of(i, c->image, reference);
    if (c->depth > BUNDLE_DEPTH_MAX)
        return import_fail(i, ERR_INVALID, "%s: the manifests of %s lie too deep in each other",
                           i->label, reference);
    int err = import_load(i, d, MANIFEST_SIZE_MAX, &data, &len);
    if (err == 0) {
        err = manifest_parse(&m, media_type, data, len, why, sizeof why);
        free(data);
    }
    if (err != 0)
        return import_fail(i, err, "%s: the manifest %s of %s: %s", i->label, digest_text(d, text),
                           reference, err == ERR_INVALID ? why : err_text(err));
    err = check_children(c, d, m);
    manifest_free(&m);
    return err;
}

static int check_image(struct import *i, size_t image)
{
    struct check c = {.import = i, .image = image};
    const struct import_image *one = &i->images[image];
    int err = find(&c, &one->digest, one->size_bytes);

    if (err == ERR_NOT_FOUND)
        return add_missing(&c, &one->digest, one->size_bytes);
    return err == 0 ? check_manifest(&c, &one->digest, one->media_type) : err;
}

int import_check(struct import *i)
{
    char text[DIGEST_TEXT_MAX];
    char reference[REFERENCE_TEXT_MAX];
    int err = 0;

    for (size_t k = 0; err == 0 && k < i->image_count; k++)
        err = check_image(i, k);
    if (err != 0 || i->missing_count == 0)
        return err;
    const struct import_missing *first = &i->missing[0];
    return import_fail(i, ERR_NOT_FOUND,
                       "%s lacks %zu of the contents that its images name: %s of "
                       "%s is neither in it nor in the cache",
                       i->label, i->missing_count, digest_text(&first->digest, text),
                       reference_of(i, first->image, reference));
}
