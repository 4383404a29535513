/* SPDX-License-Identifier: ISC */
/* How requests end: one row each, the same word in the log, the metrics and the
 * error body. */
#ifndef PROXY_OUTCOME_H
#define PROXY_OUTCOME_H

#include <stdbool.h>

/* Row: symbol, word (log and metrics), HTTP status of an error (0: not an error),
 * error code of distribution-spec 1.1.1 "Error Codes", what it says to a person. */
/* clang-format off */
#define OUTCOME_TABLE(ROW)                                                                        \
    ROW(OUT_HIT, "hit", 0, "", "served from the store")                                           \
    ROW(OUT_MISS, "miss", 0, "", "fetched from the upstream")                                     \
    ROW(OUT_COLLAPSED, "collapsed", 0, "", "joined a fetch under way")                            \
    ROW(OUT_REVALIDATED, "revalidated", 0, "", "the upstream said that it is unchanged")          \
    ROW(OUT_STALE, "stale", 0, "", "served stale: the upstream did not confirm it")               \
    ROW(OUT_LOCAL, "local", 0, "", "answered by cachalot itself")                                 \
    ROW(OUT_ACCEPTED, "accepted", 0, "", "a part of an upload was taken")                         \
    ROW(OUT_STORED, "stored", 0, "", "what a client pushed was stored")                           \
    ROW(OUT_MOUNTED, "mounted", 0, "", "a blob that is held was made part of a repository")       \
    ROW(OUT_DELETED, "deleted", 0, "", "a client deleted it from a repository")                   \
    ROW(OUT_RELAYED, "relayed", 0, "", "passed on to the upstream as it is")                      \
    ROW(OUT_BAD_REQUEST, "bad-request", 400, "UNSUPPORTED", "the request is malformed")           \
    ROW(OUT_URI_TOO_LONG, "uri-too-long", 414, "UNSUPPORTED", "the request target is too long")   \
    ROW(OUT_FIELDS_TOO_LARGE, "fields-too-large", 431, "UNSUPPORTED", "the request head is too large") \
    ROW(OUT_BODY_TOO_LARGE, "body-too-large", 413, "SIZE_INVALID", "the request body is too large") \
    ROW(OUT_BAD_VERSION, "bad-version", 505, "UNSUPPORTED", "only HTTP/1.1 and HTTP/1.0 are spoken") \
    ROW(OUT_FORBIDDEN, "forbidden", 403, "DENIED", "cachalot does not do that for this client")   \
    ROW(OUT_MISDIRECTED, "misdirected", 421, "UNSUPPORTED", "the request is for another host than its connection") \
    ROW(OUT_METHOD, "method", 405, "UNSUPPORTED", "the method is not allowed here")               \
    ROW(OUT_NO_ROUTE, "no-route", 404, "NAME_UNKNOWN", "there is nothing at this path")           \
    ROW(OUT_NAME_INVALID, "name-invalid", 400, "NAME_INVALID", "the repository name is not valid") \
    ROW(OUT_NAME_UNKNOWN, "name-unknown", 404, "NAME_UNKNOWN", "the registry or repository is not known") \
    ROW(OUT_TAG_INVALID, "tag-invalid", 400, "MANIFEST_INVALID", "the tag is not valid")          \
    ROW(OUT_DIGEST_INVALID, "digest-invalid", 400, "DIGEST_INVALID", "the digest is not valid")   \
    ROW(OUT_RANGE, "range", 416, "SIZE_INVALID", "the range lies outside the content")            \
    ROW(OUT_MANIFEST_UNKNOWN, "manifest-unknown", 404, "MANIFEST_UNKNOWN", "the upstream has no such manifest") \
    ROW(OUT_BLOB_UNKNOWN, "blob-unknown", 404, "BLOB_UNKNOWN", "the upstream has no such blob")   \
    ROW(OUT_UPLOAD_UNKNOWN, "upload-unknown", 404, "BLOB_UPLOAD_UNKNOWN", "there is no such upload here, or it has ended") \
    ROW(OUT_UPLOAD_INVALID, "upload-invalid", 400, "BLOB_UPLOAD_INVALID", "the upload does not fit what was announced") \
    ROW(OUT_UPLOAD_RANGE, "upload-range", 416, "BLOB_UPLOAD_INVALID", "the chunk does not follow what was uploaded") \
    ROW(OUT_UPLOAD_BUSY, "upload-busy", 409, "BLOB_UPLOAD_INVALID", "another request writes to this upload") \
    ROW(OUT_UPLOAD_DIGEST, "upload-digest", 400, "DIGEST_INVALID", "what was uploaded has another digest") \
    ROW(OUT_MANIFEST_INVALID, "manifest-invalid", 400, "MANIFEST_INVALID", "the manifest is not valid") \
    ROW(OUT_MANIFEST_TOO_LARGE, "manifest-too-large", 413, "SIZE_INVALID", "the manifest is larger than 4 MiB") \
    ROW(OUT_MANIFEST_BLOB, "manifest-blob-unknown", 404, "MANIFEST_BLOB_UNKNOWN", "the manifest names blobs that are not here") \
    ROW(OUT_LOCAL_MANIFEST, "local-manifest-unknown", 404, "MANIFEST_UNKNOWN", "there is no such manifest in this repository") \
    ROW(OUT_LOCAL_BLOB, "local-blob-unknown", 404, "BLOB_UNKNOWN", "there is no such blob in this repository") \
    ROW(OUT_READ_ONLY, "read-only", 405, "UNSUPPORTED", "repositories of upstreams are pulled from, not pushed to") \
    ROW(OUT_ACCESS, "access", 403, "DENIED", "no access rule lets this client do that") \
    ROW(OUT_LOGIN, "login", 401, "UNAUTHORIZED", "this needs a login")                           \
    ROW(OUT_LOGIN_LIMITED, "login-limited", 429, "TOOMANYREQUESTS", "too many logins have failed or are under way") \
    ROW(OUT_UPSTREAM_DENIED, "upstream-denied", 403, "DENIED", "the upstream refused access")     \
    ROW(OUT_UNAUTHORIZED, "unauthorized", 401, "UNAUTHORIZED", "the upstream wants credentials")   \
    ROW(OUT_LOOP, "loop", 508, "UNKNOWN", "the request has come back to where it has been")        \
    ROW(OUT_CREDENTIAL, "credential", 502, "UNKNOWN", "the credentials for the upstream cannot be used") \
    ROW(OUT_UPSTREAM_LIMITED, "upstream-limited", 429, "TOOMANYREQUESTS", "the upstream limits requests") \
    ROW(OUT_OFFLINE, "offline", 504, "UNKNOWN", "the upstream is not asked: offline = yes is configured") \
    ROW(OUT_UPSTREAM_UNRESOLVED, "upstream-unresolved", 502, "UNKNOWN", "the upstream's name does not resolve") \
    ROW(OUT_UPSTREAM_REFUSED, "upstream-refused", 502, "UNKNOWN", "the upstream cannot be reached") \
    ROW(OUT_UPSTREAM_TLS, "upstream-tls", 502, "UNKNOWN", "the upstream's certificate or TLS is not acceptable") \
    ROW(OUT_UPSTREAM_ERROR, "upstream-error", 502, "UNKNOWN", "the upstream answered with an error") \
    ROW(OUT_UPSTREAM_BROKEN, "upstream-broken", 502, "UNKNOWN", "the upstream's answer is not usable") \
    ROW(OUT_UPSTREAM_TIMEOUT, "upstream-timeout", 504, "UNKNOWN", "the upstream did not answer in time") \
    ROW(OUT_BAD_CONTENT, "bad-content", 502, "UNKNOWN", "the upstream's content does not match its digest") \
    ROW(OUT_UPLOAD_SPACE, "upload-space", 507, "UNKNOWN", "the cache disk is full: nothing of this was kept") \
    ROW(OUT_NO_SPACE, "no-space", 503, "UNKNOWN", "the cache disk is full")                       \
    ROW(OUT_STORE_FAILED, "store-failed", 503, "UNKNOWN", "the cache directory cannot be written") \
    ROW(OUT_OVERLOADED, "overloaded", 503, "UNKNOWN", "too many requests are under way")          \
    ROW(OUT_DRAINING, "draining", 503, "UNKNOWN", "cachalot is shutting down")                    \
    ROW(OUT_CUT, "cut", 0, "", "the body was cut short: its fetch failed")                        \
    ROW(OUT_CANCELLED, "cancelled", 0, "", "it was cancelled")                                    \
    ROW(OUT_CLIENT_LEFT, "client-left", 0, "", "the client closed the connection")                \
    ROW(OUT_CLIENT_STALLED, "client-stalled", 0, "", "the client took too few bytes for too long")
/* clang-format on */

enum outcome {
#define OUTCOME_ENUM(symbol, word, status, code, text) symbol,
    OUTCOME_TABLE(OUTCOME_ENUM)
#undef OUTCOME_ENUM
        OUTCOME_COUNT
};

struct outcome_row {
    const char *word;
    int status;
    const char *code;
    const char *text;
};

const struct outcome_row *outcome_row(enum outcome o);

/* Whether it is one of the error rows (status is not 0). */
bool outcome_is_error(enum outcome o);

#endif
