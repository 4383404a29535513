/* SPDX-License-Identifier: ISC */
/* How often one may be wrong: attempts at passwords in a minute, of an address and user and
 * of an address alone, in bounded memory. Any thread. */
#ifndef PROXY_ATTEMPT_H
#define PROXY_ATTEMPT_H

#include <stdint.h>

#define ATTEMPTS_OF_USER 10
#define ATTEMPTS_OF_ADDRESS 60
#define ATTEMPTS_MS (60 * 1000) /* from the first of them on */

struct attempts;

/* Remember at most `max` addresses, and users at them; the oldest gives way. */
struct attempts *attempts_new(unsigned max);
/* NULL is legal; leaves NULL. */
void attempts_free(struct attempts **a);

/* One more: 0, or for how many seconds it may not be made; then it does not count.
 * `now_ms` is monotonic. All of an IPv6 /64 are one address. */
int attempt_begin(struct attempts *a, const char *peer, const char *user, int64_t now_ms);
/* That one was right, and does not count. */
void attempt_forgive(struct attempts *a, const char *peer, const char *user, int64_t now_ms);

#endif
