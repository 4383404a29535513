/* SPDX-License-Identifier: ISC */
#include "cache/tar_write.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cache/err.h"
#include "cache/tar_format.h"

static const char zeros[TAR_END_BYTES];

/* A pipe takes what it has room for. */
static int put(struct tar_writer *w, const void *data, size_t len)
{
    const char *at = data;

    while (len > 0) {
        ssize_t n = write(w->fd, at, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_from_errno(errno);
        at += n;
        len -= (size_t)n;
        w->written_bytes += (uint64_t)n;
    }
    return 0;
}

static int put_padding(struct tar_writer *w)
{
    return put(w, zeros, (size_t)(-w->written_bytes % TAR_BLOCK_BYTES));
}

/* --- what does not fit into the header --- */

static bool needs_path(const char *name)
{
    return strlen(name) > TAR_SHORT_NAME_MAX;
}

static bool needs_size(uint64_t size_bytes)
{
    return size_bytes > TAR_OCTAL_SIZE_MAX;
}

/* "LENGTH KEY=VALUE\n", whose length counts itself; returns it. */
static size_t pax_record(char *out, size_t size, const char *key, const char *value)
{
    size_t rest = 1 + strlen(key) + 1 + strlen(value) + 1;
    size_t len = rest + 1;

    while (len != rest + (size_t)snprintf(NULL, 0, "%zu", len))
        len++;
    CHECK(len < size);
    snprintf(out, size, "%zu %s=%s\n", len, key, value);
    return len;
}

static size_t pax_text(char out[TAR_PAX_WRITTEN_MAX], const char *name, uint64_t size_bytes)
{
    char number[24];
    size_t len = 0;

    if (needs_path(name))
        len = pax_record(out, TAR_PAX_WRITTEN_MAX, "path", name);
    if (needs_size(size_bytes)) {
        snprintf(number, sizeof number, "%" PRIu64, size_bytes);
        len += pax_record(out + len, TAR_PAX_WRITTEN_MAX - len, "size", number);
    }
    return len;
}

/* --- headers --- */

static void put_octal(char *field, size_t size, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof text, "%0*" PRIo64, (int)size - 1, value);
    CHECK(strlen(text) < size);
    memcpy(field, text, size);
}

static int put_header(struct tar_writer *w, const char *name, uint64_t size_bytes, char type)
{
    struct tar_header h = {.type = type, .magic = "ustar", .version = {'0', '0'}};
    size_t len = strlen(name);
    char sum[8];

    memcpy(h.name, name, len < sizeof h.name ? len : sizeof h.name);
    put_octal(h.mode, sizeof h.mode, 0644);
    put_octal(h.uid, sizeof h.uid, 0);
    put_octal(h.gid, sizeof h.gid, 0);
    put_octal(h.size, sizeof h.size, needs_size(size_bytes) ? 0 : size_bytes);
    put_octal(h.mtime, sizeof h.mtime, 0);
    put_octal(h.device_major, sizeof h.device_major, 0);
    put_octal(h.device_minor, sizeof h.device_minor, 0);
    snprintf(sum, sizeof sum, "%06o", tar_checksum(&h));
    memcpy(h.checksum, sum, 7);
    h.checksum[7] = ' ';
    return put(w, &h, sizeof h);
}

int tar_write_begin(struct tar_writer *w, const char *name, uint64_t size_bytes)
{
    char pax[TAR_PAX_WRITTEN_MAX];
    size_t pax_len = pax_text(pax, name, size_bytes);
    int err = 0;

    CHECK(w->left_bytes == 0 && strlen(name) <= TAR_NAME_MAX);
    if (pax_len > 0) {
        err = put_header(w, "pax", pax_len, TAR_TYPE_PAX);
        if (err == 0)
            err = put(w, pax, pax_len);
        if (err == 0)
            err = put_padding(w);
    }
    if (err == 0)
        err = put_header(w, name, size_bytes, TAR_TYPE_FILE);
    w->left_bytes = size_bytes;
    return err;
}

int tar_write_add(struct tar_writer *w, const void *data, size_t len)
{
    CHECK(len <= w->left_bytes);
    int err = put(w, data, len);

    if (err == 0) {
        w->left_bytes -= len;
        if (w->left_bytes == 0)
            err = put_padding(w);
    }
    return err;
}

int tar_write_file(struct tar_writer *w, const char *name, const void *data, size_t len)
{
    int err = tar_write_begin(w, name, len);

    return err == 0 ? tar_write_add(w, data, len) : err;
}

int tar_write_end(struct tar_writer *w)
{
    CHECK(w->left_bytes == 0);
    return put(w, zeros, TAR_END_BYTES);
}

static uint64_t padded(uint64_t size_bytes)
{
    return size_bytes + -size_bytes % TAR_BLOCK_BYTES;
}

uint64_t tar_entry_bytes(const char *name, uint64_t size_bytes)
{
    char pax[TAR_PAX_WRITTEN_MAX];
    size_t pax_len = pax_text(pax, name, size_bytes);

    return (pax_len > 0 ? TAR_BLOCK_BYTES + padded(pax_len) : 0) + TAR_BLOCK_BYTES +
           padded(size_bytes);
}
