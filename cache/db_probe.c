/* SPDX-License-Identifier: ISC */
#include "cache/db_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
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
 * it is of use to anybody. When the daemon is killed meanwhile, it ends; and until then it must not
 * keep the lock of the cache, which the next one wants. */
static _Noreturn void child(int fd)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)dup2(fd, STDIN_FILENO);
    (void)close_range(STDERR_FILENO + 1, ~0U, 0);

    const struct rlimit none = {.rlim_cur = 0, .rlim_max = 0};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    (void)setrlimit(RLIMIT_CORE, &none);
    if (null >= 0)
        (void)dup2(null, STDERR_FILENO);
    _exit((int)probe(STDIN_FILENO));
}

/* Of the signals only those that reading the index raises are a verdict: others come from whom
 * memory is short for, or who wants us all to end. */
static enum verdict ask_child(int fd)
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        child(fd);
    if (pid < 0)
        return VERDICT_UNKNOWN;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return VERDICT_UNKNOWN;
    }
    if (WIFSIGNALED(status)) {
        int number = WTERMSIG(status);

        return number == SIGSEGV || number == SIGBUS ? VERDICT_DAMAGED : VERDICT_UNKNOWN;
    }
    return WIFEXITED(status) && WEXITSTATUS(status) <= VERDICT_DAMAGED
               ? (enum verdict)WEXITSTATUS(status)
               : VERDICT_UNKNOWN;
}

int db_probe(const char *path)
{
    char *file = mem_format("%s/data.mdb", path);
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    int errnum = errno;

    free(file);
    if (fd < 0)
        return err_from_errno(errnum);
    enum verdict verdict = ask_child(fd);

    /* Somebody ended it: he may not do so twice. */
    if (verdict == VERDICT_UNKNOWN)
        verdict = ask_child(fd);
    close(fd);
    return verdict == VERDICT_SOUND ? 0 : verdict == VERDICT_DAMAGED ? ERR_DAMAGED : ERR_IO;
}
