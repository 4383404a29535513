/* SPDX-License-Identifier: ISC */
/*
 * Who may do what in a repository, by the rules of the configuration ([access NAME]).
 * They add up: a request is let when any one lets it.
 *
 * Local repositories may be pulled from, pushed to and deleted from. Upstreams' may be
 * pulled from only, and are asked about here when they are private (visibility). Pure.
 */
#ifndef PROXY_ACCESS_H
#define PROXY_ACCESS_H

#include <stdbool.h>
#include <stddef.h>

#include "cache/name.h"
#include "proxy/config.h"
#include "proxy/right.h"

/* Whether a client may. `peer` is its address ("unix" for a Unix socket); `user` is NULL
 * when it is anonymous. */
bool access_allows(const struct config *c, const char *peer, const char *user,
                   const struct name *repository, enum right right);

/* Whether some user or some token could from that address: then a refusal of somebody
 * anonymous is a challenge (401), else it is final (403). */
bool access_any_user_could(const struct config *c, const char *peer, const struct name *repository,
                           enum right right);

/* Whether some right at some local repository is for users alone from that address: then
 * clients that take the challenge from the ping (GET /v2/) alone must get it there. */
bool access_wants_users(const struct config *c, const char *peer);

#define ACCESS_SENTENCE_SIZE 512

/* For the log at the start: who may pull from local repositories, push to them and delete
 * from them, and which option changes it. Returns `out`. */
char *access_describe(const struct config *c, char out[ACCESS_SENTENCE_SIZE]);

#endif
