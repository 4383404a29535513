/* SPDX-License-Identifier: ISC */
/* What fetch.c and fetch_pass.c share. */
#ifndef CACHE_FETCH_PRIVATE_H
#define CACHE_FETCH_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include <uthash.h>

#include "cache/fetch.h"

struct fetch {
    struct digest digest;
    bool is_private;
    atomic_bool is_background;
    atomic_uint served; /* readers, waiting or not */
    struct name only_for;
    pthread_mutex_t lock; /* guards what follows, down to `table` */
    enum fetch_state state;
    int fd;
    uint64_t size_bytes;
    uint64_t kept_bytes;
    uint64_t avail_bytes;
    struct name name;
    int64_t started_ms;
    struct fetch_failure why;
    bool is_retired;
    unsigned reader_count;
    LIST_HEAD(, reader) readers; /* that wait */
    LIST_HEAD(, reader) reading; /* that have begun, waiting or not */
    uint64_t dropped_bytes;      /* from the front, of one that passes */
    uint64_t needed_bytes;       /* the writer waits until all have read so much; 0: for nobody */
    int64_t slow_since_ms;       /* the slowest is far behind; 0: he is not */
    uint64_t slow_from;          /* where he was then */
    void (*moved)(void *arg);
    void *moved_arg;
    struct fetch_table *table;
    unsigned refs; /* under the table's lock, like the three below */
    bool is_in_table;
    UT_hash_handle hh;
};

struct fetch_table {
    pthread_mutex_t lock;
    struct fetch *fetches;
};

/* Who asks from now on makes another; once or more, before fetch_retire. */
void fetch_leave(struct fetch *f);

#endif
