/* SPDX-License-Identifier: ISC */
/*
 * Prefetches: images that are fetched by the clock, before anybody asks for them. One thread,
 * one image after the other, in the background: no client waits for it.
 */
#ifndef PROXY_PREFETCH_H
#define PROXY_PREFETCH_H

#include <stddef.h>

#include "proxy/config.h"
#include "proxy/courier.h"

struct prefetch;

/* Start the thread, which does what the sections [prefetch NAME] say. */
struct prefetch *prefetch_start(const struct courier_parts *parts, struct config *c);
/* Other sections from now on; one that runs is ended first. */
void prefetch_set_config(struct prefetch *p, struct config *c);
/* Give up what is under way, end the thread, free. */
void prefetch_stop(struct prefetch **p);

/* Any thread. What is planned and how it went, as JSON, owned by the caller; its length in
 * `*len`. */
char *prefetch_format(struct prefetch *p, size_t *len);

#endif
