/* SPDX-License-Identifier: ISC */
/* A blob that the disk could not read while it was sent: it is a miss from now on. */
#ifndef PROXY_SPOILT_H
#define PROXY_SPOILT_H

#include "proxy/shelf.h"
#include "proxy/worker.h"

/* The worker's thread. Have its record dropped and its file, which is still open, put into
 * quarantine, and another fetched. */
void spoilt_drop(struct worker *w, const struct held *held);

#endif
