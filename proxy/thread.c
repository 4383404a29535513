/* SPDX-License-Identifier: ISC */
#include "proxy/thread.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "cache/check.h"

struct start {
    char name[16];
    void *(*run)(void *);
    void *arg;
};

/* It gives itself its name: to give another thread one takes a file, which the sandbox shuts. */
static void *begin(void *arg)
{
    struct start start = *(const struct start *)arg;

    free(arg);
    CHECK(pthread_setname_np(pthread_self(), start.name) == 0);
    return start.run(start.arg);
}

void thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *arg)
{
    struct start *start = mem_new(sizeof *start);
    sigset_t all, old;

    start->run = run;
    start->arg = arg;
    CHECK(snprintf(start->name, sizeof start->name, "%s", name) < (int)sizeof start->name);
    sigfillset(&all);
    CHECK(pthread_sigmask(SIG_SETMASK, &all, &old) == 0);
    CHECK(pthread_create(thread, NULL, begin, start) == 0);
    CHECK(pthread_sigmask(SIG_SETMASK, &old, NULL) == 0);
}

/* Linux has it by thread. */
void thread_yield_to_others(int nice)
{
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), nice);
}

void thread_join(pthread_t thread)
{
    CHECK(pthread_join(thread, NULL) == 0);
}

int64_t clock_now_ms(void)
{
    struct timespec t;

    CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
