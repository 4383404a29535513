/* SPDX-License-Identifier: ISC */
#include "cache/image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache/err.h"

#define HEX_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HEX_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define DIFF_A "\"sha256:" HEX_A "\""
#define DIFF_B "\"sha256:" HEX_B "\""

/* Abridged from mcr.microsoft.com/windows/nanoserver; Docker's empty layers are in the
 * history alone. */
static const char windows[] =
    "{\"architecture\":\"amd64\",\"config\":{\"User\":\"ContainerUser\",\"Labels\":null},"
    "\"created\":\"2024-07-09T00:00:00Z\",\"history\":[{\"created\":\"2024-07-05T00:00:00Z\","
    "\"created_by\":\"Apply image 10.0\"},{\"created_by\":\"ENV A=b\",\"empty_layer\":true},"
    "{\"created_by\":\"Install update\"}],\"os\":\"windows\",\"os.version\":\"10.0.20348.2582\","
    "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[" DIFF_A "," DIFF_B "]}}";

static void test_image(void **state)
{
    struct image *image;

    (void)state;
    assert_int_equal(image_parse(&image, windows, strlen(windows)), 0);
    assert_int_equal(image->count, 2);
    assert_int_equal(image->diff_ids[0].bytes[0], 0xaa);
    assert_int_equal(image->diff_ids[1].bytes[31], 0xbb);
    free(image);
}

static void test_without_layers(void **state)
{
    static const char text[] = "{\"rootfs\":{\"diff_ids\":[],\"type\":\"layers\"}}";
    struct image *image;

    (void)state;
    assert_int_equal(image_parse(&image, text, strlen(text)), 0);
    assert_int_equal(image->count, 0);
    free(image);
}

static void test_what_is_no_image(void **state)
{
    static const char *const texts[] = {
        "",
        "{}",
        "[]",
        "{\"rootfs\":null}",
        "{\"rootfs\":{\"type\":\"layers\"}}",
        "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":null}}",
        "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":{}}}",
        "{\"rootfs\":{\"type\":\"other\",\"diff_ids\":[" DIFF_A "]}}",
        "{\"rootfs\":{\"diff_ids\":[" DIFF_A "]}}",
        "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[7]}}",
        "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[" DIFF_A ",\"sha256:aa\"]}}",
        "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" HEX_A "\"]}}",
        "{\"rootfs\":{\"type\":\"layers\",\"type\":\"layers\",\"diff_ids\":[]}}",
    };
    struct image *image;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (image_parse(&image, texts[i], strlen(texts[i])) != ERR_INVALID)
            fail_msg("accepted: %s", texts[i]);
    }
}

static char *with_layers(unsigned count)
{
    char *text = malloc(count * sizeof DIFF_A + 128);
    char *at = stpcpy(text, "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[");

    for (unsigned i = 0; i < count; i++)
        at += sprintf(at, "%s%s", i > 0 ? "," : "", DIFF_A);
    strcpy(at, "]}}");
    return text;
}

static void test_limits(void **state)
{
    char *most = with_layers(IMAGE_LAYERS_MAX);
    char *more = with_layers(IMAGE_LAYERS_MAX + 1);
    char *large = malloc(IMAGE_CONFIG_MAX + 1);
    struct image *image;

    (void)state;
    assert_int_equal(image_parse(&image, most, strlen(most)), 0);
    assert_int_equal(image->count, IMAGE_LAYERS_MAX);
    free(image);
    assert_int_equal(image_parse(&image, more, strlen(more)), ERR_TOO_LARGE);
    memset(large, ' ', IMAGE_CONFIG_MAX + 1);
    memcpy(large, windows, strlen(windows));
    assert_int_equal(image_parse(&image, large, IMAGE_CONFIG_MAX + 1), ERR_TOO_LARGE);
    assert_int_equal(image_parse(&image, large, IMAGE_CONFIG_MAX), 0);
    free(image);
    free(most);
    free(more);
    free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_image),
        cmocka_unit_test(test_without_layers),
        cmocka_unit_test(test_what_is_no_image),
        cmocka_unit_test(test_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
