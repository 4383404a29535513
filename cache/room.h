/* SPDX-License-Identifier: ISC */
/*
 * The room that a cache directory has, and what takes it: the blobs (usage.h), the index,
 * the quarantine and the indexes that were set aside, and the files in partial/, each with what
 * it was promised, from before its first byte is written. Nobody writes to a file there beyond
 * what room_claim has granted, so that the directory never grows past its size, nor the file
 * system below what is to be left free.
 *
 * Any thread. Other processes that write here are seen by what they have put on the disk.
 */
#ifndef CACHE_ROOM_H
#define CACHE_ROOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/usage.h"

struct room;

/* Bytes, or a share of the file system. */
struct room_amount {
    uint64_t bytes;
    unsigned percent; /* 0: bytes count */
};

struct room_limits {
    struct room_amount size;     /* of the directory; 0: no limit */
    struct room_amount min_free; /* of the file system, that is left to others */
    unsigned low_percent;        /* of size: how far is evicted once it is full */
};

/* What they are unless the settings say otherwise, and the shares in percent that these may
 * name. */
#define ROOM_SIZE_DEFAULT "90%"
#define ROOM_SIZE_MAX 100u
#define ROOM_MIN_FREE_DEFAULT "2%"
#define ROOM_MIN_FREE_MAX 99u
#define ROOM_LOW_DEFAULT "95%"
#define ROOM_LOW_MIN 10u
#define ROOM_LOW_MAX 99u

/* Without limits, of the directory with this descriptor and that of its partial/, which
 * outlive it. */
struct room *room_new(int root_fd, int partial_fd);
/* NULL is legal; leaves NULL. */
void room_free(struct room **r);
void room_set_limits(struct room *r, const struct room_limits *limits);

/* What the index says that blobs take: after each commit, and now and then, as other
 * processes commit, too. Looks at the size of the index as well. */
void room_set_usage(struct room *r, const struct usage *u);
/* Look at the files in partial/ that nobody here has open, and at what is set aside. */
void room_count_files(struct room *r);
/* What begins so in the directory is an index that was set aside. */
#define ROOM_ASIDE_PREFIX "db.damaged-"
/* Look at the quarantine and the indexes that were set aside alone: whoever changes them. */
void room_count_set_aside(struct room *r);

/* --- files in partial/ --- */

/* This one is about to be opened, or made. Until room_close it is not removed for want of
 * room. */
void room_open(struct room *r, const char *name);
/* It may grow to this many bytes; less than before gives some back. ERR_NO_SPACE when there
 * is no room, and then it may not. */
MUST_CHECK int room_claim(struct room *r, const char *name, uint64_t bytes);
/* The disk has been told of what was claimed: look at what the file takes. */
void room_took(struct room *r, const char *name);
/* It is closed: it stays and takes so much on the disk, or it is not there any more (0). */
void room_close(struct room *r, const char *name, uint64_t disk_bytes);
/* The disk refused so many bytes that were claimed: as many must be freed before more are. */
void room_refused(struct room *r, uint64_t bytes);
/* Whether so many bytes may be written without a claim, as small things are. */
bool room_has(struct room *r, uint64_t bytes);
/* Remove a file of a fetch that nobody has open. False when there is none. */
bool room_drop_idle(struct room *r);

/* --- what it is --- */

struct room_view {
    uint64_t held_bytes;  /* all of it */
    uint64_t blob_bytes;  /* of these */
    uint64_t blobs;       /* their number */
    uint64_t index_bytes; /* with the folders */
    uint64_t file_bytes;  /* in partial/, or promised to files there */
    uint64_t limit_bytes; /* 0: none */
    uint64_t min_free_bytes;
    uint64_t free_bytes; /* of the file system */
    uint64_t disk_bytes; /* all of that */
    bool lacks_files;    /* it takes hardly any more files */
};

void room_look(struct room *r, struct room_view *v);

/* What a claim to so many bytes would add to what this file claims; NULL: to nothing. */
uint64_t room_added(struct room *r, const char *name, uint64_t bytes);
/* Bytes that should go so that so many more fit; 0 when they do already. With
 * `to_low`, so that the directory is down to its low mark as well. */
uint64_t room_excess(struct room *r, uint64_t more_bytes, bool to_low);
/* What goes besides what is evicted: files that are leaving, and those of fetches that nobody
 * has open. */
uint64_t room_going(struct room *r);
/* Whether so many bytes could ever fit. */
bool room_could_hold(struct room *r, uint64_t bytes);
/* Whether it is time to evict, before somebody has to wait for it. */
bool room_is_short(struct room *r);

#endif
