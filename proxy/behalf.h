/* SPDX-License-Identifier: ISC */
/* What of a client's request goes with a question to an upstream, to the registry's
 * own origin alone. */
#ifndef PROXY_BEHALF_H
#define PROXY_BEHALF_H

/* Either may be NULL. */
struct behalf {
    const char *authorization; /* the Authorization field's value */
    const char *loop;          /* CDN-Loop as it came (RFC 8586) */
};

/* A copy whose strings are its own; behalf_clear wipes and frees them. */
struct behalf behalf_copy(const struct behalf *b);
void behalf_clear(struct behalf *b);

#endif
