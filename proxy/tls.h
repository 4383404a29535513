/* SPDX-License-Identifier: ISC */
/*
 * TLS towards clients: who we say that we are (tls_server.c), and one connection (tls.c).
 * TLS 1.2 and 1.3, ALPN http/1.1 (RFC 7301), resumption by tickets, no renegotiation.
 *
 * Where the kernel has TLS (detected once), it encrypts and files are sent without
 * passing through here. Else records are made in memory many at a time and sent in one
 * call, which costs little more than half of a call a record.
 */
#ifndef PROXY_TLS_H
#define PROXY_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "cache/check.h"

#define TLS_HOST_MAX 256 /* a host name with its NUL */

struct tls;
struct tls_scratch;
struct tls_server;

/* --- an identity: any thread --- */

/* A chain and its key from PEM files. ERR_INVALID, or what reading them came to, with a
 * sentence in `why`. */
MUST_CHECK int tls_server_from_files(struct tls_server **s, const char *certificate,
                                     const char *key, char *why, size_t why_size);

/* Certificates of the authority in `ca_path` for these names (copied): one with all of
 * them. They are made anew ahead of their end. */
MUST_CHECK int tls_server_from_ca(struct tls_server **s, const char *ca_path, char *const *names,
                                  unsigned count, char *why, size_t why_size);

/* The same, each host that `is_allowed` says yes to with one of its own, made when it is
 * asked for by name; no other host is ever shown a certificate. `arg` must outlive `s`. */
MUST_CHECK int tls_server_from_ca_by_host(struct tls_server **s, const char *ca_path,
                                          bool (*is_allowed)(const void *arg, const char *host),
                                          const void *arg, char *why, size_t why_size);

struct tls_server *tls_server_ref(struct tls_server *s);
/* NULL is legal; leaves NULL. */
void tls_server_unref(struct tls_server **s);

/* Whether the kernel encrypts. */
bool tls_kernel_offers(void);

/* --- a connection: one thread --- */

/* Memory that a thread's connections work in, one at a time. */
struct tls_scratch *tls_scratch_new(void);
void tls_scratch_free(struct tls_scratch **t);

/* A connection on `fd`, which stays the caller's, as the server `s` (referenced). With
 * `host`, a client that names another in its hello is refused. */
struct tls *tls_new(struct tls_server *s, struct tls_scratch *scratch, int fd, const char *host);
void tls_free(struct tls **t);

enum tls_progress { TLS_DONE, TLS_WANTS_READ, TLS_WANTS_WRITE, TLS_FAILED };

/* A step of the handshake; of TLS_FAILED the reason is in `why`. */
MUST_CHECK enum tls_progress tls_handshake(struct tls *t, char *why, size_t why_size);
/* The host that the client asked for, in lower case; empty when it named none, or when the
 * server has one certificate for all. */
const char *tls_host(const struct tls *t);

/* As the functions of stream.h. */
ssize_t tls_recv(struct tls *t, void *buf, size_t len);
bool tls_has_input(const struct tls *t);
ssize_t tls_send(struct tls *t, const struct iovec *parts, unsigned count);
ssize_t tls_sendfile(struct tls *t, int file, uint64_t offset, size_t len);
bool tls_flush(struct tls *t);
void tls_shutdown(struct tls *t);

#endif
