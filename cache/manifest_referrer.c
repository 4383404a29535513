/* SPDX-License-Identifier: ISC */
#include "cache/manifest_referrer.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cache/record.h"

/* Version 1 has no annotations. */
#define REFERRER_RECORD_VERSION 2
#define TEXT_BYTES(size_with_nul) (2 + (size_with_nul))
#define FIELDS_BYTES_MAX (1 + 8 + 2 * TEXT_BYTES(MEDIA_TYPE_MAX) + 4)

/* Records hold no control characters, and no media type has any. */
static bool is_type(const char *text)
{
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            return false;
    return true;
}

const char *referrer_type(const char *artifact_type)
{
    bool is =
        artifact_type != NULL && strlen(artifact_type) < MEDIA_TYPE_MAX && is_type(artifact_type);

    return is ? artifact_type : "";
}

size_t referrer_key(const struct name *n, const struct digest *subject,
                    uint8_t out[REFERRER_KEY_MAX])
{
    size_t len = name_key(n, (char *)out) + 1;

    return len + digest_to_key(subject, out + len);
}

int referrer_put(struct db_txn *txn, const struct name *n, const struct digest *d,
                 const struct manifest *m, uint64_t size_bytes)
{
    uint8_t key[REFERRER_KEY_MAX];
    size_t key_len = referrer_key(n, &manifest_subject(m)->digest, key);
    char *annotations = manifest_annotations(m);
    size_t annotations_len = annotations != NULL ? strlen(annotations) : 0;
    size_t size = FIELDS_BYTES_MAX + annotations_len;
    uint8_t *buf = mem_new(size);
    struct record_out out;

    key_len += digest_to_key(d, key + key_len);
    record_start(&out, buf, size, REFERRER_RECORD_VERSION);
    record_put_u64(&out, size_bytes);
    record_put_text(&out, manifest_media_type(m));
    record_put_text(&out, referrer_type(manifest_artifact_type(m)));
    record_put_u32(&out, (uint32_t)annotations_len);
    record_put_bytes(&out, annotations, annotations_len);
    CHECK(record_finish(&out) == 0);
    int err = db_put(txn, DB_REFERRERS, key, key_len, buf, out.len);

    free(buf);
    free(annotations);
    return err;
}

int referrer_forget(struct db_txn *txn, const struct name *n, const struct digest *subject,
                    const struct digest *d)
{
    uint8_t key[REFERRER_KEY_MAX];
    size_t len = referrer_key(n, subject, key);

    len += digest_to_key(d, key + len);
    return db_delete(txn, DB_REFERRERS, key, len);
}

int referrer_read(struct db_value value, struct referrer_record *r)
{
    bool is_old = value.size > 0 && *(const uint8_t *)value.data == 1;
    struct record_in in;

    record_open(&in, value, is_old ? 1 : REFERRER_RECORD_VERSION);
    r->size_bytes = record_get_u64(&in);
    r->media_type = record_get_text(&in);
    r->artifact_type = record_get_text(&in);
    r->annotations_len = is_old ? 0 : record_get_u32(&in);
    r->annotations = record_get_bytes(&in, r->annotations_len);
    record_require(&in, r->size_bytes <= MANIFEST_SIZE_MAX);
    record_require(&in, strlen(r->media_type) < MEDIA_TYPE_MAX);
    record_require(&in, strlen(r->artifact_type) < MEDIA_TYPE_MAX);
    record_require(&in, r->annotations_len <= ANNOTATIONS_MAX);
    return record_close(&in);
}
