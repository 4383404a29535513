/* SPDX-License-Identifier: ISC */
/* Disk helpers: threads that do the reads which would block an event loop. */
#ifndef PROXY_DISK_H
#define PROXY_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "proxy/queue.h"

struct disk;

/* Bring a window of a file into the page cache, then post `msg` to `answers`. The
 * descriptor must stay open until then. Embedded in what waits. */
struct disk_read {
    struct msg msg; /* the answer: set run before disk_post */
    struct queue *answers;
    int fd;
    uint64_t offset;
    uint64_t len;
    STAILQ_ENTRY(disk_read) link;
};

struct disk *disk_start(unsigned threads);
/* Every read that was posted is answered first. */
void disk_stop(struct disk **d);
/* Any thread. */
void disk_post(struct disk *d, struct disk_read *r);

/* Whether the bytes [offset, offset + len) can be sent without waiting for the
 * disk: both ends are in the page cache, or the file system cannot tell. */
bool disk_is_hot(int fd, uint64_t offset, uint64_t len);

#endif
