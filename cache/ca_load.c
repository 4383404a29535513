/* SPDX-License-Identifier: ISC */
#include "cache/ca_private.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cache/err.h"

#define GROUP_NAME_MAX 32

int ca_refuse(const struct ca_why *why, int err, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why->text, why->size, format, args);
    va_end(args);
    return err;
}

int ca_refuse_errno(const struct ca_why *why, const char *doing, const char *path)
{
    int errnum = errno;

    return ca_refuse(why, err_from_errno(errnum), "cannot %s %s: %s", doing, path,
                     strerror(errnum));
}

/* --- the directory --- */

static int check_dir(const struct ca_dir *d, const struct stat *st, const struct ca_why *why)
{
    if (st->st_uid != geteuid() && geteuid() != 0) {
        return ca_refuse(why, ERR_DENIED,
                         "%s belongs to user %lu and this runs as user %lu; change its owner and "
                         "that of its files, or run as that user",
                         d->path, (unsigned long)st->st_uid, (unsigned long)geteuid());
    }
    if ((st->st_mode & 077) != 0) {
        return ca_refuse(why, ERR_DENIED,
                         "users other than its owner can get into %s, where the key of the CA is; "
                         "run chmod 0700 %s",
                         d->path, d->path);
    }
    return 0;
}

static int lock_dir(const struct ca_dir *d, bool shared, const struct ca_why *why)
{
    int n;

    do {
        n = flock(d->fd, shared ? LOCK_SH : LOCK_EX);
    } while (n != 0 && errno == EINTR);
    return n == 0 ? 0 : ca_refuse_errno(why, "lock", d->path);
}

int ca_dir_open(struct ca_dir *d, const char *path, bool shared, const struct ca_why *why)
{
    struct stat st;

    *d = (struct ca_dir){.path = path};
    d->fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (d->fd < 0 && (errno == ELOOP || errno == ENOTDIR)) {
        return ca_refuse(why, ERR_DENIED,
                         "%s is a symbolic link or a file; put a directory there, or remove it",
                         path);
    }
    if (d->fd < 0)
        return ca_refuse_errno(why, "open", path);
    bool is_known = fstat(d->fd, &st) == 0;
    int err = is_known ? check_dir(d, &st, why) : ca_refuse_errno(why, "open", path);

    if (err == 0)
        err = lock_dir(d, shared, why);
    if (err != 0)
        ca_dir_close(d);
    d->uid = is_known ? st.st_uid : 0;
    d->gid = st.st_gid;
    return err;
}

void ca_dir_close(struct ca_dir *d)
{
    close(d->fd);
    d->fd = -1;
}

/* --- files --- */

int ca_file_open(const struct ca_dir *d, const char *name, int *fd, const struct ca_why *why)
{
    struct stat st;
    int opened = openat(d->fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (opened < 0 && errno == ELOOP) {
        return ca_refuse(why, ERR_DENIED, "%s/%s is a symbolic link; put the file itself there",
                         d->path, name);
    }
    if (opened < 0) {
        return ca_refuse(why, err_from_errno(errno), "cannot open %s/%s: %s", d->path, name,
                         strerror(errno));
    }
    int err = 0;

    if (fstat(opened, &st) != 0 || !S_ISREG(st.st_mode)) {
        err = ca_refuse(why, ERR_DENIED, "%s/%s is not a file; remove it", d->path, name);
    } else if (st.st_uid != d->uid) {
        err = ca_refuse(why, ERR_DENIED,
                        "%s/%s belongs to user %lu and not, as the directory, to user %lu; run "
                        "chown %lu %s/%s",
                        d->path, name, (unsigned long)st.st_uid, (unsigned long)d->uid,
                        (unsigned long)d->uid, d->path, name);
    }
    if (err != 0)
        close(opened);
    else
        *fd = opened;
    return err;
}

/* Mode bits that a file must not have, and what follows when it does. */
static int check_mode(const struct ca_dir *d, const char *name, int fd, mode_t forbidden,
                      const struct ca_why *why)
{
    struct stat st;

    if (fstat(fd, &st) == 0 && (st.st_mode & forbidden) == 0)
        return 0;
    return ca_refuse(why, ERR_DENIED,
                     "users other than its owner can %s %s/%s; run chmod 0600 %s/%s, and cachalot "
                     "ca rotate if somebody may have done so",
                     (forbidden & 044) != 0 ? "get at" : "write to", d->path, name, d->path, name);
}

/* The whole of an open file, in memory that is wiped when it is freed. */
static int read_all(const struct ca_dir *d, const char *name, int fd, BIO **text,
                    const struct ca_why *why)
{
    char buf[4096];
    BIO *bio = BIO_new(BIO_s_secmem());
    size_t total = 0;
    ssize_t n;

    CHECK(bio != NULL);
    while ((n = read(fd, buf, sizeof buf)) > 0 && total <= CA_FILE_MAX) {
        CHECK(BIO_write(bio, buf, (int)n) == (int)n);
        total += (size_t)n;
    }
    OPENSSL_cleanse(buf, sizeof buf);
    if (n == 0) {
        *text = bio;
        return 0;
    }
    BIO_free(bio);
    if (n < 0)
        return ca_refuse(why, ERR_IO, "cannot read %s/%s: %s", d->path, name, strerror(errno));
    return ca_refuse(why, ERR_TOO_LARGE,
                     "%s/%s has more than %d bytes; put the right one back from a copy, or run "
                     "cachalot ca rotate",
                     d->path, name, CA_FILE_MAX);
}

static int read_file(const struct ca_dir *d, const char *name, mode_t forbidden, BIO **text,
                     const struct ca_why *why)
{
    int fd = -1;
    int err = ca_file_open(d, name, &fd, why);

    if (err != 0)
        return err;
    err = check_mode(d, name, fd, forbidden, why);
    if (err == 0)
        err = read_all(d, name, fd, text, why);
    close(fd);
    return err;
}

/* Nobody is asked for a pass phrase. */
static int no_pass_phrase(char *buf, int size, int writing, void *arg)
{
    (void)buf, (void)size, (void)writing, (void)arg;
    return -1;
}

static bool is_p256(const EVP_PKEY *key)
{
    char group[GROUP_NAME_MAX];

    return EVP_PKEY_get_group_name(key, group, sizeof group, NULL) == 1 &&
           strcmp(group, SN_X9_62_prime256v1) == 0;
}

static int read_key(const struct ca_dir *d, EVP_PKEY **key, const struct ca_why *why)
{
    BIO *text = NULL;
    int err = read_file(d, CA_KEY, 077, &text, why);

    if (err != 0)
        return err;
    EVP_PKEY *read = PEM_read_bio_PrivateKey(text, NULL, no_pass_phrase, NULL);

    BIO_free(text);
    if (read == NULL || !is_p256(read)) {
        EVP_PKEY_free(read);
        return ca_refuse(why, ERR_DAMAGED,
                         "%s/%s is not a P-256 key in PEM without a pass phrase; put the right one "
                         "back from a copy, or run cachalot ca rotate",
                         d->path, CA_KEY);
    }
    *key = read;
    return 0;
}

static int read_certificate(const struct ca_dir *d, const char *name, X509 **certificate,
                            const struct ca_why *why)
{
    BIO *text = NULL;
    int err = read_file(d, name, 022, &text, why);

    if (err != 0)
        return err;
    *certificate = PEM_read_bio_X509(text, NULL, no_pass_phrase, NULL);
    BIO_free(text);
    if (*certificate != NULL)
        return 0;
    return ca_refuse(why, ERR_DAMAGED,
                     "%s/%s is not a certificate in PEM; put the right one back from a copy, or "
                     "run cachalot ca rotate",
                     d->path, name);
}

/* --- the pair --- */

static int read_matching(const struct ca_dir *d, const char *name, EVP_PKEY *key,
                         X509 **certificate, const struct ca_why *why)
{
    X509 *read = NULL;
    int err = read_certificate(d, name, &read, why);

    if (err != 0)
        return err;
    if (X509_check_private_key(read, key) != 1) {
        X509_free(read);
        return ca_refuse(why, ERR_MISMATCH,
                         "%s/%s is not the key of %s/%s; put those that belong together back from "
                         "a copy, or run cachalot ca rotate",
                         d->path, CA_KEY, d->path, name);
    }
    *certificate = read;
    return 0;
}

/* As ca_is_cut_short, when ca.crt was found wanting. */
static int read_new_certificate(const struct ca_dir *d, EVP_PKEY *key, X509 **certificate)
{
    char unsaid[1] = "";

    return read_matching(d, CA_CERTIFICATE CA_NEW, key, certificate,
                         &(struct ca_why){unsaid, sizeof unsaid});
}

static int refuse_missing(const struct ca_dir *d, const char *name, const struct ca_why *why)
{
    return ca_refuse(why, ERR_DAMAGED,
                     "%s/%s is missing; put it back from a copy, or run cachalot ca rotate",
                     d->path, name);
}

static int read_pair(const struct ca_dir *d, EVP_PKEY **key, X509 **certificate,
                     const struct ca_why *why)
{
    int err = read_key(d, key, why);

    if (err == ERR_NOT_FOUND) {
        if (faccessat(d->fd, CA_CERTIFICATE, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            return refuse_missing(d, CA_KEY, why);
        return ca_refuse(why, ERR_NOT_FOUND, "there is no CA in %s; run cachalot ca init", d->path);
    }
    if (err != 0)
        return err;
    err = read_matching(d, CA_CERTIFICATE, *key, certificate, why);
    if ((err == ERR_NOT_FOUND || err == ERR_MISMATCH) &&
        read_new_certificate(d, *key, certificate) == 0) {
        /* Nothing to refuse after all. */
        return ca_refuse(why, 0, "%s", "");
    }
    return err == ERR_NOT_FOUND ? refuse_missing(d, CA_CERTIFICATE, why) : err;
}

bool ca_is_cut_short(const struct ca_dir *d)
{
    char unsaid[1] = "";
    const struct ca_why why = {unsaid, sizeof unsaid};
    EVP_PKEY *key = NULL;
    X509 *certificate = NULL;
    int err = read_key(d, &key, &why);
    bool cut_short = false;

    if (err == 0) {
        err = read_matching(d, CA_CERTIFICATE, key, &certificate, &why);
        cut_short = (err == ERR_NOT_FOUND || err == ERR_MISMATCH) &&
                    read_new_certificate(d, key, &certificate) == 0;
    }
    X509_free(certificate);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return cut_short;
}

/* --- whether it is such a CA as is made here --- */

static int check_times(const struct ca_dir *d, const X509 *x, const struct ca_why *why)
{
    int64_t now_s = (int64_t)time(NULL);
    bool early = now_s < ca_start_s(x);
    time_t limit = (time_t)(early ? ca_start_s(x) : ca_expiry_s(x));
    struct tm tm;

    if (!early && now_s < limit)
        return 0;
    gmtime_r(&limit, &tm);
    return ca_refuse(why, ERR_INVALID, "%s/%s %s %04d-%02d-%02d; %s", d->path, CA_CERTIFICATE,
                     early ? "is valid only from" : "has expired on", tm.tm_year + 1900,
                     tm.tm_mon + 1, tm.tm_mday,
                     early ? "set the clock of this machine"
                           : "run cachalot ca rotate, and have the clients trust the new one");
}

static bool is_authority(X509 *x)
{
    return X509_check_purpose(x, -1, 0) == 1 && X509_check_ca(x) == 1 && X509_get_pathlen(x) == 0 &&
           (X509_get_extension_flags(x) & EXFLAG_KUSAGE) != 0 &&
           (X509_get_key_usage(x) & KU_KEY_CERT_SIGN) != 0 && X509_self_signed(x, 1) == 1;
}

static int refuse_certificate(const struct ca_dir *d, const char *what, const struct ca_why *why)
{
    return ca_refuse(why, ERR_DAMAGED,
                     "%s/%s %s; put the right one back from a copy, or run cachalot ca rotate",
                     d->path, CA_CERTIFICATE, what);
}

/* Names that nobody would have permitted: when one is, its kind is left open. */
static bool leaves_open(const struct ca *ca)
{
    return ca_covers(ca, "cachalot.invalid") || ca_covers(ca, "0.0.0.0") || ca_covers(ca, "::");
}

static int take_certificate(struct ca *ca, const struct ca_dir *d, const struct ca_why *why)
{
    int critical;

    if (!is_authority(ca->certificate)) {
        return refuse_certificate(d, "is not the certificate of a CA as cachalot makes them", why);
    }
    ca->limits = X509_get_ext_d2i(ca->certificate, NID_name_constraints, &critical, NULL);
    if (ca->limits == NULL || critical != 1 || leaves_open(ca)) {
        return refuse_certificate(
            d, "does not limit by critical name constraints for which hosts it is", why);
    }
    return check_times(d, ca->certificate, why);
}

static char *subject_text(const X509 *x)
{
    BIO *bio = BIO_new(BIO_s_mem());
    const char *data;

    CHECK(bio != NULL);
    CHECK(X509_NAME_print_ex(bio, X509_get_subject_name(x), 0, XN_FLAG_RFC2253) >= 0);
    long len = BIO_get_mem_data(bio, &data);
    char *text = mem_copy(data, (size_t)len);

    BIO_free(bio);
    return text;
}

int ca_load(const char *dir, struct ca **ca, char *why_text, size_t why_size)
{
    struct ca_why why = {why_text, why_size};
    struct ca_dir d;
    int err = ca_dir_open(&d, dir, true, &why);

    if (err == ERR_NOT_FOUND)
        return ca_refuse(&why, err, "there is no CA in %s; run cachalot ca init", dir);
    if (err != 0)
        return err;
    struct ca *loaded = mem_new(sizeof *loaded);

    err = read_pair(&d, &loaded->key, &loaded->certificate, &why);
    if (err == 0) {
        loaded->leaf_key = EVP_EC_gen("P-256");
        CHECK(loaded->leaf_key != NULL);
        err = take_certificate(loaded, &d, &why);
    }
    /* TLS on this thread would take what is left in the queue for its own. */
    ERR_clear_error();
    ca_dir_close(&d);
    if (err != 0) {
        ca_free(&loaded);
        return err;
    }
    loaded->pem = ca_x509_pem(loaded->certificate);
    loaded->subject = subject_text(loaded->certificate);
    ca_names_list(loaded);
    *ca = loaded;
    return 0;
}
