/* SPDX-License-Identifier: ISC */
#include "cache/bundle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/blob.h"
#include "cache/bundle_referrers.h"
#include "cache/err.h"
#include "cache/image.h"
#include "cache/json.h"

struct walk {
    struct bundle *bundle;
    struct store *store;
    struct db_txn *txn;
    const struct bundle_wish *wish;
    unsigned depth;
    const char *platform; /* that this is of, or "" */
    size_t taken;         /* children of the index */
    bool is_sparse;
    unsigned single_rank; /* how well the image's `single` fits; 0: there is none */
};

void bundle_init(struct bundle *b)
{
    *b = (struct bundle){
        .numbers = digest_map_new(),
        .references = digest_map_new(),
    };
}

void bundle_clear(struct bundle *b)
{
    for (size_t i = 0; i < b->image_count; i++) {
        free(b->images[i].name);
        free(b->images[i].media_type);
    }
    free(b->images);
    free(b->blobs);
    free(b->missing);
    digest_map_free(&b->numbers);
    digest_map_free(&b->subjects);
    digest_map_free(&b->references);
    *b = (struct bundle){0};
}

/* --- what is held --- */

static int is_held(const struct walk *w, const struct digest *d, uint64_t *size_bytes)
{
    struct blob_record r;
    int fd;
    int err = blob_get(w->txn, d, &r);

    if (err == 0)
        err = blob_open(w->store, d, r.size_bytes, &fd);
    if (err == ERR_MISMATCH || err == ERR_DAMAGED)
        return ERR_NOT_FOUND;
    if (err != 0)
        return err;
    close(fd);
    *size_bytes = r.size_bytes;
    return 0;
}

static int check_child(void *arg, const struct manifest_child *child);

/* Whether a manifest is held with all that it names: 0 or ERR_NOT_FOUND. */
static int check_whole(const struct walk *w, const struct digest *d)
{
    struct walk inner = *w;
    struct manifest_record r;
    uint64_t size_bytes;
    int err = is_held(w, d, &size_bytes);

    if (err == 0)
        err = manifest_get(w->txn, d, &r);
    if (err != 0)
        return err == ERR_DAMAGED ? ERR_NOT_FOUND : err;
    inner.depth++;
    return inner.depth > BUNDLE_DEPTH_MAX ? ERR_NOT_FOUND
                                          : manifest_walk(w->txn, d, check_child, &inner);
}

static int check_child(void *arg, const struct manifest_child *child)
{
    const struct walk *w = arg;
    uint64_t size_bytes;

    return child->role == CHILD_MANIFEST ? check_whole(w, &child->digest)
                                         : is_held(w, &child->digest, &size_bytes);
}

/* --- what goes in --- */

static struct bundle_image *last_image(const struct walk *w)
{
    return &w->bundle->images[w->bundle->image_count - 1];
}

static void add_missing(const struct walk *w, const struct manifest_child *child)
{
    struct bundle *b = w->bundle;
    struct bundle_missing m = {
        .image = b->image_count - 1,
        .digest = child->digest,
        .size_bytes = child->size_bytes,
        .is_manifest = child->role == CHILD_MANIFEST,
    };
    const char *platform = child->platform[0] != '\0' ? child->platform : w->platform;

    memcpy(m.platform, platform, strnlen(platform, sizeof m.platform - 1));
    b->missing = mem_resize(b->missing, (b->missing_count + 1) * sizeof m);
    b->missing[b->missing_count++] = m;
}

static void add_blob(const struct walk *w, const struct digest *d, uint64_t size_bytes,
                     bool is_manifest)
{
    struct bundle *b = w->bundle;
    size_t number;

    if (!digest_map_add(b->numbers, d, &number))
        return;
    /* The receiver reads what manifests say, and they are small. */
    if (!is_manifest && w->wish->have != NULL && digest_map_find(w->wish->have, d, NULL)) {
        b->spared_bytes += size_bytes;
        b->spared_count++;
        return;
    }
    if ((b->blob_count & (b->blob_count - 1)) == 0)
        b->blobs =
            mem_resize(b->blobs, (b->blob_count == 0 ? 1 : b->blob_count * 2) * sizeof *b->blobs);
    b->blobs[b->blob_count++] = (struct bundle_blob){*d, size_bytes, is_manifest};
    b->blob_bytes += size_bytes;
}

static bool is_wanted(const struct bundle_wish *wish, const char *text)
{
    struct platform platform;

    if (wish->platform_count == 0)
        return true;
    if (platform_parse(&platform, text) != 0)
        return false;
    for (size_t i = 0; i < wish->platform_count; i++)
        if (platform_matches(&wish->platforms[i], &platform))
            return true;
    return false;
}

/* How well an image of this platform does for whoever loads a single one. */
static unsigned rank_of(const char *platform)
{
    if (*platform == '\0' || strncmp(platform, "linux/amd64", 11) == 0)
        return 3;
    /* What build tools attach to an index, like attestations. */
    if (strncmp(platform, "unknown/", 8) == 0)
        return 0;
    return strncmp(platform, "linux/", 6) == 0 ? 2 : 1;
}

/* The config of an image; NULL of what is nothing to load, though charts and signatures
 * have configs, too. */
static const struct descriptor *image_config(const struct manifest *m)
{
    for (unsigned i = 0; i < manifest_child_count(m); i++) {
        const struct descriptor *child = manifest_child(m, i);

        if (child->role == CHILD_CONFIG &&
            (strcmp(child->media_type, "application/vnd.oci.image.config.v1+json") == 0 ||
             strcmp(child->media_type, "application/vnd.docker.container.image.v1+json") == 0))
            return child;
    }
    return NULL;
}

static int read_blob(struct store *s, const struct digest *d, uint64_t size_bytes, size_t max_bytes,
                     char **data)
{
    int fd;
    int err = size_bytes <= max_bytes ? blob_open(s, d, size_bytes, &fd) : ERR_TOO_LARGE;

    if (err != 0)
        return err;
    *data = mem_resize(NULL, (size_t)size_bytes + 1);
    ssize_t n = pread(fd, *data, (size_t)size_bytes, 0);

    if (n < 0)
        err = err_from_errno(errno);
    else if ((uint64_t)n != size_bytes)
        err = ERR_MISMATCH;
    close(fd);
    if (err != 0)
        free(*data);
    return err;
}

/* Images say so in their configs; few manifests do. */
static bool is_for_linux(const struct walk *w, const struct descriptor *config)
{
    struct json_t *json;
    char why[256];
    char *data;
    bool is_linux = true;

    if (read_blob(w->store, &config->digest, config->size_bytes, IMAGE_CONFIG_MAX, &data) != 0)
        return true;
    if (json_parse(&json, data, (size_t)config->size_bytes, why, sizeof why) == 0) {
        const char *os = json_member_text(json, "os");

        is_linux = os == NULL || strcmp(os, "linux") == 0;
        json_wipe(&json);
    }
    free(data);
    return is_linux;
}

static int consider_single(struct walk *w, const struct digest *d, const struct manifest_record *r)
{
    struct bundle_image *image = last_image(w);
    unsigned rank = rank_of(w->platform);
    struct manifest *m;

    if (r->is_index || rank <= w->single_rank)
        return 0;
    int err = bundle_read_manifest(w->store, d, r->size_bytes, r->media_type, &m);
    if (err != 0)
        return err == ERR_INVALID ? 0 : err;
    const struct descriptor *config = image_config(m);
    if (config != NULL) {
        image->single = *d;
        image->is_linux = is_for_linux(w, config);
        w->single_rank = rank;
    }
    manifest_free(&m);
    return 0;
}

static int take_child(void *arg, const struct manifest_child *child);

static int take_manifest(struct walk *w, const struct digest *d)
{
    struct manifest_record r;
    uint64_t size_bytes;
    size_t number;
    int err = is_held(w, d, &size_bytes);

    if (err == 0)
        err = manifest_get(w->txn, d, &r);
    if (err == ERR_DAMAGED)
        err = ERR_NOT_FOUND;
    if (err == 0)
        err = consider_single(w, d, &r);
    if (err != 0)
        return err;
    add_blob(w, d, size_bytes, true);
    if (w->bundle->subjects != NULL)
        digest_map_add(w->bundle->subjects, d, &number);
    return manifest_walk(w->txn, d, take_child, w);
}

/* One manifest of an index. */
static int take_inner(struct walk *w, const struct manifest_child *child)
{
    struct walk inner = *w;
    int err = 0;

    inner.depth++;
    inner.platform = child->platform;
    bool is_left_out =
        inner.depth > BUNDLE_DEPTH_MAX || (w->depth == 0 && !is_wanted(w->wish, child->platform));
    if (!is_left_out && w->wish->held_only) {
        err = check_whole(w, &child->digest);
        is_left_out = err == ERR_NOT_FOUND;
    }
    if (is_left_out) {
        w->is_sparse = true;
        return 0;
    }
    if (err == 0)
        err = take_manifest(&inner, &child->digest);
    w->single_rank = inner.single_rank;
    w->is_sparse = w->is_sparse || inner.is_sparse;
    w->taken++;
    if (err != ERR_NOT_FOUND)
        return err;
    add_missing(w, child);
    return 0;
}

static int take_child(void *arg, const struct manifest_child *child)
{
    struct walk *w = arg;
    uint64_t size_bytes;

    if (child->role == CHILD_MANIFEST)
        return take_inner(w, child);
    int err = is_held(w, &child->digest, &size_bytes);
    if (err == 0)
        add_blob(w, &child->digest, size_bytes, false);
    else if (err == ERR_NOT_FOUND)
        add_missing(w, child);
    return err == ERR_NOT_FOUND ? 0 : err;
}

static int add_image(struct walk *w, const struct reference *reference, const struct digest *d,
                     const struct manifest_record *r)
{
    struct bundle *b = w->bundle;
    struct bundle_image image = {.digest = *d, .size_bytes = r->size_bytes, .is_linux = true};
    char key[REFERENCE_TEXT_MAX];

    image.name = mem_copy(key, reference_key(reference, key));
    image.media_type = mem_copy(r->media_type, strlen(r->media_type));
    b->images = mem_resize(b->images, (b->image_count + 1) * sizeof image);
    b->images[b->image_count++] = image;
    int err = take_manifest(w, d);
    last_image(w)->is_sparse = w->is_sparse;
    last_image(w)->is_attached = bundle_is_attached(reference);
    if (err == 0 && r->is_index && w->taken == 0 && w->is_sparse)
        err = ERR_NOT_FOUND;
    if (err != 0) {
        b->image_count--;
        free(image.name);
        free(image.media_type);
    }
    return err;
}

void bundle_reference(const struct bundle_image *image, struct reference *r)
{
    CHECK(reference_from_key(r, image->name, strlen(image->name)) == 0);
}

static int add_wanted(struct walk *w, const struct reference *r, const struct digest *d)
{
    struct manifest_record record;
    int err = manifest_get(w->txn, d, &record);

    if (err == 0 && w->wish->held_only && !record.is_index)
        err = check_whole(w, d);
    if (err == ERR_DAMAGED)
        err = ERR_NOT_FOUND;
    return err == 0 ? add_image(w, r, d, &record) : err;
}

int bundle_add(struct bundle *b, struct store *s, struct db_txn *txn, const struct reference *r,
               const struct digest *d, const struct bundle_wish *wish)
{
    struct walk w = {.bundle = b, .store = s, .txn = txn, .wish = wish, .platform = ""};

    if (bundle_is_attached(r) && !bundle_note_reference(b, r))
        return 0;
    if (!wish->no_referrers)
        b->subjects = digest_map_new();
    int err = add_wanted(&w, r, d);
    if (err == 0 && !wish->no_referrers)
        err = bundle_add_referrers(b, s, txn, r, wish);
    digest_map_free(&b->subjects);
    return err;
}

int bundle_add_attached(struct bundle *b, struct store *s, struct db_txn *txn,
                        const struct reference *r, const struct digest *d,
                        const struct bundle_wish *wish)
{
    struct bundle_wish whole = {.held_only = true, .have = wish->have};
    struct walk w = {.bundle = b, .store = s, .txn = txn, .wish = &whole, .platform = ""};

    if (!bundle_note_reference(b, r))
        return 0;
    int err = add_wanted(&w, r, d);
    if (err == 0)
        last_image(&w)->is_attached = true;
    return err == ERR_NOT_FOUND ? 0 : err;
}

/* Those of one kind keep their order. */
void bundle_sort(struct bundle *b)
{
    struct bundle_blob *sorted = mem_resize(NULL, (b->blob_count + 1) * sizeof *sorted);
    size_t count = 0;

    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < b->blob_count; i++)
            if (b->blobs[i].is_manifest == (pass == 0))
                sorted[count++] = b->blobs[i];
    free(b->blobs);
    b->blobs = sorted;
}

void bundle_forget_blobs(struct bundle *b)
{
    free(b->blobs);
    b->blobs = NULL;
    b->blob_count = 0;
    digest_map_free(&b->numbers);
}

int bundle_read_manifest(struct store *s, const struct digest *d, uint64_t size_bytes,
                         const char *media_type, struct manifest **m)
{
    char why[256];
    char *text;
    int err = read_blob(s, d, size_bytes, MANIFEST_SIZE_MAX, &text);

    if (err != 0)
        return err;
    err = manifest_parse(m, media_type, text, (size_t)size_bytes, why, sizeof why);
    free(text);
    return err;
}
