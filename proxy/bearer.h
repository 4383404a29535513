/* SPDX-License-Identifier: ISC */
/*
 * Tokens that a token server has signed for clients: JSON Web Tokens (RFC 7519) as
 * Docker's registries take them (distribution, "Token Authentication Implementation"),
 * signed by RS256 or ES256. Pure, but for the reading of the key.
 */
#ifndef PROXY_BEARER_H
#define PROXY_BEARER_H

#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/name.h"

#define BEARER_TEXT_MAX (16u * 1024)
#define BEARER_SUBJECT_SIZE 128
#define BEARER_LEEWAY_S 60 /* that clocks may differ */

struct signature_key;

/* Read a public key, or the certificate that has it, from a PEM file that not everybody can
 * write to. ERR_* with a sentence in `why`. */
MUST_CHECK int bearer_key_read(struct signature_key **key, const char *path, char *why,
                               size_t why_size);

/* Whose tokens are taken. */
struct bearer_policy {
    const struct signature_key *key;
    const char *issuer;  /* what "iss" must be */
    const char *service; /* what "aud" must be, or have */
};

struct bearer {
    char subject[BEARER_SUBJECT_SIZE]; /* printable; empty for an anonymous client's */
    unsigned grants;                   /* of enum right, for the repository that was asked about */
};

/* Check a token at `now_s` (Unix time), and see what it grants for a repository: what its
 * claim "access" says of that name (for an upstream's, HOST/REPOSITORY). With NULL it is the
 * list of repositories that is asked about, {"type": "registry", "name": "catalog"}.
 * ERR_INVALID with a sentence that lives for ever in `*why`. */
MUST_CHECK int bearer_check(const struct bearer_policy *p, const char *token, size_t len,
                            int64_t now_s, const struct name *repository, struct bearer *b,
                            const char **why);

/* All that a token grants for repositories, for who has many to ask about. */
struct bearer_grants;

/* As bearer_check; owned by the caller. */
MUST_CHECK int bearer_grants_read(const struct bearer_policy *p, const char *token, size_t len,
                                  int64_t now_s, struct bearer_grants **g, const char **why);
/* Of enum right: what bearer_check says of that repository. */
unsigned bearer_grants_for(const struct bearer_grants *g, const struct name *repository);
/* NULL is legal; leaves NULL. */
void bearer_grants_free(struct bearer_grants **g);

/* The claims alone, for tests: what bearer_check does once the signature is found good. */
MUST_CHECK int bearer_read_claims(const struct bearer_policy *p, const char *json, size_t len,
                                  int64_t now_s, const struct name *repository, struct bearer *b,
                                  const char **why);

#endif
