/* SPDX-License-Identifier: ISC */
#include "tools/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- reading --- */

static int read_stream(FILE *in, size_t max_bytes, char **data, size_t *len)
{
    size_t room = 4096;
    *data = mem_resize(NULL, room);
    *len = 0;
    for (;;) {
        size_t n = fread(*data + *len, 1, room - *len - 1, in);
        *len += n;
        (*data)[*len] = '\0';
        if (ferror(in))
            return errno;
        if (n == 0)
            return 0;
        if (*len > max_bytes)
            return EFBIG;
        if (*len + 1 == room) {
            room *= 2;
            *data = mem_resize(*data, room);
        }
    }
}

enum exit_code file_read(const char *path, size_t max_bytes, char **data, size_t *len)
{
    bool is_input = strcmp(path, "-") == 0;
    FILE *in = is_input ? stdin : fopen(path, "re");
    if (in == NULL)
        return complain(EXIT_FAILED, "%s cannot be opened: %s; name a file that can be read", path,
                        strerror(errno));
    int errnum = read_stream(in, max_bytes, data, len);
    if (!is_input)
        fclose(in);
    if (errnum == 0)
        return EXIT_DONE;
    free(*data);
    *data = NULL;
    return complain(EXIT_FAILED, "%s cannot be read: %s", path, strerror(errnum));
}

bool size_parse(const char *text, uint64_t *size_bytes)
{
    static const struct {
        const char *name;
        unsigned shift;
    } units[] = {{"", 0}, {"B", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}};
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (end == text || *text == '-' || errno != 0 || number == 0)
        return false;
    while (*end == ' ')
        end++;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(end, units[i].name) != 0)
            continue;
        *size_bytes = (uint64_t)number << units[i].shift;
        return *size_bytes >> units[i].shift == number && *size_bytes <= INT64_MAX;
    }
    return false;
}

/* --- writing --- */

enum exit_code output_file_open(struct output_file *f, const char *path)
{
    struct stat st;
    *f = (struct output_file){.fd = -1};
    if (strcmp(path, "-") == 0) {
        if (isatty(STDOUT_FILENO))
            return complain(EXIT_USAGE, "standard output is a terminal; name a file with -o FILE");
        f->fd = STDOUT_FILENO;
        return EXIT_DONE;
    }
    /* What is no file has no other name beside it: a fifo, /dev/null. */
    bool is_special = stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
    f->path = mem_copy(path, strlen(path));
    f->unfinished = is_special ? NULL : mem_format("%s.unfinished", path);
    f->fd = is_special ? open(path, O_WRONLY | O_CLOEXEC)
                       : open(f->unfinished, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (f->fd >= 0)
        return EXIT_DONE;
    enum exit_code code =
        complain(EXIT_FAILED, "%s cannot be written: %s; name another with -o FILE",
                 is_special ? path : f->unfinished, strerror(errno));
    output_file_discard(f);
    return code;
}

int file_write_all(int fd, const void *data, size_t len)
{
    const char *at = data;
    while (len > 0) {
        ssize_t n = write(fd, at, len);
        if (n < 0 && errno != EINTR)
            return errno;
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

static void forget(struct output_file *f)
{
    free(f->path);
    free(f->unfinished);
    *f = (struct output_file){.fd = -1};
}

enum exit_code output_file_finish(struct output_file *f)
{
    enum exit_code code = EXIT_DONE;
    if (f->unfinished != NULL && (fsync(f->fd) != 0 || rename(f->unfinished, f->path) != 0)) {
        code = complain(EXIT_FAILED, "%s cannot be written: %s", f->path, strerror(errno));
        output_file_discard(f);
        return code;
    }
    if (f->path != NULL && close(f->fd) != 0)
        code = complain(EXIT_FAILED, "%s cannot be written: %s", f->path, strerror(errno));
    forget(f);
    return code;
}

void output_file_discard(struct output_file *f)
{
    if (f->unfinished != NULL && f->fd >= 0)
        unlink(f->unfinished);
    if (f->path != NULL && f->fd >= 0)
        close(f->fd);
    forget(f);
}
