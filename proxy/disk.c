/* SPDX-License-Identifier: ISC */
#include "proxy/disk.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "cache/check.h"
#include "proxy/thread.h"

#define DISK_THREADS_MAX 8
#define DISK_SCRATCH_BYTES (256u * 1024)
/* A worker that wakes takes the processor from a reader at once; with equal shares it waits for
 * the end of the reader's, some 4 ms. More would starve readers where processors are short. */
#define NICE_VALUE 4

struct disk {
    pthread_mutex_t lock;
    pthread_cond_t posted;
    STAILQ_HEAD(, disk_read) reads;
    bool stopping;
    unsigned thread_count;
    pthread_t threads[DISK_THREADS_MAX];
};

/* The page cache is what is wanted; the bytes themselves are dropped. An error
 * shows again, and is handled, when the bytes are sent. */
static void warm(const struct disk_read *r, char *scratch)
{
    for (uint64_t done = 0; done < r->len;) {
        uint64_t left = r->len - done;
        size_t want = left < DISK_SCRATCH_BYTES ? (size_t)left : DISK_SCRATCH_BYTES;
        ssize_t n = pread(r->fd, scratch, want, (off_t)(r->offset + done));

        if (n <= 0)
            return;
        done += (uint64_t)n;
    }
}

static void *disk_main(void *arg)
{
    struct disk *d = arg;
    char *scratch = mem_new(DISK_SCRATCH_BYTES);

    thread_yield_to_others(NICE_VALUE);
    pthread_mutex_lock(&d->lock);
    for (;;) {
        struct disk_read *r = STAILQ_FIRST(&d->reads);

        if (r) {
            STAILQ_REMOVE_HEAD(&d->reads, link);
            pthread_mutex_unlock(&d->lock);
            warm(r, scratch);
            queue_post(r->answers, &r->msg);
            pthread_mutex_lock(&d->lock);
        } else if (d->stopping) {
            break;
        } else {
            pthread_cond_wait(&d->posted, &d->lock);
        }
    }
    pthread_mutex_unlock(&d->lock);
    free(scratch);
    return NULL;
}

struct disk *disk_start(unsigned threads)
{
    struct disk *d = mem_new(sizeof *d);

    CHECK(threads > 0 && threads <= DISK_THREADS_MAX);
    CHECK(pthread_mutex_init(&d->lock, NULL) == 0);
    CHECK(pthread_cond_init(&d->posted, NULL) == 0);
    STAILQ_INIT(&d->reads);
    d->thread_count = threads;
    for (unsigned i = 0; i < threads; i++)
        thread_start(&d->threads[i], "disk", disk_main, d);
    return d;
}

void disk_stop(struct disk **dp)
{
    struct disk *d = *dp;

    if (!d)
        return;
    *dp = NULL;
    pthread_mutex_lock(&d->lock);
    d->stopping = true;
    pthread_cond_broadcast(&d->posted);
    pthread_mutex_unlock(&d->lock);
    for (unsigned i = 0; i < d->thread_count; i++)
        thread_join(d->threads[i]);
    pthread_cond_destroy(&d->posted);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

void disk_post(struct disk *d, struct disk_read *r)
{
    CHECK(r->msg.run && r->answers);
    pthread_mutex_lock(&d->lock);
    STAILQ_INSERT_TAIL(&d->reads, r, link);
    pthread_cond_signal(&d->posted);
    pthread_mutex_unlock(&d->lock);
}

static bool byte_is_hot(int fd, uint64_t offset)
{
    char byte;
    struct iovec v = {.iov_base = &byte, .iov_len = 1};

    return preadv2(fd, &v, 1, (off_t)offset, RWF_NOWAIT) >= 0 || errno != EAGAIN;
}

bool disk_is_hot(int fd, uint64_t offset, uint64_t len)
{
    return byte_is_hot(fd, offset) && (len <= 1 || byte_is_hot(fd, offset + len - 1));
}
