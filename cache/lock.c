/* SPDX-License-Identifier: ISC */
#include "cache/lock.h"

#include "cache/check.h"

void lock_init(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attr;

    CHECK(pthread_mutexattr_init(&attr) == 0);
    CHECK(pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP) == 0);
    CHECK(pthread_mutex_init(lock, &attr) == 0);
    pthread_mutexattr_destroy(&attr);
}
