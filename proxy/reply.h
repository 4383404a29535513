/* SPDX-License-Identifier: ISC */
/* Response heads and error bodies, written into a caller's buffer. */
#ifndef PROXY_REPLY_H
#define PROXY_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/outcome.h"

#define REPLY_HEAD_MAX 8192
#define REPLY_ERROR_MAX 2048

/* A response head being written. A field that does not fit is left out whole:
 * every length that can be long is bounded before. For Content-Length and Connection
 * there is always room. */
struct reply {
    size_t len;
    char text[REPLY_HEAD_MAX];
};

/* Status line, Date, Docker-Distribution-Api-Version. `date` is an IMF-fixdate. */
void reply_begin(struct reply *r, int status, const char *date);
/* A field; the value must be free of CR, LF and NUL (CHECKed). */
void reply_field(struct reply *r, const char *name, const char *value);
/* Content-Length, once. */
void reply_length(struct reply *r, uint64_t size_bytes);
/* Connection, unless it is the version's default (RFC 9112 section 9.3; `is_old`:
 * HTTP/1.0), and the empty line. */
void reply_end(struct reply *r, bool keep_alive, bool is_old);

/* The OCI error document (distribution-spec 1.1.1 "Error Codes"): code and text of
 * the outcome's row, `detail` (may be NULL) escaped. Returns its length. */
size_t reply_error_body(char out[REPLY_ERROR_MAX], enum outcome o, const char *detail);

#endif
