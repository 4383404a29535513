/* SPDX-License-Identifier: ISC */
/* A look at an archive: what is read of a part before it is known where it belongs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/bundle_text.h"
#include "cache/err.h"
#include "cache/import_private.h"

void import_head_clear(struct import_head *h)
{
    bundle_record_clear(&h->record);
    free(h->index);
    free(h->signature);
    *h = (struct import_head){0};
}

static int read_text(struct tar_reader *tar, const struct tar_entry *e, size_t max_bytes,
                     char **text, size_t *len, char why[IMPORT_WHY_MAX])
{
    const void *data;
    size_t n;
    int err;

    if (*text != NULL || e->size_bytes > max_bytes) {
        snprintf(why, IMPORT_WHY_MAX, "its %s is too large, or there twice", e->name);
        return ERR_INVALID;
    }
    *text = mem_resize(NULL, (size_t)e->size_bytes + 1);
    *len = 0;
    while ((err = tar_read(tar, &data, &n)) == 0 && n > 0) {
        memcpy(*text + *len, data, n);
        *len += n;
    }
    (*text)[*len] = '\0';
    return err;
}

static int read_record(struct tar_reader *tar, const struct tar_entry *e, struct import_head *h,
                       char why[IMPORT_WHY_MAX])
{
    char *text = NULL;
    size_t len;
    int err = read_text(tar, e, BUNDLE_RECORD_SIZE_MAX, &text, &len, why);

    if (err == 0)
        err = bundle_record_parse(&h->record, text, len, why, IMPORT_WHY_MAX);
    free(text);
    return err;
}

/* Up to the record, or to what does not stand before it. */
static int read_head(struct tar_reader *tar, struct import_head *h, char why[IMPORT_WHY_MAX])
{
    struct tar_entry e;
    int err;

    while ((err = tar_next(tar, &e)) == 0) {
        if (strcmp(e.name, BUNDLE_RECORD_NAME) == 0)
            return read_record(tar, &e, h, why);
        if (strcmp(e.name, BUNDLE_INDEX_NAME) == 0)
            err = read_text(tar, &e, IMPORT_TEXT_MAX, &h->index, &h->index_len, why);
        else if (strcmp(e.name, BUNDLE_SIGNATURE_NAME) == 0)
            err = read_text(tar, &e, BUNDLE_SIGNATURE_BYTES, &h->signature, &h->signature_len, why);
        else if (strcmp(e.name, BUNDLE_LAYOUT_NAME) != 0)
            return ERR_NOT_FOUND;
        if (err != 0)
            return err;
    }
    return err;
}

int import_peek(int fd, struct import_head *h, char why[IMPORT_WHY_MAX])
{
    struct tar_reader *tar = tar_reader_new(fd);

    *h = (struct import_head){0};
    why[0] = '\0';
    int err = read_head(tar, h, why);
    if (err != 0 && err != ERR_NOT_FOUND && why[0] == '\0')
        snprintf(why, IMPORT_WHY_MAX, "%s", tar_why(tar));
    if (err != 0)
        import_head_clear(h);
    tar_reader_free(&tar);
    return err;
}
