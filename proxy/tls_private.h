/* SPDX-License-Identifier: ISC */
/* Between tls_server.c (identities) and tls.c (connections). */
#ifndef PROXY_TLS_PRIVATE_H
#define PROXY_TLS_PRIVATE_H

#include <openssl/ssl.h>

#include "proxy/tls.h"

struct tls {
    SSL *ssl;
    struct tls_server *server;
    struct tls_scratch *scratch;
    int fd;
    bool is_open;        /* the handshake is done */
    bool is_broken;      /* nothing can be said any more */
    bool is_by_kernel;   /* what is written is encrypted by the kernel */
    bool host_was_wrong; /* for the reason of a failed handshake */
    size_t batch_bytes;  /* plain bytes that are encrypted at once */
    uint8_t *pending;    /* encrypted bytes that the socket had no room for, or NULL */
    size_t pending_len, pending_sent;
    char *expected; /* NULL: any */
    char *host;     /* as the client said; NULL: it has not */
};

/* For a new connection: the context that it is made from. */
SSL_CTX *tls_server_context(struct tls_server *s);
/* What its output is written to when the kernel does not encrypt. */
const BIO_METHOD *tls_output(void);

/* BIO_write and BIO_ctrl of the output: it gathers in the scratch memory. */
int tls_gather(BIO *b, const char *data, int len);
long tls_gather_control(BIO *b, int what, long number, void *pointer);

#endif
