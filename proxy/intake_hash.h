/* SPDX-License-Identifier: ISC */
/* The hash thread of the intakes: it is one step behind the write thread. */
#ifndef PROXY_INTAKE_HASH_H
#define PROXY_INTAKE_HASH_H

#include "proxy/intake_private.h"

/* The thread; `arg` is the hasher, and so is `owner` in what its messages run. */
void *hasher_run(void *arg);
void hasher_reset(struct msg *m, void *owner);
void hasher_size(struct msg *m, void *owner);
void hasher_block(struct msg *m, void *owner);
void hasher_end(struct msg *m, void *owner);
void hasher_stopped(struct msg *m, void *owner);

#endif
