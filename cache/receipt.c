/* SPDX-License-Identifier: ISC */
#include "cache/receipt.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/blob.h"
#include "cache/err.h"

#define LINE_MAX_SIZE 256

static const char first_line[] = "cachalot receipt 1";
static const char made_word[] = "made ";
static const char signature_word[] = "signature ";

/* --- making --- */

struct maker {
    struct store *store;
    struct db_txn *txn;
    FILE *file;
    uint64_t count;
};

static int write_blob(void *arg, struct db_value key, struct db_value value)
{
    struct maker *m = arg;
    char text[DIGEST_TEXT_MAX];
    struct blob_record r;
    struct digest d;
    int fd;

    (void)value;
    if (digest_from_key(&d, key.data, key.size) != (int)key.size || blob_get(m->txn, &d, &r) != 0 ||
        blob_open(m->store, &d, r.size_bytes, &fd) != 0)
        return 0;
    close(fd);
    fprintf(m->file, "%s\n", digest_text(&d, text));
    m->count++;
    return 0;
}

int receipt_make(struct store *s, struct db_txn *txn, int64_t now_s, char **text, size_t *len,
                 uint64_t *count)
{
    struct maker m = {.store = s, .txn = txn, .file = open_memstream(text, len)};

    CHECK(m.file != NULL);
    fprintf(m.file, "%s\n%s%" PRId64 "\n", first_line, made_word, now_s);
    int err = db_walk(txn, DB_BLOBS, NULL, 0, NULL, 0, write_blob, &m);
    CHECK(fclose(m.file) == 0);
    *count = m.count;
    if (err != 0) {
        free(*text);
        *text = NULL;
    }
    return err;
}

void receipt_add_signature(char **text, size_t *len,
                           const uint8_t signature[BUNDLE_SIGNATURE_BYTES])
{
    char hex[2 * BUNDLE_SIGNATURE_BYTES + 1];

    for (size_t i = 0; i < BUNDLE_SIGNATURE_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", signature[i]);
    char *longer = mem_format("%s%s%s\n", *text, signature_word, hex);

    free(*text);
    *text = longer;
    *len = strlen(longer);
}

/* --- reading --- */

struct parser {
    const char *text, *end;
    const char *at; /* the next line */
    unsigned number;
    char line[LINE_MAX_SIZE];
};

/* False at the end, and for a line that is too long or has a NUL or no newline. */
static bool next_line(struct parser *p)
{
    const char *newline = memchr(p->at, '\n', (size_t)(p->end - p->at));

    if (newline == NULL || (size_t)(newline - p->at) >= sizeof p->line)
        return false;
    size_t len = (size_t)(newline - p->at);
    /* Of files that passed through editors elsewhere. */
    if (len > 0 && p->at[len - 1] == '\r')
        len--;
    memcpy(p->line, p->at, len);
    p->line[len] = '\0';
    p->at = newline + 1;
    p->number++;
    return strlen(p->line) == len;
}

static bool take_hex(const char *text, uint8_t *out, size_t size)
{
    static const char digits[] = "0123456789abcdef";

    if (strlen(text) != 2 * size)
        return false;
    for (size_t i = 0; i < size; i++) {
        const char *high = strchr(digits, text[2 * i]);
        const char *low = strchr(digits, text[2 * i + 1]);

        if (high == NULL || low == NULL)
            return false;
        out[i] = (uint8_t)((high - digits) << 4 | (low - digits));
    }
    return true;
}

static bool take_head(struct parser *p, struct receipt *r)
{
    char *end;

    if (!next_line(p) || strcmp(p->line, first_line) != 0 || !next_line(p) ||
        strncmp(p->line, made_word, sizeof made_word - 1) != 0)
        return false;
    r->made_at_s = strtoll(p->line + sizeof made_word - 1, &end, 10);
    return *end == '\0' && r->made_at_s >= 0;
}

static bool take_line(struct parser *p, struct receipt *r, const char *begin)
{
    struct digest d;
    size_t number;

    if (strncmp(p->line, signature_word, sizeof signature_word - 1) == 0) {
        r->signed_bytes = (size_t)(begin - p->text);
        r->is_signed = true;
        return take_hex(p->line + sizeof signature_word - 1, r->signature, sizeof r->signature) &&
               p->at == p->end;
    }
    if (digest_parse(&d, p->line, strlen(p->line)) != 0)
        return false;
    digest_map_add(r->digests, &d, &number);
    return true;
}

int receipt_parse(struct receipt *r, const char *text, size_t len, char *why, size_t why_size)
{
    struct parser p = {.text = text, .end = text + len, .at = text};
    bool is_good = true;

    *r = (struct receipt){.digests = digest_map_new()};
    if (!take_head(&p, r)) {
        snprintf(why, why_size, "it does not begin as a receipt of this version does");
        receipt_clear(r);
        return ERR_INVALID;
    }
    while (is_good && p.at < p.end) {
        const char *begin = p.at;

        is_good = next_line(&p) && take_line(&p, r, begin);
    }
    if (is_good)
        return 0;
    snprintf(why, why_size, "line %u makes no sense", p.number);
    receipt_clear(r);
    return ERR_INVALID;
}

void receipt_clear(struct receipt *r)
{
    digest_map_free(&r->digests);
    *r = (struct receipt){0};
}
