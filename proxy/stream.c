/* SPDX-License-Identifier: ISC */
#include "proxy/stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

ssize_t stream_recv(struct stream *s, void *buf, size_t len)
{
    return s->tls ? tls_recv(s->tls, buf, len) : recv(s->fd, buf, len, 0);
}

bool stream_has_input(const struct stream *s)
{
    return s->tls && tls_has_input(s->tls);
}

ssize_t stream_send(struct stream *s, const struct iovec *parts, unsigned count, bool more)
{
    if (s->tls)
        return tls_send(s->tls, parts, count);
    struct msghdr m = {.msg_iov = (struct iovec *)parts, .msg_iovlen = count};
    return sendmsg(s->fd, &m, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
}

ssize_t stream_sendfile(struct stream *s, int file, uint64_t offset, size_t len)
{
    off_t at = (off_t)offset;

    return s->tls ? tls_sendfile(s->tls, file, offset, len) : sendfile(s->fd, file, &at, len);
}

bool stream_flush(struct stream *s)
{
    return !s->tls || tls_flush(s->tls);
}

void stream_cork(struct stream *s, bool on)
{
    int value = on;

    if (!s->tls)
        (void)setsockopt(s->fd, IPPROTO_TCP, TCP_CORK, &value, sizeof value);
}

int stream_shutdown(struct stream *s)
{
    if (s->tls)
        tls_shutdown(s->tls);
    return shutdown(s->fd, SHUT_WR);
}
