/* SPDX-License-Identifier: ISC */
/*
 * One run of a credential helper, as docker-credential-helpers defines them:
 * PROGRAM get, the server on its standard input, the answer on its standard output.
 *
 * It gets no more of us than that: an environment of PATH, HOME and LANG, no other
 * descriptor, nothing secret among its arguments. Belongs to the thread of its
 * event_base, which it never blocks.
 */
#ifndef PROXY_HELPER_H
#define PROXY_HELPER_H

#include <stddef.h>

struct event_base;
struct helper;

struct helper_order {
    const char *program; /* absolute path */
    const char *server;
    int timeout_ms;    /* then it is killed */
    size_t answer_max; /* bytes; more is a failure */
    /* The end; the helper is gone. `answer` is NULL when it failed, and `why` then says
     * how, quoting at most what helpers say for people. It is secret, and wiped after
     * the return. */
    void (*done)(void *arg, const char *answer, size_t len, const char *why);
    void *arg;
};

/* `done` is never called from within. Never NULL. */
struct helper *helper_start(struct event_base *base, const struct helper_order *o);

/* Kill it; `done` is not called. NULL is legal; leaves NULL. */
void helper_stop(struct helper **h);

#endif
