/* SPDX-License-Identifier: ISC */
/* Threads, and the clock that they wait by. */
#ifndef PROXY_THREAD_H
#define PROXY_THREAD_H

#include <pthread.h>
#include <stdint.h>

/* Start a thread with every signal blocked (signals are the main thread's), named
 * for ps(1) and debuggers (at most 15 characters). Aborts when it cannot start:
 * threads are started at the beginning only. */
void thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *arg);

/* Let others go before the calling thread where processors are short; `nice` as in nice(2),
 * 1 to 19. Without it others are slower, no more. */
void thread_yield_to_others(int nice);

/* Wait for its end. */
void thread_join(pthread_t thread);

/* CLOCK_MONOTONIC in milliseconds. */
int64_t clock_now_ms(void);

#endif
