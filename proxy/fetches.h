/* SPDX-License-Identifier: ISC */
/* The fetches under way, for the cachalot command. */
#ifndef PROXY_FETCHES_H
#define PROXY_FETCHES_H

#include <stddef.h>
#include <stdint.h>

#include "cache/fetch.h"

/* A JSON object, NUL-terminated, owned by the caller; its length in `*len`. Its "fetches"
 * are an array of {digest, name (the repository that it was asked for first), state
 * ("asking", "streaming" or "verified"), size_bytes (null until it is known), done_bytes,
 * kept_bytes (of these, what was there from an earlier run), elapsed_ms}. `now_ms` is
 * monotonic. Any thread. */
char *fetches_format(struct fetch_table *t, int64_t now_ms, size_t *len);

#endif
