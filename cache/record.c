/* SPDX-License-Identifier: ISC */
#include "cache/record.h"

#include <endian.h>
#include <string.h>

#include "cache/err.h"

void record_put_bytes(struct record_out *o, const void *p, size_t len)
{
    if (o->full || len > o->size - o->len) {
        o->full = true;
        return;
    }
    if (len > 0) {
        memcpy(o->buf + o->len, p, len);
        o->len += len;
    }
}

void record_start(struct record_out *o, void *buf, size_t size, uint8_t version)
{
    o->buf = buf;
    o->size = size;
    o->len = 0;
    o->full = false;
    record_put_u8(o, version);
}

void record_put_u8(struct record_out *o, uint8_t v)
{
    record_put_bytes(o, &v, sizeof v);
}

void record_put_u16(struct record_out *o, uint16_t v)
{
    uint16_t le = htole16(v);

    record_put_bytes(o, &le, sizeof le);
}

void record_put_u32(struct record_out *o, uint32_t v)
{
    uint32_t le = htole32(v);

    record_put_bytes(o, &le, sizeof le);
}

void record_put_u64(struct record_out *o, uint64_t v)
{
    uint64_t le = htole64(v);

    record_put_bytes(o, &le, sizeof le);
}

void record_put_i64(struct record_out *o, int64_t v)
{
    record_put_u64(o, (uint64_t)v);
}

void record_put_text(struct record_out *o, const char *text)
{
    size_t len = strlen(text);

    if (len > UINT16_MAX) {
        o->full = true;
        return;
    }
    record_put_u16(o, (uint16_t)len);
    record_put_bytes(o, text, len + 1);
}

void record_put_digest(struct record_out *o, const struct digest *d)
{
    uint8_t key[DIGEST_KEY_MAX];

    record_put_bytes(o, key, digest_to_key(d, key));
}

int record_finish(const struct record_out *o)
{
    return o->full ? ERR_TOO_LARGE : 0;
}

const void *record_get_bytes(struct record_in *in, size_t len)
{
    const uint8_t *at = in->at;

    if (in->bad || len > (size_t)(in->end - at)) {
        in->bad = true;
        return NULL;
    }
    in->at += len;
    return at;
}

void record_open(struct record_in *in, struct db_value value, uint8_t version)
{
    in->at = value.data;
    in->end = in->at + value.size;
    in->bad = value.size == 0;
    record_require(in, record_get_u8(in) == version);
}

uint8_t record_get_u8(struct record_in *in)
{
    const uint8_t *p = record_get_bytes(in, 1);

    return p != NULL ? *p : 0;
}

uint16_t record_get_u16(struct record_in *in)
{
    const void *p = record_get_bytes(in, sizeof(uint16_t));
    uint16_t le = 0;

    if (p != NULL)
        memcpy(&le, p, sizeof le);
    return le16toh(le);
}

uint32_t record_get_u32(struct record_in *in)
{
    const void *p = record_get_bytes(in, sizeof(uint32_t));
    uint32_t le = 0;

    if (p != NULL)
        memcpy(&le, p, sizeof le);
    return le32toh(le);
}

uint64_t record_get_u64(struct record_in *in)
{
    const void *p = record_get_bytes(in, sizeof(uint64_t));
    uint64_t le = 0;

    if (p != NULL)
        memcpy(&le, p, sizeof le);
    return le64toh(le);
}

int64_t record_get_i64(struct record_in *in)
{
    return (int64_t)record_get_u64(in);
}

bool record_get_flag(struct record_in *in)
{
    uint8_t v = record_get_u8(in);

    record_require(in, v <= 1);
    return v == 1;
}

/* The string and its length, or NULL. */
static const char *text_in_place(struct record_in *in, size_t *len)
{
    *len = record_get_u16(in);
    const char *text = record_get_bytes(in, *len + 1);

    if (text == NULL || memchr(text, '\0', *len + 1) != text + *len) {
        in->bad = true;
        return NULL;
    }
    return text;
}

#define EACH_BYTE(b) (UINT64_MAX / 255 * (b))

/* Whether some byte of the word is below 0x20, or 0x7f: below in the sense that a
 * subtraction borrows from it, and its own top bit is not the one that is left. */
static bool has_control(uint64_t word)
{
    uint64_t del = word ^ EACH_BYTE(0x7f);
    uint64_t low = (word - EACH_BYTE(0x20)) & ~word;
    uint64_t is_del = (del - EACH_BYTE(1)) & ~del;

    return ((low | is_del) & EACH_BYTE(0x80)) != 0;
}

/* What is kept as text goes into fields of answers: a control byte is damage. Every hit
 * reads some, so it is looked at in words. */
static bool is_clean(const char *text, size_t len)
{
    uint64_t word;

    for (; len >= sizeof word; text += sizeof word, len -= sizeof word) {
        memcpy(&word, text, sizeof word);
        if (has_control(word))
            return false;
    }
    word = EACH_BYTE(' ');
    memcpy(&word, text, len);
    return !has_control(word);
}

const char *record_get_text(struct record_in *in)
{
    size_t len;
    const char *text = text_in_place(in, &len);

    record_require(in, text == NULL || is_clean(text, len));
    if (in->bad)
        return "";

    return text != NULL ? text : "";
}

void record_copy_text(struct record_in *in, char *out, size_t out_size)
{
    size_t len;
    const char *text = text_in_place(in, &len);

    if (text == NULL || len >= out_size || !is_clean(text, len)) {
        in->bad = true;
        out[0] = '\0';
        return;
    }
    memcpy(out, text, len + 1);
}

void record_get_digest(struct record_in *in, struct digest *d)
{
    int used = in->bad ? ERR_INVALID : digest_from_key(d, in->at, (size_t)(in->end - in->at));

    if (used < 0) {
        in->bad = true;
        return;
    }
    in->at += used;
}

void record_require(struct record_in *in, bool holds)
{
    in->bad = in->bad || !holds;
}

int record_check(const struct record_in *in)
{
    return in->bad ? ERR_DAMAGED : 0;
}

int record_close(const struct record_in *in)
{
    return in->bad || in->at != in->end ? ERR_DAMAGED : 0;
}
