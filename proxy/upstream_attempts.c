/* SPDX-License-Identifier: ISC */
/* Which url is asked next, and when: fail-over, then backoff with jitter. */
#include "proxy/upstream_private.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "proxy/thread.h"

#define BACKOFF_FIRST_MS 200
#define BACKOFF_MAX_MS 5000
/* For so long nobody waits again for a url that could not be asked. */
#define PREFERENCE_MS (60 * 1000)

static unsigned url_count(const struct attempts *a)
{
    return a->foreign ? a->foreign->count : a->to->url_count;
}

unsigned attempts_url_index(const struct attempts *a)
{
    return (a->first + a->url) % url_count(a);
}

static void begin_round(struct attempts *a)
{
    a->url = 0;
    a->not_found = 0;
    a->may_pass = false;
}

void attempts_init(struct attempts *a, const struct config_upstream *to, int64_t retries)
{
    *a = (struct attempts){.to = to, .rounds_left = retries};
}

void attempts_go_elsewhere(struct attempts *a, const struct foreign_urls *urls, int64_t retries)
{
    *a = (struct attempts){.to = a->to, .foreign = urls, .rounds_left = retries};
}

static struct preference *find_preference(struct upstream *u, const char *registry)
{
    for (unsigned i = 0; i < PREFERENCES_MAX; i++) {
        if (strcmp(u->preferences[i].registry, registry) == 0)
            return &u->preferences[i];
    }
    return NULL;
}

void attempts_prefer(struct attempts *a, struct upstream *u)
{
    const struct preference *p = find_preference(u, a->to->registry);

    if (p && p->url < a->to->url_count && clock_now_ms() < p->until_ms)
        a->first = p->url;
}

void attempts_succeeded(const struct attempts *a, struct upstream *u)
{
    unsigned url = attempts_url_index(a);

    if (a->foreign)
        return;
    health_answered(u->parts.health, a->to->registry);
    /* "Not found" says nothing against the urls before this one. */
    if (a->url == 0 || !a->may_pass)
        return;
    struct preference *p = find_preference(u, a->to->registry);
    if (!p) {
        p = &u->preferences[u->next_preference];
        u->next_preference = (u->next_preference + 1) % PREFERENCES_MAX;
        snprintf(p->registry, sizeof p->registry, "%s", a->to->registry);
    }
    p->url = url;
    p->until_ms = clock_now_ms() + PREFERENCE_MS;
}

static bool is_unreachable(enum outcome o)
{
    return o == OUT_UPSTREAM_UNRESOLVED || o == OUT_UPSTREAM_REFUSED || o == OUT_UPSTREAM_TLS ||
           o == OUT_UPSTREAM_TIMEOUT;
}

void attempts_report(const struct attempts *a, struct upstream *u, const struct behalf *b,
                     enum health_kind kind, struct failure *f)
{
    struct health *h = u->parts.health;
    const char *registry = a->to->registry;
    int64_t now_ms = clock_now_ms();

    /* Nothing was asked. */
    if (f->outcome == OUT_DRAINING || f->outcome == OUT_CREDENTIAL)
        return;
    if (outcome_row(f->outcome)->status >= 500)
        health_failed(h, registry, f->outcome);
    if (!f->is_elsewhere && is_unreachable(f->outcome)) {
        health_unreachable(h, registry, now_ms);
        return;
    }
    health_answered(h, registry);
    if (!f->is_elsewhere && f->outcome == OUT_UPSTREAM_LIMITED && !b->authorization)
        f->retry_after_s = health_limited(h, registry, kind, f->retry_after_s, now_ms);
}

int attempts_limit_left(struct upstream *u, const struct config_upstream *to,
                        const struct behalf *b, enum health_kind kind)
{
    if (b->authorization)
        return 0;
    return health_limit_left(u->parts.health, to->registry, kind, clock_now_ms());
}

void attempts_progress(struct attempts *a, int64_t retries)
{
    a->rounds_left = retries;
    a->rounds_failed = 0;
}

/* Half of it fixed, half of it random, so that many who failed together do not
 * come back together. */
static int backoff_ms(unsigned rounds_failed)
{
    int ms = BACKOFF_FIRST_MS;
    unsigned dice = 0;

    while (rounds_failed-- > 1 && ms < BACKOFF_MAX_MS)
        ms *= 2;
    if (ms > BACKOFF_MAX_MS)
        ms = BACKOFF_MAX_MS;
    if (getrandom(&dice, sizeof dice, GRND_NONBLOCK) != sizeof dice)
        dice = 0;
    return ms / 2 + (int)(dice % (unsigned)(ms / 2 + 1));
}

enum attempts_next attempts_failed(struct attempts *a, const struct failure *f, int *wait_ms)
{
    bool is_not_found = outcome_row(f->outcome)->status == 404;

    /* "Could not ask" weighs more than "not found": only when every url said so is
     * it true. */
    if (!is_not_found || a->not_found == a->url)
        a->worst = *f;
    a->not_found += is_not_found;
    a->may_pass |= f->may_pass;
    a->url++;
    if (a->url < url_count(a))
        return ATTEMPT_NOW;
    bool again = a->may_pass && a->rounds_left > 0;
    begin_round(a);
    if (!again)
        return ATTEMPT_NEVER;
    a->rounds_left--;
    a->rounds_failed++;
    *wait_ms = backoff_ms(a->rounds_failed);
    if (a->worst.retry_after_s > BACKOFF_MAX_MS / 1000)
        return ATTEMPT_NEVER;
    if (a->worst.retry_after_s * 1000 > *wait_ms)
        *wait_ms = a->worst.retry_after_s * 1000;
    return ATTEMPT_LATER;
}

char *attempts_url(const struct attempts *a, const struct name *n, const char *rest)
{
    unsigned i = attempts_url_index(a);

    if (a->foreign)
        return mem_copy(a->foreign->urls[i], strlen(a->foreign->urls[i]));
    const char *url = a->to->urls[i];
    if (n->repository[0] == '\0')
        return mem_format("%s/v2/", url);
    switch (a->to->parent) {
    case PARENT_PREFIX:
        return mem_format("%s/v2/%s/%s/%s", url, n->registry, n->repository, rest);
    case PARENT_NS:
        return mem_format("%s/v2/%s/%s%sns=%s", url, n->repository, rest,
                          strchr(rest, '?') ? "&" : "?", n->registry);
    case PARENT_NO:
        break;
    }
    return mem_format("%s/v2/%s/%s", url, n->repository, rest);
}
