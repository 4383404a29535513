/* SPDX-License-Identifier: ISC */
/*
 * Lines are made in log_format.c; here is where they go.
 *
 * The descriptor's number never changes: reopening puts another file behind it
 * with dup3, so that no thread needs to be told. The lock keeps lines whole where
 * the kernel would not (a pipe or socket takes a long write in parts).
 */
#include "proxy/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cache/err.h"
#include "proxy/log_format.h"
#include "proxy/log_recent.h"

#define BUFFER_SIZE (64u * 1024)
#define MESSAGE_MAX 2048
/* A reader of our output that is stuck for so long loses lines. */
#define STUCK_MS 1000

struct log {
    int fd;
    atomic_int format;
    atomic_int level;
    atomic_bool access;
    atomic_bool priorities;
    pthread_mutex_t lock;
    struct log_recent *recent;
    bool torn; /* under lock: the last line was not written to its end */
};

struct log_buffer {
    struct log *log;
    size_t len;
    struct log_clock clock;
    char data[BUFFER_SIZE];
};

_Static_assert(BUFFER_SIZE >= 2 * LOG_ACCESS_MAX, "a buffer must hold some lines");

static int open_output(const char *path, int *fd)
{
    if (path == NULL || strcmp(path, "-") == 0)
        *fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    else
        *fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
    return *fd < 0 ? err_from_errno(errno) : 0;
}

/* JOURNAL_STREAM names the socket that systemd gave us (systemd.exec(5)); a child
 * whose standard error went elsewhere inherits the variable all the same. */
static bool is_journal(int fd)
{
    const char *value = getenv("JOURNAL_STREAM");
    struct stat st;
    if (value == NULL || fstat(fd, &st) != 0)
        return false;
    char *device_and_inode =
        mem_format("%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
    bool same = strcmp(value, device_and_inode) == 0;
    free(device_and_inode);
    return same;
}

static void apply(struct log *log, enum log_format format, enum log_level level, bool access)
{
    atomic_store(&log->format, (int)format);
    atomic_store(&log->level, (int)level);
    atomic_store(&log->access, access);
    atomic_store(&log->priorities, format == LOG_TEXT && is_journal(log->fd));
}

int log_open(struct log **log, const char *path, enum log_format format, enum log_level level,
             bool access)
{
    int fd;
    int err = open_output(path, &fd);
    if (err != 0)
        return err;
    struct log *l = mem_new(sizeof *l);
    l->fd = fd;
    CHECK(pthread_mutex_init(&l->lock, NULL) == 0);
    l->recent = log_recent_new();
    apply(l, format, level, access);
    *log = l;
    return 0;
}

int log_reopen(struct log *log, const char *path, enum log_format format, enum log_level level,
               bool access)
{
    int fd;
    int err = open_output(path, &fd);
    if (err != 0)
        return err;
    CHECK(dup3(fd, log->fd, O_CLOEXEC) == log->fd);
    close(fd);
    apply(log, format, level, access);
    return 0;
}

void log_close(struct log **log)
{
    if (*log == NULL)
        return;
    close((*log)->fd);
    pthread_mutex_destroy(&(*log)->lock);
    log_recent_free(&(*log)->recent);
    free(*log);
    *log = NULL;
}

static bool write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            struct pollfd p = {.fd = fd, .events = POLLOUT};
            if (poll(&p, 1, STUCK_MS) == 0)
                return false;
        } else if (n == 0 || errno != EINTR) {
            return false;
        }
    }
    return true;
}

/* Whole lines. There is nobody to tell when the log cannot be written. */
static void output(struct log *log, const char *data, size_t len)
{
    CHECK(pthread_mutex_lock(&log->lock) == 0);
    if (!log->torn || write_all(log->fd, "\n", 1))
        log->torn = !write_all(log->fd, data, len);
    CHECK(pthread_mutex_unlock(&log->lock) == 0);
}

static void write_event(struct log *log, enum log_level level, int64_t now_ms, const char *message,
                        bool is_cut)
{
    struct log_clock clock = {0};
    struct log_shape shape = {
        .json = atomic_load_explicit(&log->format, memory_order_relaxed) == LOG_JSON,
        .priorities = atomic_load_explicit(&log->priorities, memory_order_relaxed),
    };
    char line[LOG_EVENT_MAX(MESSAGE_MAX)];
    size_t len = log_format_event(line, shape, &clock, now_ms, level, message, is_cut);
    output(log, line, len);
}

static bool is_written(const struct log *log, enum log_level level)
{
    return (int)level <= atomic_load_explicit(&log->level, memory_order_relaxed);
}

static bool is_kept(enum log_level level)
{
    return level <= LOG_WARN;
}

/* Whether anybody would see it: else it need not be made. */
static bool wants(const struct log *log, enum log_level level)
{
    return log && (is_kept(level) || is_written(log, level));
}

static void __attribute__((format(printf, 5, 0)))
take_event(struct log *log, enum log_level level, enum log_readers readers,
           const struct name *about, const char *format, va_list args)
{
    char message[MESSAGE_MAX];
    struct timespec now;
    int len = vsnprintf(message, sizeof message, format, args);

    if (len < 0)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t now_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    if (is_kept(level))
        log_recent_add(log->recent, now_ms, level, readers, about, message);
    if (is_written(log, level))
        write_event(log, level, now_ms, message, len >= MESSAGE_MAX);
}

void log_event(struct log *log, enum log_level level, const char *format, ...)
{
    if (!wants(log, level))
        return;
    va_list args;
    va_start(args, format);
    take_event(log, level, LOG_FOR_OPERATOR, NULL, format, args);
    va_end(args);
}

void log_event_about(struct log *log, enum log_level level, const struct name *about,
                     const char *format, ...)
{
    if (!wants(log, level))
        return;
    va_list args;
    va_start(args, format);
    take_event(log, level, about ? LOG_FOR_READERS : LOG_FOR_ALL, about, format, args);
    va_end(args);
}

struct log_recent *log_recent(struct log *log)
{
    return log->recent;
}

struct log_buffer *log_buffer_new(struct log *log)
{
    struct log_buffer *b = mem_new(sizeof *b);
    b->log = log;
    return b;
}

void log_buffer_free(struct log_buffer **b)
{
    if (*b == NULL)
        return;
    log_flush(*b);
    free(*b);
    *b = NULL;
}

void log_flush(struct log_buffer *b)
{
    if (b->len > 0)
        output(b->log, b->data, b->len);
    b->len = 0;
}

bool log_wants_access(const struct log_buffer *b)
{
    return b->log && atomic_load_explicit(&b->log->access, memory_order_relaxed);
}

void log_access(struct log_buffer *b, const struct access_line *line)
{
    struct log *log = b->log;
    if (!log_wants_access(b))
        return;
    if (sizeof b->data - b->len < LOG_ACCESS_MAX)
        log_flush(b);
    struct log_shape shape = {
        .json = atomic_load_explicit(&log->format, memory_order_relaxed) == LOG_JSON,
        .priorities = atomic_load_explicit(&log->priorities, memory_order_relaxed),
    };
    b->len += log_format_access(b->data + b->len, shape, &b->clock, line);
}
