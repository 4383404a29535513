/* SPDX-License-Identifier: ISC */
/* The bytes of a tar archive: POSIX.1-2001 pax, "ustar Interchange Format". */
#ifndef CACHE_TAR_FORMAT_H
#define CACHE_TAR_FORMAT_H

#include <stddef.h>

#define TAR_BLOCK_BYTES 512u
#define TAR_SHORT_NAME_MAX 100
/* Eleven octal digits. */
#define TAR_OCTAL_SIZE_MAX 077777777777ull
#define TAR_PAX_WRITTEN_MAX 384

enum tar_type_flag {
    TAR_TYPE_FILE = '0',
    TAR_TYPE_FILE_OLD = '\0',
    TAR_TYPE_SYMLINK = '2',
    TAR_TYPE_DIR = '5',
    TAR_TYPE_PAX = 'x',        /* of the next entry */
    TAR_TYPE_PAX_GLOBAL = 'g', /* of all that follow */
    TAR_TYPE_LONG_NAME = 'L',  /* GNU: the next entry's name */
};

struct tar_header {
    char name[TAR_SHORT_NAME_MAX];
    char mode[8];
    char uid[8];
    char gid[8];
    char size[12];
    char mtime[12];
    char checksum[8];
    char type;
    char link[100];
    char magic[6];
    char version[2];
    char user[32];
    char group[32];
    char device_major[8];
    char device_minor[8];
    char prefix[155];
    char padding[12];
};

_Static_assert(sizeof(struct tar_header) == TAR_BLOCK_BYTES, "a header is a block");

/* The sum of the header's bytes, with blanks for that of its own field. */
static inline unsigned tar_checksum(const struct tar_header *h)
{
    const unsigned char *bytes = (const unsigned char *)h;
    size_t at = offsetof(struct tar_header, checksum);
    unsigned sum = 0;

    for (size_t i = 0; i < sizeof *h; i++)
        sum += i >= at && i < at + sizeof h->checksum ? ' ' : bytes[i];
    return sum;
}

#endif
