/* SPDX-License-Identifier: ISC */
/* What a target is said to mean is of the grammar of names, tags and digests, and means the
 * same when it is written in the plain form of its door. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "cache/check.h"
#include "proxy/route.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_registry(const char *registry)
{
    char canonical[NAME_MAX_SIZE];
    CHECK(name_set_registry(canonical, registry, strlen(registry)) == 0);
    CHECK(strcmp(canonical, registry) == 0);
}

static void check_name(const struct target *t)
{
    CHECK(name_is_repository(t->name.repository, strlen(t->name.repository)));
    if (t->door == DOOR_LOCAL) {
        CHECK(t->name.registry[0] == '\0');
        return;
    }
    check_registry(t->name.registry);
    CHECK(strlen(t->name.registry) + 1 + strlen(t->name.repository) < NAME_MAX_SIZE);
}

/* The query is of unreserved characters, escapes, '=' and '&' alone. */
static void check_query(const struct target *t)
{
    size_t len = strnlen(t->query, sizeof t->query);
    CHECK(len < sizeof t->query);
    CHECK(strspn(t->query, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                           "0123456789-._~%=&") == len);
    CHECK(len == 0 || t->endpoint == ENDPOINT_TAGS || t->endpoint == ENDPOINT_REFERRERS ||
          t->endpoint == ENDPOINT_CATALOG);
}

static const char *last_part(const struct target *t, char out[DIGEST_TEXT_MAX + 16])
{
    static const char *const words[] = {
        [ENDPOINT_MANIFEST] = "manifests",
        [ENDPOINT_BLOB] = "blobs",
        [ENDPOINT_TAGS] = "tags",
        [ENDPOINT_REFERRERS] = "referrers",
        [ENDPOINT_UPLOADS] = "blobs/uploads",
        [ENDPOINT_UPLOAD] = "blobs/uploads",
    };
    char digest[DIGEST_TEXT_MAX];
    const char *reference = t->endpoint == ENDPOINT_TAGS ? "list"
                            : t->by_digest               ? digest_text(&t->digest, digest)
                                                         : t->tag;
    snprintf(out, DIGEST_TEXT_MAX + 16, "%s/%s", words[t->endpoint], reference);
    return out;
}

static void check_again(const struct target *t, enum role role, const char *mirror_of)
{
    char part[DIGEST_TEXT_MAX + 16];
    char text[2048];
    bool ns = t->door == DOOR_NS;
    bool prefix = t->door == DOOR_PREFIX;
    int len = snprintf(text, sizeof text, "/v2/%s%s%s/%s%s%s%s%s", prefix ? t->name.registry : "",
                       prefix ? "/" : "", t->name.repository, last_part(t, part),
                       ns || t->query[0] ? "?" : "", t->query, ns ? "&ns=" : "",
                       ns ? t->name.registry : "");
    CHECK(len > 0 && (size_t)len < sizeof text);
    struct target again;
    CHECK(route_parse(&again, (struct span){text, (size_t)len}, role, mirror_of) == OUT_LOCAL);
    CHECK(again.endpoint == t->endpoint && again.door == t->door);
    CHECK(name_equal(&again.name, &t->name));
    CHECK(again.by_digest == t->by_digest && strcmp(again.tag, t->tag) == 0);
    CHECK(!t->by_digest || digest_equal(&again.digest, &t->digest));
    CHECK(strcmp(again.query, t->query) == 0);
}

static void check_target(const struct target *t, enum role role, const char *mirror_of)
{
    CHECK(t->ns[0] == '\0' || name_is_registry(t->ns, strlen(t->ns)));
    check_query(t);
    if (t->door == DOOR_ADMIN) {
        return;
    }
    if (t->endpoint == ENDPOINT_CATALOG) {
        CHECK(t->door == DOOR_LOCAL && role == ROLE_REGISTRY);
        return;
    }
    CHECK((t->door == DOOR_MIRROR) == (role == ROLE_MIRROR));
    if (t->endpoint == ENDPOINT_PING) {
        CHECK((t->door == DOOR_NONE) == (t->name.registry[0] == '\0'));
        CHECK(t->door != DOOR_LOCAL);
        if (t->door != DOOR_NONE) {
            check_registry(t->name.registry);
        }
        return;
    }
    check_name(t);
    CHECK(t->by_digest || t->endpoint == ENDPOINT_MANIFEST || t->endpoint == ENDPOINT_TAGS ||
          t->endpoint == ENDPOINT_UPLOADS || t->endpoint == ENDPOINT_UPLOAD);
    if ((t->endpoint == ENDPOINT_MANIFEST || t->endpoint == ENDPOINT_UPLOAD) && !t->by_digest) {
        CHECK(name_is_tag(t->tag, strlen(t->tag)));
    }
    check_again(t, role, mirror_of);
}

static void check_push(struct span target)
{
    struct push_parameters p;

    memset(&p, 0xa5, sizeof p);
    if (route_parse_push(&p, target) != OUT_LOCAL)
        return;
    CHECK(p.tag_count <= ROUTE_TAGS_MAX);
    for (unsigned i = 0; i < p.tag_count; i++)
        CHECK(name_is_tag(p.tags[i], strlen(p.tags[i])));
    CHECK(!p.has_digest || p.digest.alg != 0);
    CHECK(!p.has_mount || p.mount.alg != 0);
    CHECK(strnlen(p.from, sizeof p.from) < sizeof p.from);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct {
        enum role role;
        const char *mirror_of;
    } listeners[] = {
        {ROLE_REGISTRY, NULL}, {ROLE_MIRROR, "docker.io"}, {ROLE_MIRROR, "localhost:5000"}};
    check_push((struct span){(const char *)data, size});
    for (size_t i = 0; i < sizeof listeners / sizeof listeners[0]; i++) {
        struct target t;
        memset(&t, 0xa5, sizeof t);
        enum outcome o = route_parse(&t, (struct span){(const char *)data, size}, listeners[i].role,
                                     listeners[i].mirror_of);
        if (o == OUT_LOCAL) {
            check_target(&t, listeners[i].role, listeners[i].mirror_of);
        } else {
            CHECK(o == OUT_NO_ROUTE || o == OUT_NAME_INVALID || o == OUT_TAG_INVALID ||
                  o == OUT_DIGEST_INVALID || o == OUT_BAD_REQUEST || o == OUT_NAME_UNKNOWN ||
                  o == OUT_URI_TOO_LONG || o == OUT_UPLOAD_UNKNOWN);
        }
    }
    return 0;
}
