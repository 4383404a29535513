/* SPDX-License-Identifier: ISC */
/*
 * Preloaded into a program under test: the Nth call that touches its files fails, once or from
 * then on, or kills the program, or does half of what it was asked; its clock is set; and a record
 * of what was done to the files, from which tests make every state that a power cut could leave.
 *
 *   FAULTS_ROOT     only calls on files under this directory count
 *   FAULTS_LOG      and writes to this file, wherever it is
 *   FAULTS_CONTROL  a file of struct control, mapped; the test arms it when its scenario begins
 *   FAULTS_RECORD   a file to append the record to (see powercut.py)
 *
 * Calls go straight to the kernel. What the C library
 * does within itself (stdio, its allocator) is not seen.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind {
    WRITE = 1 << 0,
    SYNC = 1 << 1,
    RENAME = 1 << 2, /* link as well */
    SPACE = 1 << 3,  /* fallocate, ftruncate */
    MAKE = 1 << 4,   /* a new file or directory */
    OPEN = 1 << 5,   /* what is there */
    REMOVE = 1 << 6,
    MAP = 1 << 7,
    READ = 1 << 8,
    MEMORY = 1 << 9, /* allocations, whoever makes them */
    LOG = 1 << 10,   /* writes to the log */
};

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
static int record_fd = -1;
static pthread_mutex_t record_lock = PTHREAD_MUTEX_INITIALIZER;

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

/* syscall() of the C library: ours is in its place, for those calls that have no other name. */
static long (*kernel(void))(long number, ...)
{
    static long (*found)(long number, ...);

    if (found == NULL) {
        *(void **)&found = dlsym(RTLD_NEXT, "syscall");
    }
    return found;
}

#define to_kernel(...) kernel()(__VA_ARGS__)

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
        record_fd = (int)to_kernel(SYS_openat, AT_FDCWD, record_path,
                                   O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (record_fd < 0) {
            _exit(126);
        }
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

/* Whether the call is to return without being done. */
static bool fails(enum kind kind, const char *name)
{
    if (!meets(kind, name) || control->way == HALF) {
        return false;
    }
    errno = control->errnum;
    return true;
}

/* The same for a call that moves bytes, which may be told to move less. */
static bool fails_bytes(enum kind kind, const char *name, size_t *len)
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

static bool is_ours(int fd)
{
    char path[PATH_MAX];
    int saved = errno;
    bool is = (control->armed || record_fd >= 0) && fd_path(fd, path);

    errno = saved;
    return is;
}

static bool at_path(int dir, const char *name, char path[PATH_MAX])
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

static bool is_ours_at(int dir, const char *name)
{
    char path[PATH_MAX];

    return (control->armed || record_fd >= 0) && at_path(dir, name, path);
}

/* --- the record: "WORD INODE NUMBER LENGTH\n" and that many bytes --- */

static void record(const char *word, uint64_t inode, int64_t number, const void *data, size_t len)
{
    char head[128];
    int head_len = snprintf(head, sizeof head, "%s %llu %lld %zu\n", word,
                            (unsigned long long)inode, (long long)number, len);
    struct iovec parts[] = {{head, (size_t)head_len}, {(void *)(uintptr_t)data, len}};
    int saved = errno;

    if (to_kernel(SYS_writev, record_fd, parts, 2) != head_len + (ssize_t)len) {
        _exit(126);
    }
    errno = saved;
}

/* What is recorded is done under one lock, of all programs that record into the same file, so that
 * the record has the order of what was done. */
static bool record_begin(bool wanted)
{
    if (record_fd < 0 || !wanted) {
        return false;
    }
    (void)pthread_mutex_lock(&record_lock);
    (void)flock(record_fd, LOCK_EX);
    return true;
}

static void record_end(void)
{
    int saved = errno;

    (void)flock(record_fd, LOCK_UN);
    (void)pthread_mutex_unlock(&record_lock);
    errno = saved;
}

static uint64_t inode_of(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 ? (uint64_t)st.st_ino : 0;
}

static void record_written(int fd, const struct iovec *parts, int count, off_t offset, ssize_t done)
{
    int flags = fcntl(fd, F_GETFL);

    for (int i = 0; i < count && done > 0; i++) {
        size_t len = parts[i].iov_len < (size_t)done ? parts[i].iov_len : (size_t)done;

        record(flags & O_DSYNC ? "write-through" : "write", inode_of(fd), offset, parts[i].iov_base,
               len);
        offset += (off_t)len;
        done -= (ssize_t)len;
    }
}

static void record_names(const char *word, int64_t number, int from_dir, const char *from,
                         int to_dir, const char *to)
{
    char paths[2 * PATH_MAX];
    size_t len = 0;

    if (at_path(from_dir, from, paths)) {
        len = strlen(paths) + 1;
    }
    if (to != NULL && at_path(to_dir, to, paths + len)) {
        len += strlen(paths + len) + 1;
    }
    record(word, 0, number, paths, len);
}

/* --- bytes --- */

/* A write of the vector at an offset; -1: where the file is. */
static ssize_t write_parts(int fd, const struct iovec *parts, int count, off_t offset)
{
    bool recorded = record_begin(is_ours(fd));
    off_t at = offset < 0 && recorded ? lseek(fd, 0, SEEK_CUR) : offset;
    ssize_t done = offset < 0 ? to_kernel(SYS_writev, fd, parts, count)
                              : to_kernel(SYS_pwritev, fd, parts, count, offset, 0L);

    if (recorded) {
        record_written(fd, parts, count, at, done);
        record_end();
    }
    return done;
}

static bool write_fails(int fd, const char *name, size_t *len)
{
    if (is_log(fd)) {
        return fails(LOG, name);
    }
    return is_ours(fd) && fails_bytes(WRITE, name, len);
}

ssize_t write(int fd, const void *data, size_t len)
{
    if (write_fails(fd, "write", &len)) {
        return -1;
    }
    return write_parts(fd, &(struct iovec){(void *)(uintptr_t)data, len}, 1, -1);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    if (write_fails(fd, "pwrite", &len)) {
        return -1;
    }
    return write_parts(fd, &(struct iovec){(void *)(uintptr_t)data, len}, 1, offset);
}

/* Half of a vector is its first part. */
static ssize_t write_vector(const char *name, int fd, const struct iovec *parts, int count,
                            off_t offset)
{
    size_t left = (size_t)count;

    if (write_fails(fd, name, &left)) {
        return -1;
    }
    return write_parts(fd, parts, (int)left, offset);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return write_vector("writev", fd, parts, count, -1);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    return write_vector("pwritev", fd, parts, count, offset);
}

ssize_t read(int fd, void *data, size_t len)
{
    if (is_ours(fd) && fails_bytes(READ, "read", &len)) {
        return -1;
    }
    return to_kernel(SYS_read, fd, data, len);
}

ssize_t pread(int fd, void *data, size_t len, off_t offset)
{
    if (is_ours(fd) && fails_bytes(READ, "pread", &len)) {
        return -1;
    }
    return to_kernel(SYS_pread64, fd, data, len, offset);
}

ssize_t preadv2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    if (is_ours(fd) && fails(READ, "preadv2")) {
        return -1;
    }
    return to_kernel(SYS_preadv2, fd, parts, count, offset, 0L, flags);
}

ssize_t sendfile(int out, int in, off_t *offset, size_t len)
{
    if (is_ours(in) && fails_bytes(READ, "sendfile", &len)) {
        return -1;
    }
    return to_kernel(SYS_sendfile, out, in, offset, len);
}

/* --- the disk --- */

static int sync_with(long number, const char *name, int fd)
{
    bool ours = is_ours(fd);

    if (ours && fails(SYNC, name)) {
        return -1;
    }
    bool recorded = record_begin(ours);
    int done = (int)to_kernel(number, fd);

    if (recorded) {
        record("sync", inode_of(fd), done, NULL, 0);
        record_end();
    }
    return done;
}

int fsync(int fd)
{
    return sync_with(SYS_fsync, "fsync", fd);
}

int fdatasync(int fd)
{
    return sync_with(SYS_fdatasync, "fdatasync", fd);
}

/* Promises nothing, so it is not recorded. */
int sync_file_range(int fd, off64_t offset, off64_t len, unsigned flags)
{
    if (is_ours(fd) && fails(SYNC, "sync_file_range")) {
        return -1;
    }
    return (int)to_kernel(SYS_sync_file_range, fd, offset, len, flags);
}

int msync(void *at, size_t len, int flags)
{
    if (fails(SYNC, "msync")) {
        return -1;
    }
    return (int)to_kernel(SYS_msync, at, len, flags);
}

int ftruncate(int fd, off_t size)
{
    bool ours = is_ours(fd);

    if (ours && fails(SPACE, "ftruncate")) {
        return -1;
    }
    bool recorded = record_begin(ours);
    int done = (int)to_kernel(SYS_ftruncate, fd, size);

    if (recorded) {
        if (done == 0) {
            record("truncate", inode_of(fd), size, NULL, 0);
        }
        record_end();
    }
    return done;
}

/* With FALLOC_FL_KEEP_SIZE no byte of the file changes, so there is nothing to record. */
int fallocate(int fd, int mode, off_t offset, off_t len)
{
    if (is_ours(fd) && fails(SPACE, "fallocate")) {
        return -1;
    }
    return (int)to_kernel(SYS_fallocate, fd, mode, offset, len);
}

void *mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset)
{
    if (fd >= 0 && is_ours(fd) && fails(MAP, "mmap")) {
        return MAP_FAILED;
    }
    return (void *)to_kernel(SYS_mmap, at, len, protection, flags, fd, offset);
}

/* --- names --- */

static bool is_there(int dir, const char *path)
{
    struct stat st;
    int saved = errno;
    bool is = fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) == 0;

    errno = saved;
    return is;
}

/* openat or openat2; the last two are what follows the path. */
static int open_by(long number, int dir, const char *path, int flags, uintptr_t how, size_t more)
{
    const char *name = number == SYS_openat2 ? "openat2" : "openat";
    bool ours = is_ours_at(dir, path);
    bool makes = ours && (flags & O_CREAT) && !is_there(dir, path);

    if (ours && fails(makes ? MAKE : OPEN, name)) {
        return -1;
    }
    bool recorded = record_begin(makes || (ours && (flags & O_TRUNC)));
    int fd = (int)to_kernel(number, dir, path, how, more);

    if (recorded) {
        if (fd >= 0 && makes) {
            record_names("create", (int64_t)inode_of(fd), dir, path, 0, NULL);
        } else if (fd >= 0) {
            record("truncate", inode_of(fd), 0, NULL, 0);
        }
        record_end();
    }
    return fd;
}

static int open_at(int dir, const char *path, int flags, mode_t mode)
{
    return open_by(SYS_openat, dir, path, flags, (uintptr_t)flags, mode);
}

long syscall(long number, ...)
{
    va_list arguments;
    long a[6];

    va_start(arguments, number);
    for (size_t i = 0; i < sizeof a / sizeof a[0]; i++) {
        a[i] = va_arg(arguments, long);
    }
    va_end(arguments);
    if (number == SYS_openat2) {
        const struct open_how *how = (const void *)a[2];

        return open_by(number, (int)a[0], (const char *)a[1], (int)how->flags, (uintptr_t)a[2],
                       (size_t)a[3]);
    }
    return to_kernel(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static mode_t mode_argument(int flags, va_list *arguments)
{
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(*arguments, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
    va_list arguments;

    va_start(arguments, flags);
    mode_t mode = mode_argument(flags, &arguments);

    va_end(arguments);
    return open_at(AT_FDCWD, path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
    va_list arguments;

    va_start(arguments, flags);
    mode_t mode = mode_argument(flags, &arguments);

    va_end(arguments);
    return open_at(dir, path, flags, mode);
}

int mkdirat(int dir, const char *path, mode_t mode)
{
    bool ours = is_ours_at(dir, path);

    if (ours && fails(MAKE, "mkdirat")) {
        return -1;
    }
    bool recorded = record_begin(ours);
    int done = (int)to_kernel(SYS_mkdirat, dir, path, mode);

    if (recorded) {
        struct stat st;

        if (done == 0 && fstatat(dir, path, &st, 0) == 0) {
            record_names("directory", (int64_t)st.st_ino, dir, path, 0, NULL);
        }
        record_end();
    }
    return done;
}

int mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}

/* `word` in the record, then the paths. */
static int two_names(const char *word, long number, int from_dir, const char *from, int to_dir,
                     const char *to, int flags)
{
    bool ours = is_ours_at(to_dir, to);

    if (ours && fails(RENAME, word)) {
        return -1;
    }
    bool recorded = record_begin(ours);
    int done = (int)to_kernel(number, from_dir, from, to_dir, to, flags);

    if (recorded) {
        if (done == 0) {
            record_names(word, flags, from_dir, from, to_dir, to);
        }
        record_end();
    }
    return done;
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    return two_names("rename", SYS_renameat2, from_dir, from, to_dir, to, (int)flags);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    return renameat2(from_dir, from, to_dir, to, 0);
}

int rename(const char *from, const char *to)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    return two_names("link", SYS_linkat, from_dir, from, to_dir, to, flags);
}

int unlinkat(int dir, const char *path, int flags)
{
    bool ours = is_ours_at(dir, path);

    if (ours && fails(REMOVE, "unlinkat")) {
        return -1;
    }
    bool recorded = record_begin(ours);
    int done = (int)to_kernel(SYS_unlinkat, dir, path, flags);

    if (recorded) {
        if (done == 0) {
            record_names("remove", flags, dir, path, 0, NULL);
        }
        record_end();
    }
    return done;
}

int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
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

/* --- other names of the same on machines whose off_t was once smaller --- */

#define ALIAS(type, name, of, ...) type name(__VA_ARGS__) __attribute__((alias(#of)))
ALIAS(int, open64, open, const char *, int, ...);
ALIAS(int, openat64, openat, int, const char *, int, ...);
ALIAS(ssize_t, pread64, pread, int, void *, size_t, off64_t);
ALIAS(ssize_t, pwrite64, pwrite, int, const void *, size_t, off64_t);
ALIAS(ssize_t, pwritev64, pwritev, int, const struct iovec *, int, off64_t);
ALIAS(ssize_t, preadv64v2, preadv2, int, const struct iovec *, int, off64_t, int);
ALIAS(ssize_t, sendfile64, sendfile, int, int, off64_t *, size_t);
ALIAS(int, ftruncate64, ftruncate, int, off64_t);
ALIAS(int, fallocate64, fallocate, int, int, off64_t, off64_t);
ALIAS(void *, mmap64, mmap, void *, size_t, int, int, int, off64_t);

/* And of those that check a size that the compiler knew. */
ssize_t __read_chk(int fd, void *data, size_t len, size_t size);
ssize_t __read_chk(int fd, void *data, size_t len, size_t size)
{
    return len <= size ? read(fd, data, len) : -1;
}

ssize_t __pread_chk(int fd, void *data, size_t len, off_t offset, size_t size);
ssize_t __pread_chk(int fd, void *data, size_t len, off_t offset, size_t size)
{
    return len <= size ? pread(fd, data, len, offset) : -1;
}

ALIAS(ssize_t, __pread64_chk, __pread_chk, int, void *, size_t, off64_t, size_t);

int __open_2(const char *path, int flags);
int __open_2(const char *path, int flags)
{
    return open_at(AT_FDCWD, path, flags, 0);
}

int __openat_2(int dir, const char *path, int flags);
int __openat_2(int dir, const char *path, int flags)
{
    return open_at(dir, path, flags, 0);
}

ALIAS(int, __open64_2, __open_2, const char *, int);
ALIAS(int, __openat64_2, __openat_2, int, const char *, int);
