/* SPDX-License-Identifier: ISC */
#include "cache/claim.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cache/err.h"
#include "cache/record.h"

#define CLAIM_RECORD_VERSION 1
#define URL_HASH_BYTES 32
#define CLAIM_KEY_MAX (URL_HASH_BYTES + DIGEST_KEY_MAX + NAME_MAX_SIZE)

/* Urls may be longer than a key: their hash stands for them. The scheme does not
 * count, nor does the case of the host. */
static void hash_url(const char *host, size_t host_len, const char *target, size_t target_len,
                     uint8_t out[URL_HASH_BYTES])
{
    struct digest d;
    char *text = mem_new(host_len + target_len + 2);

    for (size_t i = 0; i < host_len; i++)
        text[i] = (char)tolower((unsigned char)host[i]);
    text[host_len] = '/';
    /* Without its slash an empty path is the same as with it, RFC 9110 section 4.2.3. */
    size_t skip = target_len > 0 && target[0] == '/';
    memcpy(text + host_len + 1, target + skip, target_len - skip);
    digest_of(DIGEST_SHA256, text, host_len + 1 + target_len - skip, &d);
    memcpy(out, d.bytes, URL_HASH_BYTES);
    free(text);
}

static bool ends_with(const char *p, size_t len, const char *end)
{
    size_t end_len = strlen(end);

    return len > end_len && memcmp(p + len - end_len, end, end_len) == 0;
}

static bool hash_of_text(const char *url, uint8_t out[URL_HASH_BYTES])
{
    bool is_secure = strncasecmp(url, "https://", 8) == 0;

    if (!is_secure && strncasecmp(url, "http://", 7) != 0)
        return false;
    const char *host = url + (is_secure ? 8 : 7);
    const char *port = is_secure ? ":443" : ":80";
    size_t host_len = strcspn(host, "/?#");
    const char *target = host + host_len;
    if (ends_with(host, host_len, port))
        host_len -= strlen(port);
    hash_url(host, host_len, target, strcspn(target, "#"), out);
    return host_len > 0;
}

int claim_put(struct db_txn *txn, const char *url, const struct digest *d, const struct name *n)
{
    uint8_t key[CLAIM_KEY_MAX];
    uint8_t buf[2 * NAME_MAX_SIZE + 16];
    struct record_out out;

    if (name_is_local(n) || !hash_of_text(url, key))
        return 0;
    /* One a registry: another's is not to take its place. */
    size_t len = URL_HASH_BYTES + digest_to_key(d, key + URL_HASH_BYTES);
    size_t registry_len = strlen(n->registry);
    memcpy(key + len, n->registry, registry_len);
    record_start(&out, buf, sizeof buf, CLAIM_RECORD_VERSION);
    record_put_text(&out, n->registry);
    record_put_text(&out, n->repository);
    CHECK(record_finish(&out) == 0);
    return db_put(txn, DB_CLAIMS, key, len + registry_len, buf, out.len);
}

struct found {
    claim_judge *judge;
    const void *arg;
    struct digest *digest;
    struct name *name;
    unsigned count;
};

static int take_claim(void *arg, struct db_value key, struct db_value value)
{
    struct found *f = arg;
    struct record_in in;
    struct name name;
    struct digest d;

    record_open(&in, value, CLAIM_RECORD_VERSION);
    record_copy_text(&in, name.registry, sizeof name.registry);
    record_copy_text(&in, name.repository, sizeof name.repository);
    int err = record_close(&in);
    if (err)
        return err;
    int used =
        digest_from_key(&d, (const uint8_t *)key.data + URL_HASH_BYTES, key.size - URL_HASH_BYTES);
    if (used < 0)
        return used;
    if (!f->judge(f->arg, name.registry))
        return 0;
    if (f->count > 0 && !digest_equal(f->digest, &d))
        return ERR_MISMATCH;
    f->count++;
    *f->name = name;
    *f->digest = d;
    return 0;
}

int claim_get(struct db_txn *txn, const char *host, const char *target, size_t target_len,
              claim_judge *judge, const void *arg, struct digest *d, struct name *n)
{
    uint8_t prefix[URL_HASH_BYTES];
    struct found f = {.judge = judge, .arg = arg, .digest = d, .name = n};

    hash_url(host, strlen(host), target, target_len, prefix);
    int err = db_walk(txn, DB_CLAIMS, prefix, sizeof prefix, NULL, 0, take_claim, &f);
    if (err)
        return err;
    return f.count > 0 ? 0 : ERR_NOT_FOUND;
}
