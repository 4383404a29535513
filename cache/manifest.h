/* SPDX-License-Identifier: ISC */
/*
 * Manifests and image indexes (image-spec 1.1 manifest.md, image-index.md, and
 * Docker's schema 2 and manifest list): kept byte for byte, with their children
 * known.
 */
#ifndef CACHE_MANIFEST_H
#define CACHE_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/blob.h"
#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"
#include "cache/name.h"

#define MANIFEST_SIZE_MAX (4u * 1024 * 1024)
/* An index of indexes is legal and rare; what is in deeper ones is not looked for. */
#define MANIFEST_DEPTH_MAX 3
#define MEDIA_TYPE_MAX 128 /* with the NUL */
#define DESCRIPTOR_URLS_MAX 8
#define MANIFEST_URL_MAX 2048        /* longer ones are left out */
#define ANNOTATIONS_MAX (64u * 1024) /* bytes of JSON; more are left out */

struct json_t;

/* image-spec 1.1 descriptor.md. Strings are owned by the manifest. */
struct descriptor {
    struct digest digest;
    uint64_t size_bytes;
    const char *media_type;
    const char *artifact_type; /* NULL when not said */
    const char *os;            /* of an index's children; NULL when not said */
    const char *arch;
    const char *variant;
    const char *os_version;
    const char *urls[DESCRIPTOR_URLS_MAX]; /* http and https ones only */
    unsigned url_count;
    const struct json_t *annotations;
    enum { CHILD_MANIFEST, CHILD_CONFIG, CHILD_LAYER } role;
};

struct manifest;

/* Parse a manifest of the given media type (the Content-Type, without
 * parameters). Unknown media types with no children are accepted as artifacts.
 * ERR_INVALID, with a sentence in `why`: not a JSON object, duplicate keys,
 * deeper than 32 levels, mediaType unlike `media_type`, "manifests" together with
 * "layers" or "config", a descriptor without a digest or with a negative size.
 * ERR_TOO_LARGE above MANIFEST_SIZE_MAX. */
MUST_CHECK int manifest_parse(struct manifest **m, const char *media_type, const void *data,
                              size_t len, char *why, size_t why_size);
/* The same of bytes of which nobody says what they are: by what they say themselves, or
 * else by their members. ERR_INVALID for what is no manifest, such as an image config. */
MUST_CHECK int manifest_guess(struct manifest **m, const void *data, size_t len);
void manifest_free(struct manifest **m);

bool manifest_is_index(const struct manifest *m);
/* The media type that it was parsed as. */
const char *manifest_media_type(const struct manifest *m);
unsigned manifest_child_count(const struct manifest *m);
const struct descriptor *manifest_child(const struct manifest *m, unsigned i);
/* The descriptor that it refers to, or NULL. */
const struct descriptor *manifest_subject(const struct manifest *m);
/* artifactType, else the config's media type, else NULL. */
const char *manifest_artifact_type(const struct manifest *m);
/* Its annotations, or those of a descriptor: a JSON object of strings (others are left
 * out), NUL-terminated ASCII, owned by the caller. NULL when there are none, or more than
 * ANNOTATIONS_MAX. */
char *manifest_annotations(const struct manifest *m);
char *descriptor_annotations(const struct descriptor *d);

/* Whether the layer media type is one of the foreign (non-distributable) ones. */
bool media_type_is_foreign(const char *media_type);
/* Whether it is an image manifest, image index, manifest list, or artifact
 * manifest: what a client may name in Accept when it asks for a manifest. */
bool media_type_is_manifest(const char *media_type);

/* What the index keeps of a manifest that is held. */
struct manifest_record {
    uint64_t size_bytes;
    bool is_index;
    char media_type[MEDIA_TYPE_MAX];
    struct digest subject; /* alg 0 when it has none */
};

MUST_CHECK int manifest_get(struct db_txn *txn, const struct digest *d, struct manifest_record *r);

/* The same of a manifest in a repository, which may have given it another media type than
 * others did. Whether it has it is the caller's matter. */
MUST_CHECK int manifest_get_in(struct db_txn *txn, const struct name *n, const struct digest *d,
                               struct manifest_record *r);

/* Record a manifest that repository `n` has, whose blob is published already:
 * blob record (of this origin, see blob_put), manifest record with children,
 * link (n -> digest), a source for each child (n and size), the urls of foreign
 * layers (of a local repository two each), a referrer when it has a subject, and its
 * children's parent. What was pushed (BLOB_PUSHED) changes nothing of the record of a
 * manifest with another media type, as whoever may push knows many bytes: its link says
 * how it is to be taken there. */
MUST_CHECK int manifest_put(struct db_txn *txn, const struct name *n, const struct digest *d,
                            const struct manifest *m, enum blob_origin origin, uint64_t size_bytes,
                            int64_t now_s);

/* Record what a manifest says whose blob is held, and its children's parent, whoever has it;
 * the rest of what is recorded stays. */
MUST_CHECK int manifest_restore(struct db_txn *txn, const struct digest *d,
                                const struct manifest *m, uint64_t size_bytes);

/* The local repository `n` has it no longer: forget what it said of its children, as far
 * as no other manifest says the same, and its record when nobody else has it. */
MUST_CHECK int manifest_forget(struct db_txn *txn, const struct name *n, const struct digest *d);

/* Where else than at the registry a foreign layer is kept, as manifests of `registry`
 * say; each url once. ERR_NOT_FOUND when none says so. Cleared by the caller. */
struct foreign_urls {
    unsigned count;
    char *urls[DESCRIPTOR_URLS_MAX];
};
MUST_CHECK int foreign_urls_get(struct db_txn *txn, const char *registry, const struct digest *d,
                                struct foreign_urls *u);
void foreign_urls_clear(struct foreign_urls *u);

/* Visit the children recorded for a held manifest, in their order, without
 * reading its file. A result other than 0 ends the walk and is returned. */
struct manifest_child {
    struct digest digest;
    uint64_t size_bytes;
    int role;
    char platform[96]; /* "os/arch[/variant][:os.version]", or empty */
};
typedef int manifest_visit(void *arg, const struct manifest_child *child);
MUST_CHECK int manifest_walk(struct db_txn *txn, const struct digest *d, manifest_visit *visit,
                             void *arg);

#endif
