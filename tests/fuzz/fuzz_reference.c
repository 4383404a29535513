/* SPDX-License-Identifier: ISC */
/* Digests, repositories, registries and tags: what is accepted is canonical and
 * can be used in a path or a key; the input is "registry/repository", a tag or a
 * digest. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cache/digest.h"
#include "cache/err.h"
#include "cache/name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_digest(const char *text, size_t len)
{
    char again[DIGEST_TEXT_MAX];
    uint8_t key[DIGEST_KEY_MAX];
    struct digest d;
    struct digest back;

    if (digest_parse(&d, text, len) != 0) {
        return;
    }
    CHECK(digest_looks_like(text, len));
    digest_text(&d, again);
    CHECK(strlen(again) == len && memcmp(again, text, len) == 0);
    size_t key_len = digest_to_key(&d, key);

    CHECK(digest_from_key(&back, key, key_len) == (int)key_len);
    CHECK(digest_equal(&d, &back));
}

static void check_key(const uint8_t *data, size_t size)
{
    uint8_t key[DIGEST_KEY_MAX];
    struct digest d;
    int used = digest_from_key(&d, data, size);

    if (used < 0) {
        CHECK(used == ERR_INVALID);
        return;
    }
    CHECK((size_t)used <= size);
    CHECK(digest_to_key(&d, key) == (size_t)used && memcmp(key, data, (size_t)used) == 0);
}

static void check_name(const char *text, size_t len)
{
    const char *slash = memchr(text, '/', len);
    char whole[NAME_MAX_SIZE];
    struct name n;
    struct name again;

    if (slash == NULL) {
        return;
    }
    size_t registry_len = (size_t)(slash - text);

    if (name_set(&n, text, registry_len, slash + 1, len - registry_len - 1) != 0) {
        return;
    }
    CHECK(name_is_registry(n.registry, strlen(n.registry)));
    CHECK(name_is_repository(n.repository, strlen(n.repository)));
    CHECK(strstr(n.repository, "..") == NULL && n.repository[0] != '/');
    CHECK(name_text(&n, whole) == strlen(whole) && strlen(whole) < NAME_MAX_SIZE);
    CHECK(name_set(&again, n.registry, strlen(n.registry), n.repository, strlen(n.repository)) ==
          0);
    CHECK(name_equal(&n, &again));
}

static void check_local(const char *text, size_t len)
{
    char whole[NAME_MAX_SIZE];
    struct name n;

    if (name_set_local(&n, text, len) != 0) {
        return;
    }
    CHECK(name_is_local(&n) && name_is_repository(text, len));
    CHECK(name_text(&n, whole) == len && memcmp(whole, text, len) == 0);
    CHECK(!name_looks_like_registry(whole, len));
}

/* A key has one name, and a name one key. */
static void check_name_key(const char *text, size_t len)
{
    char again[NAME_MAX_SIZE];
    struct name n;
    struct name back;

    if (name_from_key(&n, text, len) != 0) {
        return;
    }
    size_t again_len = name_key(&n, again);

    CHECK(again_len == strlen(again) && again_len < NAME_MAX_SIZE);
    CHECK(name_from_key(&back, again, again_len) == 0 && name_equal(&n, &back));
    CHECK(!name_is_local(&n) || (again_len == len && memcmp(again, text, len) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;

    check_digest(text, size);
    check_key(data, size);
    check_name(text, size);
    check_local(text, size);
    check_name_key(text, size);
    (void)name_looks_like_registry(text, size);
    if (name_is_tag(text, size)) {
        CHECK(size < NAME_TAG_MAX_SIZE && memchr(text, '/', size) == NULL);
        CHECK(memchr(text, '\0', size) == NULL && !digest_looks_like(text, size));
    }
    if (name_is_repository(text, size)) {
        CHECK(size < NAME_MAX_SIZE && memchr(text, ':', size) == NULL);
    }
    return 0;
}
