/* SPDX-License-Identifier: ISC */
/* Texts that are in memory no longer than they are needed, and never shown. */
#ifndef PROXY_SECRET_H
#define PROXY_SECRET_H

/* Free a text and leave nothing of it in memory. NULL is legal. */
void secret_free(char *text);

/* One text after the other, owned by the caller: "Bearer " and a token. */
char *secret_join(const char *a, const char *b);

/* "Basic " and the credential in base64, RFC 7617; owned by the caller. */
char *secret_basic(const char *username, const char *password);

#endif
