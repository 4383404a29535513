/* SPDX-License-Identifier: ISC */
/*
 * Making a CA. Whenever this is cut short, ca_load finds the former pair or the new one:
 *
 *   ca.key.new and ca.crt.new are written        ca.key and ca.crt are the former ones
 *   ca.key.old and ca.crt.old are linked         likewise
 *   ca.key.new becomes ca.key                    ca.crt does not belong to it, ca.crt.new does
 *   ca.crt.new becomes ca.crt                    done
 *
 * Each step is on the disk before the next one.
 */
#include "cache/ca_private.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/bn.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cache/err.h"
#include "cache/tempfile.h"

#define DAY_S 86400
#define HOST_SHOWN_MAX 36 /* so that the common name has at most 64 characters, RFC 5280 A.1 */

/* --- names --- */

static bool has_name(const struct ca_name *names, size_t count, const struct ca_name *n)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i].text, n->text) == 0 && names[i].address_len == n->address_len &&
            memcmp(names[i].address, n->address, n->address_len) == 0)
            return true;
    return false;
}

/* Parse them, each one once; `*count` becomes how many there are. */
static int parse_names(struct ca_name *parsed, const char *const *names, size_t *count,
                       const struct ca_why *why)
{
    size_t kept = 0;

    for (size_t i = 0; i < *count; i++) {
        struct ca_name n;

        if (ca_name_parse(&n, names[i]) != 0) {
            return ca_refuse(why, ERR_INVALID,
                             "\"%.260s\" is neither a host name nor an address; names are such as "
                             "registry.example.com, *.example.com, 192.0.2.1 or 2001:db8::1",
                             names[i]);
        }
        if (!has_name(parsed, kept, &n))
            parsed[kept++] = n;
    }
    *count = kept;
    if (kept > 0)
        return 0;
    return ca_refuse(why, ERR_INVALID,
                     "a CA is for certain hosts and no name of one is given; name those whose "
                     "clients are to be served");
}

/* --- the certificate --- */

static void set_subject(X509 *x, int64_t now_s)
{
    char host[256] = "";
    char text[128];
    uint64_t serial = 0;
    time_t now = (time_t)now_s;
    struct tm tm;
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(x), NULL);

    if (gethostname(host, sizeof host - 1) != 0)
        host[0] = '\0';
    for (char *c = host; *c != '\0'; c++)
        if (*c <= ' ' || *c > '~')
            *c = '-';
    CHECK(number != NULL);
    serial = BN_mod_word(number, 0x10000);
    BN_free(number);
    gmtime_r(&now, &tm);
    snprintf(text, sizeof text, "cachalot CA %.*s %04d-%02d-%02d %04x", HOST_SHOWN_MAX, host,
             tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, (unsigned)serial);
    X509_NAME *name = X509_get_subject_name(x);

    CHECK(X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_ASC,
                                     (const unsigned char *)text, -1, -1, 0) == 1);
    CHECK(X509_set_issuer_name(x, name) == 1);
}

static X509 *authority_new(EVP_PKEY *key, const struct ca_name *names, size_t count)
{
    int64_t now_s = (int64_t)time(NULL);
    X509 *x = ca_x509_new(key, now_s - DAY_S, now_s + (int64_t)CA_VALID_DAYS * DAY_S);

    set_subject(x, now_s);
    ca_x509_extend(x, x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
    ca_x509_extend(x, x, NID_key_usage, "critical,keyCertSign,cRLSign");
    /* For servers only: not for mail, code or clients. */
    ca_x509_extend(x, x, NID_ext_key_usage, "serverAuth");
    ca_names_limit(x, names, count);
    CHECK(X509_sign(x, key, EVP_sha256()) > 0);
    return x;
}

/* --- files --- */

static int refuse_file(const struct ca_dir *d, const char *doing, const char *name,
                       const struct ca_why *why)
{
    int errnum = errno;

    return ca_refuse(why, err_from_errno(errnum), "cannot %s %s/%s: %s", doing, d->path, name,
                     strerror(errnum));
}

static int sync_dir(const struct ca_dir *d, const struct ca_why *why)
{
    return file_sync(d->fd) == 0 ? 0 : ca_refuse_errno(why, "sync", d->path);
}

/* Root makes the files of another user's cache for that user. */
static bool is_handed_over(const struct ca_dir *d)
{
    return geteuid() == 0 && d->uid != 0;
}

static int write_new(const struct ca_dir *d, const char *name, mode_t mode, const void *data,
                     size_t len, const struct ca_why *why)
{
    if (unlinkat(d->fd, name, 0) != 0 && errno != ENOENT)
        return refuse_file(d, "remove", name, why);
    int fd = openat(d->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0)
        return refuse_file(d, "create", name, why);
    int err = 0;

    if (file_write(fd, data, len, 0) != 0 || fchmod(fd, mode) != 0 ||
        (is_handed_over(d) && fchown(fd, d->uid, d->gid) != 0) || fsync(fd) != 0)
        err = refuse_file(d, "write", name, why);
    close(fd);
    if (err != 0)
        unlinkat(d->fd, name, 0);
    return err;
}

static int write_key(const struct ca_dir *d, EVP_PKEY *key, const struct ca_why *why)
{
    BIO *bio = BIO_new(BIO_s_secmem());
    const char *data;

    CHECK(bio != NULL);
    CHECK(PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1);
    long len = BIO_get_mem_data(bio, &data);
    int err = write_new(d, CA_KEY CA_NEW, 0600, data, (size_t)len, why);

    BIO_free(bio);
    return err;
}

static int write_certificate(const struct ca_dir *d, const X509 *x, const struct ca_why *why)
{
    char *pem = ca_x509_pem(x);
    size_t len = strlen(pem);
    int err = len <= CA_FILE_MAX ? 0
                                 : ca_refuse(why, ERR_TOO_LARGE,
                                             "so many names do not fit into a certificate of %d "
                                             "bytes; name fewer, or *.example.com for many of them",
                                             CA_FILE_MAX);

    if (err == 0)
        err = write_new(d, CA_CERTIFICATE CA_NEW, 0644, pem, len, why);
    free(pem);
    return err;
}

static bool is_there(const struct ca_dir *d, const char *name)
{
    return faccessat(d->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Give a file its second name; 0 when it is missing. */
static int keep_old(const struct ca_dir *d, const char *name, const char *old,
                    const struct ca_why *why)
{
    int fd = -1;

    if (!is_there(d, name))
        return 0;
    int err = ca_file_open(d, name, &fd, why);

    if (err != 0)
        return err;
    if (fchmod(fd, 0600) != 0 || (unlinkat(d->fd, old, 0) != 0 && errno != ENOENT) ||
        linkat(d->fd, name, d->fd, old, 0) != 0)
        err = refuse_file(d, "keep the former CA as", old, why);
    close(fd);
    return err;
}

static int put_in_place(const struct ca_dir *d, const char *from, const char *name,
                        const struct ca_why *why)
{
    if (renameat(d->fd, from, d->fd, name) != 0)
        return refuse_file(d, "write", name, why);
    return sync_dir(d, why);
}

static int replace_pair(const struct ca_dir *d, const struct ca_why *why)
{
    int err = keep_old(d, CA_KEY, CA_KEY CA_OLD, why);

    if (err == 0)
        err = keep_old(d, CA_CERTIFICATE, CA_CERTIFICATE CA_OLD, why);
    if (err == 0)
        err = sync_dir(d, why);
    if (err == 0)
        err = put_in_place(d, CA_KEY CA_NEW, CA_KEY, why);
    if (err == 0)
        err = put_in_place(d, CA_CERTIFICATE CA_NEW, CA_CERTIFICATE, why);
    return err;
}

/* --- the directory --- */

static int create_dir(const char *path, const struct ca_why *why)
{
    struct stat parent;

    if (mkdir(path, 0700) != 0)
        return errno == EEXIST ? 0 : ca_refuse_errno(why, "create", path);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int above_fd = fd >= 0 ? openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    int err = 0;

    if (above_fd < 0 || fstat(above_fd, &parent) != 0 ||
        (geteuid() == 0 && fchown(fd, parent.st_uid, parent.st_gid) != 0) || fsync(above_fd) != 0)
        err = ca_refuse_errno(why, "create", path);
    if (above_fd >= 0)
        close(above_fd);
    if (fd >= 0)
        close(fd);
    return err;
}

static int check_occasion(const struct ca_dir *d, enum ca_occasion occasion,
                          const struct ca_why *why)
{
    bool has_ca = is_there(d, CA_KEY) || is_there(d, CA_CERTIFICATE);

    if (occasion == CA_FIRST && has_ca) {
        return ca_refuse(why, ERR_DENIED,
                         "there is a CA in %s already; cachalot ca rotate makes a new one and "
                         "keeps the old",
                         d->path);
    }
    if (occasion == CA_ROTATION && !has_ca)
        return ca_refuse(why, ERR_NOT_FOUND, "there is no CA in %s; run cachalot ca init", d->path);
    return 0;
}

static int create_in(const struct ca_dir *d, const struct ca_name *names, size_t count,
                     enum ca_occasion occasion, const struct ca_why *why)
{
    int err = ca_is_cut_short(d) ? put_in_place(d, CA_CERTIFICATE CA_NEW, CA_CERTIFICATE, why) : 0;

    if (err == 0)
        err = check_occasion(d, occasion, why);
    if (err != 0)
        return err;
    EVP_PKEY *key = EVP_EC_gen("P-256");

    CHECK(key != NULL);
    X509 *x = authority_new(key, names, count);

    err = write_key(d, key, why);
    if (err == 0)
        err = write_certificate(d, x, why);
    if (err == 0)
        err = sync_dir(d, why);
    X509_free(x);
    EVP_PKEY_free(key);
    return err == 0 ? replace_pair(d, why) : err;
}

int ca_create(const char *dir, const char *const *names, size_t count, enum ca_occasion occasion,
              char *why_text, size_t why_size)
{
    struct ca_why why = {why_text, why_size};
    struct ca_name *parsed = mem_new(count * sizeof parsed[0]);
    struct ca_dir d;
    int err = parse_names(parsed, names, &count, &why);

    if (err == 0 && occasion == CA_FIRST)
        err = create_dir(dir, &why);
    if (err == 0) {
        err = ca_dir_open(&d, dir, false, &why);
        if (err == ERR_NOT_FOUND)
            ca_refuse(&why, err, "there is no CA in %s; run cachalot ca init", dir);
    }
    if (err == 0) {
        err = create_in(&d, parsed, count, occasion, &why);
        ca_dir_close(&d);
    }
    free(parsed);
    return err;
}
