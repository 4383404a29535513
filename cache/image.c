/* SPDX-License-Identifier: ISC */
#include "cache/image.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/json.h"

static int read_diff_ids(struct image *image, const json_t *list)
{
    for (unsigned i = 0; i < image->count; i++) {
        const char *text = json_string_value(json_array_get(list, i));

        if (text == NULL || digest_parse(&image->diff_ids[i], text, strlen(text)) != 0)
            return ERR_INVALID;
    }
    return 0;
}

static int read_config(struct image **image, const json_t *config)
{
    const json_t *rootfs = json_object_get(config, "rootfs");
    const char *type = json_string_value(json_object_get(rootfs, "type"));
    const json_t *list = json_object_get(rootfs, "diff_ids");

    if (type == NULL || strcmp(type, "layers") != 0 || !json_is_array(list))
        return ERR_INVALID;
    if (json_array_size(list) > IMAGE_LAYERS_MAX)
        return ERR_TOO_LARGE;
    unsigned count = (unsigned)json_array_size(list);
    struct image *read = mem_new(sizeof *read + count * sizeof read->diff_ids[0]);

    read->count = count;
    int err = read_diff_ids(read, list);

    if (err == 0)
        *image = read;
    else
        free(read);
    return err;
}

int image_parse(struct image **image, const void *config, size_t len)
{
    json_t *json;
    char why[128];

    if (len > IMAGE_CONFIG_MAX)
        return ERR_TOO_LARGE;
    int err = json_parse(&json, config, len, why, sizeof why);

    if (err != 0)
        return err;
    err = read_config(image, json);
    json_decref(json);
    return err;
}
