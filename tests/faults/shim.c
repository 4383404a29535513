/* SPDX-License-Identifier: ISC */
/* Which calls fail, which files are meant; and what is no file: memory and the clock. */
#include "shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum way { FAIL = 0, KILL = 1, HALF = 2 };

/* shim.py packs the same. Zeros: nothing is counted and nothing fails. */
struct control {
    _Atomic uint32_t armed;
    uint32_t kinds;
    uint32_t way;
    int32_t errnum;
    uint64_t fail_at; /* counted from 1; 0: none */
    uint64_t fail_count;
    _Atomic int64_t clock_shift_s; /* of the wall clock, whether armed or not */
    _Atomic uint64_t calls;
    _Atomic uint64_t failed;
    char last[32]; /* the call that failed last */
};

static struct control nothing;
static struct control *control = &nothing;
static char root[PATH_MAX];
static size_t root_len;
static const char *log_path;

/* The daemon makes this call by its number, past us; where it is told that there is none, it
 * goes by openat. */
static void deny_openat2(void)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof rules / sizeof rules[0], rules};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
        _exit(126);
    }
}

long (*kernel(void))(long number, ...)
{
    static long (*found)(long number, ...);

    if (found == NULL) {
        *(void **)&found = dlsym(RTLD_NEXT, "syscall");
    }
    return found;
}

__attribute__((constructor)) static void shim_init(void)
{
    const char *path = getenv("FAULTS_ROOT");
    const char *control_path = getenv("FAULTS_CONTROL");
    const char *record_path = getenv("FAULTS_RECORD");

    if (path == NULL || strlen(path) >= sizeof root) {
        return;
    }
    root_len = strlen(strcpy(root, path));
    deny_openat2();
    log_path = getenv("FAULTS_LOG");
    if (control_path != NULL) {
        int fd = (int)to_kernel(SYS_openat, AT_FDCWD, control_path, O_RDWR | O_CLOEXEC);
        void *map = fd < 0 ? MAP_FAILED
                           : (void *)to_kernel(SYS_mmap, NULL, sizeof *control,
                                               PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        if (map == MAP_FAILED) {
            _exit(126);
        }
        control = map;
        (void)close(fd);
    }
    if (record_path != NULL) {
        record_open(record_path);
    }
}

/* --- which calls fail --- */

static bool meets(enum kind kind, const char *name)
{
    if (!control->armed || !(control->kinds & kind)) {
        return false;
    }
    uint64_t n = ++control->calls;

    if (control->fail_at == 0 || n < control->fail_at ||
        n - control->fail_at >= control->fail_count) {
        return false;
    }
    control->failed++;
    (void)strncpy(control->last, name, sizeof control->last - 1);
    if (control->way == KILL) {
        (void)to_kernel(SYS_kill, getpid(), SIGKILL);
    }
    return true;
}

bool fails(enum kind kind, const char *name)
{
    if (!meets(kind, name) || control->way == HALF) {
        return false;
    }
    errno = control->errnum;
    return true;
}

bool fails_bytes(enum kind kind, const char *name, size_t *len)
{
    if (!meets(kind, name)) {
        return false;
    }
    if (control->way == HALF) {
        *len = *len > 1 ? *len / 2 : *len;
        return false;
    }
    errno = control->errnum;
    return true;
}

/* --- which files are meant --- */

static bool is_under_root(const char *path)
{
    return root_len > 0 && strncmp(path, root, root_len) == 0 &&
           (path[root_len] == '/' || path[root_len] == '\0');
}

static bool fd_path(int fd, char path[PATH_MAX])
{
    char link[64];

    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = to_kernel(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);

    path[len < 0 ? 0 : len] = '\0';
    return is_under_root(path);
}

static bool is_log(int fd)
{
    char path[PATH_MAX];

    if (log_path == NULL || !control->armed || !(control->kinds & LOG)) {
        return false;
    }
    (void)fd_path(fd, path);
    return strcmp(path, log_path) == 0;
}

bool is_ours(int fd)
{
    char path[PATH_MAX];
    int saved = errno;
    bool is = (control->armed || record_is_open()) && fd_path(fd, path);

    errno = saved;
    return is;
}

bool at_path(int dir, const char *name, char path[PATH_MAX])
{
    char above[PATH_MAX] = "";
    int saved = errno;

    if (name[0] != '/' && dir != AT_FDCWD) {
        (void)fd_path(dir, above);
    }
    int len = snprintf(path, PATH_MAX, "%s%s%s", above, above[0] ? "/" : "", name);

    errno = saved;
    return len < PATH_MAX && is_under_root(path);
}

bool is_ours_at(int dir, const char *name)
{
    char path[PATH_MAX];

    return (control->armed || record_is_open()) && at_path(dir, name, path);
}

bool write_fails(int fd, const char *name, size_t *len)
{
    if (is_log(fd)) {
        return fails(LOG, name);
    }
    return is_ours(fd) && fails_bytes(WRITE, name, len);
}

/* --- memory --- */

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static bool memory_fails(const char *name)
{
    int saved = errno;
    bool is = fails(MEMORY, name);

    errno = is ? ENOMEM : saved;
    return is;
}

void *malloc(size_t size)
{
    return memory_fails("malloc") ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return memory_fails("calloc") ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    return memory_fails("realloc") ? NULL : __libc_realloc(old, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    if (memory_fails("posix_memalign")) {
        return ENOMEM;
    }
    *out = __libc_memalign(alignment, size);
    return *out == NULL ? ENOMEM : 0;
}

/* --- the wall clock, which somebody may set; the others go on --- */

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int done = (int)to_kernel(SYS_clock_gettime, clock, now);

    if (done == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        now->tv_sec += control->clock_shift_s;
    }
    return done;
}

time_t time(time_t *out)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (out != NULL) {
        *out = now.tv_sec;
    }
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec now;

    (void)zone;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    *out = (struct timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
    return 0;
}
