/* SPDX-License-Identifier: ISC */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache/err.h"
#include "cache/json.h"
#include "cache/manifest.h"

#define IMAGE "application/vnd.oci.image.manifest.v1+json"
#define INDEX "application/vnd.oci.image.index.v1+json"
#define DOCKER_IMAGE "application/vnd.docker.distribution.manifest.v2+json"
#define DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"
#define ARTIFACT "application/vnd.oci.artifact.manifest.v1+json"
#define FOREIGN "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define DIGEST "\"digest\":\"sha256:" HEX "\""
#define DESCRIPTOR "{\"mediaType\":\"a/b\"," DIGEST ",\"size\":7}"

static char why[256];

static int parse(struct manifest **m, const char *media_type, const void *text, size_t len)
{
    *m = NULL;
    why[0] = '\0';
    int err = manifest_parse(m, media_type, text, len, why, sizeof why);

    assert_true((err == 0) == (*m != NULL));
    assert_true((err == 0) == (why[0] == '\0'));
    return err;
}

static struct manifest *parse_good(const char *media_type, const char *text)
{
    struct manifest *m;

    if (parse(&m, media_type, text, strlen(text)) != 0) {
        fail_msg("%s: %s", text, why);
    }
    return m;
}

static void expect_bad(const char *media_type, const char *text)
{
    struct manifest *m;

    if (parse(&m, media_type, text, strlen(text)) != ERR_INVALID) {
        fail_msg("accepted: %s", text);
    }
}

static void test_image(void **state)
{
    static const char text[] =
        "{\"schemaVersion\":2,\"mediaType\":\"" DOCKER_IMAGE "\","
        "\"config\":{\"mediaType\":\"application/vnd.docker.container.image.v1+json\"," DIGEST
        ",\"size\":1500},"
        "\"layers\":[{\"mediaType\":\"" FOREIGN "\"," DIGEST ",\"size\":1700000000,"
        "\"urls\":[\"https://mcr.microsoft.com/v2/windows/servercore/blobs/sha256:" HEX "\","
        "\"file:///etc/passwd\",\"http://a/b c\",\"ftp://x\",7,\"http://second\"]}," DESCRIPTOR
        "]}";
    struct manifest *m = parse_good(DOCKER_IMAGE, text);

    (void)state;
    assert_false(manifest_is_index(m));
    assert_string_equal(manifest_media_type(m), DOCKER_IMAGE);
    assert_int_equal(manifest_child_count(m), 3);
    assert_int_equal(manifest_child(m, 0)->role, CHILD_CONFIG);
    assert_int_equal(manifest_child(m, 0)->size_bytes, 1500);
    const struct descriptor *layer = manifest_child(m, 1);

    assert_int_equal(layer->role, CHILD_LAYER);
    assert_int_equal(layer->size_bytes, 1700000000);
    assert_true(media_type_is_foreign(layer->media_type));
    assert_int_equal(layer->url_count, 2);
    assert_string_equal(layer->urls[1], "http://second");
    assert_null(layer->os);
    assert_null(manifest_subject(m));
    assert_string_equal(manifest_artifact_type(m),
                        "application/vnd.docker.container.image.v1+json");
    manifest_free(&m);
    assert_null(m);
    manifest_free(&m);
}

static void test_index(void **state)
{
    static const char text[] =
        "{\"schemaVersion\":2,\"manifests\":["
        "{\"mediaType\":\"" IMAGE "\"," DIGEST ",\"size\":500,\"platform\":{\"os\":\"windows\","
        "\"architecture\":\"amd64\",\"os.version\":\"10.0.20348.2527\"}},"
        "{\"mediaType\":\"" IMAGE "\"," DIGEST ",\"size\":501,\"platform\":{\"os\":\"linux\","
        "\"architecture\":\"arm\",\"variant\":\"v7\"}},"
        "{\"mediaType\":\"" IMAGE "\"," DIGEST ",\"size\":502,\"platform\":7}]}";
    struct manifest *m = parse_good(INDEX, text);

    (void)state;
    assert_true(manifest_is_index(m));
    assert_int_equal(manifest_child_count(m), 3);
    assert_string_equal(manifest_child(m, 0)->os_version, "10.0.20348.2527");
    assert_string_equal(manifest_child(m, 1)->variant, "v7");
    assert_null(manifest_child(m, 1)->os_version);
    assert_null(manifest_child(m, 2)->os);
    assert_int_equal(manifest_child(m, 2)->role, CHILD_MANIFEST);
    manifest_free(&m);
}

static void test_artifacts(void **state)
{
    struct manifest *m = parse_good(IMAGE, "{\"artifactType\":\"x/sbom\",\"config\":" DESCRIPTOR
                                           ",\"layers\":[],\"subject\":" DESCRIPTOR "}");

    (void)state;
    assert_non_null(manifest_subject(m));
    assert_int_equal(manifest_subject(m)->size_bytes, 7);
    assert_string_equal(manifest_artifact_type(m), "x/sbom");
    assert_int_equal(manifest_child_count(m), 1);
    manifest_free(&m);

    m = parse_good(ARTIFACT, "{\"mediaType\":\"" ARTIFACT "\",\"blobs\":[" DESCRIPTOR "]}");
    assert_int_equal(manifest_child_count(m), 1);
    manifest_free(&m);

    m = parse_good("application/vnd.example+json", "{\"anything\":[1,2.5e3,true]}");
    assert_int_equal(manifest_child_count(m), 0);
    assert_null(manifest_artifact_type(m));
    manifest_free(&m);
}

static void test_lenient(void **state)
{
    static const char *const images[] = {
        "{}",
        "{\"config\":null,\"layers\":null,\"manifests\":null}",
        "{\"config\":" DESCRIPTOR ",\"layers\":[]}",
        "{\"mediaType\":\"" IMAGE "\",\"layers\":[{" DIGEST ",\"size\":0}]}",
        " {\n} ",
    };

    (void)state;
    for (size_t i = 0; i < sizeof images / sizeof images[0]; i++) {
        struct manifest *m = parse_good(IMAGE, images[i]);

        manifest_free(&m);
    }
}

/* An index that names itself, which its digest makes impossible but for a liar:
 * children are recorded, never followed here. */
static void test_self_reference(void **state)
{
    struct manifest *m = parse_good(INDEX, "{\"manifests\":[" DESCRIPTOR "," DESCRIPTOR "]}");

    (void)state;
    assert_int_equal(manifest_child_count(m), 2);
    manifest_free(&m);
}

static void test_not_json(void **state)
{
    static const char *const texts[] = {
        "",
        "null",
        "7",
        "\"x\"",
        "[]",
        "{",
        "{]",
        "{\"a\":1,}",
        "{}{}",
        "{} x",
        "{\"a\":1,\"a\":2}",
        "{\"layers\":[{\"x\":1,\"x\":1}]}",
        "{'a':1}",
        "{\"a\":01}",
        "{\"a\":NaN}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\udc00x\"}",
        "{\"a\":\"\xff\"}",
        "{\"a\":\"\xc0\x80\"}",
        "{\"a\":\"\\u0000\"}",
        "{\"a\":\"tab\there\"}",
        "{\"a\":99999999999999999999999999}",
        "{\"a\":1e99999}",
        "\xef\xbb\xbf{}",
        "{\"a\":\"unterminated\\",
        "<html>captive portal</html>",
    };
    struct manifest *m;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        expect_bad(IMAGE, texts[i]);
        for (const char *c = why; *c != '\0'; c++) {
            assert_in_range(*c, 0x20, 0x7e);
        }
    }
    assert_int_equal(parse(&m, IMAGE, "{\0}", 3), ERR_INVALID);
    assert_int_equal(parse(&m, IMAGE, "{}\0", 3), ERR_INVALID);
    assert_int_equal(parse(&m, IMAGE, "{\"a\0b\":1}", 9), ERR_INVALID);
}

static void test_bad_manifests(void **state)
{
    static const struct {
        const char *media_type;
        const char *text;
    } rows[] = {
        {IMAGE, "{\"mediaType\":\"" DOCKER_IMAGE "\"}"},
        {IMAGE, "{\"mediaType\":\"" INDEX "\"}"},
        {IMAGE, "{\"mediaType\":7}"},
        {"application/json", "{\"mediaType\":\"" IMAGE "\"}"},
        {IMAGE, "{\"layers\":[],\"manifests\":[]}"},
        {INDEX, "{\"layers\":[],\"manifests\":[]}"},
        {INDEX, "{\"config\":" DESCRIPTOR ",\"manifests\":[]}"},
        {IMAGE, "{\"manifests\":[]}"},
        {DOCKER_LIST, "{\"layers\":[]}"},
        {DOCKER_IMAGE, "{\"blobs\":[]}"},
        {"application/json", "{\"layers\":[" DESCRIPTOR "]}"},
        {"text/html", "{\"manifests\":[]}"},
        {IMAGE, "{\"layers\":{}}"},
        {IMAGE, "{\"layers\":\"x\"}"},
        {IMAGE, "{\"layers\":[7]}"},
        {IMAGE, "{\"layers\":[null]}"},
        {IMAGE, "{\"layers\":[{}]}"},
        {IMAGE, "{\"layers\":[{\"size\":1}]}"},
        {IMAGE, "{\"layers\":[{" DIGEST "}]}"},
        {IMAGE, "{\"layers\":[{" DIGEST ",\"size\":-1}]}"},
        {IMAGE, "{\"layers\":[{" DIGEST ",\"size\":1.5}]}"},
        {IMAGE, "{\"layers\":[{" DIGEST ",\"size\":\"1\"}]}"},
        {IMAGE, "{\"layers\":[{" DIGEST ",\"size\":9223372036854775808}]}"},
        {IMAGE, "{\"layers\":[{\"digest\":\"sha256:abc\",\"size\":1}]}"},
        {IMAGE, "{\"layers\":[{\"digest\":\"../../etc/passwd\",\"size\":1}]}"},
        {IMAGE, "{\"layers\":[{\"digest\":7,\"size\":1}]}"},
        {IMAGE, "{\"layers\":[" DESCRIPTOR ",{\"digest\":\"md5:00\",\"size\":1}]}"},
        {IMAGE, "{\"config\":[]}"},
        {IMAGE, "{\"config\":\"x\"}"},
        {IMAGE, "{\"subject\":{}}"},
        {INDEX, "{\"subject\":7}"},
        {INDEX, "{\"manifests\":[{}]}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        expect_bad(rows[i].media_type, rows[i].text);
    }
}

static void test_bad_media_types(void **state)
{
    static const char *const types[] = {"",      "a",     "/",     "a/",      "/b",
                                        "a/b/c", "a b/c", "a/b\n", "a/b;c=d", "a/\"b\""};
    char long_type[MEDIA_TYPE_MAX + 1];

    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        expect_bad(types[i], "{}");
    }
    memset(long_type, 'x', sizeof long_type);
    long_type[1] = '/';
    long_type[MEDIA_TYPE_MAX] = '\0';
    expect_bad(long_type, "{}");
    long_type[MEDIA_TYPE_MAX - 1] = '\0';
    struct manifest *m = parse_good(long_type, "{}");

    manifest_free(&m);
}

/* "{"a":" `levels` times, then as many "}". */
static char *nested(const char *open, const char *close, size_t levels)
{
    size_t open_len = strlen(open);
    char *text = malloc(levels * (open_len + strlen(close)) + 2);
    char *at = text;

    assert_non_null(text);
    for (size_t i = 0; i < levels; i++) {
        at = stpcpy(at, open);
    }
    *at++ = '1';
    for (size_t i = 0; i < levels; i++) {
        at = stpcpy(at, close);
    }
    *at = '\0';
    return text;
}

static void test_depth(void **state)
{
    char *text = nested("{\"a\":", "}", JSON_DEPTH_MAX);
    struct manifest *m = parse_good(IMAGE, text);

    (void)state;
    manifest_free(&m);
    free(text);
    text = nested("{\"a\":", "}", JSON_DEPTH_MAX + 1);
    expect_bad(IMAGE, text);
    free(text);
    text = nested("{\"a\":[", "]}", 10000);
    expect_bad(IMAGE, text);
    free(text);
    text = nested("[", "", 100000);
    expect_bad(IMAGE, text);
    free(text);
    /* Brackets in strings are text. */
    m = parse_good(IMAGE, "{\"a\":\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[\\\\\"}");
    manifest_free(&m);
}

static void test_too_many_values(void **state)
{
    size_t count = 1 << 20;
    char *text = malloc(count * 2 + 16);
    char *at = stpcpy(text, "{\"a\":[0");

    (void)state;
    for (size_t i = 0; i < count; i++) {
        at = stpcpy(at, ",0");
    }
    strcpy(at, "]}");
    expect_bad(IMAGE, text);
    free(text);
}

static void test_too_large(void **state)
{
    char *text = malloc(MANIFEST_SIZE_MAX + 1);
    struct manifest *m;

    (void)state;
    assert_non_null(text);
    memset(text, ' ', MANIFEST_SIZE_MAX + 1);
    memcpy(text, "{}", 2);
    assert_int_equal(parse(&m, IMAGE, text, MANIFEST_SIZE_MAX), 0);
    manifest_free(&m);
    assert_int_equal(parse(&m, IMAGE, text, MANIFEST_SIZE_MAX + 1), ERR_TOO_LARGE);
    free(text);
}

static void test_urls_are_limited(void **state)
{
    char text[8192];
    int len = snprintf(text, sizeof text, "{\"layers\":[{" DIGEST ",\"size\":1,\"urls\":[");

    (void)state;
    for (int i = 0; i < 100; i++) {
        len += snprintf(text + len, sizeof text - (size_t)len, "%s\"https://host/%d\"",
                        i > 0 ? "," : "", i);
    }
    snprintf(text + len, sizeof text - (size_t)len, "]}]}");
    struct manifest *m = parse_good(IMAGE, text);

    assert_int_equal(manifest_child(m, 0)->url_count, DESCRIPTOR_URLS_MAX);
    manifest_free(&m);
}

static void test_media_types(void **state)
{
    (void)state;
    assert_true(media_type_is_manifest(IMAGE));
    assert_true(media_type_is_manifest(INDEX));
    assert_true(media_type_is_manifest(DOCKER_IMAGE));
    assert_true(media_type_is_manifest(DOCKER_LIST));
    assert_true(media_type_is_manifest(ARTIFACT));
    assert_false(media_type_is_manifest("application/json"));
    assert_true(media_type_is_foreign(FOREIGN));
    assert_true(
        media_type_is_foreign("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"));
    assert_false(media_type_is_foreign("application/vnd.oci.image.layer.v1.tar+gzip"));
}

static void test_quote(void **state)
{
    char *quoted = json_quote("a\"b\\c\n\xc3\xa9");

    (void)state;
    assert_string_equal(quoted, "\"a\\\"b\\\\c\\n\\u00E9\"");
    free(quoted);
    assert_null(json_quote("\xff"));
}

/* Only strings are annotations, and only what is short enough is kept. */
static void test_annotations(void **state)
{
    struct manifest *m =
        parse_good(INDEX, "{\"annotations\":{\"a\":\"b\",\"c\":7,\"d\":null,\"e\":{\"f\":\"g\"}},"
                          "\"manifests\":[" DESCRIPTOR ",{" DIGEST ",\"size\":1,\"artifactType\":"
                          "\"x/y\",\"annotations\":{\"h\":\"\\u00fc\"}}]}");
    char *text = manifest_annotations(m);

    (void)state;
    assert_string_equal(text, "{\"a\":\"b\"}");
    free(text);
    assert_null(descriptor_annotations(manifest_child(m, 0)));
    assert_null(manifest_child(m, 0)->artifact_type);
    text = descriptor_annotations(manifest_child(m, 1));
    assert_string_equal(text, "{\"h\":\"\\u00FC\"}");
    assert_string_equal(manifest_child(m, 1)->artifact_type, "x/y");
    free(text);
    manifest_free(&m);

    static const char *const none[] = {"{}", "{\"annotations\":{}}", "{\"annotations\":null}",
                                       "{\"annotations\":[\"a\"]}", "{\"annotations\":{\"a\":1}}"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        m = parse_good(IMAGE, none[i]);
        assert_null(manifest_annotations(m));
        manifest_free(&m);
    }
    for (int extra = 0; extra < 2; extra++) {
        char *large = mem_format("{\"annotations\":{\"a\":\"%*s\"}}",
                                 (int)(ANNOTATIONS_MAX - strlen("{\"a\":\"\"}")) + extra, "");

        m = parse_good(IMAGE, large);
        text = manifest_annotations(m);
        assert_true((text == NULL) == (extra == 1));
        free(text);
        free(large);
        manifest_free(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_image),          cmocka_unit_test(test_index),
        cmocka_unit_test(test_artifacts),      cmocka_unit_test(test_lenient),
        cmocka_unit_test(test_self_reference), cmocka_unit_test(test_not_json),
        cmocka_unit_test(test_bad_manifests),  cmocka_unit_test(test_bad_media_types),
        cmocka_unit_test(test_depth),          cmocka_unit_test(test_too_many_values),
        cmocka_unit_test(test_too_large),      cmocka_unit_test(test_urls_are_limited),
        cmocka_unit_test(test_media_types),    cmocka_unit_test(test_quote),
        cmocka_unit_test(test_annotations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
