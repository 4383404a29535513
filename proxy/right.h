/* SPDX-License-Identifier: ISC */
/* What may be done in a repository. */
#ifndef PROXY_RIGHT_H
#define PROXY_RIGHT_H

/* Bits, for sets. One does not stand for another: who may push need not be let pull. */
enum right { RIGHT_PULL = 1, RIGHT_PUSH = 2, RIGHT_DELETE = 4 };

#define RIGHTS_ALL 7u

#endif
