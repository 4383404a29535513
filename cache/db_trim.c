/* SPDX-License-Identifier: ISC */
#include "cache/db_trim.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/check.h"

/* A read maps 16 pages at most, so between two looks some MiB come. */
#define READS_PER_LOOK 64
/* All files together, the program and its libraries too. */
#define MAPPED_BYTES_MAX (24u * 1024 * 1024)

struct db_trim {
    int statm_fd;
    ino_t inode; /* of the index; /proc tells another device than stat on some file systems */
    long page_bytes;
    unsigned reads; /* since the last look */
};

struct db_trim *db_trim_new(int fd)
{
    struct stat st;
    int statm_fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);

    if (statm_fd < 0)
        return NULL;
    if (fstat(fd, &st) != 0) {
        close(statm_fd);
        return NULL;
    }
    struct db_trim *t = mem_new(sizeof *t);
    t->statm_fd = statm_fd;
    t->inode = st.st_ino;
    t->page_bytes = sysconf(_SC_PAGESIZE);
    return t;
}

void db_trim_free(struct db_trim **t)
{
    if (*t == NULL)
        return;
    close((*t)->statm_fd);
    free(*t);
    *t = NULL;
}

/* The third number of statm: resident pages of files. */
static bool is_much_mapped(const struct db_trim *t)
{
    char text[128];
    char *at = text;
    ssize_t n = pread(t->statm_fd, text, sizeof text - 1, 0);
    unsigned long long pages = 0;

    if (n <= 0)
        return false;
    text[n] = '\0';
    for (int i = 0; i < 3; i++)
        pages = strtoull(at, &at, 10);
    return pages > MAPPED_BYTES_MAX / (unsigned long long)t->page_bytes;
}

/* "BEGIN-END rwxs OFFSET DEVICE INODE PATH": whether it is a shared map of the file. */
static bool is_ours(const struct db_trim *t, const char *line, uintptr_t *begin, uintptr_t *end)
{
    char *at;

    *begin = strtoull(line, &at, 16);
    if (*at != '-')
        return false;
    *end = strtoull(at + 1, &at, 16);
    if (strnlen(at, 6) < 6 || at[4] != 's')
        return false;
    at = strchr(at + 6, ' ');
    if (at != NULL)
        at = strchr(at + 1, ' ');
    return at != NULL && strtoull(at + 1, NULL, 10) == t->inode;
}

/* Shared maps of a file lose nothing by this: they are read again from the page cache. */
static void let_go(const struct db_trim *t)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];

    if (maps == NULL)
        return;
    while (fgets(line, sizeof line, maps) != NULL) {
        uintptr_t begin;
        uintptr_t end;

        if (is_ours(t, line, &begin, &end))
            (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
    }
    fclose(maps);
}

void db_trim_note(struct db_trim *t)
{
    if (t == NULL || ++t->reads < READS_PER_LOOK)
        return;
    t->reads = 0;
    if (is_much_mapped(t))
        let_go(t);
}
