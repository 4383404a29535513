/* SPDX-License-Identifier: ISC */
#include "tools/client_merge.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/json.h"
#include "cache/json_merge.h"
#include "tools/text_file.h"

#define BACKUP ".cachalot-bak"
#define RECORD ".cachalot-set"

/* A file, the one of what it was, and the one of what was merged. */
struct settings_file {
    char *path, *backup_path, *record_path;
    char *text;        /* NULL: there is none */
    char *backup_text; /* NULL: there is none */
    json_t *now, *before, *record;
    bool has_record;
};

/* --- reading --- */

/* An object, {} for a file that is empty or not there; NULL when it cannot be read. */
static json_t *read_object(const char *path, char **text, char *why, size_t why_size)
{
    char reason[256];
    json_t *json = NULL;
    int err = text_read(path, text);
    if (err == ERR_NOT_FOUND || (err == 0 && strspn(*text, " \t\r\n") == strlen(*text)))
        return json_object();
    if (err != 0)
        snprintf(why, why_size, "%s cannot be read: %s%s", path, err_text(err),
                 err == ERR_DENIED ? "; run this as root" : "");
    else if (json_parse(&json, *text, strlen(*text), reason, sizeof reason) != 0)
        snprintf(why, why_size, "%s is not JSON: %s; correct it first", path, reason);
    return json;
}

static void clear(struct settings_file *f)
{
    free(f->path);
    free(f->backup_path);
    free(f->record_path);
    free(f->text);
    free(f->backup_text);
    json_decref(f->now);
    json_decref(f->before);
    json_decref(f->record);
}

static bool load(struct settings_file *f, const char *path, char *why, size_t why_size)
{
    char *record_text = NULL;
    *f = (struct settings_file){
        .path = mem_copy(path, strlen(path)),
        .backup_path = mem_format("%s%s", path, BACKUP),
        .record_path = mem_format("%s%s", path, RECORD),
    };
    f->now = read_object(f->path, &f->text, why, why_size);
    if (f->now != NULL)
        f->before = read_object(f->backup_path, &f->backup_text, why, why_size);
    if (f->before != NULL)
        f->record = read_object(f->record_path, &record_text, why, why_size);
    f->has_record = record_text != NULL;
    free(record_text);
    return f->record != NULL;
}

/* --- writing --- */

static int write_object(const char *path, const json_t *object)
{
    char *dump = json_dumps(object, JSON_INDENT(4));
    CHECK(dump != NULL);
    char *text = mem_format("%s\n", dump);
    int err = text_write(path, text);
    free(text);
    free(dump);
    return err;
}

static enum file_change fail(const struct settings_file *f, int err, char *why, size_t why_size)
{
    snprintf(why, why_size, "%s cannot be written: %s%s", f->path, err_text(err),
             err == ERR_DENIED ? "; run this as root" : "");
    return FILE_FAILED;
}

/* The record comes before what it is about, so that what was merged can always be taken out. */
static int store(const struct settings_file *f, const json_t *content)
{
    int err = 0;
    if (!f->has_record && f->text != NULL)
        err = text_write(f->backup_path, f->text);
    if (err == 0)
        err = write_object(f->record_path, content);
    if (err == 0)
        err = write_object(f->path, f->now);
    return err;
}

static enum file_change merge(struct settings_file *f, const json_t *content,
                              enum file_action action, char *why, size_t why_size)
{
    char key[128];
    json_t *was = json_deep_copy(f->now);
    json_merge_out(f->now, f->record, f->before);
    int err = json_merge_in(f->now, content, key, sizeof key);
    bool is_same = json_equal(was, f->now);
    json_decref(was);
    if (err != 0) {
        snprintf(why, why_size, "%s of %s has another value; change that by hand", key, f->path);
        return FILE_CONFLICT;
    }
    if (is_same && f->text != NULL)
        return FILE_KEPT;
    err = action == FILES_DO ? store(f, content) : 0;
    if (err != 0)
        return fail(f, err, why, why_size);
    return f->text != NULL ? FILE_MERGED : FILE_CREATED;
}

enum file_change merge_into_file(const char *path, const char *content, enum file_action action,
                                 char *why, size_t why_size)
{
    struct settings_file f;
    char reason[256];
    json_t *object;
    enum file_change change = FILE_FAILED;
    CHECK(json_parse(&object, content, strlen(content), reason, sizeof reason) == 0);
    if (load(&f, path, why, why_size))
        change = merge(&f, object, action, why, why_size);
    json_decref(object);
    clear(&f);
    return change;
}

/* --- taking out --- */

static enum file_change restore(struct settings_file *f, enum file_action action, char *why,
                                size_t why_size)
{
    json_merge_out(f->now, f->record, f->before);
    bool is_gone = f->text == NULL;
    bool is_ours = f->backup_text == NULL && json_object_size(f->now) == 0;
    bool is_as_before = f->backup_text != NULL && json_equal(f->now, f->before);
    int err = 0;
    if (action == FILES_LOOK || is_gone)
        err = 0;
    else if (is_ours)
        err = text_remove(f->path);
    else if (is_as_before)
        err = text_write(f->path, f->backup_text);
    else
        err = write_object(f->path, f->now);
    if (err == 0 && action == FILES_DO)
        err = text_remove(f->backup_path);
    if (err == 0 && action == FILES_DO)
        err = text_remove(f->record_path);
    if (err != 0)
        return fail(f, err, why, why_size);
    return is_ours ? FILE_REMOVED : FILE_RESTORED;
}

enum file_change merge_out_of_file(const char *path, enum file_action action, char *why,
                                   size_t why_size)
{
    struct settings_file f;
    enum file_change change = FILE_FAILED;
    if (load(&f, path, why, why_size))
        change = f.has_record ? restore(&f, action, why, why_size) : FILE_KEPT;
    clear(&f);
    return change;
}
