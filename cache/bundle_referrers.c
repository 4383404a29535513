/* SPDX-License-Identifier: ISC */
#include "cache/bundle_referrers.h"

#include <string.h>

#include "cache/err.h"
#include "cache/link.h"
#include "cache/manifest_referrer.h"
#include "cache/referrer.h"
#include "cache/tag.h"

/* Manifests of an image whose referrers are looked for: those of referrers are, too. */
#define SUBJECTS_MAX 4096

struct search {
    struct bundle *bundle;
    struct store *store;
    struct db_txn *txn;
    const struct reference *image;
    const struct bundle_wish *wish;
    size_t prefix_len;           /* of the keys of the referrers */
    char tag[NAME_TAG_MAX_SIZE]; /* of the fallback */
};

bool bundle_is_attached(const struct reference *r)
{
    char text[DIGEST_TEXT_MAX];
    struct digest d;
    const char *dash = strchr(r->tag, '-');

    if (r->by_digest || dash == NULL)
        return false;
    size_t len = strcspn(r->tag, ".");
    memcpy(text, r->tag, len < sizeof text ? len : sizeof text - 1);
    text[len < sizeof text ? len : sizeof text - 1] = '\0';
    text[dash - r->tag] = ':';
    return digest_parse(&d, text, strlen(text)) == 0;
}

bool bundle_note_reference(struct bundle *b, const struct reference *r)
{
    char key[REFERENCE_TEXT_MAX];
    struct digest d;
    size_t number;

    digest_of(DIGEST_SHA256, key, reference_key(r, key), &d);
    return digest_map_add(b->references, &d, &number);
}

static int add(const struct search *s, const struct reference *r, const struct digest *d)
{
    return bundle_add_attached(s->bundle, s->store, s->txn, r, d, s->wish);
}

/* By their subject. */
static int add_referrer(void *arg, struct db_value key, struct db_value value)
{
    const struct search *s = arg;
    struct reference r = {.name = s->image->name, .by_digest = true};
    const uint8_t *rest = (const uint8_t *)key.data + s->prefix_len;

    (void)value;
    if (digest_from_key(&r.digest, rest, key.size - s->prefix_len) < 0)
        return 0;
    int err = link_get(s->txn, &r.name, &r.digest);
    return err == 0 ? add(s, &r, &r.digest) : err == ERR_NOT_FOUND || err == ERR_DAMAGED ? 0 : err;
}

static int add_tag(const struct search *s, const char *tag, const struct tag_record *record)
{
    struct reference r = {.name = s->image->name};

    memcpy(r.tag, tag, strlen(tag) + 1);
    return add(s, &r, &record->digest);
}

/* "<tag>.sig", ".att", ".sbom": what follows is the client's. */
static int add_suffixed(void *arg, const struct name *n, const char *tag,
                        const struct tag_record *record)
{
    const struct search *s = arg;
    size_t len = strlen(s->tag);

    (void)n;
    if (strncmp(tag, s->tag, len) != 0)
        return 1;
    return tag[len] == '.' ? add_tag(s, tag, record) : 0;
}

/* By tags that have the subject's digest in them. */
static int add_tagged(struct search *s, const struct digest *subject)
{
    struct tag_record record;

    referrers_fallback_tag(subject, s->tag);
    int err = tag_get(s->txn, &s->image->name, s->tag, &record);

    if (err == 0)
        err = add_tag(s, s->tag, &record);
    else if (err == ERR_NOT_FOUND || err == ERR_DAMAGED)
        err = 0;
    if (err == 0)
        err = tag_walk_repository(s->txn, &s->image->name, s->tag, add_suffixed, s);
    return err > 0 ? 0 : err;
}

int bundle_add_referrers(struct bundle *b, struct store *store, struct db_txn *txn,
                         const struct reference *r, const struct bundle_wish *wish)
{
    struct search s = {.bundle = b, .store = store, .txn = txn, .image = r, .wish = wish};
    int err = 0;

    for (size_t i = 0; err == 0 && i < digest_map_count(b->subjects) && i < SUBJECTS_MAX; i++) {
        struct digest subject = *digest_map_at(b->subjects, i);
        uint8_t key[REFERRER_KEY_MAX];

        s.prefix_len = referrer_key(&r->name, &subject, key);
        err = db_walk(txn, DB_REFERRERS, key, s.prefix_len, NULL, 0, add_referrer, &s);
        if (err == 0)
            err = add_tagged(&s, &subject);
    }
    return err;
}
