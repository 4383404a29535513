/* SPDX-License-Identifier: ISC */
#include "proxy/request_room.h"

#include <stdlib.h>

#include "proxy/request_private.h"

struct room_wait {
    struct want want;
    struct worker *worker;
    struct request *request; /* NULL: it has ended */
};

static void on_answer(struct msg *m, void *owner)
{
    struct room_wait *w = CONTAINER_OF(m, struct room_wait, want.msg);
    struct request *r = w->request;
    int err = w->want.err;

    worker_clock(owner);
    w->worker->requests--;
    free(w);
    if (!r)
        return;
    r->room_wait = NULL;
    if (err)
        request_error(r, OUT_UPLOAD_SPACE, "no image may go to make room for it", 0);
    else
        request_text(r, "application/json", "{}\n", 3);
}

void request_room(struct request *r, uint64_t bytes)
{
    struct room_wait *w = mem_new(sizeof *w);

    w->want.bytes = bytes;
    w->want.answers = r->worker->queue;
    w->want.answered = on_answer;
    w->worker = r->worker;
    w->request = r;
    r->room_wait = w;
    /* As a request does, it keeps the worker until its message has come. */
    r->worker->requests++;
    request_enter(r, REQUEST_WORKING);
    storage_want(r->worker->parts.storage, &w->want);
}

void request_room_end(struct request *r)
{
    if (r->room_wait)
        r->room_wait->request = NULL;
    r->room_wait = NULL;
}
