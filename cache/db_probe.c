/* SPDX-License-Identifier: ISC */
#include "cache/db_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cache/db_pages.h"
#include "cache/err.h"

/* What the child says as its exit status. */
enum verdict { VERDICT_SOUND = 0, VERDICT_DAMAGED = 1, VERDICT_UNKNOWN = 2 };

/* In the child, which leaves the rest to its end. */
static enum verdict probe(int fd)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return VERDICT_UNKNOWN;
    if (st.st_size == 0)
        return VERDICT_DAMAGED;
    void *file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);

    if (file == MAP_FAILED)
        return VERDICT_UNKNOWN;
    /* All of it is wanted, in any order. */
    (void)madvise(file, (size_t)st.st_size, MADV_WILLNEED);
    int err = db_pages_check(file, (size_t)st.st_size);

    /* What another version is, and whether that is so, db_open says. */
    return err == ERR_DAMAGED ? VERDICT_DAMAGED : VERDICT_SOUND;
}

/* It may die of a signal, as when the disk cannot read a page: neither a core nor a word of
 * it is of use to anybody. */
static _Noreturn void child(int fd)
{
    const struct rlimit none = {.rlim_cur = 0, .rlim_max = 0};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    (void)setrlimit(RLIMIT_CORE, &none);
    if (null >= 0)
        (void)dup2(null, STDERR_FILENO);
    _exit((int)probe(fd));
}

int db_probe(const char *path)
{
    char *file = mem_format("%s/data.mdb", path);
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    int errnum = errno;
    int status;

    free(file);
    if (fd < 0)
        return err_from_errno(errnum);
    pid_t pid = fork();

    if (pid == 0)
        child(fd);
    close(fd);
    if (pid < 0)
        return ERR_IO;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return ERR_IO;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == VERDICT_SOUND)
        return 0;
    return WIFEXITED(status) && WEXITSTATUS(status) == VERDICT_UNKNOWN ? ERR_IO : ERR_DAMAGED;
}
