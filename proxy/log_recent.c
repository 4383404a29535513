/* SPDX-License-Identifier: ISC */
#include "proxy/log_recent.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/lock.h"

struct log_recent {
    pthread_mutex_t lock;
    unsigned count;
    unsigned next; /* the oldest, once there are as many as there can be */
    struct log_recent_event events[LOG_RECENT_MAX];
};

struct log_recent *log_recent_new(void)
{
    struct log_recent *r = mem_new(sizeof *r);

    lock_init(&r->lock);
    return r;
}

void log_recent_free(struct log_recent **r)
{
    if (!*r)
        return;
    pthread_mutex_destroy(&(*r)->lock);
    free(*r);
    *r = NULL;
}

static void escape(char out[LOG_RECENT_TEXT_MAX], const char *text)
{
    size_t len = 0;

    for (; *text && len < LOG_RECENT_TEXT_MAX - sizeof "\\x00"; text++) {
        if (*text >= 0x20 && *text < 0x7f)
            out[len++] = *text;
        else
            len += (size_t)sprintf(out + len, "\\x%02x", (unsigned char)*text);
    }
    out[len] = '\0';
}

static bool is_same(const struct log_recent_event *a, const struct log_recent_event *b)
{
    return a->count > 0 && a->level == b->level && a->readers == b->readers &&
           strcmp(a->text, b->text) == 0 && name_equal(&a->about, &b->about);
}

void log_recent_add(struct log_recent *r, int64_t now_ms, enum log_level level,
                    enum log_readers readers, const struct name *about, const char *text)
{
    struct log_recent_event e = {
        .first_ms = now_ms,
        .last_ms = now_ms,
        .count = 1,
        .level = level,
        .readers = readers,
    };

    if (readers == LOG_FOR_READERS)
        e.about = *about;
    escape(e.text, text);
    pthread_mutex_lock(&r->lock);
    struct log_recent_event *last = &r->events[(r->next + LOG_RECENT_MAX - 1) % LOG_RECENT_MAX];
    if (is_same(last, &e)) {
        last->count++;
        last->last_ms = now_ms;
    } else {
        r->events[r->next] = e;
        r->next = (r->next + 1) % LOG_RECENT_MAX;
        if (r->count < LOG_RECENT_MAX)
            r->count++;
    }
    pthread_mutex_unlock(&r->lock);
}

void log_recent_walk(struct log_recent *r, log_recent_visit *visit, void *arg)
{
    struct log_recent_event *copy = mem_new(sizeof r->events);

    pthread_mutex_lock(&r->lock);
    unsigned count = r->count;
    for (unsigned i = 0; i < count; i++)
        copy[i] = r->events[(r->next + LOG_RECENT_MAX - 1 - i) % LOG_RECENT_MAX];
    pthread_mutex_unlock(&r->lock);
    for (unsigned i = 0; i < count; i++)
        visit(arg, &copy[i]);
    free(copy);
}
