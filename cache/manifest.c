/* SPDX-License-Identifier: ISC */
#include "cache/manifest.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/json.h"

enum shape {
    SHAPE_IMAGE,    /* config and layers */
    SHAPE_INDEX,    /* manifests */
    SHAPE_ARTIFACT, /* blobs */
    SHAPE_OPAQUE,   /* not known to have children */
};

/* One row a media type of a manifest. */
static const struct manifest_type {
    const char *media_type;
    enum shape shape;
} manifest_types[] = {
    {"application/vnd.oci.image.manifest.v1+json", SHAPE_IMAGE},
    {"application/vnd.oci.image.index.v1+json", SHAPE_INDEX},
    {"application/vnd.docker.distribution.manifest.v2+json", SHAPE_IMAGE},
    {"application/vnd.docker.distribution.manifest.list.v2+json", SHAPE_INDEX},
    {"application/vnd.oci.artifact.manifest.v1+json", SHAPE_ARTIFACT},
};

static const char *const foreign_types[] = {
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct manifest {
    json_t *root; /* owns every string */
    enum shape shape;
    struct descriptor *children;
    unsigned child_count;
    struct descriptor subject; /* alg 0 when there is none */
    const char *artifact_type;
    char media_type[MEDIA_TYPE_MAX];
};

/* Where a failed check leaves its sentence. */
struct why {
    char *text;
    size_t size;
};

static int __attribute__((format(printf, 2, 3)))
invalid(const struct why *why, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why->text, why->size, format, args);
    va_end(args);
    return ERR_INVALID;
}

bool media_type_is_foreign(const char *media_type)
{
    for (size_t i = 0; i < COUNT(foreign_types); i++)
        if (strcmp(media_type, foreign_types[i]) == 0)
            return true;
    return false;
}

static enum shape shape_of(const char *media_type)
{
    for (size_t i = 0; i < COUNT(manifest_types); i++)
        if (strcmp(media_type, manifest_types[i].media_type) == 0)
            return manifest_types[i].shape;
    return SHAPE_OPAQUE;
}

bool media_type_is_manifest(const char *media_type)
{
    return shape_of(media_type) != SHAPE_OPAQUE;
}

/* RFC 6838 section 4.2: type "/" subtype, each of restricted-name-chars. */
static bool is_media_type(const char *text)
{
    static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "!#$&-^_.+";
    size_t type = strspn(text, chars);

    if (type == 0 || text[type] != '/')
        return false;
    size_t subtype = strspn(text + type + 1, chars);

    return subtype > 0 && text[type + 1 + subtype] == '\0' && type + 1 + subtype < MEDIA_TYPE_MAX;
}

/* The field's string; NULL when it is absent, null, or not a string. */
static const char *text_field(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

/* Whether the field is there with something in it: Go writes null for an empty list. */
static bool has_field(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);

    return value != NULL && !json_is_null(value);
}

/* Printable ASCII without spaces, so that it can stand in a request line. */
static bool is_fetchable_url(const char *url)
{
    size_t len = strlen(url);

    if ((strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) ||
        len > MANIFEST_URL_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if (url[i] <= 0x20 || url[i] >= 0x7f)
            return false;
    return true;
}

static void read_urls(struct descriptor *d, const json_t *urls)
{
    for (size_t i = 0; i < json_array_size(urls) && d->url_count < DESCRIPTOR_URLS_MAX; i++) {
        const char *url = json_string_value(json_array_get(urls, i));

        if (url != NULL && is_fetchable_url(url))
            d->urls[d->url_count++] = url;
    }
}

static int read_descriptor(struct descriptor *d, const json_t *object, const char *where,
                           const struct why *why)
{
    const char *digest = text_field(object, "digest");
    const json_t *size = json_object_get(object, "size");
    const json_t *platform = json_object_get(object, "platform");
    const char *media_type = text_field(object, "mediaType");

    if (!json_is_object(object))
        return invalid(why, "a descriptor in \"%s\" is not an object", where);
    if (digest == NULL || digest_parse(&d->digest, digest, strlen(digest)) != 0)
        return invalid(why, "a descriptor in \"%s\" has no sha256 or sha512 digest", where);
    if (!json_is_integer(size) || json_integer_value(size) < 0)
        return invalid(why, "a descriptor in \"%s\" has no size, or a negative one", where);
    d->size_bytes = (uint64_t)json_integer_value(size);
    d->media_type = media_type != NULL ? media_type : "application/octet-stream";
    d->artifact_type = text_field(object, "artifactType");
    d->annotations = json_object_get(object, "annotations");
    d->os = text_field(platform, "os");
    d->arch = text_field(platform, "architecture");
    d->variant = text_field(platform, "variant");
    d->os_version = text_field(platform, "os.version");
    read_urls(d, json_object_get(object, "urls"));
    return 0;
}

static int add_children(struct manifest *m, const char *key, int role, const struct why *why)
{
    const json_t *list = json_object_get(m->root, key);
    size_t count = json_array_size(list);

    if (!has_field(m->root, key))
        return 0;
    if (!json_is_array(list))
        return invalid(why, "\"%s\" is not a list", key);
    m->children = mem_resize(m->children, (m->child_count + count) * sizeof *m->children);
    for (size_t i = 0; i < count; i++) {
        struct descriptor *d = &m->children[m->child_count];

        memset(d, 0, sizeof *d);
        int err = read_descriptor(d, json_array_get(list, i), key, why);

        if (err != 0)
            return err;
        d->role = role;
        m->child_count++;
    }
    return 0;
}

static int add_config(struct manifest *m, const struct why *why)
{
    if (!has_field(m->root, "config"))
        return 0;
    m->children = mem_new(sizeof *m->children);
    m->children[0].role = CHILD_CONFIG;
    m->child_count = 1;
    return read_descriptor(&m->children[0], json_object_get(m->root, "config"), "config", why);
}

/* A body that can be read as two kinds of manifest is refused (CVE-2021-41190). */
static int check_fields(const struct manifest *m, const struct why *why)
{
    static const struct {
        const char *key;
        enum shape shape;
    } owners[] = {
        {"manifests", SHAPE_INDEX},
        {"config", SHAPE_IMAGE},
        {"layers", SHAPE_IMAGE},
        {"blobs", SHAPE_ARTIFACT},
    };

    for (size_t i = 0; i < COUNT(owners); i++)
        if (has_field(m->root, owners[i].key) && owners[i].shape != m->shape)
            return invalid(why, "a manifest of type %s has \"%s\"", m->media_type, owners[i].key);
    return 0;
}

static int check_media_type(const struct manifest *m, const struct why *why)
{
    const json_t *field = json_object_get(m->root, "mediaType");

    if (!has_field(m->root, "mediaType"))
        return 0;
    if (!json_is_string(field) || strcmp(json_string_value(field), m->media_type) != 0)
        return invalid(why, "its mediaType is not the Content-Type, %s", m->media_type);
    return 0;
}

static int read_root(struct manifest *m, const struct why *why)
{
    int err = check_media_type(m, why);

    if (err == 0)
        err = check_fields(m, why);
    if (err == 0)
        err = add_config(m, why);
    if (err == 0)
        err = add_children(m, "layers", CHILD_LAYER, why);
    if (err == 0)
        err = add_children(m, "blobs", CHILD_LAYER, why);
    if (err == 0)
        err = add_children(m, "manifests", CHILD_MANIFEST, why);
    if (err == 0 && m->shape != SHAPE_OPAQUE && has_field(m->root, "subject"))
        err = read_descriptor(&m->subject, json_object_get(m->root, "subject"), "subject", why);
    return err;
}

static const char *find_artifact_type(const struct manifest *m)
{
    const char *type = text_field(m->root, "artifactType");

    if (type == NULL || type[0] == '\0')
        type = text_field(json_object_get(m->root, "config"), "mediaType");
    return type;
}

int manifest_parse(struct manifest **m, const char *media_type, const void *data, size_t len,
                   char *why_text, size_t why_size)
{
    struct why why = {why_text, why_size};

    if (len > MANIFEST_SIZE_MAX) {
        invalid(&why, "a manifest of more than %u bytes", MANIFEST_SIZE_MAX);
        return ERR_TOO_LARGE;
    }
    if (!is_media_type(media_type))
        return invalid(&why, "its Content-Type is not a media type");
    struct manifest *parsed = mem_new(sizeof *parsed);

    memcpy(parsed->media_type, media_type, strlen(media_type));
    parsed->shape = shape_of(media_type);
    int err = json_parse(&parsed->root, data, len, why_text, why_size);

    if (err == 0)
        err = read_root(parsed, &why);
    if (err != 0) {
        manifest_free(&parsed);
        return err;
    }
    parsed->artifact_type = find_artifact_type(parsed);
    *m = parsed;
    return 0;
}

/* The type of a manifest that says it, or has the members of one; NULL when it is none. */
static const char *guess_type(const struct json_t *root)
{
    const char *type = json_string_value(json_object_get(root, "mediaType"));

    if (type != NULL)
        return media_type_is_manifest(type) ? type : NULL;
    if (json_is_array(json_object_get(root, "manifests")))
        return "application/vnd.oci.image.index.v1+json";
    if (json_is_array(json_object_get(root, "layers")) &&
        json_is_object(json_object_get(root, "config")))
        return "application/vnd.oci.image.manifest.v1+json";
    return NULL;
}

int manifest_guess(struct manifest **m, const void *data, size_t len)
{
    struct json_t *root;
    char why[256];

    /* Most blobs are no JSON, which their first byte says. */
    if (len == 0 || len > MANIFEST_SIZE_MAX || strchr("{ \t\r\n", *(const char *)data) == NULL ||
        json_parse(&root, data, len, why, sizeof why) != 0)
        return ERR_INVALID;
    const char *type = guess_type(root);
    int err = type != NULL ? manifest_parse(m, type, data, len, why, sizeof why) : ERR_INVALID;

    json_decref(root);
    return err != 0 ? ERR_INVALID : 0;
}

void manifest_free(struct manifest **m)
{
    if (*m != NULL) {
        json_decref((*m)->root);
        free((*m)->children);
        free(*m);
        *m = NULL;
    }
}

bool manifest_is_index(const struct manifest *m)
{
    return m->shape == SHAPE_INDEX;
}

const char *manifest_media_type(const struct manifest *m)
{
    return m->media_type;
}

unsigned manifest_child_count(const struct manifest *m)
{
    return m->child_count;
}

const struct descriptor *manifest_child(const struct manifest *m, unsigned i)
{
    CHECK(i < m->child_count);
    return &m->children[i];
}

const struct descriptor *manifest_subject(const struct manifest *m)
{
    return m->subject.digest.alg != 0 ? &m->subject : NULL;
}

const char *manifest_artifact_type(const struct manifest *m)
{
    return m->artifact_type;
}

char *manifest_annotations(const struct manifest *m)
{
    return json_texts(json_object_get(m->root, "annotations"), ANNOTATIONS_MAX);
}

char *descriptor_annotations(const struct descriptor *d)
{
    return json_texts(d->annotations, ANNOTATIONS_MAX);
}
