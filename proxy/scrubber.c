/* SPDX-License-Identifier: ISC */
/*
 * Pace: a round has the period of the settings, so each byte has its time; after each read
 * the thread waits until the time of the next one has come, and takes messages meanwhile.
 * Where the round is is written every few minutes and at the end.
 */
#include "proxy/scrubber.h"

#include <linux/ioprio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "cache/lock.h"
#include "cache/stride.h"
#include "cache/usage.h"
#include "proxy/log.h"
#include "proxy/scrubber_private.h"
#include "proxy/thread.h"

#define NICE_VALUE 19
/* Digests that are looked up at once. */
#define AHEAD_MAX 64
#define RATE_MIN_BYTES (1024u * 1024)
#define NOTE_MS (5 * 60 * 1000)
#define IDLE_MS (60 * 1000)
/* The same for a period that is shorter than that. */
#define SHORT_MS 200
#define RETRY_FIRST_MS (60 * 1000)
#define RETRY_LAST_MS (6 * 3600 * 1000)
/* What opening a file costs, in bytes. */
#define BLOB_COST_BYTES (64u * 1024)

/* --- pace --- */

/* Linux has the disk's by thread too. */
static void lower_priority(void)
{
    thread_yield_to_others(NICE_VALUE);
    (void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0));
}

/* So long as reading that many bytes may take. A positive result: stop. */
static int wait_for(struct scrubber *s, uint64_t bytes)
{
    int64_t now_ms = clock_now_ms();
    uint64_t bytes_per_s = s->bytes_per_s > 0 ? s->bytes_per_s : RATE_MIN_BYTES;

    /* What was not used is not made up for. */
    if (s->due_ms < now_ms - 1000)
        s->due_ms = now_ms - 1000;
    s->due_ms += (int64_t)(bytes * 1000 / bytes_per_s);
    for (; s->due_ms > now_ms; now_ms = clock_now_ms())
        if (!courier_wait(&s->courier, (int)(s->due_ms - now_ms)))
            return 1;
    return s->courier.stopping ? 1 : 0;
}

int scrubber_pace(void *arg, uint64_t bytes)
{
    struct scrubber *s = arg;

    STATS_ADD(s->courier.parts.stats, scrub_bytes, bytes);
    return wait_for(s, bytes);
}

/* --- the round --- */

static int note_apply(void *arg, struct db_txn *txn)
{
    return scrub_put(txn, &((struct scrubber *)arg)->state);
}

static void note_state(struct scrubber *s)
{
    int err = courier_write(&s->courier, note_apply, s);

    /* ERR_IO: storage has said already that it writes no more. */
    if (err != 0 && err != ERR_IO)
        log_event_about(s->courier.parts.log, LOG_WARN, NULL,
                        "where the scrubber is was not noted: %s", err_text(err));
    s->note_ms = clock_now_ms() + NOTE_MS;
}

static void show_state(const struct scrubber *s)
{
    STATS_SET(s->courier.parts.stats, scrub_ended_at,
              s->state.ended_at_s > 0 ? s->state.ended_at_s : 0);
}

/* Once: what an earlier release has stored has no marks. */
static int mark_record(void *arg, struct db_txn *txn, struct db_value key, struct db_value value)
{
    struct scrubber *s = arg;
    struct blob_record r;
    struct digest d;

    (void)value;
    if (digest_from_key(&d, key.data, key.size) == (int)key.size && blob_get(txn, &d, &r) == 0 &&
        r.origin == BLOB_PUBLIC)
        blob_mark_public(s->courier.parts.store, &d);
    return 0;
}

static int mark_rest(void *arg)
{
    return courier_wait(&((struct scrubber *)arg)->courier, 1) ? 0 : 1;
}

static void mark_all(struct scrubber *s)
{
    if (s->state.has_marked ||
        db_stride(s->courier.reader, DB_BLOBS, NULL, 0, mark_record, mark_rest, s) != 0)
        return;
    s->state.has_marked = true;
    note_state(s);
}

static void begin_round(struct scrubber *s)
{
    s->state.is_running = true;
    s->state.began_at_s = time(NULL);
    s->state.round_blobs = 0;
    s->state.round_bytes = 0;
    s->state.cursor = (struct digest){0};
    note_state(s);
}

static void end_round(struct scrubber *s)
{
    s->state.ended_at_s = time(NULL);
    s->state.is_running = false;
    log_event(s->courier.parts.log, LOG_INFO, "scrubbed %llu blobs with %llu bytes",
              (unsigned long long)s->state.round_blobs, (unsigned long long)s->state.round_bytes);
    note_state(s);
    show_state(s);
}

struct ahead {
    struct digest list[AHEAD_MAX];
    unsigned count;
};

static int take_digest(void *arg, const struct digest *d, const struct blob_record *r)
{
    struct ahead *a = arg;

    (void)r;
    a->list[a->count++] = *d;
    return a->count == AHEAD_MAX;
}

static int look_ahead(struct scrubber *s, struct ahead *a)
{
    const struct digest *after = s->state.cursor.alg != 0 ? &s->state.cursor : NULL;
    struct db_txn *txn;

    a->count = 0;
    int err = db_read(s->courier.reader, &txn);

    if (err != 0)
        return err;
    err = blob_walk(txn, after, take_digest, a);
    db_read_end(s->courier.reader);
    return err < 0 ? err : 0;
}

static bool look_at_suspects(struct scrubber *s)
{
    struct digest list[SUSPECTS_MAX];
    bool goes_on = true;

    pthread_mutex_lock(&s->lock);
    unsigned count = s->suspect_count;
    for (unsigned i = 0; i < count; i++)
        list[i] = s->suspects[i];
    s->suspect_count = 0;
    pthread_mutex_unlock(&s->lock);
    for (unsigned i = 0; goes_on && i < count; i++) {
        enum look look = scrubber_look_at(s, &list[i]);

        goes_on = look == LOOK_GONE ? scrubber_heal_lost(s, &list[i]) : look != LOOK_STOP;
    }
    return goes_on;
}

static void set_rate(struct scrubber *s)
{
    const struct config *c = s->courier.config;
    struct usage usage;
    struct db_txn *txn;

    if (db_read(s->courier.reader, &txn) != 0)
        return;
    int err = usage_get(txn, &usage);

    db_read_end(s->courier.reader);
    if (err == 0)
        s->bytes_per_s = scrub_rate(usage.bytes + usage.blobs * BLOB_COST_BYTES, c->scrub_s,
                                    RATE_MIN_BYTES, (uint64_t)c->scrub_rate_bytes);
}

/* Some blobs of the round. False: stop. */
static bool go_on(struct scrubber *s)
{
    struct ahead a;

    if (s->bytes_per_s == 0)
        set_rate(s);
    /* A round that cannot be read goes on later: it has not ended. */
    if (look_ahead(s, &a) != 0)
        return courier_wait(&s->courier, IDLE_MS);
    for (unsigned i = 0; i < a.count; i++) {
        if (!look_at_suspects(s) || scrubber_look_at(s, &a.list[i]) == LOOK_STOP ||
            wait_for(s, BLOB_COST_BYTES) != 0)
            return false;
        s->state.cursor = a.list[i];
        if (s->courier.config->scrub_s == 0)
            return true;
    }
    if (a.count < AHEAD_MAX)
        end_round(s);
    else if (clock_now_ms() >= s->note_ms)
        note_state(s);
    return true;
}

/* --- the thread --- */

/* Whether a round is under way, perhaps as of now. */
static bool begin_if_due(struct scrubber *s)
{
    int64_t period_s = s->courier.config->scrub_s;

    if (scrub_is_due(&s->state, period_s, time(NULL))) {
        begin_round(s);
        s->bytes_per_s = 0;
    }
    return period_s != 0 && s->state.is_running;
}

/* False: stop. */
static bool retry_if_due(struct scrubber *s)
{
    if (clock_now_ms() < s->retry_ms)
        return true;
    bool goes_on = s->courier.config->offline || scrubber_retry_lost(s);

    s->retry_ms = clock_now_ms() + s->retry_after_ms;
    s->retry_after_ms =
        s->retry_after_ms * 2 < RETRY_LAST_MS ? s->retry_after_ms * 2 : RETRY_LAST_MS;
    return goes_on;
}

static bool has_suspects(struct scrubber *s)
{
    pthread_mutex_lock(&s->lock);
    bool has = s->suspect_count > 0;
    pthread_mutex_unlock(&s->lock);
    return has;
}

/* Until a round or a retry may be due: clocks are looked at now and then. The message of a suspect
 * may have been taken while another was healed. */
static int wait_ms(struct scrubber *s)
{
    if (has_suspects(s))
        return 0;
    int64_t left_ms = s->retry_ms - clock_now_ms();

    if (s->courier.config->scrub_s != 0 && left_ms > SHORT_MS &&
        s->courier.config->scrub_s * 1000 < IDLE_MS)
        left_ms = SHORT_MS;
    return left_ms < 0 ? 0 : left_ms < IDLE_MS ? (int)left_ms : IDLE_MS;
}

/* A cache that is new has time for its first round. */
static void read_state(struct scrubber *s)
{
    struct db_txn *txn;
    uint64_t blobs = 0;

    if (db_read(s->courier.reader, &txn) != 0)
        return;
    int err = scrub_get(txn, &s->state);

    if (err == 0)
        err = db_count(txn, DB_BLOBS, &blobs);
    db_read_end(s->courier.reader);
    if (err == 0 && blobs == 0 && s->state.began_at_s == 0) {
        s->state.began_at_s = time(NULL);
        s->state.has_marked = true;
        note_state(s);
    }
    show_state(s);
}

static void *scrubber_run(void *arg)
{
    struct scrubber *s = arg;

    lower_priority();
    read_state(s);
    mark_all(s);
    while (!s->courier.stopping) {
        if (!look_at_suspects(s) || !retry_if_due(s))
            break;
        if (begin_if_due(s) ? !go_on(s) : !courier_wait(&s->courier, wait_ms(s)))
            break;
    }
    if (s->state.is_running)
        note_state(s);
    return NULL;
}

/* --- others --- */

static void woken(struct msg *m, void *owner)
{
    struct scrubber *s = CONTAINER_OF(m, struct scrubber, woken);

    (void)owner;
    pthread_mutex_lock(&s->lock);
    s->is_woken = false;
    pthread_mutex_unlock(&s->lock);
}

void scrubber_suspect(struct scrubber *s, const struct digest *d)
{
    if (s == NULL)
        return;
    pthread_mutex_lock(&s->lock);
    bool is_known = s->suspect_count == SUSPECTS_MAX || s->has_ended;

    for (unsigned i = 0; !is_known && i < s->suspect_count; i++)
        is_known = digest_equal(&s->suspects[i], d);
    if (!is_known)
        s->suspects[s->suspect_count++] = *d;
    if (!s->is_woken && !s->has_ended) {
        s->is_woken = true;
        queue_post(s->courier.queue, &s->woken);
    }
    pthread_mutex_unlock(&s->lock);
}

struct scrubber *scrubber_start(const struct courier_parts *parts, struct config *c)
{
    struct scrubber *s = mem_new(sizeof *s);

    s->woken.run = woken;
    s->retry_after_ms = RETRY_FIRST_MS;
    s->retry_ms = clock_now_ms();
    s->note_ms = clock_now_ms() + NOTE_MS;
    lock_init(&s->lock);
    courier_start(&s->courier, parts, c, "scrub", scrubber_run, s);
    return s;
}

void scrubber_set_config(struct scrubber *s, struct config *c)
{
    courier_set_config(&s->courier, c);
}

void scrubber_stop(struct scrubber *s)
{
    pthread_mutex_lock(&s->lock);
    s->has_ended = true;
    pthread_mutex_unlock(&s->lock);
    courier_stop(&s->courier);
}

void scrubber_free(struct scrubber **sp)
{
    struct scrubber *s = *sp;

    if (s == NULL)
        return;
    *sp = NULL;
    CHECK(s->has_ended);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
