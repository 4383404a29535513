/* SPDX-License-Identifier: ISC */
/*
 * Passes: the tokens that cachalot gives to clients itself, so that those with a password
 * and those without one can use the same listener. A pass says who the client is and
 * nothing of what it may do, and nobody has to remember it: it is sealed by a keyed hash
 * over that and over the hash of the user's password. Another run's key, or another
 * password, and the seal is broken. Pure.
 */
#ifndef PROXY_PASS_H
#define PROXY_PASS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"
#include "proxy/config_access.h"

#define PASS_KEY_BYTES 32

/* What clients are told that it is good for, and what it is. Those of containerd before 2.3
 * know of no end: they keep it for all of a push, however many gigabytes that has. */
#define PASS_TOLD_S (5 * 60)
#define PASS_GOOD_S (6 * 60 * 60)

struct pass {
    char user[CONFIG_USER_SIZE]; /* empty: nobody's */
    uint64_t until_s;            /* by the clock of the daemon's own */
};

/* Sixteen digits of the time, two for each byte of the name, those of the seal, all
 * hexadecimal, with dots between them. */
#define PASS_TEXT_SIZE (16 + 1 + 2 * (CONFIG_USER_SIZE - 1) + 1 + 64 + 1)

/* `hash` is that of the user's password; empty for nobody. */
void pass_write(const struct pass *p, const uint8_t key[PASS_KEY_BYTES], const char *hash,
                char out[PASS_TEXT_SIZE]);

/* What a text says, whoever has written it. ERR_INVALID when it is no pass. */
MUST_CHECK int pass_read(struct pass *p, const char *text, size_t len);

/* Whether pass_write wrote that text with this key and hash. `p` is what it says. */
bool pass_is_genuine(const struct pass *p, const char *text, size_t len,
                     const uint8_t key[PASS_KEY_BYTES], const char *hash);

#endif
