/* SPDX-License-Identifier: ISC */
/* Pulls, between pull.c (manifests, and what all have in common), pull_blob.c,
 * pull_list.c and pull_held.c (what the store has, and who may see it). */
#ifndef PROXY_PULL_PRIVATE_H
#define PROXY_PULL_PRIVATE_H

#include "cache/db.h"
#include "cache/referrer.h"
#include "proxy/ask.h"
#include "proxy/request_private.h"

/* --- pull_held.c --- */

/* Find what the client may have of the repository, once a request. */
void pull_find_access(struct request *r, struct db_txn *txn);
/* The upstream has answered what was asked: with the client's credentials that is
 * the proof, without them the repository is public. */
void pull_access_proved(struct request *r);
/* The upstream has refused. True when it is worth asking again with the client's
 * own credentials, which r->with_client then says. */
bool pull_may_ask_again(struct request *r, enum outcome why);
/* Whether the outcome is that of what a registry has not, or hides. */
bool pull_is_refusal(enum outcome why);
/* The upstream could not be asked: whether an older proof still counts. */
bool pull_access_in_grace(struct request *r, enum outcome why);

/* Take a blob into r->held, if the store has it, whole, and this client may see it.
 * When only the last is wanting, r->is_hidden says so. */
bool pull_take_held(struct request *r, struct db_txn *txn, const struct digest *d, bool in_memory);
/* The same of a manifest that is in memory. */
bool pull_take_body(struct request *r, struct db_txn *txn, const struct digest *d);
/* The upstream said, without credentials, that the repository has this content,
 * which is held: from now on it is public. */
void pull_open_held(struct request *r, const struct digest *d);

/* --- pull.c --- */

/* What of the client goes with a question, borrowed from the request: its credentials
 * only once the upstream has refused without them. */
struct behalf pull_behalf(const struct request *r);
/* Ask, or join who asks; when the answer is there already, go on with it. */
void pull_ask(struct request *r, enum ask_kind kind, const char *reference);
/* The longest path within a repository of which it is remembered that it is absent. */
#define ABSENCE_PATH_MAX 256
#define ABSENT_TEXT "the upstream said so lately, and is not asked again yet (not-found-ttl)"
/* Whether the upstream said lately, to nobody's credentials, that it is not there. */
bool pull_is_absent(struct request *r, const char *path);
/* It said so now; what it says to a client's own credentials does not count. */
void pull_note_absent(struct request *r, const char *path);
/* Answer with an error of the upstream's. */
void pull_send_error(struct request *r, enum outcome o, const char *why, int retry_after_s,
                     const char *challenge);

/* --- pull_blob.c --- */

void pull_begin_blob(struct request *r);
/* The answer to an ASK_EXISTS about a blob. */
void pull_blob_known(struct request *r, uint64_t size_bytes);

/* --- pull_list.c --- */

void pull_begin_list(struct request *r);
void pull_list_answered(struct request *r, const struct ask_result *result);
/* Add what r->held lists, if it is an index, and give it back. */
MUST_CHECK int pull_add_fallback(struct request *r, struct db_txn *txn, struct referrers *list);
/* The upstream could not be asked: send what was kept, and which referrers are held. False
 * when there is nothing. */
bool pull_send_kept_list(struct request *r, const char *reference);

#endif
