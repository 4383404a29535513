/* SPDX-License-Identifier: ISC */
#include "cache/inflate.h"

#include <archive.h>
#include <errno.h>
#include <string.h>

#include "cache/err.h"

#define READ_BYTES (64 * 1024)
/* Where a tar's first header says that it is one (POSIX.1-2001 pax, "ustar"). */
#define TAR_MAGIC "ustar"
#define TAR_MAGIC_OFFSET 257
/* Small ones are no danger, and libarchive reads ahead. */
#define RATIO_FREE_BYTES (16u * 1024 * 1024)

struct inflation {
    struct archive *archive;
    struct hash *hash;
    bool is_plain; /* not compressed */
    uint64_t size_bytes;
};

static int err_from_archive(struct archive *a)
{
    return archive_errno(a) == EIO ? ERR_IO : ERR_INVALID;
}

/* A library that lacks a method would start a program for it, and says so (ARCHIVE_WARN):
 * that is not for the bytes of peers. */
static int open_stream(struct inflation *in, int fd)
{
    struct archive *a = in->archive;
    struct archive_entry *entry;

    if (archive_read_support_filter_gzip(a) != ARCHIVE_OK ||
        archive_read_support_filter_zstd(a) != ARCHIVE_OK ||
        archive_read_support_format_raw(a) != ARCHIVE_OK)
        return ERR_INVALID;
    if (archive_read_open_fd(a, fd, READ_BYTES) != ARCHIVE_OK)
        return err_from_archive(a);
    /* The last filter is the file; what is compressed twice is no layer. */
    if (archive_filter_count(a) > 2)
        return ERR_INVALID;
    in->is_plain = archive_filter_count(a) == 1;
    return archive_read_next_header(a, &entry) == ARCHIVE_OK ? 0 : err_from_archive(a);
}

static bool is_tar(const void *data, size_t len)
{
    size_t magic_len = sizeof TAR_MAGIC - 1;

    return len >= TAR_MAGIC_OFFSET + magic_len &&
           memcmp((const char *)data + TAR_MAGIC_OFFSET, TAR_MAGIC, magic_len) == 0;
}

static bool is_bomb(const struct inflation *in)
{
    int64_t read = archive_filter_bytes(in->archive, -1);
    uint64_t read_bytes = read > 0 ? (uint64_t)read : 0;

    return in->size_bytes > INFLATE_BYTES_MAX ||
           (in->size_bytes > RATIO_FREE_BYTES && in->size_bytes / INFLATE_RATIO_MAX > read_bytes);
}

static int read_stream(struct inflation *in, inflate_wanted *wanted, void *arg)
{
    const void *block;
    size_t len;
    la_int64_t offset;

    for (;;) {
        int result = archive_read_data_block(in->archive, &block, &len, &offset);

        if (result == ARCHIVE_EOF)
            return 0;
        if (result != ARCHIVE_OK)
            return err_from_archive(in->archive);
        if (in->is_plain && in->size_bytes == 0 && !is_tar(block, len))
            return ERR_INVALID;
        hash_update(in->hash, block, len);
        in->size_bytes += len;
        if (is_bomb(in))
            return ERR_TOO_LARGE;
        if (wanted != NULL && !wanted(arg))
            return ERR_BUSY;
    }
}

int inflate_digest(int fd, enum digest_alg alg, inflate_wanted *wanted, void *arg,
                   struct digest *diff_id, uint64_t *size_bytes)
{
    struct inflation in = {.archive = archive_read_new()};

    CHECK(in.archive != NULL);
    in.hash = hash_new(alg);
    int err = open_stream(&in, fd);

    if (err == 0)
        err = read_stream(&in, wanted, arg);
    if (err == 0) {
        hash_final(&in.hash, diff_id);
        *size_bytes = in.size_bytes;
    }
    hash_free(&in.hash);
    archive_read_free(in.archive);
    return err;
}
