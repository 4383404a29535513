/* SPDX-License-Identifier: ISC */
/*
 * Files of archives that are no image layouts: docker-archive of skopeo and podman, docker
 * save before 25. They name their files as they like, and name a layer that occurs twice
 * by a symbolic link to the first.
 */
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "cache/err.h"
#include "cache/import_private.h"

/* A link to a link does not occur. */
struct import_file {
    char *name;
    char *target; /* of a link, from the archive's root; NULL: a file */
    size_t number;
    UT_hash_handle hh;
};

static int add(struct import *i, const char *name, char *target, size_t number)
{
    struct import_file *file;

    HASH_FIND_STR(i->files, name, file);
    if (file != NULL) {
        free(target);
        return import_fail(i, ERR_INVALID, "%s: the entry %s is there twice", i->label, name);
    }
    if (HASH_COUNT(i->files) == IMPORT_FILES_MAX) {
        free(target);
        return import_fail(i, ERR_TOO_LARGE, "%s has more than %u files", i->label,
                           IMPORT_FILES_MAX);
    }
    file = mem_new(sizeof *file);
    file->name = mem_copy(name, strlen(name));
    file->target = target;
    file->number = number;
    HASH_ADD_KEYPTR(hh, i->files, file->name, strlen(file->name), file);
    return 0;
}

int import_add_file(struct import *i, const char *name, size_t number)
{
    return add(i, name, NULL, number);
}

/* "FOLDER/layer.tar" -> "../NAME", as those programs write them; nothing else. */
int import_add_link(struct import *i, const char *name, const char *target)
{
    const char *slash = strchr(name, '/');
    const char *rest = target + 3;

    if (slash == NULL || strcmp(slash, "/layer.tar") != 0 || strncmp(target, "../", 3) != 0 ||
        *rest == '\0' || *rest == '/' || strstr(rest, "..") != NULL || strstr(rest, "//") != NULL)
        return import_fail(i, ERR_INVALID, "%s: the entry %s is a symbolic link to \"%s\"",
                           i->label, name, target);
    return add(i, name, mem_copy(rest, strlen(rest)), 0);
}

bool import_find_file(const struct import *i, const char *name, size_t *number)
{
    const struct import_file *file;

    HASH_FIND_STR(i->files, name, file);
    if (file != NULL && file->target != NULL) {
        const char *target = file->target;

        HASH_FIND_STR(i->files, target, file);
    }
    if (file == NULL || file->target != NULL)
        return false;
    *number = file->number;
    return true;
}

void import_free_files(struct import *i)
{
    struct import_file *file = i->files;

    HASH_CLEAR(hh, i->files);
    while (file != NULL) {
        struct import_file *next = file->hh.next;

        free(file->name);
        free(file->target);
        free(file);
        file = next;
    }
}
