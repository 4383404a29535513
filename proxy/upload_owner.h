/* SPDX-License-Identifier: ISC */
/*
 * Who has begun which upload sessions, so that nobody can have all that there may be: how
 * many of his rest, and which of them nobody would miss, because they have no bytes yet.
 *
 * Of sessions that this run of the daemon has begun; others are not known here, and what is
 * said of them is ignored. Not for several threads: the engine's lock guards it.
 */
#ifndef PROXY_UPLOAD_OWNER_H
#define PROXY_UPLOAD_OWNER_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/upload.h"

struct upload_owners;

struct upload_owners *upload_owners_new(void);
/* NULL is legal; leaves NULL. */
void upload_owners_free(struct upload_owners **o);

/* A new session is in use. `owner` is any text. */
void upload_owners_begin(struct upload_owners *o, const char *owner, const char *id);
/* It is in use again. */
void upload_owners_use(struct upload_owners *o, const char *id);
/* It rests from `now_ms` on (monotonic). Once it had bytes it counts as having some. */
void upload_owners_rest(struct upload_owners *o, const char *id, bool has_bytes, int64_t now_ms);
/* It has ended. */
void upload_owners_end(struct upload_owners *o, const char *id);
/* All that rest since before then have ended. */
void upload_owners_expire(struct upload_owners *o, int64_t then_ms);

/* How many of his rest. */
unsigned upload_owners_resting(const struct upload_owners *o, const char *owner);
/* Of the sessions of that owner (NULL: of all) that rest and never had a byte, the one that
 * rests longest: it is forgotten here, and to be ended. False: there is none. */
bool upload_owners_take_empty(struct upload_owners *o, const char *owner, char id[UPLOAD_ID_SIZE]);

#endif
