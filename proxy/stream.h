/* SPDX-License-Identifier: ISC */
/*
 * The bytes of a client's connection, plain or within TLS: what conn and relay read and
 * write without knowing which.
 *
 * All calls return at once. Within TLS, bytes that were taken may stay encrypted in
 * memory until the socket has room: `stream_flush` before anything else is sent, and
 * before the end.
 */
#ifndef PROXY_STREAM_H
#define PROXY_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "proxy/tls.h"

struct stream {
    int fd;          /* non-blocking */
    struct tls *tls; /* NULL: plain; owned by whoever owns the stream */
};

/* As recv(2): bytes, 0 at the end, -1 with errno (EAGAIN: wait until readable). The end
 * of TLS without its close_notify is an end too: HTTP says what is whole. */
ssize_t stream_recv(struct stream *s, void *buf, size_t len);

/* Whether there are bytes to receive that the socket will not tell of. */
bool stream_has_input(const struct stream *s);

/* As sendmsg(2), at most two parts: bytes taken, or -1 with errno (EAGAIN: wait until
 * writable). `more`: other bytes follow at once. */
ssize_t stream_send(struct stream *s, const struct iovec *parts, unsigned count, bool more);

/* As sendfile(2), from `offset`: bytes taken, 0 at the end of the file, or -1 with errno;
 * EIO when the file could not be read. */
ssize_t stream_sendfile(struct stream *s, int file, uint64_t offset, size_t len);

/* Send what was taken: true when all is in the socket, else false with errno (EAGAIN:
 * wait until writable). */
bool stream_flush(struct stream *s);

/* Whether what does not fill a segment waits for what follows (TCP_CORK); within TLS, and
 * on sockets that have no segments, this is nothing. */
void stream_cork(struct stream *s, bool on);

/* No more will be sent: close_notify if TLS is open (what does not fit is dropped), then
 * FIN. 0, or -1 with errno. */
int stream_shutdown(struct stream *s);

#endif
