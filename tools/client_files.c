/* SPDX-License-Identifier: ISC */
#include "tools/client_files.h"

#include <fnmatch.h>
#include <glob.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/err.h"
#include "tools/client_merge.h"
#include "tools/text_file.h"

const char *file_change_name(enum file_change c)
{
    static const char *const names[] = {
        [FILE_KEPT] = "kept",        [FILE_CREATED] = "created",   [FILE_REPLACED] = "replaced",
        [FILE_MERGED] = "merged",    [FILE_REMOVED] = "removed",   [FILE_RESTORED] = "restored",
        [FILE_FOREIGN] = "not ours", [FILE_CONFLICT] = "conflict", [FILE_FAILED] = "failed",
    };
    return names[c];
}

/* --- the report --- */

/* `path` is below the root; `why` is owned by the report. */
static void add(struct file_report *r, enum file_change change, const char *path, const char *root,
                char *why)
{
    const char *shown = path + strlen(root);
    r->rows = mem_resize(r->rows, (r->count + 1) * sizeof r->rows[0]);
    r->rows[r->count++] = (struct file_row){change, mem_copy(shown, strlen(shown)), why};
    r->failures += change >= FILE_FOREIGN;
    r->changes += change != FILE_KEPT && change < FILE_FOREIGN;
}

static void add_failure(struct file_report *r, const char *path, const char *root, int err)
{
    const char *next = err == ERR_DENIED ? "; run this as root" : "";
    add(r, FILE_FAILED, path, root, mem_format("%s%s", err_text(err), next));
}

/* What was done, unless that failed. */
static void add_result(struct file_report *r, enum file_change change, const char *path,
                       const char *root, int err)
{
    if (err == 0)
        add(r, change, path, root, NULL);
    else
        add_failure(r, path, root, err);
}

void file_report_clear(struct file_report *r)
{
    for (size_t i = 0; i < r->count; i++) {
        free(r->rows[i].path);
        free(r->rows[i].why);
    }
    free(r->rows);
    *r = (struct file_report){0};
}

/* --- files of ours --- */

char *files_path(const struct setup_item *item, const char *root)
{
    char *red_hat = mem_format("%s%s", root, SETUP_ANCHOR_RED_HAT);
    struct stat st;
    *strrchr(red_hat, '/') = '\0';
    bool is_red_hat = item->kind == SETUP_ANCHOR && stat(red_hat, &st) == 0;
    free(red_hat);
    return mem_format("%s%s", root, is_red_hat ? SETUP_ANCHOR_RED_HAT : item->path);
}

static void write_own(struct file_report *r, const struct setup_plan *p,
                      const struct setup_item *item, const char *root, enum file_action action)
{
    char *path = files_path(item, root);
    char *old = NULL;
    int err = text_read(path, &old);
    enum file_change change = err == ERR_NOT_FOUND ? FILE_CREATED : FILE_REPLACED;
    if (err != 0 && err != ERR_NOT_FOUND) {
        add_failure(r, path, root, err);
    } else if (old != NULL && strcmp(old, item->content) == 0) {
        add(r, FILE_KEPT, path, root, NULL);
    } else if (old != NULL && !setup_is_marked(old, p->client)) {
        add(r, FILE_FOREIGN, path, root,
            mem_format("it was not written by cachalot setup; add by hand what \"cachalot setup "
                       "%s\" prints",
                       setup_client_name(p->client)));
    } else {
        err = action == FILES_DO ? text_write(path, item->content) : 0;
        add_result(r, change, path, root, err);
    }
    free(old);
    free(path);
}

/* Folders that are made for one file of ours go with it. */
static bool has_own_folder(const char *path)
{
    return fnmatch("*/certs.d/*/*", path, 0) == 0 || fnmatch("*.service.d/*", path, 0) == 0;
}

static void remove_own(struct file_report *r, enum setup_client client, const char *path,
                       const char *root, enum file_action action)
{
    char *text = NULL;
    int err = text_read(path, &text);
    if (err == 0 && setup_is_marked(text, client)) {
        err = action == FILES_DO ? text_remove(path) : 0;
        add_result(r, FILE_REMOVED, path, root, err);
        char *folder = mem_copy(path, (size_t)(strrchr(path, '/') - path));
        if (action == FILES_DO && err == 0 && has_own_folder(path))
            (void)rmdir(folder);
        free(folder);
    }
    free(text);
}

static bool is_planned(const struct setup_plan *p, const char *path, const char *root)
{
    bool found = false;
    for (size_t i = 0; p != NULL && i < p->count && !found; i++) {
        char *planned = files_path(&p->items[i], root);
        found = strcmp(planned, path) == 0;
        free(planned);
    }
    return found;
}

/* The root stands for itself in a pattern. */
static char *pattern_below(const char *root, const char *pattern)
{
    char *out = mem_new(2 * strlen(root) + strlen(pattern) + 1);
    size_t len = 0;
    for (; *root != '\0'; root++) {
        if (strchr("*?[]\\", *root) != NULL)
            out[len++] = '\\';
        out[len++] = *root;
    }
    strcpy(out + len, pattern);
    return out;
}

/* Remove files of ours that the plan does not have; it is NULL to remove them all. */
static void remove_others(struct file_report *r, enum setup_client client,
                          const struct setup_plan *p, const char *root, enum file_action action)
{
    for (const char *const *pattern = setup_patterns(client); *pattern != NULL; pattern++) {
        char *below = pattern_below(root, *pattern);
        glob_t found;
        if (glob(below, 0, NULL, &found) == 0) {
            for (size_t i = 0; i < found.gl_pathc; i++) {
                if (!is_planned(p, found.gl_pathv[i], root))
                    remove_own(r, client, found.gl_pathv[i], root, action);
            }
            globfree(&found);
        }
        free(below);
    }
}

/* --- settings of the client's own --- */

static void write_merge(struct file_report *r, const char *name, const char *content,
                        const char *root, enum file_action action)
{
    char why[512];
    char *path = mem_format("%s%s", root, name);
    enum file_change change = merge_into_file(path, content, action, why, sizeof why);
    bool is_failure = change >= FILE_FOREIGN;
    add(r, change, path, root, is_failure ? mem_copy(why, strlen(why)) : NULL);
    free(path);
}

static void undo_merge(struct file_report *r, const char *name, const char *root,
                       enum file_action action)
{
    char why[512];
    char *path = mem_format("%s%s", root, name);
    enum file_change change = merge_out_of_file(path, action, why, sizeof why);
    bool is_failure = change >= FILE_FOREIGN;
    if (change != FILE_KEPT)
        add(r, change, path, root, is_failure ? mem_copy(why, strlen(why)) : NULL);
    free(path);
}

/* --- all of a client's --- */

void files_write(struct file_report *r, const struct setup_plan *p, const char *root,
                 enum file_action action)
{
    const char *merge_path = setup_merge_path(p->client);
    bool merges = false;
    *r = (struct file_report){0};
    for (size_t i = 0; i < p->count; i++) {
        const struct setup_item *item = &p->items[i];
        if (item->kind == SETUP_MERGE)
            write_merge(r, item->path, item->content, root, action);
        else
            write_own(r, p, item, root, action);
        merges = merges || item->kind == SETUP_MERGE;
    }
    if (merge_path != NULL && !merges)
        undo_merge(r, merge_path, root, action);
    remove_others(r, p->client, p, root, action);
}

void files_undo(struct file_report *r, enum setup_client client, const char *root,
                enum file_action action)
{
    const char *merge_path = setup_merge_path(client);
    *r = (struct file_report){0};
    if (merge_path != NULL)
        undo_merge(r, merge_path, root, action);
    remove_others(r, client, NULL, root, action);
}
