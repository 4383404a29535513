/* SPDX-License-Identifier: ISC */
/* Counters: one row each makes the struct, /-/metrics and its help text. */
#ifndef PROXY_STATS_H
#define PROXY_STATS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/name.h"
#include "proxy/outcome.h"

/* Row: field, metric name, type, help. */
/* clang-format off */
#define STATS_TABLE(ROW)                                                                             \
    ROW(connections_total, "cachalot_connections_total", "counter", "Client connections accepted.")  \
    ROW(connections, "cachalot_connections", "gauge", "Client connections open.")                    \
    ROW(tls_handshakes, "cachalot_tls_handshakes_total", "counter", "TLS handshakes with clients.")  \
    ROW(tls_failures, "cachalot_tls_failures_total", "counter", "TLS handshakes that failed.")       \
    ROW(relays, "cachalot_relays", "gauge", "Relays between a client and an upstream.")              \
    ROW(relays_total, "cachalot_relays_total", "counter", "Such relays that were begun.")            \
    ROW(client_bytes, "cachalot_client_bytes_total", "counter", "Bytes of content sent to clients.") \
    ROW(sent_bytes, "cachalot_sent_bytes_total", "counter", "Bytes of blobs sent to clients, counted as they go.") \
    ROW(upstream_bytes, "cachalot_upstream_bytes_total", "counter", "Bytes of content received from upstreams.") \
    ROW(upstream_requests, "cachalot_upstream_requests_total", "counter", "Requests sent to upstreams.") \
    ROW(upstream_resumes, "cachalot_upstream_resumes_total", "counter", "Broken fetches continued with Range.") \
    ROW(fetches, "cachalot_fetches", "gauge", "Blob fetches under way.")                             \
    ROW(fetches_total, "cachalot_fetches_total", "counter", "Blob fetches begun.")                   \
    ROW(fetch_failures, "cachalot_fetch_failures_total", "counter", "Blob fetches that failed.")     \
    ROW(readers, "cachalot_readers", "gauge", "Requests served from a fetch under way.")             \
    ROW(verify_failures, "cachalot_verify_failures_total", "counter", "Contents whose digest or size was wrong.") \
    ROW(blobs_stored, "cachalot_blobs_stored_total", "counter", "Blobs published in the store.")     \
    ROW(manifests_stored, "cachalot_manifests_stored_total", "counter", "Manifests published in the store.") \
    ROW(uploads, "cachalot_uploads", "gauge", "Upload sessions on disk.")                            \
    ROW(upload_bytes, "cachalot_upload_bytes_total", "counter", "Bytes of blobs received from clients.") \
    ROW(manifest_bytes, "cachalot_manifest_body_bytes", "gauge", "Bytes held for large manifests that clients send.") \
    ROW(uploads_finished, "cachalot_uploads_finished_total", "counter", "Uploads that became blobs.")  \
    ROW(uploads_failed, "cachalot_uploads_failed_total", "counter", "Uploads of other content than named, and writes of uploads that failed.") \
    ROW(cache_bytes, "cachalot_cache_bytes", "gauge", "Bytes that the cache directory takes, what was promised to downloads and uploads with it.") \
    ROW(cache_limit_bytes, "cachalot_cache_limit_bytes", "gauge", "Bytes that it may take at most; 0 is no limit.") \
    ROW(cache_min_free_bytes, "cachalot_cache_min_free_bytes", "gauge", "Bytes that are left free on the file system.") \
    ROW(cache_free_bytes, "cachalot_cache_free_bytes", "gauge", "Bytes that are free on the file system.") \
    ROW(cache_blobs, "cachalot_cache_blobs", "gauge", "Blobs and manifests that are held.")          \
    ROW(evicted_blobs, "cachalot_evicted_blobs_total", "counter", "Blobs and manifests removed to make room, or as garbage.") \
    ROW(evicted_bytes, "cachalot_evicted_bytes_total", "counter", "Bytes on the disk of these.")     \
    ROW(evicted_images, "cachalot_evicted_images_total", "counter", "Manifests among these.")        \
    ROW(streamed_unstored, "cachalot_streamed_unstored_total", "counter", "Fetches passed on without being stored, for want of room.") \
    ROW(blobs_dropped, "cachalot_blobs_dropped_total", "counter", "Recorded blobs that were found missing, of the wrong size or unreadable when asked for.") \
    ROW(store_failures, "cachalot_store_failures_total", "counter", "Writes to the cache directory that failed.") \
    ROW(scrub_blobs, "cachalot_scrub_blobs_total", "counter", "Blobs that were read again to see whether they are what they were.") \
    ROW(scrub_bytes, "cachalot_scrub_bytes_total", "counter", "Bytes that were read for that.") \
    ROW(scrub_bad, "cachalot_scrub_bad_total", "counter", "Such blobs that were bad.") \
    ROW(scrub_healed, "cachalot_scrub_healed_total", "counter", "Bad blobs that were fetched again.") \
    ROW(scrub_ended_at, "cachalot_scrub_last_timestamp_seconds", "gauge", "When all blobs had been read the last time; 0: never.") \
    ROW(lost_blobs, "cachalot_lost_blobs", "gauge", "Blobs that went bad, and could not be had again yet.") \
    ROW(index_rebuilds, "cachalot_index_rebuilds_total", "counter", "Indexes that were lost or damaged, and made anew at the start.") \
    ROW(commits, "cachalot_commits_total", "counter", "Commits of the index.")                       \
    ROW(cold_reads, "cachalot_cold_reads_total", "counter", "Reads handed to a disk helper.")        \
    ROW(duplicate_blobs, "cachalot_duplicate_blobs_total", "counter", "Pushed layers whose content was held already, compressed differently.") \
    ROW(duplicate_bytes, "cachalot_duplicate_bytes_total", "counter", "Bytes of these layers.")      \
    ROW(unchecked_blobs, "cachalot_unchecked_duplicates_total", "counter", "Pushed layers and image configs not looked at for that: too many waited.") \
    ROW(orders, "cachalot_orders_total", "counter", "Images that cachalot fetch was told to fetch.")  \
    ROW(order_failures, "cachalot_order_failures_total", "counter", "Such images that could not be fetched whole.") \
    ROW(prefetch_runs, "cachalot_prefetch_runs_total", "counter", "Runs of prefetches that have ended.") \
    ROW(prefetch_failures, "cachalot_prefetch_failures_total", "counter", "Such runs in which something could not be fetched.") \
    ROW(prefetch_bytes, "cachalot_prefetch_bytes_total", "counter", "Bytes that prefetches have fetched.") \
    ROW(reloads, "cachalot_reloads_total", "counter", "Configurations taken over by SIGHUP.")        \
    ROW(reload_failures, "cachalot_reload_failures_total", "counter", "Configurations refused at SIGHUP.")
/* clang-format on */

/* What is counted by registry: the ledger is fed from it. */
#define STATS_REGISTRIES_MAX 64

/* Row: field, metric name, help; the label is `registry`. */
#define STATS_REGISTRY_TABLE(ROW)                                                                  \
    ROW(line_bytes, "cachalot_registry_line_bytes_total",                                          \
        "Bytes of content received from the registry.")                                            \
    ROW(lan_bytes, "cachalot_registry_lan_bytes_total",                                            \
        "Bytes of the registry's content sent to clients.")                                        \
    ROW(line_requests, "cachalot_registry_line_requests_total", "Requests sent to the registry.")  \
    ROW(lan_requests, "cachalot_registry_lan_requests_total",                                      \
        "Requests of clients for the registry's content.")                                         \
    ROW(hits, "cachalot_registry_hits_total",                                                      \
        "Requests of clients answered with nothing from the line.")

/* Row: field, metric name, help, value at the start; gauges with the label `registry`.
 * Times are in seconds since 1970. */
/* clang-format off */
#define STATS_UPSTREAM_TABLE(ROW)                                                                  \
    ROW(up, "cachalot_upstream_up", "Whether the registry could be reached when last tried.", 1)   \
    ROW(changed_at, "cachalot_upstream_changed_timestamp_seconds",                                 \
        "When that was last found to be otherwise than before.", STATS_UNKNOWN)                    \
    ROW(answered_at, "cachalot_upstream_answered_timestamp_seconds",                               \
        "When the registry last answered.", STATS_UNKNOWN)                                         \
    ROW(limited_until, "cachalot_upstream_limited_until_timestamp_seconds",                        \
        "Until when the registry is left alone, since it answered 429.", STATS_UNKNOWN)            \
    ROW(ratelimit_limit, "cachalot_upstream_ratelimit_limit",                                      \
        "Requests that the registry allows us in its window, as it last said.", STATS_UNKNOWN)     \
    ROW(ratelimit_remaining, "cachalot_upstream_ratelimit_remaining",                              \
        "How many of them were left, as it last said.", STATS_UNKNOWN)                             \
    ROW(ratelimit_window_s, "cachalot_upstream_ratelimit_window_seconds",                          \
        "That window, as it last said.", STATS_UNKNOWN)                                            \
    ROW(ratelimit_told_at, "cachalot_upstream_ratelimit_told_timestamp_seconds",                   \
        "When it last said so.", STATS_UNKNOWN)
/* clang-format on */
#define STATS_UNKNOWN UINT64_MAX /* such a series is left out */

struct registry_stats {
    char registry[NAME_MAX_SIZE];
#define STATS_REGISTRY_FIELD(field, metric, help) _Atomic uint64_t field;
    STATS_REGISTRY_TABLE(STATS_REGISTRY_FIELD)
#undef STATS_REGISTRY_FIELD
#define STATS_UPSTREAM_FIELD(field, metric, help, initial) _Atomic uint64_t field;
    STATS_UPSTREAM_TABLE(STATS_UPSTREAM_FIELD)
#undef STATS_UPSTREAM_FIELD
    _Atomic uint64_t failure; /* the last one: its time and its outcome; 0: none */
};

struct stats {
#define STATS_FIELD(field, metric, type, help) _Atomic uint64_t field;
    STATS_TABLE(STATS_FIELD)
#undef STATS_FIELD
    _Atomic uint64_t requests[OUTCOME_COUNT];
    int64_t started_at_s; /* Unix time; set before there are threads */
    _Atomic unsigned registry_count;
    struct registry_stats registries[STATS_REGISTRIES_MAX];
};

/* Add to a counter or gauge of the table; relaxed order. */
#define STATS_ADD(stats, field, n)                                                                 \
    atomic_fetch_add_explicit(&(stats)->field, (uint64_t)(n), memory_order_relaxed)
#define STATS_SET(stats, field, n)                                                                 \
    atomic_store_explicit(&(stats)->field, (uint64_t)(n), memory_order_relaxed)
#define STATS_SUB(stats, field, n)                                                                 \
    atomic_fetch_sub_explicit(&(stats)->field, (uint64_t)(n), memory_order_relaxed)

/* The counters of a registry, made on first use. Main thread only adds; any
 * thread finds. When the table is full, the last row serves for all others. */
struct registry_stats *stats_add_registry(struct stats *s, const char *registry);
/* NULL when it was never added. */
struct registry_stats *stats_find_registry(struct stats *s, const char *registry);
/* The registry was asked in vain. */
void stats_note_failure(struct registry_stats *r, enum outcome why, int64_t now_s);

/* The whole as Prometheus text (exposition format 0.0.4), NUL-terminated, owned
 * by the caller; its length in `*len`. Every series is there from the start, but for
 * what only a registry can say. */
char *stats_format(struct stats *s, size_t *len);

#endif
