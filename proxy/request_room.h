/* SPDX-License-Identifier: ISC */
/* Room for what another process is about to write: "cachalot import" asks for it. */
#ifndef PROXY_REQUEST_ROOM_H
#define PROXY_REQUEST_ROOM_H

#include <stdint.h>

struct request;

/* Make it so that so many bytes more fit; answered when they do, or with 507. */
void request_room(struct request *r, uint64_t bytes);
/* The end of a request, of whatever kind. */
void request_room_end(struct request *r);

#endif
