/* SPDX-License-Identifier: ISC */
/*
 * The log: events, and one access line a request. Text or JSON lines on standard
 * error or in a file. Everything that a peer sent is escaped (bytes below 0x20,
 * 0x7f and from 0x80 on), so that one event is one line.
 */
#ifndef PROXY_LOG_H
#define PROXY_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/name.h"

/* Levels are defined by who must read them. */
enum log_level {
    LOG_ERROR, /* the operator, now: service is lost or content is wrong */
    LOG_WARN,  /* the operator, when time permits */
    LOG_INFO,  /* what happened: starts, stops, reloads, fetches */
    LOG_DEBUG, /* a developer */
};

enum log_format { LOG_TEXT, LOG_JSON };

struct log;

/* Open the log: `path` NULL or "-" is standard error. With text on standard
 * error that is the journal's (JOURNAL_STREAM names it), lines begin with the "<N>"
 * priority of sd-daemon(3). ERR_* when the file cannot be opened. */
MUST_CHECK int log_open(struct log **log, const char *path, enum log_format format,
                        enum log_level level, bool access);
void log_close(struct log **log);
/* Take over other settings, or open the same file again (after a rotation). On
 * failure the log goes on as it was. */
MUST_CHECK int log_reopen(struct log *log, const char *path, enum log_format format,
                          enum log_level level, bool access);

/* Any thread. One write(2) a line. `log` may be NULL (tests): nothing happens. */
void log_event(struct log *log, enum log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same; warnings and errors are also what the status page shows. What log_event said is
 * shown with its time alone but to who comes by the Unix socket: it may name what is private.
 * This is for what names nothing but the repository `about` and its contents, so that who may
 * pull from that may read it; NULL: it names none, and everybody may. */
void log_event_about(struct log *log, enum log_level level, const struct name *about,
                     const char *format, ...) __attribute__((format(printf, 4, 5)));

struct log_recent;
/* What it keeps of them, see log_recent.h; lives as long as the log. */
struct log_recent *log_recent(struct log *log);

/* One request. Strings may be NULL or empty: printed as "-" (JSON: left out). */
struct access_line {
    int64_t time_ms;    /* Unix time */
    const char *client; /* address */
    const char *user;   /* who it is known to be */
    const char *method;
    const char *door; /* prefix, ns, mirror, admin */
    const char *registry;
    const char *repository;
    const char *reference; /* tag or digest as asked, or the path when no route */
    int status;
    uint64_t body_bytes;  /* sent */
    const char *outcome;  /* word of outcome.h */
    uint64_t duration_us; /* printed as milliseconds with three decimals */
    const char *user_agent;
};

/* Access lines gather in a buffer of the worker and go out with log_flush, or
 * when the buffer is full. */
struct log_buffer;

struct log_buffer *log_buffer_new(struct log *log);
/* Flushes first. */
void log_buffer_free(struct log_buffer **b);
/* Whether there are access lines at all: what a line needs need not be made else. */
bool log_wants_access(const struct log_buffer *b);
void log_access(struct log_buffer *b, const struct access_line *line);
void log_flush(struct log_buffer *b);

#endif
