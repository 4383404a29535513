/* SPDX-License-Identifier: ISC */
/* Archives of strangers: whatever they hold, reading one ends, and the same way again. What
 * is taken has images, each with a name that can be written and read back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cache/err.h"
#include "cache/import.h"
#include "cache/tar_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A checksum that is right lets the rest be read. */
static void set_checksums(uint8_t *data, size_t size)
{
    for (size_t at = 0; at + TAR_BLOCK_BYTES <= size; at += TAR_BLOCK_BYTES) {
        struct tar_header h;

        memcpy(&h, data + at, sizeof h);
        if (memcmp(h.magic, "ustar", 5) != 0)
            continue;
        snprintf(h.checksum, sizeof h.checksum, "%06o", tar_checksum(&h) & 0777777);
        h.checksum[7] = ' ';
        memcpy(data + at, &h, sizeof h);
    }
}

static void check_images(const struct import *i)
{
    struct import_result r;

    import_result(i, &r);
    CHECK(r.image_count > 0 && r.missing_count == 0);
    for (size_t k = 0; k < r.image_count; k++) {
        char text[REFERENCE_TEXT_MAX];
        char key[REFERENCE_TEXT_MAX];
        struct reference named;
        struct reference back;

        import_reference(&r.images[k], &named);
        reference_text(&named, text);
        CHECK(reference_from_key(&back, key, reference_key(&named, key)) == 0);
        CHECK(name_equal(&back.name, &named.name));
    }
}

static int import_bytes(int fd)
{
    const struct import_settings settings = {.verify_only = true};
    char why[IMPORT_WHY_MAX];
    struct import *i;

    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    if (import_new(&i, &settings, why) != 0)
        return 0;
    int err = import_archive(i, fd, "archive");
    if (err == 0)
        err = import_finish(i);
    CHECK(err == 0 || import_why(i)[0] != '\0');
    if (err == 0)
        check_images(i);
    import_free(&i);
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size + 1);
    char why[IMPORT_WHY_MAX];
    struct import_head head;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    CHECK(copy != NULL && fd >= 0);
    memcpy(copy, data, size);
    set_checksums(copy, size);
    CHECK(write(fd, copy, size) == (ssize_t)size);
    int err = import_bytes(fd);
    CHECK(import_bytes(fd) == err);
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    if (import_peek(fd, &head, why) == 0)
        import_head_clear(&head);
    close(fd);
    free(copy);
    return 0;
}
