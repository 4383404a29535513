/* SPDX-License-Identifier: ISC */
#include "cache/import_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/digest_map.h"
#include "cache/err.h"

int import_fail(struct import *i, int err, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(i->why, sizeof i->why, format, args);
    va_end(args);
    return err;
}

void import_reference(const struct import_image *image, struct reference *r)
{
    CHECK(reference_from_key(r, image->name, strlen(image->name)) == 0);
}

char *import_quote(const char *text, char out[IMPORT_QUOTE_MAX])
{
    size_t len = strnlen(text, IMPORT_QUOTE_MAX - 1);

    for (size_t k = 0; k < len; k++)
        out[k] = text[k] >= ' ' && text[k] <= '~' ? text[k] : '?';
    out[len] = '\0';
    return out;
}

static int spool_open(struct import *i)
{
    const char *dir = getenv("TMPDIR");

    if (dir == NULL || *dir != '/')
        dir = "/tmp";
    i->spool_fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return i->spool_fd >= 0 ? 0
                            : import_fail(i, err_from_errno(errno),
                                          "no temporary file can be made in %s; name another "
                                          "folder in TMPDIR",
                                          dir);
}

static int begin(struct import *i)
{
    struct store *s = i->settings.store;
    int err = s != NULL ? db_reader_new(store_db(s), &i->reader) : 0;

    if (err != 0)
        return import_fail(i, err, "the index of %s cannot be read: %s", store_path(s),
                           err_text(err));
    CHECK(s != NULL || i->settings.verify_only);
    return i->settings.verify_only ? spool_open(i) : import_lock(i);
}

int import_new(struct import **ip, const struct import_settings *settings, char why[IMPORT_WHY_MAX])
{
    struct import *i = mem_new(sizeof *i);

    i->settings = *settings;
    i->lock_fd = -1;
    i->spool_fd = -1;
    i->label = "";
    i->numbers = digest_map_new();
    int err = begin(i);
    if (err != 0) {
        snprintf(why, IMPORT_WHY_MAX, "%s", i->why);
        import_free(&i);
        return err;
    }
    *ip = i;
    return 0;
}

/* All parts came: a blob that goes on in the next one would be open. */
static int check_parts(struct import *i)
{
    const struct bundle_record *r = &i->record;

    if (!i->is_bundle || i->next_item == r->count)
        return 0;
    if (r->part == r->parts)
        return import_fail(i, ERR_INVALID, "%s: the bundle ends before its record does", i->label);
    return import_fail(i, ERR_NOT_FOUND,
                       "part %u of %u is missing; what the parts before hold is kept: import all "
                       "parts together",
                       r->part + 1, r->parts);
}

/* The texts that said which images there are; there may be as much of them as of all else. */
static void forget_texts(struct import *i)
{
    free(i->index);
    free(i->singles);
    free(i->record.items);
    i->index = i->singles = NULL;
    i->record.items = NULL;
    i->record.count = 0;
}

int import_finish(struct import *i)
{
    /* Some parts alone say nothing of what the others hold. */
    bool is_partial =
        i->settings.verify_only && i->is_bundle &&
        (i->has_begun_late || (i->next_item < i->record.count && i->record.part < i->record.parts));
    int err = is_partial ? 0 : check_parts(i);

    if (err == 0)
        err = import_name_images(i);
    forget_texts(i);
    if (err == 0 && !is_partial)
        err = import_check(i);
    if (err == 0 && !i->settings.verify_only)
        err = import_commit(i);
    /* Another try with these archives would end the same. */
    if (err == ERR_INVALID || err == ERR_MISMATCH || err == ERR_TOO_LARGE || i->missing_count > 0)
        i->is_refused = true;
    return err;
}

void import_free(struct import **ip)
{
    struct import *i = *ip;

    if (i == NULL)
        return;
    import_drop(i, &i->open);
    import_sweep(i);
    if (i->spool_fd >= 0)
        close(i->spool_fd);
    import_free_files(i);
    digest_map_free(&i->numbers);
    db_reader_free(&i->reader);
    bundle_record_clear(&i->record);
    free(i->contents);
    free(i->index);
    free(i->singles);
    free(i->signature);
    for (size_t k = 0; k < i->image_count; k++) {
        free(i->images[k].name);
        free(i->images[k].media_type);
    }
    free(i->images);
    free(i->missing);
    free(i);
    *ip = NULL;
}

const char *import_why(const struct import *i)
{
    return i->why;
}

void import_result(const struct import *i, struct import_result *r)
{
    *r = (struct import_result){
        .images = i->images,
        .image_count = i->image_count,
        .missing = i->missing,
        .missing_count = i->missing_count,
        .carried_count = digest_map_count(i->numbers),
        .carried_bytes = i->carried_bytes,
        .added_count = i->added_count,
        .added_bytes = i->added_bytes,
        .is_bundle = i->is_bundle,
        .name_misfits = i->name_misfits,
        .is_signed = i->signature != NULL,
        .parts = i->is_bundle ? i->record.parts : 1,
    };
}
