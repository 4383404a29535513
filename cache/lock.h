/* SPDX-License-Identifier: ISC */
/* Locks for short sections. */
#ifndef CACHE_LOCK_H
#define CACHE_LOCK_H

#include <pthread.h>

/* Make a lock whose contenders spin a little before they sleep: a thread that is
 * woken by a message often meets the sender on its way out of the section, and
 * sleeping again would cost more than all else that it has to do. */
void lock_init(pthread_mutex_t *lock);

#endif
