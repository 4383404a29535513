/* SPDX-License-Identifier: ISC */
#include "tools/archives.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/err.h"
#include "cache/import.h"

static struct archive *add(struct archives *a, const char *path)
{
    a->all = mem_resize(a->all, (a->count + 1) * sizeof *a->all);
    a->all[a->count] = (struct archive){.path = mem_copy(path, strlen(path))};
    return &a->all[a->count++];
}

static enum exit_code add_file(struct archives *a, const char *path, uint64_t size_bytes)
{
    char why[IMPORT_WHY_MAX];
    struct import_head head;
    struct archive *one = add(a, path);
    one->size_bytes = size_bytes;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return complain(EXIT_FAILED, "%s cannot be opened: %s", path, strerror(errno));
    int err = import_peek(fd, &head, why);
    close(fd);
    if (err == 0) {
        one->has_record = true;
        one->record = head.record;
        head.record = (struct bundle_record){0};
        import_head_clear(&head);
    }
    if (err == 0 || err == ERR_NOT_FOUND)
        return EXIT_DONE;
    return complain(err == ERR_INVALID ? EXIT_INTEGRITY : EXIT_FAILED,
                    "%s is no archive that can be imported: %s", path, why);
}

static enum exit_code add_folder(struct archives *a, const char *path)
{
    enum exit_code code = EXIT_DONE;
    struct stat st;
    glob_t found;
    char *pattern = mem_format("%s/*.tar", path);
    int result = glob(pattern, 0, NULL, &found);
    free(pattern);
    if (result != 0)
        return complain(EXIT_ABSENT, "%s has no file *.tar; name the archives themselves", path);
    for (size_t i = 0; code == EXIT_DONE && i < found.gl_pathc; i++) {
        if (stat(found.gl_pathv[i], &st) == 0 && S_ISREG(st.st_mode))
            code = add_file(a, found.gl_pathv[i], (uint64_t)st.st_size);
    }
    globfree(&found);
    return code;
}

/* Of bundles by their index, then by part; archives of others come first. */
static int by_part(const void *x, const void *y)
{
    const struct archive *a = x, *b = y;
    if (a->has_record != b->has_record)
        return a->has_record ? 1 : -1;
    if (!a->has_record)
        return strcmp(a->path, b->path);
    int order = memcmp(&a->record.index, &b->record.index, sizeof a->record.index);
    if (order == 0)
        order = (a->record.part_bytes > b->record.part_bytes) -
                (a->record.part_bytes < b->record.part_bytes);
    if (order == 0)
        order = (a->record.count > b->record.count) - (a->record.count < b->record.count);
    if (order == 0)
        order = (a->record.part > b->record.part) - (a->record.part < b->record.part);
    return order;
}

enum exit_code archives_find(struct archives *a, int argc, char **argv)
{
    enum exit_code code = EXIT_DONE;
    struct stat st;
    *a = (struct archives){0};
    for (int i = 0; code == EXIT_DONE && i < argc; i++) {
        if (strcmp(argv[i], "-") == 0)
            add(a, "-");
        else if (stat(argv[i], &st) != 0)
            code = complain(errno == ENOENT ? EXIT_ABSENT : EXIT_FAILED,
                            "%s cannot be opened: %s; name a file, a folder of parts, or -",
                            argv[i], strerror(errno));
        else if (S_ISDIR(st.st_mode))
            code = add_folder(a, argv[i]);
        else if (S_ISREG(st.st_mode))
            code = add_file(a, argv[i], (uint64_t)st.st_size);
        else
            add(a, argv[i]);
    }
    if (code == EXIT_DONE)
        qsort(a->all, a->count, sizeof *a->all, by_part);
    return code;
}

void archives_clear(struct archives *a)
{
    for (size_t i = 0; i < a->count; i++) {
        free(a->all[i].path);
        bundle_record_clear(&a->all[i].record);
    }
    free(a->all);
    *a = (struct archives){0};
}

size_t archives_group(const struct archives *a, size_t first)
{
    size_t count = 1;
    if (!a->all[first].has_record)
        return 1;
    while (first + count < a->count && a->all[first + count].has_record &&
           bundle_record_same(&a->all[first].record, &a->all[first + count].record))
        count++;
    return count;
}

enum exit_code archives_check(const struct archives *a, size_t first, size_t count)
{
    const struct archive *all = &a->all[first];
    unsigned expected = 1;
    if (!all->has_record)
        return EXIT_DONE;
    for (size_t i = 0; i < count; i++) {
        unsigned part = all[i].record.part;
        if (i > 0 && part == all[i - 1].record.part)
            return complain(EXIT_USAGE, "%s and %s are the same part of one bundle; leave one out",
                            all[i - 1].path, all[i].path);
        if (part != expected)
            break;
        expected++;
    }
    if (expected > all->record.parts)
        return EXIT_DONE;
    return complain(EXIT_ABSENT,
                    "part %u of %u of the bundle of %s is missing; give all parts, or have it "
                    "made again: \"cachalot export --like %s --part %u -o FILE\"",
                    expected, all->record.parts, all->path, all->path, expected);
}
