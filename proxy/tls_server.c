/* SPDX-License-Identifier: ISC */
/* Identities: a context for new connections, and the certificates that they are shown. */
#include "proxy/tls_private.h"

#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cache/ca.h"
#include "cache/err.h"

/* Hosts that have their own certificate at once; patterns may allow any number. */
#define LEAVES_MAX 256
/* A certificate is made anew when this is left of its life. */
#define RENEW_BEFORE_S (30 * 24 * 3600)

struct leaf {
    LIST_ENTRY(leaf) link;
    X509 *certificate;
    EVP_PKEY *key;
    int64_t made_at_s, renew_at_s;
    char host[TLS_HOST_MAX]; /* empty: the one for all names */
};

struct tls_server {
    atomic_uint refs;
    SSL_CTX *context;
    struct ca *ca; /* NULL: certificates are in the context */
    char **names;
    unsigned name_count;
    bool (*is_allowed)(const void *arg, const char *host); /* NULL: one certificate for all */
    const void *arg;
    pthread_mutex_t lock; /* of `leaves` */
    LIST_HEAD(, leaf) leaves;
    unsigned leaf_count;
};

/* --- kernel TLS --- */

static bool probe_kernel(void)
{
#ifdef TCP_ULP
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    bool offers = false;
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (server >= 0 && client >= 0 && bind(server, (struct sockaddr *)&at, len) == 0 &&
        listen(server, 1) == 0 && getsockname(server, (struct sockaddr *)&at, &len) == 0 &&
        connect(client, (struct sockaddr *)&at, len) == 0)
        offers = setsockopt(client, IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls") == 0;
    if (server >= 0)
        close(server);
    if (client >= 0)
        close(client);
    return offers;
#else
    return false;
#endif
}

/* Found and made once: OpenSSL has numbers for some hundred kinds of BIO. */
static struct {
    pthread_once_t once;
    bool kernel_offers;
    BIO_METHOD *output;
} process = {.once = PTHREAD_ONCE_INIT};

static void prepare_process(void)
{
    process.kernel_offers = probe_kernel();
    process.output = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "batch of records");
    CHECK(process.output && BIO_meth_set_write(process.output, tls_gather) == 1 &&
          BIO_meth_set_ctrl(process.output, tls_gather_control) == 1);
}

bool tls_kernel_offers(void)
{
    pthread_once(&process.once, prepare_process);
    return process.kernel_offers;
}

const BIO_METHOD *tls_output(void)
{
    pthread_once(&process.once, prepare_process);
    return process.output;
}

/* --- certificates on demand --- */

static void leaf_free(struct tls_server *s, struct leaf *l)
{
    LIST_REMOVE(l, link);
    s->leaf_count--;
    X509_free(l->certificate);
    EVP_PKEY_free(l->key);
    free(l);
}

static void leaves_clear(struct tls_server *s)
{
    struct leaf *l;

    /* The analyzer does not know that the first one is then another. */
    while ((l = LIST_FIRST(&s->leaves)))
        leaf_free(s, l); /* NOLINT(clang-analyzer-unix.Malloc) */
}

static struct leaf *leaf_make(struct tls_server *s, const char *host, int64_t now_s)
{
    const char *one[] = {host};
    const char *const *names = s->is_allowed ? one : (const char *const *)s->names;
    struct leaf *l = mem_new(sizeof *l);

    if (ca_issue(s->ca, names, s->is_allowed ? 1 : s->name_count, &l->certificate, &l->key) != 0) {
        free(l);
        return NULL;
    }
    l->made_at_s = now_s;
    l->renew_at_s = ca_expiry_s(l->certificate) - RENEW_BEFORE_S;
    /* An authority that ends soon: not one for each connection. */
    if (l->renew_at_s <= now_s)
        l->renew_at_s = now_s + 3600;
    snprintf(l->host, sizeof l->host, "%s", host);
    if (s->leaf_count >= LEAVES_MAX)
        leaves_clear(s);
    LIST_INSERT_HEAD(&s->leaves, l, link);
    s->leaf_count++;
    return l;
}

static struct leaf *leaf_find(struct tls_server *s, const char *host)
{
    struct leaf *l;

    LIST_FOREACH (l, &s->leaves, link)
        if (strcmp(l->host, host) == 0)
            return l;
    return NULL;
}

/* The certificate for the host, made when there is none: shown by `ssl` from now on. */
static bool use_leaf(struct tls_server *s, const char *host, SSL *ssl)
{
    int64_t now_s = time(NULL);

    pthread_mutex_lock(&s->lock);
    struct leaf *l = leaf_find(s, host);
    /* The clock may have been set back, too: then it is not valid yet. */
    if (l && (l->renew_at_s <= now_s || now_s < l->made_at_s)) {
        leaf_free(s, l);
        l = NULL;
    }
    if (!l)
        l = leaf_make(s, host, now_s);
    bool done =
        l && SSL_use_certificate(ssl, l->certificate) == 1 && SSL_use_PrivateKey(ssl, l->key) == 1;
    pthread_mutex_unlock(&s->lock);
    return done;
}

static const char *wanted_host(const struct tls *t)
{
    return t->host ? t->host : t->expected;
}

static int choose_certificate(SSL *ssl, void *arg)
{
    struct tls_server *s = arg;

    return use_leaf(s, s->is_allowed ? wanted_host(SSL_get_app_data(ssl)) : "", ssl);
}

/* Keep the name of the hello, unless it is none: a client that says what no host is
 * called has said nothing. */
static void keep_host(struct tls *t, const char *name)
{
    size_t len = name ? strlen(name) : 0;

    free(t->host);
    t->host = NULL;
    if (len == 0 || len >= TLS_HOST_MAX)
        return;
    t->host = mem_copy(name, len);
    for (char *p = t->host; *p; p++)
        *p = (char)tolower((unsigned char)*p);
}

/* Whom the client wants to speak to (RFC 6066 section 3): with a certificate for each
 * host only one that it may, and the one that it was connected to. */
static int check_host(SSL *ssl, int *alert, void *arg)
{
    struct tls_server *s = arg;
    struct tls *t = SSL_get_app_data(ssl);

    if (!s->is_allowed)
        return SSL_TLSEXT_ERR_OK;
    keep_host(t, SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name));
    const char *host = wanted_host(t);
    t->host_was_wrong =
        !host || (t->expected && strcmp(host, t->expected) != 0) || !s->is_allowed(s->arg, host);
    if (!t->host_was_wrong)
        return SSL_TLSEXT_ERR_OK;
    *alert = SSL_AD_UNRECOGNIZED_NAME;
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* --- the context --- */

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *offered, unsigned offered_len, void *arg)
{
    static const unsigned char ours[] = "\x08http/1.1";

    (void)ssl;
    (void)arg;
    if (SSL_select_next_proto((unsigned char **)out, out_len, ours, sizeof ours - 1, offered,
                              offered_len) == OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_OK;
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* Nobody is there to be asked, and the terminal is somebody else's. */
static int no_passphrase(char *buf, int size, int is_written, void *arg)
{
    (void)buf;
    (void)size;
    (void)is_written;
    (void)arg;
    return -1;
}

static SSL_CTX *context_new(struct tls_server *s)
{
    SSL_CTX *c = SSL_CTX_new(TLS_server_method());
    uint64_t options = SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                       SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                       SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_CLEANSE_PLAINTEXT;

#ifdef SSL_OP_ENABLE_KTLS
    if (tls_kernel_offers())
        options |= SSL_OP_ENABLE_KTLS;
#endif
    CHECK(c && SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION) == 1);
    SSL_CTX_set_options(c, options);
    /* AES of 128 bits first: it is the fastest, and is what a layer's bytes need. */
    CHECK(SSL_CTX_set_ciphersuites(c, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
                                      "TLS_CHACHA20_POLY1305_SHA256") == 1);
    CHECK(SSL_CTX_set_cipher_list(c, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1);
    SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                            SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(c, 1);
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    CHECK(SSL_CTX_set_session_id_context(c, (const unsigned char *)"cachalot", 8) == 1);
    CHECK(SSL_CTX_set_num_tickets(c, 1) == 1);
    SSL_CTX_set_alpn_select_cb(c, choose_protocol, NULL);
    SSL_CTX_set_default_passwd_cb(c, no_passphrase);
    SSL_CTX_set_tlsext_servername_callback(c, check_host);
    SSL_CTX_set_tlsext_servername_arg(c, s);
    return c;
}

static struct tls_server *server_new(void)
{
    struct tls_server *s = mem_new(sizeof *s);

    atomic_init(&s->refs, 1);
    pthread_mutex_init(&s->lock, NULL);
    s->context = context_new(s);
    return s;
}

SSL_CTX *tls_server_context(struct tls_server *s)
{
    return s->context;
}

struct tls_server *tls_server_ref(struct tls_server *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void tls_server_unref(struct tls_server **sp)
{
    struct tls_server *s = *sp;

    *sp = NULL;
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) > 1)
        return;
    leaves_clear(s);
    for (unsigned i = 0; i < s->name_count; i++)
        free(s->names[i]);
    free(s->names);
    ca_free(&s->ca);
    SSL_CTX_free(s->context);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* --- from files --- */

static int check_key_file(const char *path, char *why, size_t why_size)
{
    struct stat st;

    if (stat(path, &st) != 0) {
        snprintf(why, why_size, "%s: %s", path, strerror(errno));
        return errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;
    }
    if (st.st_mode & (S_IWGRP | S_IRWXO)) {
        snprintf(why, why_size,
                 "%s: others than its owner and group may read or write it; "
                 "set its mode to 0600 or 0640",
                 path);
        return ERR_INVALID;
    }
    return 0;
}

/* The first error is the cause, the last says only who met it. */
static int refuse_file(const char *path, const char *what, char *why, size_t why_size)
{
    unsigned long code = ERR_peek_error();
    const char *reason = ERR_reason_error_string(code);

    if (ERR_SYSTEM_ERROR(code))
        snprintf(why, why_size, "%s: %s", path, strerror(ERR_GET_REASON(code)));
    else
        snprintf(why, why_size, "%s: %s (%s)", path, what, reason ? reason : "no reason given");
    return ERR_INVALID;
}

int tls_server_from_files(struct tls_server **out, const char *certificate, const char *key,
                          char *why, size_t why_size)
{
    int err = check_key_file(key, why, why_size);
    if (err)
        return err;
    struct tls_server *s = server_new();
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(s->context, certificate) != 1)
        err = refuse_file(certificate, "no certificate in PEM", why, why_size);
    else if (SSL_CTX_use_PrivateKey_file(s->context, key, SSL_FILETYPE_PEM) != 1)
        err = refuse_file(key, "no key in PEM without a passphrase, or not of the certificate", why,
                          why_size);
    else if (SSL_CTX_check_private_key(s->context) != 1)
        err = refuse_file(key, "not the key of the certificate", why, why_size);
    if (err)
        tls_server_unref(&s);
    *out = s;
    return err;
}

/* --- from the authority --- */

static int from_ca(struct tls_server **out, const char *ca_path, char *why, size_t why_size)
{
    struct tls_server *s = server_new();
    int err = ca_load(ca_path, &s->ca, why, why_size);

    if (err)
        tls_server_unref(&s);
    else
        SSL_CTX_set_cert_cb(s->context, choose_certificate, s);
    *out = s;
    return err;
}

int tls_server_from_ca(struct tls_server **out, const char *ca_path, char *const *names,
                       unsigned count, char *why, size_t why_size)
{
    struct tls_server *s;
    int err = from_ca(&s, ca_path, why, why_size);

    if (err)
        return err;
    s->names = mem_new(count * sizeof *s->names);
    for (unsigned i = 0; i < count; i++)
        s->names[s->name_count++] = mem_copy(names[i], strlen(names[i]));
    /* What cannot be issued is known now, and not at the first client. */
    if (!leaf_make(s, "", time(NULL))) {
        snprintf(why, why_size,
                 "the authority in %s may not issue for all of the names: "
                 "cachalot ca rotate makes one that may",
                 ca_path);
        tls_server_unref(&s);
        return ERR_INVALID;
    }
    *out = s;
    return 0;
}

int tls_server_from_ca_by_host(struct tls_server **out, const char *ca_path,
                               bool (*is_allowed)(const void *arg, const char *host),
                               const void *arg, char *why, size_t why_size)
{
    struct tls_server *s;
    int err = from_ca(&s, ca_path, why, why_size);

    if (err)
        return err;
    s->is_allowed = is_allowed;
    s->arg = arg;
    *out = s;
    return 0;
}
