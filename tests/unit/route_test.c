/* SPDX-License-Identifier: ISC */
/* Targets and what they mean: every door, every way of being off the grammar. */
#include "proxy/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define SHA256 "sha256:" HEX
#define SHA512 "sha512:" HEX HEX

static enum outcome parse(struct target *t, const char *target, enum role role)
{
    return route_parse(t, (struct span){target, strlen(target)}, role,
                       role == ROLE_MIRROR ? "docker.io" : NULL);
}

/* The name, as "registry repository", and what was asked of it: tag, digest or "-". */
static const char *meaning(const struct target *t, char out[1024])
{
    char digest[DIGEST_TEXT_MAX];
    const char *reference = t->by_digest ? digest_text(&t->digest, digest) : t->tag;
    snprintf(out, 1024, "%s %s %s %s", door_name(t->door),
             t->name.registry[0] ? t->name.registry : "-",
             t->name.repository[0] ? t->name.repository : "-", reference[0] ? reference : "-");
    return out;
}

struct good_row {
    const char *target;
    enum role role;
    enum endpoint endpoint;
    const char *meaning;
};

#define REGISTRY ROLE_REGISTRY
#define MIRROR ROLE_MIRROR
#define PING ENDPOINT_PING
#define MANIFEST ENDPOINT_MANIFEST
#define BLOB ENDPOINT_BLOB
#define TAGS ENDPOINT_TAGS
#define REFERRERS ENDPOINT_REFERRERS

static const struct good_row good_rows[] = {
    {"/v2", REGISTRY, PING, "- - - -"},
    {"/v2/", REGISTRY, PING, "- - - -"},
    {"//v2/", REGISTRY, PING, "- - - -"},
    {"/v2//", REGISTRY, PING, "- - - -"},
    {"/v2/?", REGISTRY, PING, "- - - -"},
    {"/v2/", MIRROR, PING, "mirror docker.io - -"},
    {"/v2/?ns=Docker.io", MIRROR, PING, "mirror docker.io - -"},
    {"/v2/?ns=ghcr.io", REGISTRY, PING, "ns ghcr.io - -"},
    {"/v2/docker.io", REGISTRY, PING, "prefix docker.io - -"},
    {"/v2/index.docker.io/", REGISTRY, PING, "prefix docker.io - -"},
    {"/docker.io/v2", REGISTRY, PING, "prefix docker.io - -"},
    {"/localhost:5000/v2/", REGISTRY, PING, "prefix localhost:5000 - -"},
    {"http://cachalot.lan:5000/v2/", REGISTRY, PING, "- - - -"},
    /* Pushes. */
    {"/v2/_catalog?n=5", REGISTRY, ENDPOINT_CATALOG, "local - - -"},
    {"/v2/team/app/blobs/uploads/", REGISTRY, ENDPOINT_UPLOADS, "local - team/app -"},
    {"/v2/team/app/blobs/uploads", REGISTRY, ENDPOINT_UPLOADS, "local - team/app -"},
    {"/v2/team/app/blobs/uploads/0123", REGISTRY, ENDPOINT_UPLOAD, "local - team/app 0123"},
    {"/v2/a/blobs/uploads/blobs/uploads/x", REGISTRY, ENDPOINT_UPLOAD, "local - a/blobs/uploads x"},
    {"/v2/a/blobs/uploads/manifests/latest", REGISTRY, MANIFEST, "local - a/blobs/uploads latest"},
    {"/v2/docker.io/alpine/blobs/uploads/", REGISTRY, ENDPOINT_UPLOADS,
     "prefix docker.io library/alpine -"},
    /* The prefix door. */
    {"/v2/docker.io/alpine/manifests/latest", REGISTRY, MANIFEST,
     "prefix docker.io library/alpine latest"},
    {"/v2/registry-1.docker.io/library/alpine/manifests/3.20", REGISTRY, MANIFEST,
     "prefix docker.io library/alpine 3.20"},
    {"/v2/MCR.Microsoft.com/windows/servercore/manifests/ltsc2022", REGISTRY, MANIFEST,
     "prefix mcr.microsoft.com windows/servercore ltsc2022"},
    {"/v2/localhost/a/tags/list", REGISTRY, TAGS, "prefix localhost a -"},
    {"/v2/[::1]:5000/a/tags/list", REGISTRY, TAGS, "prefix [::1]:5000 a -"},
    {"/v2/registry.lan:5000/a/b/blobs/" SHA256, REGISTRY, BLOB,
     "prefix registry.lan:5000 a/b " SHA256},
    {"/v2/registry.lan%3A5000/a/b/blobs/" SHA512, REGISTRY, BLOB,
     "prefix registry.lan:5000 a/b " SHA512},
    {"/docker.io/v2/alpine/manifests/" SHA256, REGISTRY, MANIFEST,
     "prefix docker.io library/alpine " SHA256},
    {"/quay.io/v2/a/b/referrers/" SHA256, REGISTRY, REFERRERS, "prefix quay.io a/b " SHA256},
    {"//quay.io///v2//a//b/tags//list", REGISTRY, TAGS, "prefix quay.io a/b -"},
    {"http://h/quay.io/v2/a/tags/list", REGISTRY, TAGS, "prefix quay.io a -"},
    {"https://h:1/v2/quay.io/a/tags/list", REGISTRY, TAGS, "prefix quay.io a -"},
    {"/quay.io/v2/a/tags/list?ns=QUAY.io", REGISTRY, TAGS, "prefix quay.io a -"},
    {"/docker.io/v2/a/b/tags/list?ns=index.docker.io", REGISTRY, TAGS, "prefix docker.io a/b -"},
    /* The ns door. */
    {"/v2/library/alpine/manifests/latest?ns=docker.io", REGISTRY, MANIFEST,
     "ns docker.io library/alpine latest"},
    {"/v2/alpine/manifests/latest?ns=docker.io", REGISTRY, MANIFEST,
     "ns docker.io library/alpine latest"},
    {"/v2/a/blobs/" SHA256 "?ns=registry.lan%3A5000", REGISTRY, BLOB,
     "ns registry.lan:5000 a " SHA256},
    {"/v2/docker.io/library/alpine/manifests/1?ns=registry-1.docker.io", REGISTRY, MANIFEST,
     "ns docker.io library/alpine 1"},
    {"/v2/ghcr.io/a/manifests/1?ns=quay.io", REGISTRY, MANIFEST, "ns quay.io ghcr.io/a 1"},
    {"/v2/quay.io/manifests/1?ns=quay.io", REGISTRY, MANIFEST, "ns quay.io quay.io 1"},
    {"/v2/a/manifests/1?other=%20&ns=quay.io&", REGISTRY, MANIFEST, "ns quay.io a 1"},
    /* The mirror. */
    {"/v2/library/alpine/manifests/latest", MIRROR, MANIFEST,
     "mirror docker.io library/alpine latest"},
    {"/v2/alpine/manifests/latest?ns=docker.io", MIRROR, MANIFEST,
     "mirror docker.io library/alpine latest"},
    {"//v2/alpine/manifests/latest", MIRROR, MANIFEST, "mirror docker.io library/alpine latest"},
    {"/docker.io/v2/alpine/manifests/latest", MIRROR, MANIFEST,
     "mirror docker.io library/alpine latest"},
    {"/v2/quay.io/a/manifests/latest", MIRROR, MANIFEST, "mirror docker.io quay.io/a latest"},
    /* Local names, and names that hold the words of the endpoints. */
    {"/v2/team/app/manifests/v1", REGISTRY, MANIFEST, "local - team/app v1"},
    {"/v2/app/tags/list", REGISTRY, TAGS, "local - app -"},
    {"/v2/manifests/manifests/manifests", REGISTRY, MANIFEST, "local - manifests manifests"},
    {"/v2/a/manifests/tags/list", REGISTRY, TAGS, "local - a/manifests -"},
    {"/v2/a/tags/list/manifests/list", REGISTRY, MANIFEST, "local - a/tags/list list"},
    {"/v2/a/tags/manifests/list", REGISTRY, MANIFEST, "local - a/tags list"},
    {"/v2/a/blobs/b/blobs/" SHA256, REGISTRY, BLOB, "local - a/blobs/b " SHA256},
    {"/v2/v2/manifests/v2", REGISTRY, MANIFEST, "local - v2 v2"},
    {"/v2/a%2db/manifests/%76", REGISTRY, MANIFEST, "local - a-b v"},
    {"/%762/a/manifests/b", REGISTRY, MANIFEST, "local - a b"},
    {"/v2/a/manifests/_.-A", REGISTRY, MANIFEST, "local - a _.-A"},
    {"/-/healthz", REGISTRY, ENDPOINT_HEALTH, "admin - - -"},
    {"/-/healthz?ns=%", MIRROR, ENDPOINT_HEALTH, "admin - - -"},
    {"/-/token?service=a&scope=%", REGISTRY, ENDPOINT_TOKEN, "admin - - -"},
    {"/-/setup/", REGISTRY, ENDPOINT_SETUP, "admin - - -"},
    {"/-/setup/docker.sh", MIRROR, ENDPOINT_SETUP, "admin - - docker.sh"},
    {"/-/setup/ca.crt", REGISTRY, ENDPOINT_CA, "admin - - -"},
    {"//-//metrics", MIRROR, ENDPOINT_METRICS, "admin - - -"},
    {"/-/readyz", MIRROR, ENDPOINT_READY, "admin - - -"},
    {"/", REGISTRY, ENDPOINT_PAGE, "admin - - -"},
    {"//?ns=%", MIRROR, ENDPOINT_PAGE, "admin - - -"},
    {"/-/page/page.css", REGISTRY, ENDPOINT_PAGE, "admin - - page.css"},
    {"/-/api/status", REGISTRY, ENDPOINT_REPORT, "admin - - status"},
    {"/-/api/fetches?x", MIRROR, ENDPOINT_REPORT, "admin - - fetches"},
    {"/-/api/fetch?id=7", REGISTRY, ENDPOINT_ORDERS, "admin - - -"},
    {"/-/api/prefetch", REGISTRY, ENDPOINT_PREFETCH, "admin - - -"},
};

static void test_meanings(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good_rows / sizeof good_rows[0]; i++) {
        const struct good_row *row = &good_rows[i];
        struct target t;
        char text[1024];
        enum outcome o = parse(&t, row->target, row->role);
        if (o != OUT_LOCAL || t.endpoint != row->endpoint ||
            strcmp(meaning(&t, text), row->meaning) != 0) {
            fail_msg("%s: outcome %d, endpoint %d, %s", row->target, (int)o, (int)t.endpoint,
                     o == OUT_LOCAL ? text : "");
        }
    }
}

struct bad_row {
    const char *target;
    enum role role;
    enum outcome outcome;
};

static const struct bad_row bad_rows[] = {
    {"", REGISTRY, OUT_NO_ROUTE},
    {"/index.html", REGISTRY, OUT_NO_ROUTE},
    {"/-", REGISTRY, OUT_NO_ROUTE},
    {"/-/", REGISTRY, OUT_NO_ROUTE},
    {"/-/api/", REGISTRY, OUT_NO_ROUTE},
    {"/-/page/", REGISTRY, OUT_NO_ROUTE},
    {"/-/page/../x", REGISTRY, OUT_NO_ROUTE},
    {"/-/api/a/b", REGISTRY, OUT_NO_ROUTE},
    {"*", REGISTRY, OUT_NO_ROUTE},
    {"h:443", REGISTRY, OUT_NO_ROUTE},
    {"http://h", REGISTRY, OUT_NO_ROUTE},
    {"http://h?ns=docker.io", REGISTRY, OUT_NO_ROUTE},
    {"/v1/", REGISTRY, OUT_NO_ROUTE},
    {"/V2/", REGISTRY, OUT_NO_ROUTE},
    {"/v2x", REGISTRY, OUT_NO_ROUTE},
    {"/v2/a", REGISTRY, OUT_NO_ROUTE},
    {"/v2/_catalog", MIRROR, OUT_NO_ROUTE},
    {"/v2/_catalog?ns=docker.io", REGISTRY, OUT_NO_ROUTE},
    {"/v2/blobs/uploads/", REGISTRY, OUT_NO_ROUTE},
    {"/v2/Team/app/blobs/uploads/", REGISTRY, OUT_NAME_INVALID},
    {"/v2/team/app/blobs/uploads/..", REGISTRY, OUT_UPLOAD_UNKNOWN},
    {"/v2/team/app/blobs/uploads/a%2fb", REGISTRY, OUT_UPLOAD_UNKNOWN},
    {"/v2/docker.io/", MIRROR, OUT_NO_ROUTE},
    {"/foo/v2/a/manifests/b", REGISTRY, OUT_NO_ROUTE},
    {"/docker.io/", REGISTRY, OUT_NO_ROUTE},
    {"/docker.io/v3/", REGISTRY, OUT_NO_ROUTE},
    {"/docker.io/v2/a", REGISTRY, OUT_NO_ROUTE},
    {"/-/", REGISTRY, OUT_NO_ROUTE},
    {"/-/healthz/", REGISTRY, OUT_NO_ROUTE},
    {"/-/other", REGISTRY, OUT_NO_ROUTE},
    {"/-/setup", REGISTRY, OUT_NO_ROUTE},
    {"/-/setup/../healthz", REGISTRY, OUT_NO_ROUTE},
    {"/-/setup/a%0d%0ab", REGISTRY, OUT_NO_ROUTE},
    {"/-/setup/docker.sh/", REGISTRY, OUT_NO_ROUTE},
    {"/v2/a/tags/other", REGISTRY, OUT_NO_ROUTE},
    {"/v2/a/tags/list/", REGISTRY, OUT_NO_ROUTE},
    {"/v2/a/manifests", REGISTRY, OUT_NO_ROUTE},
    {"/v2/a/manifests/", REGISTRY, OUT_NO_ROUTE},
    {"/v2/a/Manifests/b", REGISTRY, OUT_NO_ROUTE},
    /* Names. */
    {"/v2/manifests/latest", REGISTRY, OUT_NAME_INVALID},
    {"/v2/tags/list", MIRROR, OUT_NAME_INVALID},
    {"/v2/docker.io/manifests/latest", REGISTRY, OUT_NAME_INVALID},
    {"/docker.io/v2/manifests/latest", REGISTRY, OUT_NAME_INVALID},
    {"/v2/A/manifests/b", REGISTRY, OUT_NAME_INVALID},
    {"/v2/docker.io/Alpine/manifests/b", REGISTRY, OUT_NAME_INVALID},
    {"/v2/a/../b/manifests/c", REGISTRY, OUT_NAME_INVALID},
    {"/v2/../a/manifests/c", REGISTRY, OUT_NAME_INVALID},
    {"/v2/%2e%2e/a/manifests/c", REGISTRY, OUT_NAME_INVALID},
    {"/v2/a/%2e%2E/manifests/c", MIRROR, OUT_NAME_INVALID},
    {"/../v2/a/manifests/c", REGISTRY, OUT_NAME_INVALID},
    {"/v2/a%2fb/manifests/c", REGISTRY, OUT_NAME_INVALID},
    {"/v2/a%252fb/manifests/c", REGISTRY, OUT_NAME_INVALID},
    {"/v2/a%00/manifests/c", REGISTRY, OUT_NAME_INVALID},
    {"/v2/docker.io%00.evil/a/manifests/c", REGISTRY, OUT_NAME_INVALID},
    {"/v2/%64ocker%252eio/a/manifests/c", REGISTRY, OUT_NAME_INVALID},
    {"/v2/a_/manifests/c", REGISTRY, OUT_NAME_INVALID},
    {"/v2/a___b/manifests/c", REGISTRY, OUT_NAME_INVALID},
    {"/v2/h:0/a/manifests/c", REGISTRY, OUT_NAME_INVALID},
    {"/v2/h:65536/a/manifests/c", REGISTRY, OUT_NAME_INVALID},
    {"/v2/-h.x/a/manifests/c", REGISTRY, OUT_NAME_INVALID},
    {"/v2/a..b/", REGISTRY, OUT_NAME_INVALID},
    {"/v2/a\xc3\xa9/manifests/c", REGISTRY, OUT_NAME_INVALID},
    {"/v2/a/manifests/b?ns=", REGISTRY, OUT_NAME_INVALID},
    {"/v2/a/manifests/b?ns", REGISTRY, OUT_NAME_INVALID},
    {"/v2/a/manifests/b?ns=a/b", REGISTRY, OUT_NAME_INVALID},
    {"/v2/a/manifests/b?ns=docker.io%00", REGISTRY, OUT_NAME_INVALID},
    {"/v2/a/manifests/b?ns=%2564ocker.io", REGISTRY, OUT_NAME_INVALID},
    {"/v2/?ns=..", MIRROR, OUT_NAME_INVALID},
    /* Tags. */
    {"/v2/a/manifests/-b", REGISTRY, OUT_TAG_INVALID},
    {"/v2/a/manifests/..", REGISTRY, OUT_TAG_INVALID},
    {"/v2/a/manifests/%2e%2e", REGISTRY, OUT_TAG_INVALID},
    {"/v2/a/manifests/a%2fb", REGISTRY, OUT_TAG_INVALID},
    {"/v2/a/manifests/b%00", REGISTRY, OUT_TAG_INVALID},
    {"/v2/a/manifests/b%20", REGISTRY, OUT_TAG_INVALID},
    {"/v2/a/manifests/b%0d%0aX:y", REGISTRY, OUT_TAG_INVALID},
    {"/v2/a/manifests/sha256:", REGISTRY, OUT_TAG_INVALID},
    /* Digests. */
    {"/v2/a/manifests/sha256:0123", REGISTRY, OUT_DIGEST_INVALID},
    {"/v2/a/manifests/sha256:baddigeststring", REGISTRY, OUT_DIGEST_INVALID},
    {"/v2/a/manifests/md5:0123456789abcdef0123456789abcdef", REGISTRY, OUT_DIGEST_INVALID},
    {"/v2/a/blobs/latest", REGISTRY, OUT_DIGEST_INVALID},
    {"/v2/a/blobs/" SHA256 "0", REGISTRY, OUT_DIGEST_INVALID},
    {"/v2/a/blobs/SHA256:" HEX, REGISTRY, OUT_DIGEST_INVALID},
    {"/v2/a/blobs/sha256:" HEX HEX, REGISTRY, OUT_DIGEST_INVALID},
    {"/v2/a/blobs/sha512:" HEX, REGISTRY, OUT_DIGEST_INVALID},
    {"/v2/a/blobs/sha256:0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef",
     REGISTRY, OUT_DIGEST_INVALID},
    {"/v2/a/blobs/" SHA256 "%00", REGISTRY, OUT_DIGEST_INVALID},
    {"/v2/a/blobs/..%2f..%2fetc%2fpasswd", REGISTRY, OUT_DIGEST_INVALID},
    {"/v2/a/referrers/latest", REGISTRY, OUT_DIGEST_INVALID},
    /* Registries that do not agree. */
    {"/v2/a/manifests/b?ns=quay.io", MIRROR, OUT_NAME_UNKNOWN},
    {"/quay.io/v2/a/manifests/b", MIRROR, OUT_NAME_UNKNOWN},
    {"/quay.io/v2/a/manifests/b?ns=docker.io", REGISTRY, OUT_BAD_REQUEST},
    /* Escapes and parameters. */
    {"/v2/a%/manifests/b", REGISTRY, OUT_BAD_REQUEST},
    {"/v2/a%2/manifests/b", REGISTRY, OUT_BAD_REQUEST},
    {"/v2/a%2g/manifests/b", REGISTRY, OUT_BAD_REQUEST},
    {"/v2/a/manifests/b%4", REGISTRY, OUT_BAD_REQUEST},
    {"/v2/a/manifests/b?x=%4", REGISTRY, OUT_BAD_REQUEST},
    {"/v2/a/manifests/b?%xx", REGISTRY, OUT_BAD_REQUEST},
    {"/v2/a/manifests/b?ns=docker.io&ns=docker.io", REGISTRY, OUT_BAD_REQUEST},
    {"/v2/a/tags/list?n=", REGISTRY, OUT_BAD_REQUEST},
    {"/v2/a/tags/list?n", REGISTRY, OUT_BAD_REQUEST},
    {"/v2/a/tags/list?n=-1", REGISTRY, OUT_BAD_REQUEST},
    {"/v2/a/tags/list?n=1.5", REGISTRY, OUT_BAD_REQUEST},
    {"/v2/a/tags/list?n=0x10", REGISTRY, OUT_BAD_REQUEST},
    {"/v2/a/tags/list?n=1&n=2", REGISTRY, OUT_BAD_REQUEST},
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_rows / sizeof bad_rows[0]; i++) {
        struct target t;
        enum outcome o = parse(&t, bad_rows[i].target, bad_rows[i].role);
        if (o != bad_rows[i].outcome) {
            fail_msg("%s: outcome %d, not %d", bad_rows[i].target, (int)o,
                     (int)bad_rows[i].outcome);
        }
    }
}

struct query_row {
    const char *target;
    const char *query;
};

static const struct query_row query_rows[] = {
    {"/v2/a/tags/list", ""},
    {"/v2/a/tags/list?", ""},
    {"/v2/a/tags/list?n=50", "n=50"},
    {"/v2/a/tags/list?n=0", "n=0"},
    {"/v2/a/tags/list?n=0007", "n=7"},
    {"/v2/a/tags/list?n=2147483648", "n=999999999"},
    {"/v2/a/tags/list?n=99999999999999999999999999", "n=999999999"},
    {"/v2/a/tags/list?last=b&n=5&ns=quay.io", "n=5&last=b"},
    {"/v2/a/tags/list?&&last=&unknown=1&=&", "last="},
    {"/v2/a/tags/list?last", "last="},
    {"/v2/a/tags/list?last=<script>", "last=%3Cscript%3E"},
    {"/v2/a/tags/list?last=a%26n%3d1", "last=a%26n%3D1"},
    {"/v2/a/tags/list?last=a=b", "last=a%3Db"},
    {"/v2/a/tags/list?last=%00%0d%0a%ff", "last=%00%0D%0A%FF"},
    {"/v2/a/tags/list?last=%2541", "last=%2541"},
    {"/v2/a/tags/list?N=5&Last=x", ""},
    {"/v2/a/referrers/" SHA256 "?artifactType=application/vnd.x%2Bjson",
     "artifactType=application%2Fvnd.x%2Bjson"},
    {"/v2/a/referrers/" SHA256 "?artifactType=a+b", "artifactType=a%2Bb"},
    {"/v2/a/manifests/b?n=x&last=y", ""},
};

static void test_query(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof query_rows / sizeof query_rows[0]; i++) {
        struct target t;
        enum outcome o = parse(&t, query_rows[i].target, ROLE_REGISTRY);
        if (o != OUT_LOCAL || strcmp(t.query, query_rows[i].query) != 0) {
            fail_msg("%s: outcome %d, query \"%s\"", query_rows[i].target, (int)o, t.query);
        }
    }
}

/* ns is given back to the client as it came. */
static void test_ns_text(void **state)
{
    (void)state;
    struct target t;
    assert_int_equal(parse(&t, "/v2/a/manifests/b?ns=Docker.IO", ROLE_REGISTRY), OUT_LOCAL);
    assert_string_equal(t.ns, "Docker.IO");
    assert_string_equal(t.name.registry, "docker.io");
    assert_int_equal(parse(&t, "/v2/a/manifests/b?ns=reg.lan%3a5000", ROLE_REGISTRY), OUT_LOCAL);
    assert_string_equal(t.ns, "reg.lan:5000");
    assert_int_equal(parse(&t, "/v2/a/manifests/b", ROLE_REGISTRY), OUT_LOCAL);
    assert_string_equal(t.ns, "");
}

/* "<before>aaa...<after>" with `len` times a. */
static enum outcome parse_long(const char *before, size_t len, const char *after)
{
    static char text[2 * HTTP_TARGET_MAX];
    size_t before_len = strlen(before);
    memcpy(text, before, before_len);
    memset(text + before_len, 'a', len);
    memcpy(text + before_len + len, after, strlen(after) + 1);
    struct target t;
    return parse(&t, text, ROLE_REGISTRY);
}

static void test_lengths(void **state)
{
    (void)state;
    assert_int_equal(parse_long("/v2/", 254, "/manifests/b"), OUT_LOCAL);
    assert_int_equal(parse_long("/v2/", 255, "/manifests/b"), OUT_NAME_INVALID);
    assert_int_equal(parse_long("/v2/quay.io/", 247, "/manifests/b"), OUT_LOCAL);
    assert_int_equal(parse_long("/v2/quay.io/", 248, "/manifests/b"), OUT_NAME_INVALID);
    assert_int_equal(parse_long("/v2/docker.io/", 237, "/manifests/b"), OUT_LOCAL);
    assert_int_equal(parse_long("/v2/docker.io/", 238, "/manifests/b"), OUT_NAME_INVALID);
    assert_int_equal(parse_long("/v2/a/manifests/", 128, ""), OUT_LOCAL);
    assert_int_equal(parse_long("/v2/a/manifests/", 129, ""), OUT_TAG_INVALID);
    assert_int_equal(parse_long("/v2/a/manifests/sha256:", 4000, ""), OUT_DIGEST_INVALID);
    assert_int_equal(parse_long("/v2/a/manifests/b?ns=x.", 300, ""), OUT_NAME_INVALID);
    assert_int_equal(parse_long("/v2/a/tags/list?last=", 128, ""), OUT_LOCAL);
    assert_int_equal(parse_long("/v2/a/tags/list?last=", TARGET_QUERY_MAX - 8, ""), OUT_LOCAL);
    assert_int_equal(parse_long("/v2/a/tags/list?last=", TARGET_QUERY_MAX - 7, ""),
                     OUT_BAD_REQUEST);
    assert_int_equal(parse_long("/v2/a/tags/list?last=", 4000, ""), OUT_BAD_REQUEST);
    assert_int_equal(parse_long("/v2//", HTTP_TARGET_MAX - 17, "/manifests/b"), OUT_NAME_INVALID);
    assert_int_equal(parse_long("/v2//", HTTP_TARGET_MAX - 16, "/manifests/b"), OUT_URI_TOO_LONG);
}

/* Slashes are cheap. */
static struct push_parameters push_of(const char *target)
{
    struct push_parameters p;

    assert_int_equal(route_parse_push(&p, (struct span){target, strlen(target)}), OUT_LOCAL);
    return p;
}

static void test_push_parameters(void **state)
{
    static const struct {
        const char *target;
        enum outcome why;
    } bad[] = {
        {"/x?digest=sha256:baddigeststring", OUT_DIGEST_INVALID},
        {"/x?digest=", OUT_DIGEST_INVALID},
        {"/x?digest=" SHA256 "&digest=" SHA256, OUT_BAD_REQUEST},
        {"/x?mount=md5:00", OUT_DIGEST_INVALID},
        {"/x?digest-algorithm=md5", OUT_DIGEST_INVALID},
        {"/x?tag=..", OUT_TAG_INVALID},
        {"/x?from=%zz", OUT_BAD_REQUEST},
        {"/x?from=a%00b", OUT_NAME_INVALID},
    };
    struct push_parameters p = push_of("/x?mount=" SHA256 "&from=a%2Fb&digest=" SHA512
                                       "&tag=1&tag=2&other=%20&digest-algorithm=sha512");
    char text[DIGEST_TEXT_MAX];

    (void)state;
    assert_string_equal(digest_text(&p.mount, text), SHA256);
    assert_string_equal(digest_text(&p.digest, text), SHA512);
    assert_true(p.has_mount && p.has_digest && p.has_from);
    assert_string_equal(p.from, "a/b");
    assert_int_equal(p.algorithm, DIGEST_SHA512);
    assert_int_equal(p.tag_count, 2);
    assert_string_equal(p.tags[1], "2");
    p = push_of("/x");
    assert_false(p.has_mount || p.has_digest || p.has_from || p.tag_count > 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct span target = {bad[i].target, strlen(bad[i].target)};
        if (route_parse_push(&p, target) != bad[i].why)
            fail_msg("%s", bad[i].target);
    }
}

static void test_slashes(void **state)
{
    (void)state;
    static char slashes[4096];
    memset(slashes, '/', sizeof slashes - 1);
    struct target t;
    assert_int_equal(parse(&t, slashes, ROLE_REGISTRY), OUT_LOCAL);
    assert_int_equal(t.endpoint, ENDPOINT_PAGE);
    memcpy(slashes + 4000, "v2", 2);
    assert_int_equal(parse(&t, slashes, ROLE_REGISTRY), OUT_LOCAL);
    assert_int_equal(t.endpoint, ENDPOINT_PING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_meanings),        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_query),           cmocka_unit_test(test_ns_text),
        cmocka_unit_test(test_lengths),         cmocka_unit_test(test_slashes),
        cmocka_unit_test(test_push_parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
