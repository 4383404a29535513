/* SPDX-License-Identifier: ISC */
#include "cache/reference.h"

#include <string.h>

#include "cache/err.h"
#include "cache/link.h"
#include "cache/tag.h"

#define HUB "docker.io"

/* --- texts --- */

static int set_name(struct name *n, const char *text, size_t len, const char *registry)
{
    const char *slash = memchr(text, '/', len);
    size_t first_len = slash != NULL ? (size_t)(slash - text) : 0;

    if (slash != NULL && name_looks_like_registry(text, first_len))
        return name_set(n, text, first_len, slash + 1, len - first_len - 1);
    if (registry == NULL)
        return name_set_local(n, text, len);
    return name_set(n, registry, strlen(registry), text, len);
}

static int set_tag(struct reference *r, const char *tag, size_t len)
{
    if (!name_is_tag(tag, len))
        return ERR_INVALID;
    memcpy(r->tag, tag, len);
    r->tag[len] = '\0';
    return 0;
}

/* The colon before a tag comes after the last slash; those before it are of a port. */
static const char *find_tag(const char *text, size_t len)
{
    const char *slash = memrchr(text, '/', len);
    const char *from = slash != NULL ? slash : text;

    return memchr(from, ':', (size_t)(text + len - from));
}

int reference_parse(struct reference *r, const char *text, const char *registry)
{
    const char *at = strchr(text, '@');
    size_t len = at != NULL ? (size_t)(at - text) : strlen(text);
    const char *colon = find_tag(text, len);
    size_t name_len = colon != NULL ? (size_t)(colon - text) : len;
    const char *tag = colon != NULL ? colon + 1 : "latest";
    size_t tag_len = colon != NULL ? len - name_len - 1 : strlen(tag);

    *r = (struct reference){.by_digest = at != NULL};
    int err = set_name(&r->name, text, name_len, registry);

    if (err == 0)
        err = set_tag(r, tag, tag_len);
    if (err == 0 && at != NULL) {
        r->tag[0] = '\0';
        err = digest_parse(&r->digest, at + 1, strlen(at + 1));
    }
    return err;
}

/* Add the tag or the digest to the name's `len` bytes. */
static size_t add_which(const struct reference *r, char out[REFERENCE_TEXT_MAX], size_t len)
{
    char digest[DIGEST_TEXT_MAX];
    const char *which = r->by_digest ? digest_text(&r->digest, digest) : r->tag;
    size_t which_len = strlen(which);

    out[len] = r->by_digest ? '@' : ':';
    memcpy(out + len + 1, which, which_len + 1);
    return len + 1 + which_len;
}

size_t reference_text(const struct reference *r, char out[REFERENCE_TEXT_MAX])
{
    return add_which(r, out, name_text(&r->name, out));
}

size_t reference_key(const struct reference *r, char out[REFERENCE_TEXT_MAX])
{
    return add_which(r, out, name_key(&r->name, out));
}

int reference_from_key(struct reference *r, const char *key, size_t len)
{
    char text[REFERENCE_TEXT_MAX];

    if (len >= sizeof text || memchr(key, '\0', len) != NULL)
        return ERR_INVALID;
    memcpy(text, key, len);
    text[len] = '\0';
    *r = (struct reference){.by_digest = strchr(text, '@') != NULL};
    const char *mark = r->by_digest ? strchr(text, '@') : strrchr(text, ':');

    if (mark == NULL || name_from_key(&r->name, text, (size_t)(mark - text)) != 0)
        return ERR_INVALID;
    if (r->by_digest)
        return digest_parse(&r->digest, mark + 1, strlen(mark + 1));
    return set_tag(r, mark + 1, strlen(mark + 1));
}

/* --- what they lead to --- */

static int look_up(struct db_txn *txn, const struct reference *r, struct digest *d)
{
    struct tag_record tag;

    if (r->by_digest) {
        *d = r->digest;
        return link_get(txn, &r->name, d);
    }
    int err = tag_get(txn, &r->name, r->tag, &tag);

    if (err != 0)
        return err;
    (void)tag_shown(txn, &tag, d);
    return 0;
}

int reference_find(struct db_txn *txn, const char *text, struct reference *r, struct digest *d)
{
    int err = reference_parse(r, text, NULL);
    int found = err == 0 ? look_up(txn, r, d) : ERR_NOT_FOUND;

    if (found != ERR_NOT_FOUND || (err == 0 && !name_is_local(&r->name)))
        return found;
    err = reference_parse(r, text, HUB);
    return err == 0 ? look_up(txn, r, d) : err;
}
