/* SPDX-License-Identifier: ISC */
/*
 * Names: registries, repositories and tags, their grammar and canonical form.
 * OCI distribution-spec 1.1.1 "Pulling manifests" has the grammar of <name> and
 * <reference>; canonical forms are those that Docker's clients use.
 */
#ifndef CACHE_NAME_H
#define CACHE_NAME_H

#include <stdbool.h>
#include <stddef.h>

#include "cache/check.h"

/* With the NUL. The whole "registry/repository" is at most 255 characters, as
 * clients limit it too (distribution-spec, "Pulling manifests"); the slash counts
 * when there is no registry. */
#define NAME_MAX_SIZE 256
#define NAME_TAG_MAX_SIZE 129

/* A canonical repository: whatever door a name came by, this is looked up,
 * logged and shown. Both strings are NUL-terminated and valid by grammar; a local
 * repository, which clients push to, has the empty registry. */
struct name {
    char registry[NAME_MAX_SIZE];
    char repository[NAME_MAX_SIZE];
};

/* [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)* joined by '/', at most 254 characters. */
bool name_is_repository(const char *text, size_t len);

/* [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127} */
bool name_is_tag(const char *text, size_t len);

/* A host, or host:port, in any case: a DNS name, IPv4, or [IPv6]. */
bool name_is_registry(const char *text, size_t len);

/* Whether the first component of a path names a registry rather than a
 * repository: it holds a '.' or a ':', or is "localhost" (Docker's rule). */
bool name_looks_like_registry(const char *text, size_t len);

/* Make the canonical name: host folded to lower case, index.docker.io and
 * registry-1.docker.io become docker.io, a docker.io repository of one component
 * gets "library/". ERR_INVALID when either part is not of its grammar or the whole is
 * too long. */
MUST_CHECK int name_set(struct name *n, const char *registry, size_t registry_len,
                        const char *repository, size_t repository_len);

/* Make the name of a local repository. ERR_INVALID when it is not of the grammar, or
 * when its first component looks like a registry: it would read as an upstream's. */
MUST_CHECK int name_set_local(struct name *n, const char *repository, size_t len);

bool name_is_local(const struct name *n);

/* For people: write "registry/repository", or "repository" when it is local, with a
 * NUL; returns its length. */
size_t name_text(const struct name *n, char out[NAME_MAX_SIZE]);

/* For keys: write "registry/repository", or "/repository" when it is local, which no
 * upstream's can be, with a NUL; returns its length. */
size_t name_key(const struct name *n, char out[NAME_MAX_SIZE]);

/* Read what name_key wrote. ERR_INVALID for anything else. */
MUST_CHECK int name_from_key(struct name *n, const char *key, size_t len);

bool name_equal(const struct name *a, const struct name *b);

/* Fold a registry alone to its canonical form. ERR_INVALID as above. */
MUST_CHECK int name_set_registry(char out[NAME_MAX_SIZE], const char *text, size_t len);

#endif
