/* SPDX-License-Identifier: ISC */
/*
 * cachalot's own certificate authority (RFC 5280).
 *
 *   <dir>/ca.key, ca.crt          the key (0600) and the self-signed certificate
 *   <dir>/ca.key.old, ca.crt.old  those before the last rotation
 *   <dir>/ca.key.new, ca.crt.new  while they are made
 *
 * What it can vouch for is written into its certificate, as critical name constraints to the
 * names that it was made for: a client that trusts it believes it about these hosts and no other,
 * whoever gets hold of the key.
 *
 * Names are DNS names, IPv4 or IPv6 addresses (no brackets, no zone), or "*.x" for every name
 * below x, but not x. A verifier takes the constraint to x for one to x and all names below it.
 *
 * A struct ca does not change once it is loaded: any number of threads may use one at the same
 * time, but for ca_free.
 */
#ifndef CACHE_CA_H
#define CACHE_CA_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"

struct ca;

#define CA_VALID_DAYS 3650
#define CA_LEAF_DAYS 90
#define CA_FINGERPRINT_SIZE 96 /* with the NUL */

enum ca_occasion {
    CA_FIRST,    /* there must be none yet */
    CA_ROTATION, /* there must be one, even a damaged one; it is kept as *.old */
};

/* Make a CA for these names, in a directory that is created (0700) when it is missing. It is on
 * the disk when this returns; after a crash at any time there is either the former CA or the new
 * one. Root makes it for the owner of the directory, or of the one above if it creates it.
 *
 * ERR_INVALID when a name is not one, or there is none; ERR_DENIED when the occasion is not as
 * said, or the directory is a symbolic link, another user's, or open to others; ERR_TOO_LARGE for
 * more names than a certificate holds; else the error of a file operation. `why` then has a
 * sentence with what to do. */
MUST_CHECK int ca_create(const char *dir, const char *const *names, size_t count,
                         enum ca_occasion occasion, char *why, size_t why_size);

/* Load the CA. ERR_NOT_FOUND when there is none (neither file); ERR_DENIED when others can get at
 * the key or the files are not the user's own; ERR_MISMATCH when key and certificate do not belong
 * together; ERR_TOO_LARGE; ERR_INVALID when it has expired or is not valid yet; ERR_DAMAGED when
 * it is incomplete or not such a CA as ca_create makes. `why` then has a sentence with what to do.
 * Root may load the CA of another user, if all of it belongs to that user. */
MUST_CHECK int ca_load(const char *dir, struct ca **ca, char *why, size_t why_size);
/* NULL is legal. */
void ca_free(struct ca **ca);

/* Whether the constraints in the certificate permit the name, as verifiers see it. false for what
 * is not a name. */
bool ca_covers(const struct ca *ca, const char *name);

/* A certificate for a server with these names, none of them a wildcard, and its key; the caller
 * owns both (X509_free, EVP_PKEY_free). Valid from two days ago, so that clients with slow clocks
 * take it, and for CA_LEAF_DAYS; in both directions within the validity of the CA. All leaves of
 * a struct ca have the same key, which is never on a disk.
 * ERR_INVALID when a name is not one or there is none, ERR_DENIED when ca_covers denies one. */
MUST_CHECK int ca_issue(const struct ca *ca, const char *const *names, size_t count, X509 **leaf,
                        EVP_PKEY **key);

/* When a certificate begins and ends to be valid, in seconds since the epoch. */
int64_t ca_start_s(const X509 *certificate);
int64_t ca_expiry_s(const X509 *certificate);

/* SHA-256 of the certificate as "AA:BB:..."; returns `out`. */
char *ca_fingerprint(const struct ca *ca, char out[CA_FINGERPRINT_SIZE]);

/* These belong to `ca`. */
const char *ca_pem(const struct ca *ca);
const X509 *ca_certificate(const struct ca *ca);
const char *ca_subject(const struct ca *ca); /* "CN=cachalot CA ..." */
/* The names that are permitted, as ca_create takes them. */
const char *const *ca_names(const struct ca *ca, size_t *count);

#endif
