/* SPDX-License-Identifier: ISC */
/*
 * One connection. OpenSSL's output is gathered in the thread's scratch memory and sent
 * when a call ends; what the socket has no room for is kept in `pending`, and until that
 * is out nothing else is encrypted. So OpenSSL never has to wait for the socket to write,
 * and a batch of records costs one call.
 *
 * With the kernel's TLS the socket is OpenSSL's own, and `pending` is never used once
 * the handshake is done.
 */
#include "proxy/tls_private.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECORD_BYTES (16u * 1024)
/* Each costs a call, and wakes the client: more than a megabyte is no better. */
#define BATCH_RECORDS 64u
#define BATCH_BYTES (BATCH_RECORDS * RECORD_BYTES)
/* A record's head, nonce, tag and padding take less. */
#define RECORD_OVERHEAD 64u
/* A file is read in steps that stay in the processor's cache until they are encrypted. */
#define STEP_BYTES (4 * RECORD_BYTES)
/* A batch of which nothing was taken, and the answers to messages of a peer that takes
 * none of them (key updates). */
#define PENDING_MAX (2 * BATCH_BYTES)

struct tls_scratch {
    size_t len;
    uint8_t cipher[BATCH_BYTES + BATCH_RECORDS * RECORD_OVERHEAD + 2 * RECORD_BYTES];
    uint8_t plain[STEP_BYTES];
};

struct tls_scratch *tls_scratch_new(void)
{
    return mem_new(sizeof(struct tls_scratch));
}

void tls_scratch_free(struct tls_scratch **t)
{
    free(*t);
    *t = NULL;
}

/* --- output --- */

int tls_gather(BIO *b, const char *data, int len)
{
    const struct tls *t = BIO_get_data(b);
    struct tls_scratch *s = t->scratch;

    BIO_clear_retry_flags(b);
    if (len <= 0 || (size_t)len > sizeof s->cipher - s->len)
        return -1;
    memcpy(s->cipher + s->len, data, (size_t)len);
    s->len += (size_t)len;
    return len;
}

long tls_gather_control(BIO *b, int what, long number, void *pointer)
{
    (void)b;
    (void)number;
    (void)pointer;
    /* Sent when the call of OpenSSL is over. */
    return what == BIO_CTRL_FLUSH;
}

static void keep(struct tls *t, const uint8_t *p, size_t len)
{
    size_t left = t->pending ? t->pending_len - t->pending_sent : 0;

    if (left + len > PENDING_MAX) {
        t->is_broken = true;
        return;
    }
    uint8_t *all = mem_new(left + len);
    if (left > 0)
        memcpy(all, t->pending + t->pending_sent, left);
    memcpy(all + left, p, len);
    free(t->pending);
    t->pending = all;
    t->pending_len = left + len;
    t->pending_sent = 0;
}

/* Send what was gathered, and keep what the socket does not take. */
static void push(struct tls *t, bool more)
{
    struct tls_scratch *s = t->scratch;
    size_t len = s->len;
    ssize_t n = 0;

    s->len = 0;
    if (len == 0)
        return;
    if (!t->pending) {
        n = send(t->fd, s->cipher, len, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            t->is_broken = true;
            return;
        }
    }
    size_t sent = n > 0 ? (size_t)n : 0;
    if (sent < len)
        keep(t, s->cipher + sent, len - sent);
    /* A client that takes little at a time is not worth much memory. */
    if (sent == len && t->batch_bytes < BATCH_BYTES)
        t->batch_bytes *= 2;
    else if (sent < len && t->batch_bytes > RECORD_BYTES)
        t->batch_bytes /= 2;
}

bool tls_flush(struct tls *t)
{
    if (t->is_broken) {
        errno = ECONNRESET;
        return false;
    }
    while (t->pending) {
        ssize_t n = send(t->fd, t->pending + t->pending_sent, t->pending_len - t->pending_sent,
                         MSG_NOSIGNAL);

        if (n < 0)
            return false;
        t->pending_sent += (size_t)n;
        if (t->pending_sent == t->pending_len) {
            free(t->pending);
            t->pending = NULL;
            t->pending_len = t->pending_sent = 0;
        }
    }
    return true;
}

/* What a call of OpenSSL that failed came to, as errno. */
static int failed(struct tls *t, int result)
{
    switch (SSL_get_error(t->ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return EAGAIN;
    default:
        t->is_broken = true;
        return ECONNRESET;
    }
}

/* Encrypt; false with errno. */
static bool encrypt(struct tls *t, const void *p, size_t len)
{
    const uint8_t *at = p;
    size_t taken;

    /* A record at a time, and without waiting: gathering takes all. */
    for (; len > 0; at += taken, len -= taken) {
        ERR_clear_error();
        if (SSL_write_ex(t->ssl, at, len, &taken) != 1) {
            t->is_broken = true;
            t->scratch->len = 0;
            errno = ECONNRESET;
            return false;
        }
    }
    return true;
}

static ssize_t send_by_kernel(struct tls *t, const void *p, size_t len)
{
    size_t taken;

    ERR_clear_error();
    int result = SSL_write_ex(t->ssl, p, len, &taken);
    if (result == 1)
        return (ssize_t)taken;
    errno = failed(t, result);
    return -1;
}

/* As much of the parts as a step holds, one behind the other. */
static size_t join(uint8_t *out, const struct iovec *parts, unsigned count)
{
    size_t len = 0;

    for (unsigned i = 0; i < count && len < STEP_BYTES; i++) {
        size_t room = STEP_BYTES - len;
        size_t part = parts[i].iov_len < room ? parts[i].iov_len : room;

        if (part > 0)
            memcpy(out + len, parts[i].iov_base, part);
        len += part;
    }
    return len;
}

ssize_t tls_send(struct tls *t, const struct iovec *parts, unsigned count)
{
    if (!tls_flush(t))
        return -1;
    size_t len = join(t->scratch->plain, parts, count);
    if (t->is_by_kernel)
        return send_by_kernel(t, t->scratch->plain, len);
    if (!encrypt(t, t->scratch->plain, len))
        return -1;
    push(t, false);
    return (ssize_t)len;
}

static ssize_t sendfile_by_kernel(struct tls *t, int file, uint64_t offset, size_t len)
{
    ERR_clear_error();
    ssize_t n = SSL_sendfile(t->ssl, file, (off_t)offset, len, 0);
    if (n < 0)
        errno = failed(t, (int)n);
    return n;
}

ssize_t tls_sendfile(struct tls *t, int file, uint64_t offset, size_t len)
{
    size_t want = len < t->batch_bytes ? len : t->batch_bytes;
    size_t done = 0;

    if (!tls_flush(t))
        return -1;
    if (t->is_by_kernel)
        return sendfile_by_kernel(t, file, offset, len);
    while (done < want) {
        size_t step = want - done < STEP_BYTES ? want - done : STEP_BYTES;
        ssize_t n = pread(file, t->scratch->plain, step, (off_t)(offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && done == 0) {
            errno = EIO;
            return -1;
        }
        if (n <= 0)
            break;
        if (!encrypt(t, t->scratch->plain, (size_t)n))
            return -1;
        done += (size_t)n;
    }
    push(t, done < len);
    return (ssize_t)done;
}

/* --- input --- */

ssize_t tls_recv(struct tls *t, void *buf, size_t len)
{
    uint8_t *out = buf;
    size_t got = 0;
    bool has_ended = len == 0;
    int err = 0;

    CHECK(t->scratch->len == 0);
    if (t->is_broken) {
        errno = ECONNRESET;
        return -1;
    }
    while (got < len) {
        size_t n;

        ERR_clear_error();
        int result = SSL_read_ex(t->ssl, out + got, len - got, &n);
        if (result == 1) {
            got += n;
            continue;
        }
        has_ended = SSL_get_error(t->ssl, result) == SSL_ERROR_ZERO_RETURN;
        err = has_ended ? 0 : failed(t, result);
        break;
    }
    /* Reading may have written: an alert, an answer to a key update. */
    push(t, false);
    if (got > 0 || has_ended)
        return (ssize_t)got;
    errno = err;
    return -1;
}

bool tls_has_input(const struct tls *t)
{
    return !t->is_broken && SSL_has_pending(t->ssl) == 1;
}

/* --- life --- */

static void use_gathering(struct tls *t)
{
    BIO *output = BIO_new(tls_output());

    CHECK(output);
    BIO_set_data(output, t);
    BIO_set_init(output, 1);
    SSL_set0_wbio(t->ssl, output);
}

struct tls *tls_new(struct tls_server *s, struct tls_scratch *scratch, int fd, const char *host)
{
    struct tls *t = mem_new(sizeof *t);

    t->server = tls_server_ref(s);
    t->scratch = scratch;
    t->fd = fd;
    t->batch_bytes = 4 * RECORD_BYTES;
    if (host)
        t->expected = mem_copy(host, strlen(host));
    t->ssl = SSL_new(tls_server_context(s));
    CHECK(t->ssl && SSL_set_fd(t->ssl, fd) == 1 && SSL_set_app_data(t->ssl, t) == 1);
    if (!tls_kernel_offers())
        use_gathering(t);
    SSL_set_accept_state(t->ssl);
    return t;
}

void tls_free(struct tls **tp)
{
    struct tls *t = *tp;

    if (!t)
        return;
    *tp = NULL;
    SSL_free(t->ssl);
    tls_server_unref(&t->server);
    free(t->pending);
    free(t->expected);
    free(t->host);
    free(t);
}

static void explain(const struct tls *t, int error, char *why, size_t why_size)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = ERR_reason_error_string(code);

    if (t->host_was_wrong && t->host && t->expected)
        snprintf(why, why_size, "asked to be connected to %s, then for the certificate of %s",
                 t->expected, t->host);
    else if (t->host_was_wrong && t->host)
        snprintf(why, why_size, "asked for the certificate of %s, which is not intercepted",
                 t->host);
    else if (t->host_was_wrong)
        snprintf(why, why_size, "named no host");
    else if (error == SSL_ERROR_SSL && reason)
        snprintf(why, why_size, "%s", reason);
    else
        snprintf(why, why_size, "the client left");
}

static void open_done(struct tls *t)
{
    t->is_open = true;
    if (!tls_kernel_offers())
        return;
    t->is_by_kernel = BIO_get_ktls_send(SSL_get_wbio(t->ssl)) != 0;
    /* The kernel does not know this cipher. */
    if (!t->is_by_kernel)
        use_gathering(t);
}

enum tls_progress tls_handshake(struct tls *t, char *why, size_t why_size)
{
    ERR_clear_error();
    int result = SSL_do_handshake(t->ssl);
    int error = result == 1 ? SSL_ERROR_NONE : SSL_get_error(t->ssl, result);

    if (!t->is_by_kernel)
        push(t, false);
    if (error != SSL_ERROR_NONE && error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
        explain(t, error, why, why_size);
        t->is_broken = true;
        return TLS_FAILED;
    }
    if (!tls_flush(t)) {
        if (errno == EAGAIN || errno == EINTR)
            return TLS_WANTS_WRITE;
        snprintf(why, why_size, "the client left");
        t->is_broken = true;
        return TLS_FAILED;
    }
    if (error == SSL_ERROR_NONE) {
        open_done(t);
        return TLS_DONE;
    }
    return error == SSL_ERROR_WANT_READ ? TLS_WANTS_READ : TLS_WANTS_WRITE;
}

const char *tls_host(const struct tls *t)
{
    return t->host ? t->host : "";
}

void tls_shutdown(struct tls *t)
{
    if (!t->is_open || t->is_broken || t->pending)
        return;
    ERR_clear_error();
    (void)SSL_shutdown(t->ssl);
    push(t, false);
}
