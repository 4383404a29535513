/* SPDX-License-Identifier: ISC */
/* Sockets to listen on, from the addresses of the configuration. */
#ifndef PROXY_SOCKET_H
#define PROXY_SOCKET_H

#include <stdbool.h>
#include <stddef.h>

#include "cache/check.h"

#define SOCKET_PEER_MAX 56

/* Bind and listen, non-blocking: "HOST:PORT" with an IPv4 or [IPv6] literal or a
 * name, "PORT" (any address, both families), "unix:/path" (0660; a socket that
 * nobody listens on is replaced). The descriptor, or -1 with a sentence in `why`. */
MUST_CHECK int socket_listen(const char *address, char *why, size_t why_size);

/* Whether a bound socket has the port, or the path, of the address. */
bool socket_has_port_of(int fd, const char *address);

/* Accept a connection: non-blocking, close-on-exec, without Nagle's delay, and bound to keep
 * little that could not be sent. `peer` becomes its address as text ("unix" for a Unix
 * socket). -1 with errno. */
MUST_CHECK int socket_accept(int fd, char peer[SOCKET_PEER_MAX]);

/* The peer takes much in little time: the socket may keep as much as the kernel sees fit,
 * which costs fewer calls. */
void socket_hurry(int fd);

#endif
