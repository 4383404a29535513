/* SPDX-License-Identifier: ISC */
/* Layers: whatever the stream, inflating it ends, within its limits, and says the same
 * again. */
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cache/err.h"
#include "cache/inflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_wanted(void *arg)
{
    unsigned *blocks = arg;

    return (*blocks)++ < 1024;
}

static int inflate(int fd, struct digest *d, uint64_t *size_bytes)
{
    unsigned blocks = 0;

    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    return inflate_digest(fd, DIGEST_SHA256, is_wanted, &blocks, d, size_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct digest d, again, plain;
    uint64_t size_bytes, size_again;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    int err = inflate(fd, &d, &size_bytes);

    CHECK(err == 0 || err == ERR_INVALID || err == ERR_TOO_LARGE || err == ERR_BUSY);
    if (err == 0) {
        CHECK(inflate(fd, &again, &size_again) == 0);
        CHECK(digest_equal(&d, &again) && size_bytes == size_again);
        digest_of(DIGEST_SHA256, data, size, &plain);
        /* Only a tar that is not compressed is its own content. */
        CHECK(!digest_equal(&d, &plain) || (size >= 262 && size_bytes == size));
    }
    close(fd);
    return 0;
}
