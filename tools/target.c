/* SPDX-License-Identifier: ISC */
#include "tools/target.h"

#include <stdio.h>
#include <string.h>

#include "cache/err.h"

#define PREFIX_MIN 8
#define SHA256_HEX 64

static const char sha256_prefix[] = "sha256:";

/* Tables whose keys begin with digests: what is held, and what manifests name. */
static const enum db_table known_tables[] = {DB_BLOBS, DB_PARENTS, DB_SOURCES};

/* --- whole digests --- */

static int stop(void *arg, struct db_value key, struct db_value value)
{
    bool *found = arg;
    (void)key;
    (void)value;
    *found = true;
    return 1;
}

int target_is_known(struct db_txn *txn, const struct digest *d, bool *is_known)
{
    uint8_t key[DIGEST_KEY_MAX];
    size_t len = digest_to_key(d, key);
    *is_known = false;
    for (size_t i = 0; i < sizeof known_tables / sizeof known_tables[0]; i++) {
        int err = db_walk(txn, known_tables[i], key, len, NULL, 0, stop, is_known);
        if (err < 0 || *is_known)
            return err < 0 ? err : 0;
    }
    return 0;
}

/* --- the beginning of a digest, or its digits alone --- */

struct search {
    const char *hex;
    size_t len;
    struct digest found;
    unsigned count; /* 2: more than one */
};

static int match(void *arg, struct db_value key, struct db_value value)
{
    struct search *s = arg;
    struct digest d;
    char text[DIGEST_TEXT_MAX];
    (void)value;
    if (digest_from_key(&d, key.data, key.size) < 0 || d.alg != DIGEST_SHA256)
        return 0;
    const char *hex = digest_text(&d, text) + sizeof sha256_prefix - 1;
    if (strncmp(hex, s->hex, s->len) != 0 || (s->count > 0 && digest_equal(&d, &s->found)))
        return 0;
    s->found = d;
    return ++s->count == 2;
}

/* The digits of a sha256 digest that are there, maybe all, or NULL when it is none. */
static const char *short_hex(const char *text)
{
    if (strncmp(text, sha256_prefix, sizeof sha256_prefix - 1) == 0)
        text += sizeof sha256_prefix - 1;
    size_t len = strlen(text);
    bool is_hex = strspn(text, "0123456789abcdef") == len;
    return is_hex && len >= PREFIX_MIN && len <= SHA256_HEX ? text : NULL;
}

/* ERR_NOT_FOUND when none begins so, ERR_MISMATCH when more than one does. */
static int find_short(struct db_txn *txn, const char *hex, struct digest *d)
{
    struct search s = {.hex = hex, .len = strlen(hex)};
    uint8_t key[DIGEST_KEY_MAX];
    char padded[DIGEST_TEXT_MAX];
    struct digest first;
    /* Its whole bytes are the prefix of the keys. */
    snprintf(padded, sizeof padded, "%s%s%.*s", sha256_prefix, hex, (int)(SHA256_HEX - s.len),
             "0000000000000000000000000000000000000000000000000000000000000000");
    if (digest_parse(&first, padded, strlen(padded)) != 0)
        return ERR_NOT_FOUND;
    digest_to_key(&first, key);
    for (size_t i = 0; i < sizeof known_tables / sizeof known_tables[0] && s.count < 2; i++) {
        int err = db_walk(txn, known_tables[i], key, 1 + s.len / 2, NULL, 0, match, &s);
        if (err < 0)
            return err;
    }
    *d = s.found;
    if (s.count == 0)
        return ERR_NOT_FOUND;
    return s.count == 1 ? 0 : ERR_MISMATCH;
}

/* --- both --- */

static enum exit_code complain_absent(const char *text, const struct reference *r)
{
    char full[REFERENCE_TEXT_MAX];
    reference_text(r, full);
    if (strcmp(full, text) == 0)
        return complain(EXIT_ABSENT, "%s is not held; \"cachalot ls\" lists what is", text);
    return complain(EXIT_ABSENT, "neither %s nor %s is held; \"cachalot ls\" lists what is", text,
                    full);
}

enum exit_code target_find(struct target *t, const struct options *o, struct db_txn *txn,
                           const char *text)
{
    const char *hex = short_hex(text);
    bool is_known;
    *t = (struct target){0};
    if (digest_parse(&t->digest, text, strlen(text)) == 0) {
        int err = target_is_known(txn, &t->digest, &is_known);
        if (err != 0)
            return cache_complain(o, err);
        return is_known ? EXIT_DONE
                        : complain(EXIT_ABSENT,
                                   "nothing is known of %s: it is not held, and no "
                                   "manifest that is held names it",
                                   text);
    }
    int err = reference_find(txn, text, &t->reference, &t->digest);
    int found = hex != NULL && err != 0 ? find_short(txn, hex, &t->digest) : ERR_NOT_FOUND;
    t->has_reference = err == 0;
    if (err == 0 || found == 0)
        return EXIT_DONE;
    if (found == ERR_MISMATCH)
        return complain(EXIT_USAGE, "several digests begin with %s; write more of it", text);
    if (found != ERR_NOT_FOUND)
        return cache_complain(o, found);
    if (err == ERR_INVALID)
        return complain(EXIT_USAGE,
                        "%s is neither a reference (registry/repository:tag) nor a digest", text);
    if (err == ERR_DAMAGED)
        return complain(EXIT_INTEGRITY,
                        "the record of %s is damaged; \"cachalot rm\" removes it, and the next "
                        "pull asks the upstream anew",
                        text);
    return err == ERR_NOT_FOUND ? complain_absent(text, &t->reference) : cache_complain(o, err);
}
