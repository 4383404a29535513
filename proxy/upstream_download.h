/* SPDX-License-Identifier: ISC */
/*
 * Inside the upstream thread: a blob and the connections that bring it.
 *
 *   upstream_fetch.c   the blob as a whole: from the first question to its last byte
 *   upstream_spread.c  how many connections bring it
 *   upstream_lane.c    one connection: asks for a piece, judges the answer, retries
 */
#ifndef PROXY_UPSTREAM_DOWNLOAD_H
#define PROXY_UPSTREAM_DOWNLOAD_H

#include "cache/extent.h"
#include "proxy/upstream_private.h"
#include "proxy/upstream_rate.h"

#define SIZE_UNKNOWN UINT64_MAX
/* Of a blob whose size nobody names. */
#define SIZE_LIMIT_BYTES (UINT64_C(64) * 1024 * 1024 * 1024)

/* IDLE, then ASKING -> RECEIVING, and IDLE again; after a failure RESTING until the
 * retry, which is a question anew; DEAD when no retry is left. */
enum lane_state { LANE_IDLE, LANE_ASKING, LANE_RECEIVING, LANE_RESTING, LANE_DEAD };

/* One connection. While ASKING or RECEIVING the bytes from `at` to `end` are its own. */
struct lane {
    struct download *download;
    unsigned number;
    enum lane_state state;
    struct transfer *transfer;
    struct event *retry;
    struct attempts attempts;
    struct flow flow;
    uint64_t at;            /* of the next byte of the answer */
    uint64_t end;           /* of its piece; SIZE_UNKNOWN: of the blob */
    uint64_t attempt_bytes; /* new ones that this attempt brought */
    bool is_ranged;         /* this attempt asked for a range */
    bool has_head;          /* and was answered */
    bool ask_again;         /* at once: the answer was of no use, the next may be */
    unsigned bad_answers;   /* to ranges, in a row */
};

enum download_state { DOWNLOAD_OPENING, DOWNLOAD_GOING, DOWNLOAD_ENDING };

struct download {
    struct msg msg;
    struct upstream *upstream;
    enum download_state state;
    LIST_ENTRY(download) link;
    struct config *config;
    const struct config_upstream *to;
    struct fetch *fetch;
    struct name name;
    struct behalf behalf;
    struct intake *intake;
    uint64_t size_bytes; /* as a manifest or a head said, or SIZE_UNKNOWN */
    bool is_begun;       /* the intake was told the size */
    bool is_sized;       /* and has a file of it */
    struct extents have; /* kept, and handed to the intake */
    struct extents left; /* kept instead, of what came from elsewhere: until this does too */
    bool in_pieces;      /* each lane asks for a piece; else lane 0 for all the rest */
    bool may_split;      /* an answer to the whole said that it could be in pieces */
    bool is_proven;      /* the upstream has answered a range as it should */
    bool without_range;  /* ranges were answered badly */
    bool discard;        /* what we have cannot be right */
    bool is_elsewhere;   /* its bytes come from the urls of manifests */
    struct foreign_urls urls;
    unsigned suspects;            /* a bit for each of these urls that gave some of the bytes */
    struct failure registry_said; /* when those are tried */
    unsigned breaks;              /* of what came, not continued yet */
    uint64_t piece_bytes;
    struct event *look;                   /* whether there should be more lanes */
    int64_t full_at_ms;                   /* when bytes came faster than they are taken; 0: never */
    struct lane *lanes[INTAKE_LANES_MAX]; /* made when they are needed */
    unsigned lane_count;
};

/* --- upstream_fetch.c --- */

/* The fetch fails for this reason. */
void download_give_up(struct download *d, const struct failure *f);
/* Whether every byte is in the intake; if so, its digest decides. */
bool download_complete(struct download *d);
/* The size is known from an answer: readers may have their head. */
void download_begin(struct download *d);
/* Elsewhere, the url of this place gave something else than the blob. */
void download_blame(struct download *d, unsigned url);
/* What was kept or came so far is of no use; before download_begin. */
void download_reset(struct download *d);

/* --- upstream_spread.c --- */

/* Whether this blob is worth several connections, as far as is known. */
bool download_is_large(const struct download *d);
/* A lane was answered: look soon, and then time and again, whether there should be
 * more of them. */
void download_look_soon(struct download *d);
void download_look(struct download *d);
/* Whether a lane that has done its piece should take another. */
bool download_needs_lane(const struct download *d);

/* --- upstream_lane.c --- */

struct lane *lane_new(struct download *d);
/* Ask for what is missing first; from the loop, not from a callback of a transfer. */
void lane_go(struct lane *l);
/* End what it does; its bytes may be taken by others. */
void lane_stop(struct lane *l);
void lane_free(struct lane *l);
/* Take bytes again after a pause, when there is room. */
void lane_resume(struct lane *l);
/* Whether it is asking or receiving. */
bool lane_is_busy(const struct lane *l);
/* Whether the bytes it brings are those that readers wait for. */
bool lane_is_front(const struct lane *l);

#endif
