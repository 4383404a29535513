/* SPDX-License-Identifier: ISC */
/*
 * The scrubber: a thread that reads all blobs again, at idle priority and no faster than it
 * must, and sees to those that have gone bad: the record is dropped, the file goes into
 * quarantine, and the blob is fetched again from whatever upstream it can be had from. If
 * that fails it is lost, which the log says with the images that need it, and it is tried
 * again now and then.
 */
#ifndef PROXY_SCRUBBER_H
#define PROXY_SCRUBBER_H

#include "cache/digest.h"
#include "proxy/config.h"
#include "proxy/courier.h"

struct scrubber;

/* The parts outlive it; of the config it takes a hold. Main thread. */
struct scrubber *scrubber_start(const struct courier_parts *parts, struct config *c);
void scrubber_set_config(struct scrubber *s, struct config *c);
/* Give up what is under way, note where it is, end the thread: before storage_stop. Who is
 * suspected from then on is forgotten, so that jobs of storage may go on to suspect. */
void scrubber_stop(struct scrubber *s);
/* Free, after that. NULL is legal. */
void scrubber_free(struct scrubber **s);

/* Any thread: the disk could not read this blob while it was sent. It is looked at before
 * all others. NULL is legal. */
void scrubber_suspect(struct scrubber *s, const struct digest *d);

#endif
