/* SPDX-License-Identifier: ISC */
/* The last warnings and errors, kept in memory for the status page. */
#ifndef PROXY_LOG_RECENT_H
#define PROXY_LOG_RECENT_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/name.h"
#include "proxy/log.h"

#define LOG_RECENT_MAX 64
#define LOG_RECENT_TEXT_MAX 512 /* with the NUL; the rest is cut */

/* Who may read the text. */
enum log_readers {
    LOG_FOR_OPERATOR, /* who may read the log */
    LOG_FOR_READERS,  /* who may pull from the repository `about`, too */
    LOG_FOR_ALL,
};

struct log_recent_event {
    int64_t first_ms, last_ms; /* Unix time */
    unsigned count;            /* of the same, one after the other */
    enum log_level level;
    enum log_readers readers;
    struct name about;
    char text[LOG_RECENT_TEXT_MAX]; /* visible ASCII and spaces; other bytes are escaped */
};

struct log_recent;

struct log_recent *log_recent_new(void);
/* NULL is legal; leaves NULL. */
void log_recent_free(struct log_recent **r);

/* Any thread. `about` may be NULL unless the readers are LOG_FOR_READERS. */
void log_recent_add(struct log_recent *r, int64_t now_ms, enum log_level level,
                    enum log_readers readers, const struct name *about, const char *text);

/* Visit a copy of each, the newest first; `visit` may do what it likes. Any thread. */
typedef void log_recent_visit(void *arg, const struct log_recent_event *e);
void log_recent_walk(struct log_recent *r, log_recent_visit *visit, void *arg);

#endif
